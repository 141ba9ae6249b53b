"""Values of users, the inputs of runs and the results of callables, as JSON."""

from typing import Any

import msgspec

from aiorch.errors import words_of
from aiorch.model.run_document import is_json


def _plain(value: Any) -> Any:
    """Return the JSON form of an object that msgspec does not know: of a model of pydantic."""
    dump = getattr(type(value), "model_dump", None)
    if dump is None:
        raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")
    return dump(value, mode="json")


_encode = msgspec.json.Encoder(enc_hook=_plain).encode


def encode_value(value: Any) -> bytes:
    """
    Return *value* as JSON that a document can hold.

    Raises:
        ValueError: The value, or a part of it, has no form in JSON, or is nested too deeply. The text is the reason.
    """
    try:
        encoded = _encode(value)
    except Exception as error:
        raise ValueError(words_of(error)) from error  # a model may have methods of the user, which raise anything
    if not is_json(encoded):
        raise ValueError("it is nested too deeply")
    return encoded
