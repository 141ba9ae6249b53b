"""The values of `type`, and those of `format`, each with its exact rule."""

import re
from collections.abc import Callable
from datetime import date
from typing import Any, NamedTuple

TYPES = {
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}
"""The types of JSON Schema, in words."""

IN_OTHER_LANGUAGES = {
    "bool": "boolean",
    "datetime": "date-time",
    "dict": "object",
    "double": "number",
    "float": "number",
    "int": "integer",
    "list": "array",
    "map": "object",
    "mapping": "object",
    "none": "null",
    "str": "string",
    "text": "string",
    "timestamp": "date-time",
}
"""Types and formats by their names in programming languages, in small letters."""

# Texts, which `re` compiles at their first use: most processes never need them.
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_UUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_HOST_LABEL = r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_EMAIL = rf"[a-zA-Z0-9.!#$%&'*+/=?^_`{{|}}~-]+@{_HOST_LABEL}(\.{_HOST_LABEL})*"

EMAIL_CHARS_MAX = 254
"""Source: RFC 3696, erratum 1690."""


class Format(NamedTuple):
    """One value of `format`."""

    is_met_by: Callable[[str], bool]
    """Whether a text has this format."""

    allowed: str
    """The texts of this format, as the end of the sentence "It must be …"."""

    def allows(self, value: Any) -> bool:
        """Whether *value* is allowed: a text of this format, or no text, as JSON Schema says."""
        return not isinstance(value, str) or self.is_met_by(value)


def _is_date(text: str) -> bool:
    """Source: RFC 3339, section 5.6, ``full-date``."""
    if re.fullmatch(_DATE, text) is None:
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _is_date_time(text: str) -> bool:
    """Source: RFC 3339, section 5.6, ``date-time``. No leap seconds: the times of Python have none."""
    return _is_date(text[:10]) and re.fullmatch(_TIME, text[10:]) is not None


def _is_uuid(text: str) -> bool:
    """Source: RFC 9562, section 4."""
    return re.fullmatch(_UUID, text) is not None


def _is_email(text: str) -> bool:
    """Source: the HTML standard, section "E-mail state", ``valid email address``."""
    return len(text) <= EMAIL_CHARS_MAX and re.fullmatch(_EMAIL, text) is not None


FORMATS = {
    "date": Format(_is_date, "a date like '2026-11-28'"),
    "date-time": Format(_is_date_time, "a time with its zone like '2026-11-28T06:30:00Z'"),
    "email": Format(_is_email, "an e-mail address like 'ops@example.com'"),
    "uuid": Format(_is_uuid, "a UUID like '6b3f5a1e-2c7d-4e8f-9a0b-1c2d3e4f5a6b'"),
}
