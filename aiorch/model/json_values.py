"""Equality of JSON values: the order of keys has no meaning, and 1 and 1.0 are one number."""

import msgspec


def _number(digits: str) -> int | float:
    number = float(digits)
    return int(number) if number.is_integer() else number


_decode = msgspec.json.Decoder(float_hook=_number).decode
_encode = msgspec.json.Encoder(order="sorted").encode


def canonical(encoded: bytes) -> bytes:
    """Return the form of a JSON text that all texts of an equal value share."""
    return _encode(_decode(encoded))


def are_equal(one: bytes, other: bytes) -> bool:
    """Whether two JSON texts are of equal values."""
    return one == other or canonical(one) == canonical(other)
