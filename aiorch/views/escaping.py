"""
Text from outside, made harmless for a terminal. Pure.

Names, failures, results and messages of services may hold control characters of a terminal: escape sequences that clear
the screen or set the title, and marks that show the following characters from right to left. All printed text passes
through `escaped`; a text that must stay on one line passes through `one_line` first.
"""

import json
import re

_CONTROL = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 and C1 without tab and line feed, and DEL: escape sequences begin with these
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # direction of writing
    "\u2028\u2029\u2060-\u2065\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # line breaks, and invisible characters
    "\ud800-\udfff"  # halves of a character, which no stream can encode
    "]"
)
_LINE_BREAKS = re.compile("[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")


def escaped(text: str) -> str:
    r"""
    Return *text* with each control character written as in JSON, ``\u001b``.

    Tabs and line feeds stay. JSON text stays JSON with the same value: only its strings hold control characters.
    """
    return _CONTROL.sub(lambda match: json.dumps(match[0])[1:-1], text)


def one_line(text: str) -> str:
    """Return *text* escaped and on one line, with a space for each line break."""
    return escaped(_LINE_BREAKS.sub(" ", text).strip())
