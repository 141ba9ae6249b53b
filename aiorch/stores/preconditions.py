"""The answer to a write that names an outdated generation, for stores that know the present one."""

from aiorch.errors import GenerationConflict


def conflict(name: str, *, expected: int, current: int) -> GenerationConflict | None:
    """
    Return the error for a change of object *name* on condition of generation *expected*, `None` if it is allowed.

    Args:
        name: Name of the object.

        expected: Generation that the caller knows; 0: the object must not exist.

        current: Present generation; 0: the object does not exist.
    """
    if current == expected:
        return None
    present = f"is at generation {current}" if current else "does not exist"
    known = f"generation {expected}" if expected else "that it must not exist yet"
    return GenerationConflict(
        f"object {name!r} {present}, and the condition was {known}, so it was not changed. A different process changed "
        f"it meanwhile: read it again and decide again."
    )
