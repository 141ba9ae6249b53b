"""
JSON and YAML text to plain data, with the position of each part in the text.

The standard library reads JSON; positions are computed only for a problem. YAML is read from the events of the parser,
by the `Composer` of this module. It knows neither constructors nor the booleans of YAML 1.1 (``on`` and ``no`` are
strings, as in YAML 1.2), does not recurse, and keeps the position of every part.
"""

import json
import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

from aiorch.errors import DefinitionError, Problem
from aiorch.model.findings import Finding, Key, Position

TEXT_BYTES_MAX = 8 * 1024 * 1024
"""Largest text: a definition is kept in memory and stored as one object; 10,000 branches take about 1 MiB."""

VALUES_MAX = 250_000
"""Largest number of values, counting each alias: 10,000 steps of 25. Guards against aliases of aliases."""

NESTING_MAX = 500
"""Largest nesting of mappings and lists: a `Parallel` takes four, and JSON encoders stop at about 1,000."""

TOO_DEEP = f"this is nested more than {NESTING_MAX} levels deep (each `Parallel` takes 4)"
TOO_MANY = f"this holds more than the {VALUES_MAX} values that a definition may have; pass data by reference"
TOO_LONG = f"this is longer than the {TEXT_BYTES_MAX} bytes that a definition may have; pass data by reference"


class Spot:
    """
    The position of one value in the text, and of the values inside.

    Attributes:
        key, value: The positions of the key and of the value.

        offset: Of a scalar that stands on its line as it is: the columns from `value` to the first character. `None`:
            escapes or line ends make the columns of the value differ from those of the text.

        children: The values inside.
    """

    __slots__ = ("children", "key", "offset", "value")

    def __init__(self, position: Position, offset: int | None = None) -> None:
        self.key: Position = position
        self.value: Position = position
        self.offset: int | None = offset
        self.children: dict[str | int, Spot] = {}


def refusal(source: str, message: str, position: Position | None = None) -> DefinitionError:
    """Return the error for a definition that cannot be read further."""
    return DefinitionError([Problem("", message, *(position or ()))], source=source)


def position_after(text_before: str) -> Position:
    """Return the position of the end of *text_before*."""
    return Position(text_before.count("\n") + 1, len(text_before) - text_before.rfind("\n"))


# -- composing: data and positions from events -----------------------------------------------------------------------

Kind = Literal["mapping", "list", "end", "scalar", "alias"]


class Event(NamedTuple):
    """One element of a text: a container opens or closes, a scalar, or an alias."""

    kind: Kind
    position: Position
    value: Any = None
    text: str = ""
    """Text of a scalar as a key. Keys of JSON are always text."""

    anchor: str | None = None
    offset: int | None = None
    """See `Spot.offset`."""


class Composer:
    """
    Data and positions, built from events without recursion.

    Attributes:
        data: The plain value. The value of an alias exists once, and is referred to.

        spot: Positions of the value and its parts.

        findings: Repeated keys.
    """

    def __init__(self, events: Iterable[Event], source: str) -> None:
        self.data: Any = None
        self.spot: Spot = Spot(Position(1, 1))
        self.findings: list[Finding] = []
        self._source = source
        self._open: list[_Container] = []
        self._anchors: dict[str, tuple[Any, Spot]] = {}
        for count, event in enumerate(events):
            if count > 4 * VALUES_MAX:
                raise refusal(source, TOO_MANY, event.position)
            self._take(event)

    def _take(self, event: Event) -> None:
        around = self._open[-1] if self._open else None
        if event.kind == "end":
            self._open.pop()
        elif around is not None and around.next_key is None:
            self._take_key(event, around)
        else:
            data, spot = self._alias(event) if event.kind == "alias" else self._value(event)
            key = () if around is None else self._place(data, spot, around)
            if around is None:
                self.data, self.spot = data, spot
            if event.kind in ("mapping", "list"):
                if len(self._open) == NESTING_MAX:
                    raise refusal(self._source, TOO_DEEP, event.position)
                self._open.append(_Container(data, spot, key))

    def _take_key(self, event: Event, around: "_Container") -> None:
        if event.kind != "scalar":
            hint = '; an expression is written "${ … }"' if event.kind == "mapping" else ""
            message = f"a key is plain text, never a list, mapping or alias{hint}"
            raise refusal(self._source, message, event.position)
        around.next_key, around.key_position = event.text, event.position
        if event.anchor is not None:
            self._anchors[event.anchor] = event.text, Spot(event.position)
        first = around.spot.children.get(event.text)
        if first is not None:
            message = f"this key is repeated (first on line {first.key.line}), and only one value would be kept"
            self.findings.append(Finding((*around.key, event.text), message, position=event.position))

    def _value(self, event: Event) -> tuple[Any, Spot]:
        data = {} if event.kind == "mapping" else [] if event.kind == "list" else event.value
        spot = Spot(event.position, event.offset)
        if event.anchor is not None:
            self._anchors[event.anchor] = data, spot
        return data, spot

    def _alias(self, event: Event) -> tuple[Any, Spot]:
        data, meant = self._anchors.get(event.anchor or "", (None, None))
        if meant is None:
            raise refusal(self._source, f"there is no anchor &{event.anchor} before this alias", event.position)
        if any(data is container.data for container in self._open):
            raise refusal(self._source, f"the alias *{event.anchor} is inside of its own anchor", event.position)
        spot = Spot(event.position)
        spot.children = meant.children
        return data, spot

    def _place(self, data: Any, spot: Spot, around: "_Container") -> Key:
        """Put a value into the container *around*; return its key."""
        part = around.next_key
        assert part is not None
        if isinstance(part, int):
            around.data.append(data)
            around.next_key = part + 1
        else:
            around.data[part] = data
            spot.key = around.key_position
            around.next_key = None
        around.spot.children[part] = spot
        return (*around.key, part)


class _Container:
    """A mapping or list that is still open."""

    __slots__ = ("data", "key", "key_position", "next_key", "spot")

    def __init__(self, data: Any, spot: Spot, key: Key) -> None:
        self.data = data
        self.spot = spot
        self.key = key
        self.key_position = spot.key
        self.next_key: str | int | None = None if isinstance(data, dict) else 0
        """Key of the next value; `None` if the next event is a key."""


# -- JSON ------------------------------------------------------------------------------------------------------------

_JSON_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]|[^\s{}\[\],:"]+')
_JSON_HINTS = {
    "'": "strings and keys need double quotes",
    "/": "JSON has no comments (YAML has)",
    "#": "JSON has no comments (YAML has)",
    "": "the text ends too early",
}


def read_json(text: str, source: str) -> tuple[Any, bool]:
    """Return the data, and whether a mapping has a repeated key. Positions are not computed."""
    key_twice = False

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal key_twice
        made = dict(pairs)
        key_twice = key_twice or len(made) < len(pairs)
        return made

    try:
        return json.loads(text, object_pairs_hook=mapping, parse_int=_int), key_twice
    except json.JSONDecodeError as error:
        found = text[error.pos : error.pos + 1]
        after_comma = text[: error.pos].rstrip().endswith(",") and found in ("}", "]")
        hint = "remove the comma" if after_comma else _JSON_HINTS.get(found)
        reason = f"{error.msg[0].lower()}{error.msg[1:]}" + (f" ({hint})" if hint else "")
        raise refusal(source, f"this is not JSON: {reason}", Position(error.lineno, error.colno)) from error
    except RecursionError as error:
        Composer(json_events(text), source)  # raises, too, with the position
        raise refusal(source, TOO_DEEP) from error


def json_events(text: str) -> Iterator[Event]:
    """Walk through *text*, which `read_json` has found to be JSON."""
    lines = [0, *(match.end() for match in re.finditer("\n", text))]
    for token in _JSON_TOKEN.finditer(text):
        line = bisect_right(lines, token.start())
        position = Position(line, token.start() - lines[line - 1] + 1)
        match token[0]:
            case "{":
                yield Event("mapping", position)
            case "[":
                yield Event("list", position)
            case "}" | "]":
                yield Event("end", position)
            case literal:
                value = json.loads(literal, parse_int=_int)
                if isinstance(value, str):
                    offset = 1 if len(literal) == len(value) + 2 else None
                    yield Event("scalar", position, value, value, offset=offset)
                else:
                    yield Event("scalar", position, value)


def _int(digits: str) -> int:
    # Python refuses to read very long numbers; numbers of more than 64 bits are reported later, with their path.
    return int(digits) if len(digits) <= 40 else 10**40


# -- YAML ------------------------------------------------------------------------------------------------------------

_UNPRINTABLE = "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
_YAML_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((f"{sign}.{inf}" for sign in ("", "+", "-") for inf in ("inf", "Inf", "INF")), math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_YAML_INT = re.compile(r"[-+]?[0-9]+")
_YAML_BASED_INT = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_YAML_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_STRING_TAGS = (None, "!", "tag:yaml.org,2002:str")


def yaml_events(text: str, source: str) -> Iterator[Event]:
    """Walk through *text*. Raises: DefinitionError if *text* is not YAML, or too large."""
    import yaml  # noqa: PLC0415  not needed for JSON

    if strange := re.search(_UNPRINTABLE, text):
        message = f"YAML does not allow the character {strange[0]!a}; write it as an escape in double quotes"
        raise refusal(source, message, position_after(text[: strange.start()]))
    try:
        documents = 0
        for event in yaml.parse(text, getattr(yaml, "CBaseLoader", yaml.BaseLoader)):
            position = _position_of(event.start_mark)
            documents += isinstance(event, yaml.DocumentStartEvent)
            if documents > 1:
                raise refusal(source, "a second YAML document begins here; a file holds one definition", position)
            if isinstance(event, yaml.CollectionEndEvent):
                yield Event("end", position)
            elif isinstance(event, yaml.AliasEvent):
                yield Event("alias", position, anchor=event.anchor)
            elif isinstance(event, yaml.ScalarEvent):
                _refuse_tag(event, _STRING_TAGS, position, source)
                plain = event.implicit[0] and event.tag is None
                value = _yaml_value(event.value) if plain else event.value
                if plain and value == "<<":
                    message = "<< (merge) is not part of YAML 1.2: repeat the keys, or put a name in quotes"
                    raise refusal(source, message, position)
                yield Event("scalar", position, value, event.value, event.anchor, _offset(event))
            elif isinstance(event, yaml.CollectionStartEvent):
                _refuse_tag(event, (None,), position, source)
                kind: Kind = "mapping" if isinstance(event, yaml.MappingStartEvent) else "list"
                yield Event(kind, position, anchor=event.anchor)
    except yaml.MarkedYAMLError as error:
        where = _position_of(error.problem_mark)
        reason = ", ".join(part for part in (error.problem, error.context) if part)
        if "maximum nesting depth" in reason:  # newer parsers have their own limit, and read ahead
            raise refusal(source, TOO_DEEP, where) from error
        hint = _yaml_hint(reason, "".join(text.split("\n")[where.line - 1 :][:1]))
        raise refusal(source, f"this is not YAML: {reason}{hint}", where) from error


def _position_of(mark: Any) -> Position:
    return Position(1, 1) if mark is None else Position(mark.line + 1, mark.column + 1)


def _offset(event: Any) -> int | None:
    quotes = 1 if event.style in ("'", '"') else 0
    start, end = event.start_mark, event.end_mark
    as_it_is = start.line == end.line and end.column - start.column == len(event.value) + 2 * quotes
    return quotes if as_it_is else None


def _yaml_hint(reason: str, line: str) -> str:
    if re.match(r" *\t", line):
        return " (indent with spaces, not with tabs)"
    if "mapping values" in reason:
        return " (put text with ': ' in quotes)"
    if "while parsing a flow" in reason and "${" in line:
        return ' (inside { } and [ ], put "${ … }" in quotes, and use \' for texts inside)'
    if re.search(r": +!(?!!)", line):
        return " (write `not` in place of `!`)"
    if "block mapping" in reason and re.search(r"""[:-] +["']""", line):
        return " (a value that begins with a quotation mark ends with it; put the whole value in the other quotes)"
    return ""


def _refuse_tag(event: Any, known: tuple[str | None, ...], position: Position, source: str) -> None:
    if event.tag is None:
        return
    tag = event.tag.replace("tag:yaml.org,2002:", "!!")
    negated = f"{tag[1:]} {getattr(event, 'value', '')}".strip()
    hint = f"; for a condition, write `not {negated}`"
    if event.tag not in known:
        message = f"the tag {tag} is refused: a definition holds plain data only"
        raise refusal(source, message + (hint if re.match(r"!(?!!)\w*[.(]", tag) else ""), position)
    if tag == "!" and not event.style and isinstance(_yaml_value(event.value), str):
        raise refusal(source, f"the tag ! changes nothing here{hint}", position)


def _yaml_value(text: str) -> Any:
    """Return the value of an unquoted scalar in YAML 1.2 (core schema)."""
    if text in _YAML_CONSTANTS:
        return _YAML_CONSTANTS[text]
    if _YAML_INT.fullmatch(text):
        return _int(text)
    if _YAML_BASED_INT.fullmatch(text):
        return int(text[2:], 8 if text[1] == "o" else 16)
    return float(text) if _YAML_FLOAT.fullmatch(text) else text
