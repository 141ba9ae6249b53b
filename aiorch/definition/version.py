"""The version of the language in which a definition is written. Stored definitions tell it, if it is not 1."""

from collections.abc import Mapping
from typing import Any

import msgspec

from aiorch.steps import LANGUAGE_VERSION

_NEW_KEYS = frozenset({"finally", "inputs", "labels", "output", "on_failure", "secrets"})
"""Keys of a definition that version 2 brought. Steps of new types and with new keys tell their versions themselves."""


class LanguageVersion:
    """
    The version of a definition.

    Args:
        definition: The plain form of the definition.

        is_stored: A process has stored the definition: in one of version 1, ``${`` is literal text.

    Attributes:
        number: The version: 1 if the definition uses no key and no text of version 2.

        has_expressions: Whether an expression may stand in the definition.
    """

    __slots__ = ("has_expressions", "number")

    def __init__(self, definition: Mapping[str, Any], *, is_stored: bool = False) -> None:
        encoded = msgspec.json.encode(definition)
        has_templates = b"${" in encoded
        given = definition.get("schema_version", 1 if is_stored else None)
        if type(given) is int:
            self.number: int = given
        else:
            is_new = has_templates or "start" not in definition or not _NEW_KEYS.isdisjoint(definition)
            self.number = LANGUAGE_VERSION if is_new else 1
        self.has_expressions: bool = (has_templates and self.has_templates) or b'"when":' in encoded

    @property
    def has_templates(self) -> bool:
        """Whether ``${`` in texts begins an expression."""
        return self.number >= LANGUAGE_VERSION

    @property
    def is_known(self) -> bool:
        """Whether this aiorch knows the version."""
        return self.number <= LANGUAGE_VERSION
