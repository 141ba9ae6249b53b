"""Sources of DAG definitions: a file of JSON or YAML, text, or a mapping."""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from aiorch.definition.syntax import (
    TEXT_BYTES_MAX,
    Composer,
    Spot,
    json_events,
    position_after,
    read_json,
    refusal,
    yaml_events,
)
from aiorch.errors import DefinitionError, Problem
from aiorch.model.findings import Finding, Key, Position

Format = Literal["json", "yaml"]
DEFINITION = "a definition has `start` and `steps`"
FORMATS: dict[str, Format] = {".json": "json", ".yaml": "yaml", ".yml": "yaml"}


class LoadedDefinition:
    """
    A definition as read, not validated.

    Attributes:
        data: The plain value; a mapping if the definition is valid.

        source: Name of the definition in messages.

        stem: Name of its file without the suffix; `None` if it does not come from a file.

        key_twice: A mapping of the text has the same key twice; see `text_findings`.
    """

    def __init__(
        self,
        data: Any,
        *,
        source: str,
        key_twice: bool = False,
        compose: Callable[[], Composer] | None = None,
    ) -> None:
        self.data = data
        self.source = source
        self.stem: str | None = None
        self.key_twice = key_twice
        self._compose = compose

    def text_findings(self) -> Sequence[Finding]:
        """Return the mistakes in a readable text: repeated keys."""
        return self._composer.findings if self.key_twice and self._composer is not None else ()

    def position(self, key: Key, *, at_value: bool = False) -> Position | None:
        """Return the position of *key*, or of the closest value around it; `None` if there is no text."""
        if self._composer is None:
            return None
        spot, is_found = self._spot(key, self._composer.spot)
        return spot.value if at_value and is_found else spot.key

    def _spot(self, key: Key, spot: Spot) -> tuple[Spot, bool]:
        """Return the spot of the value at *key* and `True`, or that of the closest value around it and `False`."""
        for part in key:
            if part not in spot.children:
                return spot, False
            spot = spot.children[part]
        return spot, True

    def _placed(self, finding: Finding) -> tuple[Position | None, str]:
        """Return position and message; the message tells the column within the value if the position cannot."""
        position = finding.position or self.position(finding.key, at_value=finding.at_value)
        if finding.column is None:
            return position, finding.message
        if position is not None and self._composer is not None:
            spot, is_found = self._spot(finding.key, self._composer.spot)
            if is_found and spot.offset is not None:
                return Position(position.line, position.column + spot.offset + finding.column - 1), finding.message
        return position, f"{finding.message} (column {finding.column} of this text)"

    def error(self, findings: Iterable[Finding]) -> DefinitionError:
        """Return the error for *findings*, in the order of the text, or without a text by path."""
        placed = []
        for finding in findings:
            position, message = self._placed(finding)
            by_path = tuple((isinstance(part, str), part) for part in finding.key)
            problem = Problem(format_path(finding.key), message, *(position or ()))
            placed.append((position or (), by_path, problem))
        return DefinitionError([problem for *_, problem in sorted(placed)], source=self.source)

    @cached_property
    def _composer(self) -> Composer | None:
        return None if self._compose is None else self._compose()


def format_path(key: Key) -> str:
    """
    Return *key* as text, e.g. ``steps.Step2.branches[1].steps.X.next``.

    A name with characters other than letters, digits, ``_``, ``-`` and ``$`` is written as ``["a.b"]``, cut if long.
    """
    path = ""
    for part in key:
        if isinstance(part, int):
            path += f"[{part}]"
        elif re.fullmatch(r"[\w$-]{1,128}", part):
            path += f".{part}" if path else part
        else:
            path += f"[{json.dumps(part[:64])}{'…' if len(part) > 64 else ''}]"
    return path


def load_definition(source: str | os.PathLike[str] | Mapping[str, Any], *, holds: str = DEFINITION) -> LoadedDefinition:
    """
    Read a definition, without validating it.

    Args:
        source: A mapping, or the path of a ``.json``, ``.yaml`` or ``.yml`` file (UTF-8).

        holds: Description of the content, for the message about an empty file.

    Raises:
        DefinitionError: The file cannot be read, or is neither JSON nor YAML.
    """
    if isinstance(source, Mapping):
        return LoadedDefinition(source, source="DAG definition")
    if not isinstance(source, (str, os.PathLike)):
        message = f"this is of type {type(source).__name__}; a definition is a mapping, or the path of a file"
        raise refusal("DAG definition", message)
    path = os.fspath(source)
    name = path if path.isprintable() and len(path) <= 256 else ascii(path[:64]) + "…"
    if Path(path).suffix.lower() not in FORMATS:
        hint = "use parse_definition() for text" if "\n" in path else "the suffix tells the format"
        raise refusal(name, f"this is not the path of a .json, .yaml or .yml file; {hint}")
    try:
        with Path(path).open("rb") as file:
            text = file.read(TEXT_BYTES_MAX + 1).decode()
    except UnicodeDecodeError as error:
        position = position_after(error.object[: error.start].decode())
        raise refusal(name, "this is not UTF-8 text: save the file as UTF-8", position) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise refusal(name, f"the file cannot be read: {reason}") from error
    loaded = parse_definition(text, source=name, format=FORMATS[Path(path).suffix.lower()], holds=holds)
    loaded.stem = Path(path).stem
    return loaded


def parse_definition(
    text: str,
    *,
    source: str = "DAG definition",
    format: Format,  # noqa: A002
    holds: str = DEFINITION,
) -> LoadedDefinition:
    """
    Read a definition from text, without validating it.

    Args:
        text: The whole definition.

        source: Name of the definition in messages, e.g. the name of its file.

        format: Language of the text.

        holds: As of `load_definition`.

    Raises:
        DefinitionError: The text is not JSON or YAML, or too large.
    """
    if len(text.encode(errors="replace")) > TEXT_BYTES_MAX:
        raise refusal(source, f"this is longer than the {TEXT_BYTES_MAX} bytes that a definition may have")
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise refusal(source, f"this is empty; {holds}")
    if format == "json":
        data, key_twice = read_json(text, source)

        def compose() -> Composer:
            return Composer(json_events(text), source)

        return LoadedDefinition(data, source=source, key_twice=key_twice, compose=compose)
    composer = Composer(yaml_events(text, source), source)
    return LoadedDefinition(composer.data, source=source, key_twice=bool(composer.findings), compose=lambda: composer)
