"""A model of a terminal that wraps its lines anew when its width changes, as most terminals do."""

import re

_TOKENS = re.compile(r"\x1b\[(?P<args>[0-9;?]*)(?P<final>[a-zA-Z])|(?P<control>[\r\n])|(?P<char>[^\x1b])", re.DOTALL)


class Terminal:
    """
    The rows of a screen and of what has scrolled away above it.

    It knows what the live view writes: characters of one column, line ends, colours, cursor movements upwards, and the
    erasing of lines.
    """

    def __init__(self, columns, rows):
        self.columns, self.height = columns, rows
        self.rows = [""]
        self.continues = [False]
        """Of each row, whether it goes on in the next one: such rows are one line."""
        self.row = self.column = 0

    def resize(self, columns):
        """Change the width. The cursor stays at its character."""
        lines, offset, at = [], 0, None
        for number, (row, continues) in enumerate(zip(self.rows, self.continues, strict=True)):
            if not offset:
                lines.append("")
            if number == self.row:
                at = len(lines) - 1, offset + self.column
            lines[-1] += row.ljust(self.columns) if continues else row
            offset = offset + self.columns if continues else 0
        self.columns = columns
        self.rows, self.continues = [], []
        for number, line in enumerate(map(str.rstrip, lines)):
            parts = [line[first : first + columns] for first in range(0, max(len(line), 1), columns)]
            if number == at[0]:
                self.row = len(self.rows) + min(at[1] // columns, len(parts) - 1)
                self.column = at[1] % columns
            self.rows += parts
            self.continues += [True] * (len(parts) - 1) + [False]

    def feed(self, text):
        """Take in what a program has written."""
        end = 0
        for token in _TOKENS.finditer(text):
            assert token.start() == end, f"unknown sequence {text[end : end + 20]!r}"
            end = token.end()
            if token["char"]:
                self._put(token["char"])
            elif token["control"] == "\r":
                self.column = 0
            elif token["control"] == "\n":
                self._down()
            else:
                self._sequence(token["final"], token["args"])

    def _sequence(self, final, args):
        if final == "A":
            self.row = max(self.row - int(args or 1), len(self.rows) - self.height, 0)
        elif final == "K":
            assert args == "2"
            self.rows[self.row], self.continues[self.row] = "", False
        else:
            assert final in "mhl", f"unknown sequence {args}{final}"

    def _put(self, char):
        if self.column == self.columns:
            self.continues[self.row] = True
            self._down()
            self.column = 0
        row = self.rows[self.row].ljust(self.column)
        self.rows[self.row] = row[: self.column] + char + row[self.column + 1 :]
        self.column += 1

    def _down(self):
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append("")
            self.continues.append(False)
