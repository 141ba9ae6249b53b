"""Width of texts in terminal columns: two for a Chinese character or an emoji, none for an accent. Pure."""


def width_of(text: str) -> int:
    """Return the columns that *text* takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415  its tables take 9 ms to import, and most texts are ASCII

    return cell_len(text)


def padded(text: str, columns: int) -> str:
    """Return *text* followed by spaces up to *columns*."""
    return text + " " * (columns - width_of(text))


def cut(text: str, columns: int) -> str:
    """Return the beginning of *text* that fits into *columns*, with an ellipsis if the text was cut."""
    if width_of(text) <= columns:
        return text
    if text.isascii():
        return text[: columns - 1] + "…"
    from rich.cells import set_cell_size  # noqa: PLC0415  as above

    return set_cell_size(text, columns - 1).rstrip() + "…"
