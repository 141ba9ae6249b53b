"""
Expressions and templates as texts: their syntax, and the names that they read.

The parser is Python's own, `ast.parse`. Its input has passed a scan of tokens, which refuses all that Python reads
differently or not at all; of its output only the kinds of nodes are accepted
for which `_Check` has a method. Reading takes time in
proportion to the length of the text.
"""

import ast
import keyword
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn
from weakref import WeakValueDictionary

from aiorch.expressions.errors import ExpressionError, UnknownFunctionError
from aiorch.expressions.functions import FUNCTIONS, INTEGER_MAX, Function
from aiorch.model.findings import Hints, shown

CHARACTERS_MAX = 1000
"""Length of one expression."""

DEPTH_MAX = 50
"""Levels of an expression, one inside the other."""

NAMED_ROOTS = frozenset({"results", "errors", "secrets"})
"""A constant name must follow these, so that the parts that an expression reads are known before its evaluation."""

CONSTANTS = {"true": True, "false": False, "null": None}

IF = "iF"
"""Stands for the function `if` while Python's parser, which has `if` as a keyword, reads the text."""

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    |(?P<number>(?:\d|\.\d)(?:[eE][+-]|[\w.])*)
    |(?P<name>[^\W\d]\w*)
    |(?P<open>[([{])|(?P<close>[)\]}])
    |(?P<operator>==|!=|<=|>=|//|[-+*/%<>.,:])
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_NUMBER = re.compile(r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_SURROGATE = re.compile("[\ud800-\udfff]")
_QUOTES = frozenset("'\"")
_VALUES = frozenset({"text", "number", "name"})
_ENDS_OF_VALUES = _VALUES | {"close"}
_PAIRS = {")": "(", "]": "[", "}": "{"}
_OPERATORS = frozenset({"and", "or", "not", "in", "if", "else", "for"})
_KEYWORDS = frozenset(keyword.kwlist) - _OPERATORS
_MEANT = {
    "=": "; compare with `==`",
    "&": "; write `and`",
    "|": "; write `or`, or for a filter the call of a function, `len(x)`",
    "!": "; write `not`",
    "?": "; for `a ? b : c` write `b if a else c`, for `a ?? b` write `default(a, b)`",
    "$": "; names stand without it, as in `input.day`",
    "'": ": it begins a text that does not end",
    '"': ": it begins a text that does not end",
}
_IN_OTHER_WORDS = {"True": "true", "False": "false", "None": "null"}
_METHODS = {
    "append": "list.concat",
    "extend": "list.concat",
    "get": "map.get",
    "length": "len",
    "lower": "text.to_lower",
    "replace": "text.replace_all",
    "size": "len",
    "substr": "text.substring",
    "upper": "text.to_upper",
}
"""Functions for methods of other languages; those with the name of a function are found without this table."""

_CONSTRUCTS: dict[type[ast.AST], str] = {
    ast.Starred: "unpacking with *",
    ast.Slice: "a slice; for a part of a text, call `text.substring`",
    ast.Tuple: "a tuple; write a list in brackets",
    ast.Set: "a set; write a list in brackets, and `${ … }` with one brace",
    ast.DictComp: "a mapping made by `for`",
    ast.SetComp: "a set",
    ast.GeneratorExp: "`for` without brackets; write `[… for … in …]`",
}


class Read(NamedTuple):
    """A name that an expression reads."""

    root: str
    name: str | None
    """The constant name after the root, `None` if there is none; one of the `NAMED_ROOTS` always has one."""

    column: int
    has_default: bool = False
    """Whether the name begins the path of a `default`, so that its value may be missing."""


class Expression:
    """
    A valid expression.

    Attributes:
        text: As written.

        tree: The parsed text; all of its nodes are of known kinds.

        reads: The names that the expression reads, in the order of the text.

        closure: The expression as a function; `aiorch.expressions.evaluate` makes it at the first use.
    """

    __slots__ = ("__weakref__", "closure", "reads", "text", "tree")

    def __init__(self, text: str, tree: ast.expr, reads: tuple[Read, ...]) -> None:
        self.text: str = text
        self.tree: ast.expr = tree
        self.reads: tuple[Read, ...] = reads
        self.closure: Callable[[Any], Any] | None = None

    def __repr__(self) -> str:
        return f"<Expression {self.text!r}>"


class Template(NamedTuple):
    """A text with expressions: literal parts and expressions in turn."""

    parts: tuple[str | Expression, ...]

    @property
    def reads(self) -> Iterator[Read]:
        """The names that the expressions read."""
        for part in self.parts:
            if isinstance(part, Expression):
                yield from part.reads


_parsed: WeakValueDictionary[tuple[str, int], Expression] = WeakValueDictionary()
"""The expressions in use: a definition is first checked as a whole, and then built from the same expressions."""


def parse(text: str, *, column: int = 1) -> Expression:
    """
    Read an expression.

    Args:
        text: The expression, without ``${`` and ``}``.

        column: Place of the text in a longer one, for the columns of errors.

    Raises:
        ExpressionError: With the first mistake in the text.
    """
    known = _parsed.get((text, column))
    if known is not None:
        return known
    shift = column - 1
    if len(text) > CHARACTERS_MAX:
        raise ExpressionError(
            f"an expression may have {CHARACTERS_MAX} characters, and this one has {len(text)}", column
        )
    source = _scanned(text, shift)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            tree = ast.parse(f"({source})", mode="eval").body
        except SyntaxError as error:
            at = min(max((error.offset or 2) - 1, 1), len(text) + 1)
            reason = _reason(error, text, at)
            raise ExpressionError(f"this is no expression: {reason}", at + shift) from None
        except (ValueError, Warning, RecursionError, MemoryError) as error:
            raise ExpressionError(f"this is no expression: {error}", column) from None
    check = _Check(text, shift)
    check.visit(tree, frozenset(), 1)
    for node in ast.walk(tree):
        if isinstance(node, ast.expr):
            node.col_offset = check.column(node)
    expression = Expression(text, tree, tuple(sorted(check.reads, key=lambda read: read.column)))
    _parsed[text, column] = expression
    return expression


def _reason(error: SyntaxError, text: str, at: int) -> str:
    """Return the parser's reason, or where it has none, the word that it did not expect."""
    if not error.msg.startswith("invalid syntax"):
        return error.msg
    if error.msg != "invalid syntax":  # the parser guesses, and *at* is the beginning of the part
        return f"an operator or a value is missing in {shown(text[at - 1 : (error.end_offset or 0) - 1])}"
    token = _TOKEN.match(text, at - 1)
    return "it ends where a value is expected" if token is None else f"`{token.group()}` cannot stand here"


def parse_template(text: str) -> str | Expression | Template:
    """
    Read a text that may hold expressions in ``${ … }``.

    Returns:
        The text itself without ``${``, with ``$${`` replaced by ``${``; one expression that is the whole text; or a
        template of several parts.

    Raises:
        ExpressionError: With the first mistake; the column counts in *text*.
    """
    if "${" not in text:
        return text
    parts: list[str | Expression] = []
    literal, position = "", 0
    while (found := text.find("${", position)) >= 0:
        if text.startswith("$", found - 1) and found > position:
            literal += text[position : found - 1] + "${"
            position = found + 2
            continue
        end = _end_of_template(text, found)
        literal += text[position:found]
        if literal:
            parts.append(literal)
            literal = ""
        inside = text[found + 2 : end]
        parts.append(parse(inside, column=found + 3))
        position = end + 1
    literal += text[position:]
    if literal or not parts:
        parts.append(literal)
    if len(parts) == 1:
        return parts[0]
    return Template(tuple(parts))


def _end_of_template(text: str, begin: int) -> int:
    """Return the place of the ``}`` that closes the template at *begin*."""
    opened: list[tuple[str, int]] = []
    for token in _TOKEN.finditer(text, begin + 2):
        kind, word, column = token.lastgroup, token.group(), token.start() + 1
        if kind == "open":
            opened.append((word, column))
        elif kind == "close":
            if word == "}" and not opened:
                return token.start()
            _close(opened, word, column)
        elif kind == "other" and word in _QUOTES:
            _refuse_character(word, column)
    if opened:
        raise ExpressionError(f"this `{opened[-1][0]}` is not closed", opened[-1][1])
    raise ExpressionError("this `${` has no `}` that closes it", begin + 1)


def _close(opened: list[tuple[str, int]], word: str, column: int) -> None:
    """Take the bracket that *word* closes from those that are open. Raises: ExpressionError: there is none."""
    if opened and opened[-1][0] == _PAIRS[word]:
        opened.pop()
    elif opened and word == "}":
        raise ExpressionError(f"this `{opened[-1][0]}` is not closed", opened[-1][1])
    else:
        raise ExpressionError(f"this `{word}` closes no bracket", column)


def _refuse_character(word: str, column: int) -> NoReturn:
    raise ExpressionError(f"the character {shown(word)} has no meaning in expressions{_MEANT.get(word, '')}", column)


def _scanned(text: str, shift: int) -> str:
    """Check the tokens of an expression, and return the text for Python's parser: of the same length, on one line."""
    out: list[str] = []
    opened: list[tuple[str, int]] = []
    before = "start"
    for token in _TOKEN.finditer(text):
        kind, word, column = token.lastgroup, token.group(), token.start() + 1 + shift
        if kind == "space":
            out.append(" " * len(word))
            continue
        if kind == "text":
            _check_text(text, token.start(), before, column)
            word = word.replace("\n", " ").replace("\r", " ")
        elif kind == "number":
            _check_number(word, column)
        elif kind == "name":
            word = _scanned_name(text, token.end(), word, before, column)
        if kind in _VALUES and word not in _OPERATORS and before in _ENDS_OF_VALUES:
            raise ExpressionError(f"an operator or a comma is missing before {shown(word)}", column)
        if kind == "open":
            opened.append((word, column))
            if len(opened) > DEPTH_MAX:
                raise ExpressionError(f"more than {DEPTH_MAX} brackets are open here", column)
        elif kind == "close":
            _close(opened, word, column)
        elif kind == "other":
            _refuse_character(word, column)
        before = "operator" if kind in ("operator", "open") or word in _OPERATORS else str(kind)
        if kind == "operator" and word == ".":
            before = "dot"
        out.append(word)
    if before == "start":
        raise ExpressionError("an expression is missing", 1 + shift)
    if opened:
        raise ExpressionError(f"this `{opened[-1][0]}` is not closed", opened[-1][1])
    return "".join(out)


def _check_text(text: str, start: int, before: str, column: int) -> None:
    if before == "text":
        raise ExpressionError("two texts follow each other; join them with `+`", column)
    if before == "name" and text[start - 1].isalnum():
        hint = "; join texts and values with `+`" if text[start - 1] in "fF" else ""
        raise ExpressionError(f"a text has no letters before its quotation mark{hint}", column)


def _check_number(word: str, column: int) -> None:
    if not _NUMBER.fullmatch(word):
        raise ExpressionError(f"{word!r} is no number; write for instance 10, 2.5 or 1e6", column)
    if "." in word or "e" in word.lower():
        if float(word) == float("inf"):
            raise ExpressionError(f"the number {word} is too large", column)
    elif int(word) > INTEGER_MAX:
        raise ExpressionError(f"the number {word} needs more than 64 bits", column)


def _scanned_name(text: str, end: int, word: str, before: str, column: int) -> str:
    if not word.isascii():
        raise ExpressionError(f'{word!r} is no ASCII; write such a key as ["{word}"] in brackets', column)
    if before == "dot":
        if word in _KEYWORDS or word in _OPERATORS:
            raise ExpressionError(f'the key {word!r} is a word of the language; write ["{word}"] in brackets', column)
        return word
    if word == "if" and before in ("start", "operator") and text[end:].lstrip().startswith("("):
        return IF
    if word in _KEYWORDS:
        instead = _IN_OTHER_WORDS.get(word)
        hint = f"; write `{instead}`" if instead else "; compare with `==`" if word == "is" else ""
        raise ExpressionError(f"`{word}` has no meaning in expressions{hint}", column)
    return word


class _Check:
    """Walks through a parsed expression, accepts the kinds of nodes of the language, and gathers the names it reads."""

    def __init__(self, text: str, shift: int) -> None:
        self.reads: list[Read] = []
        self._with_default: set[ast.expr] = set()
        """Names that begin the path of a `default`."""
        self._text = text
        self._shift = shift
        self._hints = Hints()

    def visit(self, node: ast.expr, local: frozenset[str], depth: int) -> None:
        if depth > DEPTH_MAX:
            raise self._error(node, f"this expression has more than {DEPTH_MAX} levels")
        visit: Callable[..., None] | None = getattr(self, f"_on_{type(node).__name__.lower()}", None)
        if visit is None:
            construct = _CONSTRUCTS.get(type(node), f"a Python {type(node).__name__}")
            raise self._error(node, f"expressions have no such thing as {construct}")
        visit(node, local, depth + 1)

    def _error(self, node: ast.expr | ast.comprehension, reason: str) -> ExpressionError:
        return ExpressionError(reason, self.column(node))

    def column(self, node: Any) -> int:
        """Return the place of a node in the text, counted from 1."""
        # Python counts bytes of UTF-8, and the text stands behind one bracket.
        offset = getattr(node, "col_offset", 1) - 1
        return len(self._text.encode()[:offset].decode(errors="ignore")) + 1 + self._shift

    def _all(self, nodes: list[ast.expr], local: frozenset[str], depth: int) -> None:
        for node in nodes:
            self.visit(node, local, depth)

    def _on_constant(self, node: ast.Constant, _local: frozenset[str], _depth: int) -> None:
        if not (isinstance(node.value, str | int | float) and not isinstance(node.value, bool)):
            raise self._error(node, f"{node.value!r} has no meaning in expressions")
        if isinstance(node.value, str) and _SURROGATE.search(node.value):
            raise self._error(node, "this text holds half of a character (a lone surrogate)")

    def _on_name(self, node: ast.Name, local: frozenset[str], _depth: int) -> None:
        if node.id in CONSTANTS or node.id in local:
            return
        if node.id in NAMED_ROOTS:
            raise self._error(node, f"a name must follow `{node.id}`, as in `{node.id}.Load`")
        if node.id in FUNCTIONS:
            raise self._error(node, f"`{node.id}` is a function; call it with its arguments in brackets")
        self._read(node, None)

    def _read(self, root: ast.Name, name: str | None) -> None:
        self.reads.append(Read(root.id, name, self.column(root), root in self._with_default))

    def _on_attribute(self, node: ast.Attribute, local: frozenset[str], depth: int) -> None:
        self._step_into(node, node.value, node.attr, local, depth)

    def _on_subscript(self, node: ast.Subscript, local: frozenset[str], depth: int) -> None:
        key = node.slice
        constant = key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else None
        self._step_into(node, node.value, constant, local, depth)
        self.visit(key, local, depth)

    def _step_into(self, node: ast.expr, inner: ast.expr, key: str | None, local: frozenset[str], depth: int) -> None:
        if not isinstance(inner, ast.Name) or inner.id in local or inner.id in CONSTANTS or inner.id in FUNCTIONS:
            self.visit(inner, local, depth)
        elif key is None and inner.id in NAMED_ROOTS:
            raise self._error(node, f"the name after `{inner.id}` must be constant, as in `{inner.id}.Load`")
        else:
            self._read(inner, key)

    def _on_unaryop(self, node: ast.UnaryOp, local: frozenset[str], depth: int) -> None:
        self.visit(node.operand, local, depth)

    def _on_binop(self, node: ast.BinOp, local: frozenset[str], depth: int) -> None:
        # A chain of operators is nested on its left: a hundred of them are no depth.
        chain: ast.expr = node
        while isinstance(chain, ast.BinOp):
            if not isinstance(chain.op, ast.Add | ast.Sub | ast.Mult | ast.Div | ast.FloorDiv | ast.Mod):
                raise self._error(chain, "this operator has no meaning in expressions")
            self.visit(chain.right, local, depth)
            chain = chain.left
        self.visit(chain, local, depth)

    def _on_boolop(self, node: ast.BoolOp, local: frozenset[str], depth: int) -> None:
        self._all(node.values, local, depth)

    def _on_compare(self, node: ast.Compare, local: frozenset[str], depth: int) -> None:
        if len(node.ops) > 1:
            raise self._error(node, "a comparison has two sides; join two comparisons with `and`")
        self._all([node.left, *node.comparators], local, depth)

    def _on_ifexp(self, node: ast.IfExp, local: frozenset[str], depth: int) -> None:
        self._all([node.test, node.body, node.orelse], local, depth)

    def _on_list(self, node: ast.List, local: frozenset[str], depth: int) -> None:
        self._all(node.elts, local, depth)

    def _on_dict(self, node: ast.Dict, local: frozenset[str], depth: int) -> None:
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                raise self._error(value, "expressions have no unpacking with **; use map.merge_all")
            self.visit(key, local, depth)
            self.visit(value, local, depth)

    def _on_listcomp(self, node: ast.ListComp, local: frozenset[str], depth: int) -> None:
        for part in node.generators:
            if not isinstance(part.target, ast.Name):
                raise self._error(part.target, "one name must follow `for`")
            name = part.target.id
            if name in CONSTANTS or name in NAMED_ROOTS or name in FUNCTIONS or name == IF:
                raise self._error(part.target, f"`{name}` has a meaning already; choose a different name")
            self.visit(part.iter, local, depth)
            local |= {name}
            self._all(part.ifs, local, depth)
        self.visit(node.elt, local, depth)

    def _on_call(self, node: ast.Call, local: frozenset[str], depth: int) -> None:
        name = called(node)
        if name is None:
            method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            meant = _function_for(method)
            hint = f"; write `{FUNCTIONS[meant].form}`" if meant else ""
            raise self._error(node, f"only functions can be called, by their names{hint}")
        function = FUNCTIONS.get(name)
        if function is None or name.partition(".")[0] in local:
            guess = _function_for(name.rpartition(".")[2]) if "." in name else None
            guess = guess or self._hints.closest(name, FUNCTIONS)
            hint = f"did you mean `{guess}`?" if guess else f"there are {', '.join(sorted(FUNCTIONS))}"
            raise UnknownFunctionError(f"there is no function `{name}`; {hint}", self.column(node))
        if node.keywords:
            raise self._error(node, f"the arguments of `{name}` have no names: {function.form}")
        if not function.least <= len(node.args) <= function.most:
            raise self._error(node, f"`{name}` is called with {_arguments(function)}: {function.form}")
        root = root_of(node.args[0]) if name == "default" else None
        if root is not None:
            self._with_default.add(root)
        self._all(node.args, local, depth)


def _function_for(method: str) -> str | None:
    """Return the name of the function that does the work of a method, `None` if there is none."""
    names = (method, f"text.{method}", f"list.{method}", f"map.{method}")
    return _METHODS.get(method) or next((name for name in names if name in FUNCTIONS), None)


def root_of(node: ast.expr) -> ast.Name | None:
    """Return the name at the beginning of a path, `None` for an expression of a different kind."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node if isinstance(node, ast.Name) and node.id not in CONSTANTS else None


def called(node: ast.Call) -> str | None:
    """Return the name of the function that a call names, `None` if it calls something else."""
    function = node.func
    if isinstance(function, ast.Name):
        return "if" if function.id == IF else function.id
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        return f"{function.value.id}.{function.attr}"
    return None


def _arguments(function: Function) -> str:
    number = str(function.least) if function.least == function.most else f"{function.least} to {function.most}"
    return f"{number} argument{'' if number == '1' else 's'}"
