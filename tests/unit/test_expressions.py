"""Expressions of definitions: their syntax, their values, their errors and their limits."""

import ast
import math
import string
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorch.expressions.errors import ExpressionError
from aiorch.expressions.evaluate import Environment, condition, evaluate
from aiorch.expressions.functions import FUNCTIONS, STEPS, STEPS_PER_ITEM
from aiorch.expressions.syntax import CHARACTERS_MAX, Expression, Template, parse, parse_template

NAMES: dict[str, Any] = {
    "input": {
        "limit": 5,
        "day": "2026-11-28",
        "files": [{"name": "a", "size": 0}, {"name": "b", "size": 3}],
        "a key": 1,
        "none": None,
        "yes": True,
    },
    "results": {"Load": {"rows": 7, "parts": [1, 2, 3]}, "My step": 2},
    "run": {"id": "r"},
}


def value(text: str, **names: Any) -> Any:
    return evaluate(parse(text), NAMES | names)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3 - 4", 3),
        ("7 / 2", 3.5),
        ("7 // 2", 3),
        ("-7 % 3", 2),
        ("-input.limit", -5),
        ("'a' + \"b\"", "ab"),
        ("[1] + [2, 3]", [1, 2, 3]),
        ("results.Load.rows > input.limit", True),
        ('results["My step"] <= 2', True),
        ("'a' < 'b'", True),
        ("true == 1", False),
        ("1 == 1.0", True),
        ("'1' == 1", False),
        ("null == null", True),
        ("{'a': [1, {'b': 2.0}]} == {'a': [1.0, {'b': 2}]}", True),
        ("[true] == [1]", False),
        ("not input.yes or 1 != 2", True),
        ("input.yes and 2 in results.Load.parts", True),
        ("'limit' in input and 'x' not in 'abc'", True),
        ("'big' if input.limit > 3 else 'small'", "big"),
        ('if(input.limit > 9, 1 / 0, "small")', "small"),
        ("if(true, 1, 2) if (true) else 3", 1),
        ("[f.name for f in input.files if f.size > 0]", ["b"]),
        ("[a + b for a in [1, 2] for b in [10, 20] if a + b != 12]", [11, 21, 22]),
        ("[[n for n in results.Load.parts if n < m] for m in results.Load.parts]", [[], [1], [1, 2]]),
        ("results.Load.parts[-1]", 3),
        ('input["a key"]', 1),
        ("{'a': {'b': [5]}}.a.b[0]", 5),
        ("\n  input.limit\n  + 1\n", 6),
        ("default(input.none, 1)", 1),
        ("default(input.missing.deeper, 'x')", "x"),
        ("default(results.Load.parts[7], 0)", 0),
        ("default(input.none.deeper, 0)", 0),
        ("default(input.limit, 0)", 5),
        ("-9223372036854775807 - 1", -(2**63)),
        ("1.5e3", 1500.0),
        ("'a\\tb'", "a\tb"),
    ],
)
def test_a_valid_expression_has_its_value(text: str, expected: Any) -> None:
    """Operators, paths, lists, mappings, `for` and `default` give values of the right types."""
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)


CALLS: dict[str, list[tuple[str, Any]]] = {
    "default": [("default(null, 2)", 2)],
    "if": [("if(false, 1, 2)", 2)],
    "len": [("len('abc')", 3), ("len([])", 0), ("len(input.files)", 2)],
    "keys": [("keys({'a': 1, 'b': 2})", ["a", "b"])],
    "int": [("int('12')", 12), ("int(-1.9)", -1)],
    "double": [("double('1.5')", 1.5), ("double(2)", 2.0)],
    "string": [("string(1.5)", "1.5"), ("string(true)", "true"), ("string('a')", "a")],
    "get_type": [
        (
            "[get_type(x) for x in [1, 1.5, 'a', true, null, [], {}]]",
            [
                "integer",
                "double",
                "text",
                "boolean",
                "null",
                "list",
                "mapping",
            ],
        )
    ],
    "text.split": [("text.split('a,b', ',')", ["a", "b"])],
    "text.join": [("text.join(['a', 'b'], '-')", "a-b")],
    "text.replace_all": [("text.replace_all('a-b-c', '-', '')", "abc")],
    "text.to_lower": [("text.to_lower('ÄB')", "äb")],
    "text.to_upper": [("text.to_upper('ab')", "AB")],
    "text.substring": [("text.substring('abcd', 1, 3)", "bc")],
    "text.url_encode": [("text.url_encode('a b/ü')", "a%20b%2F%C3%BC")],
    "json.encode": [("json.encode({'a': [1, null, 'ü']})", '{"a":[1,null,"ü"]}')],
    "json.decode": [("json.decode('[1, {\"a\": 2.5}]')", [1, {"a": 2.5}])],
    "base64.encode": [("base64.encode('ü')", "w7w=")],
    "base64.decode": [("base64.decode('w7w=')", "ü")],
    "list.concat": [("list.concat([1], 2)", [1, 2])],
    "map.get": [("map.get(input, 'day')", "2026-11-28"), ("map.get(input, ['day', 'x'])", None)],
    "map.merge_all": [("map.merge_all([{'a': 1}, {'a': 2, 'b': 3}])", {"a": 2, "b": 3})],
    "map.delete": [("map.delete({'a': 1, 'b': 2}, 'a')", {"b": 2})],
    "math.abs": [("math.abs(-2.5)", 2.5)],
    "math.min": [("math.min(1, 2)", 1)],
    "math.max": [("math.max(1, 2.5)", 2.5)],
    "math.floor": [("math.floor(-1.5)", -2)],
    "sum": [("sum([1, 2, 3])", 6), ("sum([])", 0)],
    "sorted": [("sorted([3, 1.5, 2])", [1.5, 2, 3]), ("sorted(['b', 'a'])", ["a", "b"])],
    "time.parse": [("time.parse('1970-01-01T00:01:00Z')", 60.0)],
    "time.format": [("time.format(60)", "1970-01-01T00:01:00Z")],
    "time.add": [("time.add('2026-11-28T23:59:30+01:00', 60)", "2026-11-29T00:00:30+01:00")],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_called(name: str) -> None:
    """Each function has calls with known values, and the form in its messages is a valid call."""
    for text, expected in CALLS[name]:
        assert value(text) == expected
    value(FUNCTIONS[name].form, input=NAMES["input"] | {"full": True})


@pytest.mark.parametrize(
    ("text", "says", "column"),
    [
        ("", "an expression is missing", 1),
        ("1 +", "this is no expression: it ends where a value is expected", 4),
        ("1 == == 2", "this is no expression: `==` cannot stand here", 6),
        ("input.a not input.b", "an operator or a value is missing in 'input.a not input.b'", 1),
        ("input.a contains 1", "an operator or a comma is missing before 'contains'", 9),
        ("[1 2]", "an operator or a comma is missing before '2'", 4),
        ("input.a ? 1 : 2", "for `a ? b : c` write `b if a else c`", 9),
        ("$.A.rows", "names stand without it", 1),
        ("input.a | upper", "write `or`, or for a filter the call of a function", 9),
        ("input['a", "it begins a text that does not end", 7),
        ("len(1", "this `(` is not closed", 4),
        ("len(1))", "this `)` closes no bracket", 7),
        ("[1)", "this `)` closes no bracket", 3),
        ("a # b", "the character '#' has no meaning", 3),
        ("a; b", "the character ';' has no meaning", 2),
        ("a := 1", "compare with `==`", 4),
        ("True", "write `true`", 1),
        ("None", "write `null`", 1),
        ("a is null", "compare with `==`", 3),
        ("lambda: 1", "`lambda` has no meaning", 1),
        ("1 < 2 < 3", "join two comparisons with `and`", 1),
        ("2 ** 3", "this operator", 1),
        ("~1", "the character '~'", 1),
        ("[1][0:1]", "a slice; for a part of a text, call `text.substring`", 5),
        ("(1, 2)", "a tuple", 1),
        ("{1, 2}", "a set; write a list in brackets, and `${ … }` with one brace", 1),
        ("{'a': 1 for x in [1]}", "a mapping made by `for`", 1),
        ("len(x for x in [1])", "`for` without brackets", 4),
        ("{**input}", "map.merge_all", 4),
        ("[*input.files]", "unpacking", 2),
        ("f'x'", "no letters before its quotation mark; join texts and values with `+`", 2),
        ("b'x'", "no letters before", 2),
        ("'a' 'b'", "join them with `+`", 5),
        ("'''a'''", "two texts follow each other", 3),
        ("1_000", "'1_000' is no number", 1),
        ("0x10", "'0x10' is no number", 1),
        ("1j", "'1j' is no number", 1),
        ("1e999", "too large", 1),
        ("9223372036854775808", "more than 64 bits", 1),
        ("...", "no meaning", 1),
        ("item.from", 'write ["from"]', 6),
        ("item.größe", 'write such a key as ["größe"]', 6),
        ("ﬁ", "no ASCII", 1),
        ("'\\ud800'", "half of a character", 1),
        ("'\\d'", "this is no expression", 0),
        ("results", "a name must follow `results`", 1),
        ("results[input.day]", "must be constant", 1),
        ("errors[0]", "must be constant", 1),
        ("len", "`len` is a function", 1),
        ("text.splt('a')", "did you mean `text.split`?", 1),
        ("input.files.pop()", "only functions can be called", 1),
        ("input.day.upper()", 'write `text.to_upper("a")`', 1),
        ("input.day.split('-')", 'write `text.split("a,b", ",")`', 1),
        ("day.lower()", "did you mean `text.to_lower`?", 1),
        ("(1)(2)", "only functions can be called", 1),
        ("len()", "1 argument: len(input.files)", 1),
        ("text.split('a')", "2 arguments", 1),
        ("len(**input)", "have no names", 1),
        ("len(x=1)", "compare with `==`", 6),
        ("[x for results in [1]]", "has a meaning already", 8),
        ("[x for a, b in [1]]", "one name must follow `for`", 8),
        ("[x async for x in [1]]", "`async` has no meaning", 4),
        ("await x", "`await` has no meaning", 1),
        ("yield", "`yield` has no meaning", 1),
    ],
)
def test_an_invalid_expression_is_refused_with_its_column(text: str, says: str, column: int) -> None:
    """Each construct that Python has and expressions have not gets a message of its own, before any evaluation."""
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert says in caught.value.reason
    assert column in (0, caught.value.column)


KINDS: dict[str, str] = {
    "Attribute": "input.limit",
    "BinOp": "1 + 1",
    "BoolOp": "true and true",
    "Call": "len('a')",
    "Compare": "1 < 2",
    "Constant": "1",
    "Dict": "{'a': 1}",
    "IfExp": "1 if true else 2",
    "List": "[1]",
    "ListComp": "[x for x in [1]]",
    "Name": "input",
    "Subscript": "input['limit']",
    "UnaryOp": "-1",
    "And": "true and true",
    "Or": "true or true",
    "Add": "1 + 1",
    "Sub": "1 - 1",
    "Mult": "1 * 1",
    "Div": "1 / 1",
    "FloorDiv": "1 // 1",
    "Mod": "1 % 1",
    "Not": "not true",
    "UAdd": "+1",
    "USub": "-1",
    "Eq": "1 == 1",
    "NotEq": "1 != 1",
    "Lt": "1 < 1",
    "LtE": "1 <= 1",
    "Gt": "1 > 1",
    "GtE": "1 >= 1",
    "In": "1 in [1]",
    "NotIn": "1 not in [1]",
}
"""Kinds of nodes of Python's expressions that our expressions have, with an example each."""

REFUSED: dict[str, str] = {
    "Await": "await x",
    "DictComp": "{x: x for x in [1]}",
    "FormattedValue": "f'{x}'",
    "JoinedStr": "f'{x}'",
    "GeneratorExp": "(x for x in [1])",
    "Lambda": "lambda: 1",
    "NamedExpr": "(x := 1)",
    "Set": "{1}",
    "SetComp": "{x for x in [1]}",
    "Slice": "x[1:2]",
    "Starred": "[*x]",
    "Tuple": "(1, 2)",
    "Yield": "(yield)",
    "YieldFrom": "(yield from x)",
    "BitAnd": "1 & 1",
    "BitOr": "1 | 1",
    "BitXor": "1 ^ 1",
    "LShift": "1 << 1",
    "RShift": "1 >> 1",
    "MatMult": "1 @ 1",
    "Pow": "1 ** 1",
    "Invert": "~1",
    "Is": "1 is 1",
    "IsNot": "1 is not 1",
    "TemplateStr": "t'{x}'",
    "Interpolation": "t'{x}'",  # from Python 3.14 on
}
"""Kinds that Python has and our expressions have not."""


def test_every_kind_of_node_of_python_is_had_or_refused() -> None:
    """The two tables together are what the module `ast` knows, in this version of Python."""
    bases = (ast.expr, ast.operator, ast.unaryop, ast.cmpop, ast.boolop)
    known = {kind.__name__ for base in bases for kind in base.__subclasses__()}
    assert known | {"TemplateStr", "Interpolation"} == KINDS.keys() | REFUSED.keys()
    assert KINDS.keys().isdisjoint(REFUSED)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_node_that_expressions_have_is_evaluated(kind: str) -> None:
    """The example holds such a node, and has a value."""
    assert _has(kind, KINDS[kind])
    _is_json(value(KINDS[kind]))


@pytest.mark.filterwarnings("ignore:.is.:SyntaxWarning")
@pytest.mark.parametrize("kind", [kind for kind in REFUSED if hasattr(ast, kind)])
def test_a_kind_of_node_that_expressions_have_not_is_refused_with_a_message(kind: str) -> None:
    """The example is right for Python; our message says what has no meaning, and is none of Python's parser."""
    assert _has(kind, REFUSED[kind])
    with pytest.raises(ExpressionError) as caught:
        parse(REFUSED[kind])
    assert caught.value.reason
    assert not caught.value.reason.startswith("this is no expression")


def _has(kind: str, text: str) -> bool:
    """Whether Python reads a node of the kind in the text, within an async function."""
    tree = ast.parse(f"async def f():\n  {text}", mode="exec")
    return any(type(node).__name__ == kind for node in ast.walk(tree))


@pytest.mark.parametrize(
    ("text", "says", "column"),
    [
        ("results.Load.rwos", "`results.Load` has no 'rwos'; did you mean `rows`?", 1),
        ("1 + input.lmit", "`input` has no 'lmit'; did you mean `limit`?", 5),
        ("results.Other", "`results` has no 'Other'; it has Load, My step", 1),
        ("itme", "the expression has no 'itme'; it has input, results, run", 1),
        ("input.none.x", "`input.none` is null, and has no 'x'", 1),
        ("input.limit.x", "`input.limit` is the number 5, and has no parts", 1),
        ("input.files[2]", "`input.files` has 2 items, and no item 2", 1),
        ("input.files['a']", "the part of a list is named by an integer", 1),
        ("input[0]", "the part of a mapping is named by a text", 1),
        ("input.day.upper", "has no parts", 1),
        ("'ü' + input.limit", "`string` turns a number into text", 7),
        ("true + 1", "`+` cannot take true and the number 1", 8),
        ("'a' * 3", "`*` cannot take", 7),
        ("'%s' % 1", "`%` cannot take", 8),
        ("1 / 0", "divides by zero", 5),
        ("9223372036854775807 + 1", "more than 64 bits", 23),
        ("1e308 * 10", "not finite", 9),
        ("1 < 'a'", "have no order", 1),
        ("null < null", "have no order", 1),
        ("not 1", "`not` takes true or false", 1),
        ("1 and true", "`and` takes true or false", 1),
        ("1 if 1 else 2", "`if` takes true or false", 6),
        ("[x for x in input]", "`keys` gives those of a mapping", 13),
        ("[x for x in input.files if x.size]", "`if` takes true or false", 28),
        ("1 in 2", "`in` looks in", 1),
        ("default(1 / 0, 1)", "divides by zero", 13),
        ("default(len(input.x), 1)", "`input` has no 'x'", 13),
        ("-'a'", "only a number has a sign", 1),
        ("{1: 2}", "the keys of a mapping are texts", 2),
        ("int('1e5')", "is no integer", 1),
        ("int('1_0')", "is no integer", 1),
        ("double('a')", "is no number", 1),
        ("double('1e999')", "not finite", 1),
        ("string(null)", "`json.encode` turns any value into text", 1),
        ("json.decode('{')", "`json.decode` takes JSON", 1),
        ("json.decode('1e999')", "not finite", 1),
        ("json.decode('NaN')", "not finite", 1),
        ("json.decode('\"\\\\ud800\"')", "`json.decode` takes JSON", 1),
        ("base64.decode('%')", "takes base64", 1),
        ("sorted([1, 'a'])", "a list of numbers, or a list of texts", 1),
        ("sorted([true])", "a list of numbers", 1),
        ("time.parse('2026-11-28')", "a time with a zone", 1),
        ("time.format(1e300)", "is no time", 1),
        ("time.add('9999-12-31T00:00:00Z', 1e9)", "leaves the years", 1),
        ("text.substring('abc', 2, 1)", "0 <= start <= end <= 3", 1),
        ("input.__class__", "`input` has no '__class__'", 1),
        ("input.files.append", "named by an integer", 1),
    ],
)
def test_a_value_that_does_not_exist_is_told_with_its_column(text: str, says: str, column: int) -> None:
    """The error names the part, the type that was there, and the parts that are there."""
    with pytest.raises(ExpressionError) as caught:
        value(text)
    assert says in caught.value.reason
    assert caught.value.column == column


def test_the_error_of_a_missing_part_shows_the_beginning_of_long_keys() -> None:
    """The keys of an input may be as long as the input: a message keeps the beginning of each."""
    names = {"input": {f"{number}{'k' * 1000}": number for number in range(8)}}
    with pytest.raises(ExpressionError) as caught:
        evaluate(parse("input.x"), names)
    assert f"it has 0{'k' * 63}…, 1kkk" in caught.value.reason
    assert len(caught.value.reason) < 600


def test_a_template_is_a_text_with_values() -> None:
    """One `${ … }` keeps the type of its value; in a longer text the value becomes text; `$${` is `${`."""
    made = [
        "no expression",
        "${ input.files }",
        "day ${ input.day }, ${input.limit} of ${ 1.5 }, ${ input.yes }",
        "${ {'a': '}', 'b': \"${\"}.a }",
        "$${ input.day } and ${ input.limit }",
        "a $ b } c",
        "${ '$${' }",
    ]
    assert [evaluate(parse_template(text), NAMES) for text in made] == [
        "no expression",
        NAMES["input"]["files"],
        "day 2026-11-28, 5 of 1.5, true",
        "}",
        "${ input.day } and 5",
        "a $ b } c",
        "$${",
    ]


@pytest.mark.parametrize(
    ("text", "says", "column"),
    [
        ("a ${ input.limit", "no `}` that closes it", 3),
        ("a ${ }", "an expression is missing", 5),
        ("a ${ len(input.limit }", "this `(` is not closed", 9),
        ("a ${ [1, 2 } b", "this `[` is not closed", 6),
        ("a ${ input['day }", "it begins a text that does not end", 12),
        ("a ${{ input.day }}", "`${ … }` with one brace", 5),
        ("day: ${ input.day + }", "this is no expression", 0),
        ("day: ${ lenn(1) }", "there is no function `lenn`", 9),
    ],
)
def test_a_mistake_in_a_template_has_its_column_in_the_whole_text(text: str, says: str, column: int) -> None:
    """The column counts from the beginning of the text that the definition holds."""
    with pytest.raises(ExpressionError) as caught:
        parse_template(text)
    assert says in caught.value.reason
    assert column in (0, caught.value.column)


def test_a_template_takes_no_value_that_has_no_text() -> None:
    """Null, lists and mappings inside of a longer text are mistakes."""
    for part in ("input.none", "input.files", "input"):
        with pytest.raises(ExpressionError, match=r"json\.encode"):
            evaluate(parse_template(f"x ${{ {part} }}"), NAMES)


def test_an_expression_tells_the_names_that_it_reads() -> None:
    """Constant names are told with the root, and whether a `default` stands for them; names after `for` are none."""
    expression = parse('results.Load.rows + len([f for f in input.files if f.x == results["My step"]]) + errors.A.x')
    assert [(read.root, read.name) for read in expression.reads] == [
        ("results", "Load"),
        ("input", "files"),
        ("results", "My step"),
        ("errors", "A"),
    ]
    expression = parse("default(results.A.x[results.B], results.C) + default(results.D.x + 1, input[results.E])")
    assert [(read.root, read.name, read.has_default) for read in expression.reads] == [
        ("results", "A", True),
        ("results", "B", False),
        ("results", "C", False),
        ("results", "D", False),
        ("input", None, False),
        ("results", "E", False),
    ]
    template = parse_template("${ secrets.key }/${ run.id }")
    assert isinstance(template, Template)
    assert [(read.root, read.name) for read in template.reads] == [("secrets", "key"), ("run", "id")]


def test_a_condition_is_true_or_false() -> None:
    """Any other value is a mistake: a text or a number is never taken for true."""
    assert condition(parse("input.limit > 3"), NAMES) is True
    with pytest.raises(ExpressionError, match="true or false, and this is the number 5"):
        condition(parse("input.limit"), NAMES)


def test_long_and_deep_expressions_are_refused() -> None:
    """Length and depth are bounded, and a long chain of operators is no depth."""
    with pytest.raises(ExpressionError, match="1000 characters"):
        parse("1" * (CHARACTERS_MAX + 1))
    for deep in ("(" * 60 + "1" + ")" * 60, "not " * 60 + "true", "x" + ".y" * 60, "-" * 60 + "1"):
        with pytest.raises(ExpressionError, match="50"):
            parse(deep)
    assert value("+".join(["1"] * 500)) == 500
    assert value(" and ".join(["true"] * 100)) is True


def test_the_work_grows_with_the_given_values_only() -> None:
    """A list is gone through a few times for free; a list for each item of a list is not."""
    rows = list(range(20_000))
    assert value("len([r for r in rows if r % 2 == 0])", rows=rows) == 10_000
    assert value("sum(rows) + len(sorted(rows)) + len(default(input.none, rows))", rows=rows) == sum(rows) + 40_000
    for text in ("[r for r in rows if r in rows]", "[[a for a in rows] for b in rows]", "[sum(rows) for r in rows]"):
        with pytest.raises(ExpressionError, match="more than 10000 steps"):
            value(text, rows=rows)
    made = "[1,2,3,4,5,6,7,8,9]"
    for _ in range(6):
        made = f"[x for y in {made} for x in [1,2,3,4,5,6,7,8,9]]"
    with pytest.raises(ExpressionError, match="steps"):
        value(made)


def test_texts_do_not_grow_without_limit() -> None:
    """A text of more than 100,000 characters is refused before it is made, where the size is known before."""
    for text in (
        "x + x",
        "text.join([x, x], '')",
        "text.replace_all(x, 'a', 'bb')",
        "json.encode([x, x])",
        "text.url_encode(text.replace_all(x, 'a', '/'))",
    ):
        with pytest.raises(ExpressionError, match="the limit is 100000"):
            value(text, x="a" * 60_000)


# -- any expression at all -------------------------------------------------------------------------------------------

_WORDS = [
    *("+", "-", "*", "/", "//", "%", "==", "!=", "<", ">", "<=", ">=", "and", "or", "not", "in", "if", "else", "for"),
    *("(", ")", "[", "]", "{", "}", ",", ":", ".", "true", "false", "null", "1", "2.5", "'a'", "''", "-1", "0", "9e99"),
    *("input", "results.Load", "input.files", "input.limit", "x", "__class__"),
    *FUNCTIONS,
]
_LEAVES = st.sampled_from(
    [
        "input",
        "input.files",
        "input.limit",
        "input.none",
        "results.Load.parts",
        "1",
        "0",
        "2.5",
        "'a'",
        "null",
        "true",
        "x",
    ]
)


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    binary = st.sampled_from(["+", "-", "*", "/", "//", "%", "==", "!=", "<", ">=", "and", "or", "in"]).flatmap(
        lambda sign: st.tuples(inner, inner).map(lambda two: f"({two[0]} {sign} {two[1]})")
    )
    calls = st.sampled_from(sorted(FUNCTIONS)).flatmap(
        lambda name: st.lists(inner, min_size=FUNCTIONS[name].least, max_size=FUNCTIONS[name].most).map(
            lambda arguments: f"{name}({', '.join(arguments)})"
        )
    )
    return st.one_of(
        binary,
        calls,
        st.tuples(inner, inner).map(lambda two: f"[{two[0]} for x in {two[1]}]"),
        st.tuples(inner, inner).map(lambda two: f"[x for x in {two[0]} if {two[1]}]"),
        st.tuples(inner, inner).map(lambda two: f"{two[0]}[{two[1]}]"),
        inner.map(lambda one: f"{one}.name"),
        inner.map(lambda one: f"not {one}"),
        inner.map(lambda one: f"{{'name': {one}}}"),
    )


ANY_EXPRESSION = st.one_of(
    st.recursive(_LEAVES, _grown, max_leaves=20),
    st.lists(st.sampled_from(_WORDS), max_size=15).map(" ".join),
    st.text(alphabet=string.printable + "äﬁ\ud800\u2028", max_size=40),
)


def has_a_value_or_an_error(text: str) -> None:
    expression = _given_up(text, lambda: parse(text))
    if not isinstance(expression, Expression):
        return
    assert all(type(node).__module__ == "ast" for node in ast.walk(expression.tree))
    environment = Environment(NAMES)
    found = _given_up(text, lambda: evaluate(expression, NAMES))
    if not isinstance(found, ExpressionError):
        _is_json(found)
    if expression.closure is not None:
        with suppress(Exception):
            expression.closure(environment)
    granted = STEPS_PER_ITEM * 100
    assert 0 <= environment.left <= STEPS + granted, text


def _given_up(text: str, work: Callable[[], Any]) -> Any:
    """Return the value, or the error with a column in the text. Any other exception is raised."""
    try:
        return work()
    except ExpressionError as error:
        given_up = error
    assert 1 <= given_up.column <= len(text) + 1, text
    return given_up


def _is_json(found: Any) -> None:
    assert type(found) in (type(None), bool, int, float, str, list, dict)
    assert not isinstance(found, float) or math.isfinite(found)
    for inner in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        _is_json(inner)


@given(ANY_EXPRESSION)
@settings(max_examples=2000, deadline=None)
def test_any_text_has_a_value_or_an_error(text: str) -> None:
    """No text raises another exception, spends more than its budget, or has a value that JSON has not."""
    has_a_value_or_an_error(text)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@given(ANY_EXPRESSION)
@settings(max_examples=100_000, deadline=None)
def test_any_of_many_texts_has_a_value_or_an_error(text: str) -> None:
    """As above, with 100,000 texts."""
    has_a_value_or_an_error(text)


def test_an_expression_is_made_once() -> None:
    """The closure of an expression is made at its first use, and kept."""
    expression = parse("input.limit")
    assert isinstance(expression, Expression)
    evaluate(expression, NAMES)
    closure = expression.closure
    evaluate(expression, NAMES)
    assert closure is not None
    assert expression.closure is closure
