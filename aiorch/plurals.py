"""Numbers with their nouns, for messages. Pure."""


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return *count* and its noun: ``1 task``, ``2 tasks``, ``1,000 branches`` (whose *plural* is given)."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
