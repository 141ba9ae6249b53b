"""How a callable gets its arguments: by its signature, the context, parameters by name, or both."""

import datetime as dt
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NewType, Protocol, TypedDict, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_validator

from aiorch import TaskContext
from aiorch.targets.function.arguments import Arguments, ParameterError
from tests.contexts import a_context
from tests.unit import annotated

DAY = dt.date(2026, 11, 23)
TEXT = "2026-11-23"

CONTEXT = object()
"""Stands in a table for the context of the call."""


def called(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    """Call a function as the target does; the context in the result is replaced by `CONTEXT`."""
    context = a_context(parameters=parameters)
    by_position, by_name = Arguments("m:f", function).of(context)
    result = function(*by_position, **by_name)
    if isinstance(result, tuple):
        return tuple(CONTEXT if each is context else each for each in result)
    return CONTEXT if result is context else result


def mistakes(function: Callable[..., Any], parameters: dict[str, Any]) -> dict[str, str]:
    """Return the messages about *parameters* by their paths, as the check of a definition finds them."""
    found = Arguments("m:f", function).find_problems(parameters, lambda _: True)
    return {".".join(map(str, finding.key)): finding.message for finding in found}


# -- who gets the context --------------------------------------------------------------------------------------------


class HasRunId(Protocol):
    run_id: str


class OwnContext(TaskContext):
    pass


C = TypeVar("C", bound=TaskContext)


def one(x):
    return x


def one_default(x=None):
    return x


def one_any(x: Any):
    return x


def one_object(x: object):
    return x


def one_context(x: TaskContext):
    return x


def one_union(x: TaskContext | None):
    return x


def one_annotated(x: Annotated[TaskContext, "of this run"]):
    return x


def one_subclass(x: OwnContext):
    return x


def one_bound(x: C):
    return x


def one_protocol(x: HasRunId):
    return x


def one_keyword(*, x):
    return x


def one_rest(x, *rest):
    return (x, *rest)


@pytest.mark.parametrize(
    "function",
    [
        one,
        one_default,
        one_any,
        one_object,
        one_context,
        one_union,
        one_annotated,
        one_subclass,
        one_bound,
        one_protocol,
        one_keyword,
        annotated.context_alone,
        annotated.unknown_context,
    ],
)
@pytest.mark.parametrize("parameters", [{}, {"table": "orders"}], ids=["none", "others"])
def test_the_only_parameter_gets_the_context(function, parameters):
    """It may have any name, no annotation, or one that allows a context; parameters of the step are no surplus then."""
    assert called(function, parameters) is CONTEXT
    assert mistakes(function, parameters) == {}


@pytest.mark.parametrize("function", [one, one_default, one_any, one_object, one_protocol, one_keyword])
def test_the_only_parameter_gets_the_value_of_its_name(function):
    """A key of the parameters with its name goes before the context; null is a value."""
    assert called(function, {"x": 5}) == 5
    assert called(function, {"x": None}) is None
    assert mistakes(function, {"x": 5, "y": 6}).keys() == {"parameters.y"}


@pytest.mark.parametrize("function", [one_context, one_union, one_annotated, one_subclass, one_bound])
def test_a_parameter_annotated_as_the_context_never_gets_a_value(function):
    """A key of the same name changes nothing for a function of the context, which may read the key itself."""
    assert called(function, {"x": 5}) is CONTEXT


def test_the_only_parameter_of_another_type_gets_no_context():
    """An annotation with a different type needs a value, or a default."""

    def needs(day: dt.date):
        return day

    def has_default(day: dt.date = DAY):
        return day

    assert called(needs, {"day": TEXT}) == DAY
    assert called(has_default, {}) == DAY
    with pytest.raises(ParameterError, match=r"'m:f' was not called.*`parameters.day`: this key is missing"):
        called(needs, {})
    with pytest.raises(ParameterError, match=r"`parameters.dya`: 'm:f' has no parameter .* did you mean `day`\?"):
        called(needs, {"dya": TEXT})


def named(context, day, limit=3):
    return context, day, limit


def named_last(day, *, context):
    return context, day


def named_only(context, /, day):
    return context, day


def told(day, where: TaskContext):
    return where, day


def told_and_named(context, where: TaskContext):
    return where, context


def two_told(first: TaskContext, second: TaskContext):
    return first, second


def no_context(day, limit=3):
    return day, limit


def by_position(day, limit=3, factor=2, /):
    return day, limit, factor


def rest(day, **rest):
    return day, rest


def rest_alone(**rest):
    return rest


def rest_and_context(context, **rest):
    return context, rest


def number_rest(**rest: int):
    return rest


def args_alone(*args):
    return args


def args_and_names(*args, **names):
    return args, names


def args_behind(day, *args, limit):
    return day, args, limit


def rest_told(where: TaskContext, **rest):
    return where, rest


def wrapped_here(function):
    """Return a decorated function whose annotations are names of a different module than this one."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def nothing():
    return "called"


@pytest.mark.parametrize(
    ("function", "parameters", "expected"),
    [
        (named, {"day": 1}, (CONTEXT, 1, 3)),
        (named, {"day": 1, "limit": None}, (CONTEXT, 1, None)),
        (named, {"day": 1, "context": 2}, (2, 1, 3)),
        (named_last, {"day": 1}, (CONTEXT, 1)),
        (named_only, {"day": 1}, (CONTEXT, 1)),
        (told, {"day": 1}, (CONTEXT, 1)),
        (told_and_named, {"context": 1}, (CONTEXT, 1)),
        (two_told, {}, (CONTEXT, CONTEXT)),
        (no_context, {"day": 1, "limit": 2}, (1, 2)),
        (no_context, {"limit": 2, "day": 1}, (1, 2)),
        (by_position, {"factor": 9, "day": 1}, (1, 3, 9)),
        (rest, {"day": 1, "a": 2}, (1, {"a": 2})),
        (rest_alone, {"a": 1, "self": 2}, {"a": 1, "self": 2}),
        (rest_alone, {}, {}),
        (rest_and_context, {"a": 1}, (CONTEXT, {"a": 1})),
        (number_rest, {"a": "1"}, {"a": 1}),
        (args_alone, {"a": 1}, (CONTEXT,)),
        (args_behind, {"day": 1, "limit": 2}, (1, (), 2)),
        (one_rest, {"a": 1}, (CONTEXT,)),
        (nothing, {}, "called"),
        (annotated.by_name, {"day": TEXT}, (DAY, 3)),
        (annotated.decorated, {"day": TEXT, "limit": "4"}, (DAY, 4)),
        (annotated.partly, {"day": TEXT}, (DAY, 7)),
        (annotated.partly, {"day": TEXT, "limit": 8}, (DAY, 8)),
        (annotated.with_context, {"day": TEXT}, (DAY, CONTEXT)),
        (annotated.with_optional_context, {"day": TEXT}, (DAY, CONTEXT)),
        (annotated.with_context_of_package, {"day": TEXT}, (DAY, CONTEXT)),
        (annotated.with_context_of_module, {"day": TEXT}, (DAY, CONTEXT)),
        (wrapped_here(annotated.by_name), {"day": TEXT}, (DAY, 3)),
        (annotated.unknown_alone, {"day": TEXT}, TEXT),
        (annotated.unknown, {"day": TEXT, "days": [TEXT], "limit": "3"}, (TEXT, [TEXT], 3)),
        (annotated.not_an_expression, {"day": TEXT, "limit": 3}, (TEXT, 3)),
        (annotated.nested, {"day": {"date": TEXT}, "days": []}, (annotated.Day(DAY), [])),
        (annotated.Loader().load, {"day": TEXT}, (DAY, 3)),
        (annotated.Loader.of, {"day": TEXT}, DAY),
        (annotated.Loader(), {"day": TEXT}, (DAY, CONTEXT)),
        (annotated.Day, {"date": TEXT, "limit": "2"}, annotated.Day(DAY, 2)),
    ],
)
def test_a_callable_gets_parameters_by_name(function, parameters, expected):
    """The table of all forms of signatures: what each parameter gets. The check of a definition finds no mistake."""
    assert called(function, parameters) == expected
    assert mistakes(function, parameters) == {}


def test_a_wrapper_of_any_arguments_gets_the_context_alone():
    """It may pass its arguments on to a function of the context, as before."""
    context = a_context(parameters={"a": 1})
    assert Arguments("m:f", args_and_names).of(context) == ((context,), {})


@pytest.mark.parametrize("function", [str, dict, type("Odd", (), {"__call__": one, "__signature__": 5})()])
def test_a_callable_without_a_signature_gets_the_context(function):
    """Some built-in callables have no signature that Python can read."""
    with pytest.raises((TypeError, ValueError)):
        inspect.signature(function)
    context = a_context(parameters={"a": 1})
    assert Arguments("m:f", function).of(context) == ((context,), {})
    assert mistakes(function, {"a": 1}) == {}


async def test_an_async_callable_gets_parameters_by_name():
    """Its coroutine is made with them."""

    async def load(day: dt.date, context):
        return day, context

    context = a_context(parameters={"day": TEXT})
    by_position, by_name = Arguments("m:f", load).of(context)
    assert await load(*by_position, **by_name) == (DAY, context)


# -- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "parameters", "expected"),
    [
        (nothing, {"a": 1}, {"a": "'m:f' has no parameter for this key, which is the number 1; its parameters: none"}),
        (no_context, {}, {"day": "the parameter `day` of 'm:f' has no default; to get the context instead, name it"}),
        (named, {}, {"day": "the parameter `day` of 'm:f' has no default"}),
        (no_context, {"dya": None}, {"day": "missing", "dya": "which is null; did you mean `day`?"}),
        (no_context, {"day": 1, "xyz": 1}, {"xyz": "its parameters: `day`, `limit`"}),
        (told, {"day": 1, "where": 2}, {"where": "the parameter `where` of 'm:f' gets the context; rename"}),
        (told_and_named, {}, {"context": "missing"}),
        (rest_told, {"where": 2}, {"where": "the parameter `where` of 'm:f' gets the context; rename"}),
        (by_position, {"limit": 1}, {"day": "missing"}),
        (annotated.by_name, {"day": "x"}, {"day": "the parameter `day` of 'm:f' is datetime.date, and this is 'x': "}),
        (annotated.by_name, {"day": TEXT, "limit": None}, {"limit": "is int, and this is null: "}),
        (
            annotated.nested,
            {"day": {}, "days": [{"date": TEXT}, {"date": TEXT, "limit": "many"}]},
            {"day.date": "a field is missing here", "days.1.limit": "this is 'many': "},
        ),
        (number_rest, {"a": 1, "b": "x"}, {"b": "the parameter `rest` of 'm:f' is int, and this is 'x'"}),
    ],
)
def test_mistakes_name_the_function_the_parameter_and_the_value(function, parameters, expected):
    """All mistakes are found at once, each at its place; a call of the function fails with the same words."""
    found = mistakes(function, parameters)
    assert found.keys() == {f"parameters.{key}" for key in expected}
    for key, words in expected.items():
        assert words in found[f"parameters.{key}"]
    with pytest.raises(ParameterError) as raised:
        called(function, parameters)
    assert str(raised.value).startswith(
        "'m:f' was not called: correct the `parameters` of the step, or its signature: "
    )
    assert all(message in str(raised.value) for message in found.values())


def test_the_message_of_a_missing_parameter_says_more_than_what_was_given():
    """A function with a context is not told how to get one."""
    assert "context instead" not in mistakes(named, {})["parameters.day"]
    assert "context instead" not in mistakes(annotated.by_name, {})["parameters.day"]


def test_values_that_only_the_launch_knows_are_not_converted():
    """The check of a definition leaves a template alone, and still finds missing and unknown keys."""
    arguments = Arguments("m:f", annotated.by_name)
    found = arguments.find_problems({"day": "${ input.day }", "x": 1}, lambda value: value != "${ input.day }")
    assert [finding.key for finding in found] == [("parameters", "x")]
    found = arguments.find_problems({"limit": "${ input.limit }"}, lambda _: False)
    assert [finding.key for finding in found] == [("parameters", "day")]


# -- conversions -----------------------------------------------------------------------------------------------------


class Colour(Enum):
    RED = "red"


@dataclass
class Line:
    price: Decimal
    count: int = 1


class Order(BaseModel):
    day: dt.date
    lines: list[Line] = []

    @field_validator("day")
    @classmethod
    def is_recent(cls, day: dt.date) -> dt.date:
        if day.year < 2000:
            raise ValueError("too old")
        return day


class Strict(BaseModel, strict=True):
    day: dt.date


class Keys(TypedDict):
    day: dt.date


class Record(msgspec.Struct):
    day: dt.date


class Odd:
    """A type that no library can read from JSON."""


OrderId = NewType("OrderId", int)


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (str, "a", "a"),
        (int, 5, 5),
        (int, "5", 5),
        (float, 5, 5.0),
        (bool, True, True),
        (list, [1], [1]),
        (dict, {"a": 1}, {"a": 1}),
        (dict[str, Any], {"a": 1}, {"a": 1}),
        (None, None, None),
        (int | None, None, None),
        (int | dt.date, TEXT, DAY),
        (dt.date, TEXT, DAY),
        (dt.datetime, "2026-11-23T12:30:00Z", dt.datetime(2026, 11, 23, 12, 30, tzinfo=dt.UTC)),
        (dt.timedelta, "PT3600S", dt.timedelta(hours=1)),
        (Decimal, "1.10", Decimal("1.10")),
        (Colour, "red", Colour.RED),
        (Literal["a", "b"], "b", "b"),
        (tuple[int, str], [1, "a"], (1, "a")),
        (set[int], [1, 1], {1}),
        (Line, {"price": "1.5"}, Line(Decimal("1.5"))),
        (list[Line], [{"price": 2, "count": 3}], [Line(Decimal(2), 3)]),
        (Order, {"day": TEXT}, Order(day=DAY)),
        (dict[str, Order], {"a": {"day": TEXT}}, {"a": Order(day=DAY)}),
        (Strict, {"day": TEXT}, Strict(day=DAY)),
        (Keys, {"day": TEXT}, {"day": DAY}),
        (list[Keys], [{"day": TEXT}], [{"day": DAY}]),
        (Record, {"day": TEXT}, Record(DAY)),
        (Annotated[int, Field(gt=0)], 1, 1),
        (OrderId, "7", 7),
        (Mapping[str, int], {"a": "1"}, {"a": 1}),
        (Odd, {"a": 1}, {"a": 1}),
        (list[Odd], [1], [1]),
        (5, {"a": 1}, {"a": 1}),
        ("Odd", {"a": 1}, {"a": 1}),
        ("list[Line]", [{"price": 2}], [Line(Decimal(2))]),
        (list["Line"], [{"price": 2}], [Line(Decimal(2))]),
    ],
)
def test_values_are_converted_to_the_annotated_type(annotation, value, expected):
    """The rules are those of pydantic for JSON. A type that nothing can read from JSON leaves the value as it is."""

    def function(x, y=0):
        return x

    function.__annotations__["x"] = annotation
    result = called(function, {"x": value})
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "value", "says"),
    [
        (str, 5, "is str, and this is the number 5: Input should be a valid string"),
        (int, "many", "valid integer"),
        (Colour, "blue", "'red'"),
        (Literal["a", "b"], "c", "'a' or 'b'"),
        (int | dt.date, "x", "valid integer, unable to parse string as an integer or Input should be a valid date"),
        (Order, {"day": "1999-01-01"}, "this is '1999-01-01': Value error, too old"),
        (Keys, {"day": 1}, "day"),
        (Annotated[int, Field(gt=0)], 0, "greater than 0"),
        (dict[str, Any], "\ud800", "surrogates not allowed"),
    ],
)
def test_values_of_wrong_types_are_refused(annotation, value, says):
    """The message has the words of the library that refuses the value."""

    def function(x, y=0):
        return x

    function.__annotations__["x"] = annotation
    with pytest.raises(ParameterError, match=r"`parameters\.x") as raised:
        called(function, {"x": value})
    assert says in str(raised.value)


def test_any_exception_of_a_validator_is_a_mistake_in_the_parameter():
    """Types bring code of the user, which may raise anything."""

    class Broken(BaseModel):
        day: dt.date

        @field_validator("day")
        @classmethod
        def raises(cls, day: dt.date) -> dt.date:
            raise KeyError("no such day")

    def function(x: Broken):
        return x

    with pytest.raises(ParameterError, match=r"this is a mapping: 'no such day'"):
        called(function, {"x": {"day": TEXT}})


# -- any signature ---------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "context", "day", "_"])
ANNOTATIONS = st.sampled_from(
    [
        inspect.Parameter.empty,
        TaskContext,
        Any,
        int,
        str,
        dt.date,
        Order,
        Keys,
        "TaskContext",
        "x.TaskContext",
        "nope",
        "(",
        5,
        None,
        list["nope"],  # noqa: F821
        TaskContext | None,
        Callable[..., int],
        Odd,
        C,
        "int | nope",
        Literal[1],
    ]
)
KINDS = [
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
    inspect.Parameter.KEYWORD_ONLY,
    inspect.Parameter.VAR_KEYWORD,
]
VARIADIC = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(alphabet=st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)


@st.composite
def callables(draw: st.DrawFn) -> Callable[..., Any]:
    """Draw a function of any signature; it accepts every call that fits the signature, and returns its arguments."""
    names = draw(st.lists(NAMES, unique=True, max_size=4))
    parameters = []
    has_default = False
    for name, kind in zip(names, sorted(draw(st.sampled_from(KINDS)) for _ in names), strict=True):
        is_variadic = kind in VARIADIC
        if is_variadic and any(each.kind is kind for each in parameters):
            continue
        is_by_position = kind in KINDS[:2]
        has_default = not is_variadic and (draw(st.booleans()) or (has_default and is_by_position))
        default = None if has_default else inspect.Parameter.empty
        parameters.append(inspect.Parameter(name, kind, default=default, annotation=draw(ANNOTATIONS)))
    signature = inspect.Signature(parameters)

    def function(*args: Any, **kwargs: Any) -> inspect.BoundArguments:
        return signature.bind(*args, **kwargs)

    function.__signature__ = signature
    return draw(st.sampled_from([function, functools.partial(function)]))


@given(function=callables(), parameters=st.dictionaries(NAMES | st.text(max_size=3), VALUES, max_size=4))
def test_any_signature_and_any_parameters_fit_or_raise_a_parameter_error(function, parameters):
    """Arguments that are returned fit the signature, and no other exception than a ParameterError is raised."""
    arguments = Arguments("m:f", function)
    found = arguments.find_problems(parameters, lambda _: True)
    context = a_context(parameters=parameters)
    try:
        by_position, by_name = arguments.of(context)
    except ParameterError as error:
        assert found
        assert all(finding.message in str(error) for finding in found)  # noqa: PT017  other calls raise nothing
    else:
        assert found == []
        bound = function(*by_position, **by_name)  # raises a TypeError if the arguments do not fit
        for name, parameter in bound.signature.parameters.items():
            gets_context = bound.arguments.get(name) is context
            assert gets_context or parameter.annotation is not TaskContext or parameter.kind in VARIADIC
            assert not gets_context or parameter.annotation not in (int, str, dt.date, Order, Keys)
