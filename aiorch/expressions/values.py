"""Values of a definition: JSON whose texts may hold expressions, and conditions."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from aiorch.expressions.errors import ExpressionError
from aiorch.expressions.evaluate import condition, evaluate
from aiorch.expressions.syntax import Expression, Read, Template, parse, parse_template
from aiorch.model.findings import Key

_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


class Value:
    """
    A JSON value whose texts may hold expressions in ``${ … }``, or one bare expression.

    Attributes:
        reads: The names that the expressions read, in the order of the texts.

        text: The text of a bare expression, for people; empty for a JSON value.
    """

    __slots__ = ("_key", "_of", "reads", "text")

    def __init__(
        self, of: Callable[[Mapping[str, Any]], Any], reads: tuple[Read, ...], key: str, text: str = ""
    ) -> None:
        self._of = of
        self._key = key
        self.reads: tuple[Read, ...] = reads
        self.text: str = text

    def evaluate(self, names: Mapping[str, Any]) -> Any:
        """
        Work out the value.

        Args:
            names: The values of the names that the expressions read: plain JSON values, which are not changed.

        Raises:
            ExpressionError: There is no value. The reason begins with the key of the step.
        """
        try:
            return self._of(names)
        except ExpressionError as error:
            raise ExpressionError(f"`{self._key}`: {error.reason}", error.column) from None


def has_expressions(value: Any) -> bool:
    """Whether a text in *value* holds an expression, or an escaped ``$${``."""
    return b"${" in _encode(value)


def texts_of(value: Any, key: Key = ()) -> Iterator[tuple[Key, str]]:
    """Yield the texts in a JSON value that hold ``${``, each with its place. Keys of mappings are always literal."""
    if type(value) is str:
        if "${" in value:
            yield key, value
    elif type(value) is dict:
        for name, item in value.items():
            yield from texts_of(item, (*key, name))
    elif type(value) is list:
        for index, item in enumerate(value):
            yield from texts_of(item, (*key, index))


def value_of(value: Any, key: str) -> Value:
    """
    Return the JSON value of a key with its texts parsed. The keys of mappings get the order of the stored definition.

    Raises:
        ExpressionError: A text holds no valid expression.
    """
    reads: list[Read] = []
    fill = _filler(msgspec.json.decode(_encode_sorted(value)), reads)  # as all processes that read it from the store
    return Value(fill, tuple(reads), key)


def condition_of(text: str, key: str = "when") -> Value:
    """Return the bare expression of a key, which is true or false. Raises: ExpressionError."""
    expression = parse(text)
    return Value(lambda names: condition(expression, names), expression.reads, key, text)


def _filler(value: Any, reads: list[Read]) -> Callable[[Mapping[str, Any]], Any]:
    if not has_expressions(value):
        return lambda _: value
    if type(value) is dict:
        fields = [(name, _filler(item, reads)) for name, item in value.items()]
        return lambda names: {name: fill(names) for name, fill in fields}
    if type(value) is list:
        items = [_filler(item, reads) for item in value]
        return lambda names: [fill(names) for fill in items]
    source = parse_template(value)
    if isinstance(source, Expression | Template):
        reads += source.reads
    return lambda names: evaluate(source, names)
