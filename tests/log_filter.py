"""
The part of the Logging query language that the filters of the sinks are written in, evaluated over a log entry.

What is not needed is refused: a filter that uses more than this is not tested, it fails. `OR` binds tighter than `AND`,
comparisons of texts ignore case and regular expressions do not, a comparison with a missing field is false.

Source: Cloud Logging documentation, "Logging query language".
"""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

Entry = dict[str, Any]
Predicate = Callable[[Entry], bool]

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<word>AND|OR|NOT)\b
      | (?P<bracket>[()])
      | log_id\("(?P<log>[^"\\]*)"\)
      | (?P<field>[A-Za-z_]\w*(?:\.\w+)*)(?P<operator>=~|!=|=|:)"(?P<value>[^"\\]*)"
    )""",
    re.VERBOSE,
)

_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "=": lambda found, wanted: found.lower() == wanted.lower(),
    "!=": lambda found, wanted: found.lower() != wanted.lower(),
    ":": lambda found, wanted: wanted.lower() in found.lower(),
    "=~": lambda found, wanted: re.search(wanted, found) is not None,
}


def compile_filter(text: str) -> Predicate:
    """Return whether a log entry matches the filter, as a function."""
    tokens: list[re.Match[str]] = []
    position, text = 0, text.rstrip()
    while position < len(text):
        token = _TOKEN.match(text, position)
        assert token, f"not understood: {text[position:]!r}"
        tokens.append(token)
        position = token.end()
    tokens.reverse()
    predicate = _conjunction(tokens)
    assert not tokens, f"left over: {tokens[-1][0]!r}"
    return predicate


def _conjunction(tokens: list[re.Match[str]]) -> Predicate:
    parts = [_disjunction(tokens)]
    while tokens and tokens[-1]["word"] == "AND":
        tokens.pop()
        parts.append(_disjunction(tokens))
    return lambda entry: all(part(entry) for part in parts)


def _disjunction(tokens: list[re.Match[str]]) -> Predicate:
    parts = [_single(tokens)]
    while tokens and tokens[-1]["word"] == "OR":
        tokens.pop()
        parts.append(_single(tokens))
    return lambda entry: any(part(entry) for part in parts)


def _single(tokens: list[re.Match[str]]) -> Predicate:
    token = tokens.pop()
    if token["word"] == "NOT":
        negated = _single(tokens)
        return lambda entry: not negated(entry)
    if token["bracket"] == "(":
        inner = _conjunction(tokens)
        assert tokens.pop()["bracket"] == ")"
        return inner
    if token["log"] is not None:
        return lambda entry: unquote(entry.get("logName", "").partition("/logs/")[2]) == token["log"]
    assert token["field"], f"misplaced: {token[0]!r}"
    path, compare, wanted = token["field"].split("."), _OPERATORS[token["operator"]], token["value"]
    assert "(?" not in wanted, "RE2 and Python differ in what follows `(?`"

    def compared(entry: Entry) -> bool:
        found: Any = entry
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return found is not None and compare(str(found), wanted)

    return compared
