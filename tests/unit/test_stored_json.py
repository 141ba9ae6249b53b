"""What may become part of a stored document, and what may not."""

import pytest

from aiorch.model.run_document import NESTING_MAX, is_json


@pytest.mark.parametrize(
    ("encoded", "may"),
    [
        (b"[" * NESTING_MAX + b"]" * NESTING_MAX, True),
        (b"[" * (NESTING_MAX + 1) + b"]" * (NESTING_MAX + 1), False),
        (b'["' + b"[{" * 2 * NESTING_MAX + b'\\"[", {}]', True),
        (b"[" + b",".join([b"{}"] * 2 * NESTING_MAX) + b"]", True),
        (b"1],[2", False),
        (b"", False),
    ],
    ids=["deepest", "one deeper", "brackets in a text", "wide", "not whole", "empty"],
)
def test_nesting_limit_of_stored_json(*, encoded: bytes, may: bool) -> None:
    """The limit of nesting is the same on every Python, counts levels only, and refuses what is not JSON."""
    assert is_json(encoded) is may
