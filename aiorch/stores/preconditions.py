"""What a store that knows the present generation answers to a write that names another one."""

from aiorch.errors import GenerationConflict


def conflict(name: str, *, expected: int, current: int) -> GenerationConflict | None:
    """
    Return the error for a change of object *name* on condition of generation *expected*, `None` when it may go ahead.

    Args:
        name: Name of the object.

        expected: Generation that the caller knows; 0: it must not exist.

        current: Generation that it has; 0: it does not exist.
    """
    if current == expected:
        return None
    present = f"is at generation {current}" if current else "does not exist"
    known = f"generation {expected}" if expected else "that it must not exist yet"
    return GenerationConflict(
        f"object {name!r} {present}, and the condition was {known}, so it was left as it is. Somebody else changed it: "
        f"read it again and decide again."
    )
