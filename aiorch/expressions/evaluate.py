"""
The values of expressions and templates.

An expression becomes a tree of closures at its first use. Without `for` the text bounds the work; each round of a `for`
and each operation on a large value takes steps from a budget. The budget grows with the lists and mappings that the
expression was given, once for each of them, so the work stays in proportion to them.
"""

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aiorch.expressions.errors import ExpressionError
from aiorch.expressions.functions import (
    CHARACTERS_PER_STEP,
    FUNCTIONS,
    Budget,
    as_text,
    checked_number,
    checked_text,
    equal,
    less,
)
from aiorch.expressions.syntax import CONSTANTS, Expression, Template, called, root_of
from aiorch.model.findings import Hints, short, shown

KEYS_SHOWN = 8
KEYS_COMPARED = 1000


class _MissingPart(Exception):  # noqa: N818  `default` replaces it by a value
    """A part of a path does not exist, or the value before the part is null."""

    def __init__(self, found: Any, key: Any, path: ast.expr | None, column: int) -> None:
        self.found, self.key, self.path, self.column = found, key, path, column
        super().__init__()

    def told(self) -> ExpressionError:
        """Return the error for readers, which names the parts that there are."""
        whole = "the expression" if self.path is None else f"`{ast.unparse(self.path)}`"
        if self.found is None:
            return ExpressionError(f"{whole} is null, and has no {shown(self.key)}", self.column)
        if type(self.found) is list:
            return ExpressionError(f"{whole} has {len(self.found)} items, and no item {self.key}", self.column)
        known = [str(name) for name in self.found][:KEYS_COMPARED]
        guess = Hints().closest(self.key, known)
        more = f" and {len(self.found) - KEYS_SHOWN} more" if len(self.found) > KEYS_SHOWN else ""
        first = ", ".join(map(short, known[:KEYS_SHOWN]))
        hint = f"did you mean `{short(guess)}`?" if guess else f"it has {first}{more}"
        return ExpressionError(f"{whole} has no {shown(self.key)}; {hint if known else 'it is empty'}", self.column)


class Environment(Budget):
    """
    The names that one evaluation reads, and its budget.

    Attributes:
        names: Values by name, plain JSON values each. `results` and the other roots are mappings.

        local: Values of the names after `for`.
    """

    __slots__ = ("local", "names")

    def __init__(self, names: Mapping[str, Any]) -> None:
        super().__init__()
        self.names: Mapping[str, Any] = names
        self.local: dict[str, Any] = {}


Closure = Callable[[Environment], Any]


def evaluate(source: str | Expression | Template, names: Mapping[str, Any]) -> Any:
    """
    Work out the value of an expression or a template; a literal text is its own value.

    Args:
        source: As `parse` or `parse_template` returned it.

        names: The values of the names that it may read: plain JSON values, which are not changed.

    Raises:
        ExpressionError: There is no value. Its column counts in the expression.
    """
    if isinstance(source, str):
        return source
    environment = Environment(names)
    try:
        if isinstance(source, Expression):
            return (source.closure or _compiled(source))(environment)
        return checked_text(environment, "".join(_texts_of(source, environment)))
    except _MissingPart as missing:
        raise missing.told() from None


def _texts_of(template: Template, environment: Environment) -> Iterator[str]:
    for part in template.parts:
        yield part if isinstance(part, str) else as_text((part.closure or _compiled(part))(environment))


def condition(expression: Expression, names: Mapping[str, Any]) -> bool:
    """Work out an expression whose value must be `true` or `false`. Raises: ExpressionError."""
    value = evaluate(expression, names)
    if value is True or value is False:
        return value
    raise ExpressionError(f"a condition is true or false, and this is {shown(value)}")


def _compiled(expression: Expression) -> Closure:
    expression.closure = _Compiler().compile(expression.tree)
    return expression.closure


def _column(node: ast.expr) -> int:
    return node.col_offset  # `parse` has put the column there


def _size(node: ast.AST) -> int:
    return sum(1 for each in ast.walk(node) if isinstance(each, ast.expr))


def _at(column: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function, and give its error the column of the part that calls it."""
    try:
        return function(*arguments)
    except ExpressionError as error:
        raise ExpressionError(error.reason, column) from None


def _boolean_of(value: Any, word: str, column: int) -> bool:
    if value is True or value is False:
        return value
    raise ExpressionError(f"`{word}` takes true or false, and this is {shown(value)}", column)


def _no_part(found: Any, key: Any, path: ast.expr, column: int) -> Exception:
    if found is None or (type(found) is dict and type(key) is str) or (type(found) is list and type(key) is int):
        return _MissingPart(found, key, path, column)
    if type(found) is list:
        return ExpressionError(f"the part of a list is named by an integer, and this is {shown(key)}", column)
    if type(found) is dict:
        return ExpressionError(f"the part of a mapping is named by a text, and this is {shown(key)}", column)
    return ExpressionError(f"`{ast.unparse(path)}` is {shown(found)}, and has no parts", column)


def _joined(environment: Environment, left: Any, right: Any, sign: str, column: int) -> Any:
    if sign == "+" and type(left) is type(right) is str:
        return _at(column, checked_text, environment, left + right)
    if sign == "+" and type(left) is type(right) is list:
        _at(column, environment.spend, len(left) + len(right))
        return left + right
    hint = "; `string` turns a number into text" if sign == "+" and str in (type(left), type(right)) else ""
    raise ExpressionError(f"`{sign}` cannot take {shown(left)} and {shown(right)}{hint}", column)


def _contains(budget: Budget, item: Any, items: Any) -> bool:
    if type(items) is list:
        budget.spend(len(items))
        return any(equal(budget, item, each) for each in items)
    if type(items) is dict and type(item) is str:
        return item in items
    if type(items) is str and type(item) is str:
        budget.spend(1 + len(items) // CHARACTERS_PER_STEP)
        return item in items
    raise ExpressionError(f"`in` looks in a list, in the keys of a mapping or in a text, and this is {shown(items)}")


_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Budget, Any, Any], bool]] = {
    ast.Eq: equal,
    ast.NotEq: lambda budget, one, other: not equal(budget, one, other),
    ast.Lt: lambda _, one, other: less(one, other),
    ast.Gt: lambda _, one, other: less(other, one),
    ast.LtE: lambda _, one, other: not less(other, one),
    ast.GtE: lambda _, one, other: not less(one, other),
    ast.In: _contains,
    ast.NotIn: lambda budget, item, items: not _contains(budget, item, items),
}

_ARITHMETIC: Mapping[type[ast.operator], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
    ast.FloorDiv: ("//", operator.floordiv),
    ast.Mod: ("%", operator.mod),
}
_NUMBERS = (int, float)


class _Compiler:
    """Makes closures of the nodes of one expression."""

    def __init__(self) -> None:
        self._is_given: dict[str, bool] = {}
        """By name after `for`, whether its values are parts of given ones."""

    def compile(self, node: ast.expr) -> Closure:
        make: Callable[[Any], Closure] = getattr(self, f"_of_{type(node).__name__.lower()}")
        return make(node)

    def _compile_whole(self, node: ast.expr) -> Closure:
        """Compile a part whose value may be gone through: a given list or mapping adds to the budget."""
        read = self.compile(node)
        if not self._is_given_path(node):
            return read

        def read_and_grant(environment: Environment) -> Any:
            value = read(environment)
            if type(value) is list or type(value) is dict:
                environment.grant(value)
            return value

        return read_and_grant

    def _is_given_path(self, node: ast.expr) -> bool:
        root = root_of(node)
        return root is not None and self._is_given.get(root.id, True)

    # -- values and paths --------------------------------------------------------------------------------------------

    def _of_constant(self, node: ast.Constant) -> Closure:
        value = node.value
        return lambda _: value

    def _of_name(self, node: ast.Name) -> Closure:
        name, column = node.id, _column(node)
        if name in self._is_given:
            return lambda environment: environment.local[name]
        if name in CONSTANTS:
            value = CONSTANTS[name]
            return lambda _: value

        def read(environment: Environment) -> Any:
            try:
                return environment.names[name]
            except KeyError:
                raise _MissingPart(dict(environment.names), name, None, column) from None

        return read

    def _of_attribute(self, node: ast.Attribute) -> Closure:
        inner, key, column, path = self.compile(node.value), node.attr, _column(node), node.value

        def read(environment: Environment) -> Any:
            found = inner(environment)
            if type(found) is dict and key in found:
                return found[key]
            raise _no_part(found, key, path, column)

        return read

    def _of_subscript(self, node: ast.Subscript) -> Closure:
        inner, index, column, path = self.compile(node.value), self.compile(node.slice), _column(node), node.value

        def read(environment: Environment) -> Any:
            found, key = inner(environment), index(environment)
            if type(found) is list and type(key) is int and -len(found) <= key < len(found):
                return found[key]
            if type(found) is dict and type(key) is str and key in found:
                return found[key]
            raise _no_part(found, key, path, column)

        return read

    def _of_list(self, node: ast.List) -> Closure:
        items = [self.compile(item) for item in node.elts]
        return lambda environment: [item(environment) for item in items]

    def _of_dict(self, node: ast.Dict) -> Closure:
        pairs = zip(node.keys, node.values, strict=True)
        items = [(self.compile(key), _column(key), self.compile(value)) for key, value in pairs if key is not None]

        def make(environment: Environment) -> dict[str, Any]:
            made = {}
            for key, column, value in items:
                name = key(environment)
                if type(name) is not str:
                    raise ExpressionError(f"the keys of a mapping are texts, and this is {shown(name)}", column)
                made[name] = value(environment)
            return made

        return make

    # -- operators ---------------------------------------------------------------------------------------------------

    def _of_unaryop(self, node: ast.UnaryOp) -> Closure:
        inner, column = self.compile(node.operand), _column(node)
        if isinstance(node.op, ast.Not):
            return lambda environment: not _boolean_of(inner(environment), "not", column)
        sign = -1 if isinstance(node.op, ast.USub) else 1

        def signed(environment: Environment) -> Any:
            value = inner(environment)
            if type(value) not in _NUMBERS:
                raise ExpressionError(f"only a number has a sign, and this is {shown(value)}", column)
            return _at(column, checked_number, sign * value)

        return signed

    def _of_binop(self, node: ast.BinOp) -> Closure:
        chain: ast.expr = node
        rest: list[tuple[str, Callable[[Any, Any], Any], Closure, int]] = []
        while isinstance(chain, ast.BinOp):
            sign, apply = _ARITHMETIC[type(chain.op)]
            rest.append((sign, apply, self._compile_whole(chain.right), _column(chain.right)))
            chain = chain.left
        first = self._compile_whole(chain)
        rest.reverse()

        def computed(environment: Environment) -> Any:
            value = first(environment)
            for sign, apply, other, column in rest:
                right = other(environment)
                if type(value) not in _NUMBERS or type(right) not in _NUMBERS:
                    value = _joined(environment, value, right, sign, column)
                    continue
                try:
                    value = apply(value, right)
                except ZeroDivisionError:
                    raise ExpressionError("this divides by zero", column) from None
                except OverflowError:
                    raise ExpressionError("the number is not finite", column) from None
                value = _at(column, checked_number, value)
            return value

        return computed

    def _of_boolop(self, node: ast.BoolOp) -> Closure:
        parts = [(self.compile(part), _column(part)) for part in node.values]
        ends = isinstance(node.op, ast.Or)
        word = "or" if ends else "and"

        def decide(environment: Environment) -> bool:
            for part, column in parts:
                if _boolean_of(part(environment), word, column) is ends:
                    return ends
            return not ends

        return decide

    def _of_compare(self, node: ast.Compare) -> Closure:
        left, right = self._compile_whole(node.left), self._compile_whole(node.comparators[0])
        compare, column = _COMPARISONS[type(node.ops[0])], _column(node)

        def decide(environment: Environment) -> bool:
            one, other = left(environment), right(environment)
            try:
                return compare(environment, one, other)
            except ExpressionError as error:
                raise ExpressionError(error.reason, column) from None

        return decide

    def _of_ifexp(self, node: ast.IfExp) -> Closure:
        return self._choice(node.test, node.body, node.orelse)

    def _choice(self, test: ast.expr, yes: ast.expr, no: ast.expr) -> Closure:
        decide, then, otherwise, column = self.compile(test), self.compile(yes), self.compile(no), _column(test)

        def choose(environment: Environment) -> Any:
            is_so = _boolean_of(decide(environment), "if", column)
            return then(environment) if is_so else otherwise(environment)

        return choose

    # -- rounds and calls --------------------------------------------------------------------------------------------

    def _of_listcomp(self, node: ast.ListComp) -> Closure:
        outside = dict(self._is_given)
        rounds = []
        for part, inside in zip(node.generators, [*(part.iter for part in node.generators[1:]), node.elt], strict=True):
            assert isinstance(part.target, ast.Name)
            items, is_given = self._compile_whole(part.iter), self._is_given_path(part.iter)
            self._is_given[part.target.id] = is_given
            tests = [(self.compile(test), _column(test)) for test in part.ifs]
            cost = 1 + sum(map(_size, part.ifs)) + _size(inside)
            rounds.append((part.target.id, items, tests, cost, _column(part.iter)))
        element = self.compile(node.elt)
        self._is_given = outside
        last = len(rounds) - 1

        def go_through(environment: Environment, depth: int, made: list[Any]) -> None:
            name, items_of, tests, cost, column = rounds[depth]
            items = items_of(environment)
            if type(items) is not list:
                hint = "; `keys` gives those of a mapping" if type(items) is dict else ""
                raise ExpressionError(f"`for` goes through a list, and this is {shown(items)}{hint}", column)
            local = environment.local
            for item in items:
                if cost > environment.left:
                    _at(column, environment.spend, cost)
                environment.left -= cost
                local[name] = item
                for test, at in tests:
                    if not _boolean_of(test(environment), "if", at):
                        break
                else:
                    if depth == last:
                        made.append(element(environment))
                    else:
                        go_through(environment, depth + 1, made)

        def make(environment: Environment) -> list[Any]:
            before = environment.local
            environment.local = dict(before)
            made: list[Any] = []
            try:
                go_through(environment, 0, made)
            finally:
                environment.local = before
            return made

        return make

    def _default(self, path: ast.expr, instead: ast.expr) -> Closure:
        """Replace the value of a path of which a part is missing or null. No other error is hidden."""
        value_of, other, is_path = self._compile_whole(path), self.compile(instead), root_of(path) is not None

        def read(environment: Environment) -> Any:
            try:
                value = value_of(environment)
            except _MissingPart:
                if not is_path:
                    raise
                value = None
            return other(environment) if value is None else value

        return read

    def _of_call(self, node: ast.Call) -> Closure:
        name = called(node)
        assert name is not None
        if name == "if":
            return self._choice(*node.args)
        if name == "default":
            return self._default(*node.args)
        apply, arguments, column = (
            FUNCTIONS[name].apply,
            [self._compile_whole(part) for part in node.args],
            _column(node),
        )
        assert apply is not None

        def call(environment: Environment) -> Any:
            values = [argument(environment) for argument in arguments]
            try:
                return apply(environment, *values)
            except ExpressionError as error:
                raise ExpressionError(error.reason, column) from None

        return call
