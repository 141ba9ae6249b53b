"""The key `inputs` of a definition, and the input of a run against it."""

import subprocess
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorch.definition.build import DAGBuilder
from aiorch.definition.inputs import INPUTS_MAX, DeclaredInputs, read_text
from aiorch.definition.source import parse_definition
from aiorch.errors import DefinitionError, InvalidInputError
from aiorch.model.dag import DAG
from aiorch.schemas.vocabulary import TYPES

STEPS = {
    "start": "A",
    "steps": {"A": {"type": "Task", "target_type": "Function", "target_name": "t:work", "end": True}},
}
REPORT = {
    "day": {"type": "string", "format": "date"},
    "limit": {"type": "integer", "minimum": 1, "default": 100},
    "tags": {"type": "array", "items": {"type": "string"}, "default": []},
    "note": {"type": ["string", "null"], "default": None},
}


def dag_of(inputs: Any) -> DAG:
    return DAGBuilder({**STEPS, "name": "report", "inputs": inputs}).build_dag()


def completed(inputs: Any, value: Any) -> Any:
    declared = dag_of(inputs).inputs
    assert declared is not None
    return declared.complete(value)


def problems(inputs: Any, value: Any) -> list[tuple[str, str, str]]:
    """Return the problems of an input: name, path and message of each."""
    with pytest.raises(InvalidInputError) as raised:
        completed(inputs, value)
    return [tuple(problem) for problem in raised.value.problems]


def mistakes(inputs: Any) -> list[tuple[str, str]]:
    """Return the problems of a definition with these inputs: path and message of each."""
    with pytest.raises(DefinitionError) as raised:
        dag_of(inputs)
    return [(problem.path, problem.message) for problem in raised.value.problems]


# -- the definition --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TYPES)
def test_the_short_form_is_a_type(name: str) -> None:
    """`day: string` is the same as `day: {type: string}`, for every type."""
    values = {"string": "a", "integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}, "null": None}
    assert completed({"x": name}, {"x": values[name]}) == {"x": values[name]}
    wrong = 1 if name not in ("integer", "number") else "1"
    assert problems({"x": name}, {"x": wrong}) == problems({"x": {"type": name}}, {"x": wrong})


@pytest.mark.parametrize(
    ("inputs", "path", "message"),
    [
        ([], "inputs", "must be a mapping, not a list"),
        (None, "inputs", "this is null"),
        ({"day": "strin"}, "inputs.day", "or `null`, not 'strin'; did you mean `string`?"),
        ({"day": "date"}, "inputs.day", "not 'date'; write `{type: string, format: date}`"),
        ({"days": "list"}, "inputs.days", "not 'list'; did you mean `array`?"),
        ({"day": ["string"]}, "inputs.day", "must be a type or a JSON Schema, not a list"),
        ({"day": True}, "inputs.day", "must be a type or a JSON Schema, not true"),
        ({"day": None}, "inputs.day", "must be a type or a JSON Schema, not null"),
        ({"": "string"}, 'inputs[""]', "must not be empty"),
        ({"x" * 129: "string"}, f'inputs["{"x" * 64}"…]', "must have at most 128 characters"),
        ({"day": {"typ": "string"}}, "inputs.day.typ", "did you mean `type`?"),
        ({"day": {"format": "dat"}}, "inputs.day.format", "did you mean `date`?"),
        ({"a b": {"$ref": "http://x"}}, 'inputs["a b"].$ref', "must refer to a part of this schema"),
        ({"n": {"type": "integer", "default": "5"}}, "inputs.n.default", "must be a whole number, not the text '5'"),
        ({"n": {"minimum": 5, "default": 4}}, "inputs.n.default", "must be at least 5, not the number 4"),
        ({"n": {"type": "integer", "default": None}}, "inputs.n.default", "must be a whole number, not null"),
        ({"l": {"items": {"type": "null"}, "default": [None, 1]}}, "inputs.l.default[1]", "must be null"),
        ({"n": {"default": float("nan")}}, "inputs.n.default", "this number is not finite"),
        ({f"i{number}": "string" for number in range(INPUTS_MAX + 1)}, "inputs", "at most 200 inputs, not 201"),
    ],
)
def test_a_wrong_input_is_a_mistake_of_the_definition(inputs: Any, path: str, message: str) -> None:
    """Each mistake is reported once, at its place."""
    [(found, said)] = mistakes(inputs)
    assert found == path
    assert message in said


def test_mistakes_in_inputs_are_reported_with_all_others() -> None:
    """Mistakes in two inputs and in a step are found at once, with their positions in the text."""
    text = (
        "inputs:\n  day: {type: strng}\n  limit: {type: integer, default: x}\n"
        "start: A\nsteps:\n  A: {type: Pass, nxt: B, end: true}\n"
    )
    with pytest.raises(DefinitionError) as raised:
        DAGBuilder(parse_definition(text, format="yaml")).build_dag()
    found = [(problem.path, problem.line, problem.column) for problem in raised.value.problems]
    assert found == [("inputs.day.type", 2, 15), ("inputs.limit.default", 3, 35), ("steps.A.nxt", 6, 19)]


def test_inputs_of_a_branch_are_unknown() -> None:
    """Inputs belong to a definition, not to a branch."""
    branch = {**STEPS, "inputs": {"day": "string"}}
    definition = {"start": "P", "steps": {"P": {"type": "Parallel", "branches": [branch], "end": True}}}
    with pytest.raises(DefinitionError) as raised:
        DAGBuilder(definition).build_dag()
    assert [problem.path for problem in raised.value.problems] == ["steps.P.branches[0].inputs"]


def test_a_stored_definition_has_the_same_inputs() -> None:
    """The stored form builds the same DAG, which completes inputs in the same way."""
    dag = dag_of(REPORT)
    stored = DAGBuilder(msgspec.json.decode(dag.definition)).build_stored_dag()
    assert stored.definition_id == dag.definition_id
    assert dag.inputs is not None
    assert stored.inputs is not None
    value = {"day": "2026-11-28"}
    assert stored.inputs.complete(value) == dag.inputs.complete(value)


def test_a_definition_without_inputs_imports_no_validator() -> None:
    """`jsonschema` is imported for a DAG with inputs, and for no other."""
    code = (
        "import sys; from aiorch.definition.build import DAGBuilder\n"
        f"DAGBuilder({STEPS!r}).build_dag().complete_input(b'5')\n"
        "assert not {'jsonschema', 'aiorch.definition.inputs'} & sys.modules.keys()\n"
        f"DAGBuilder({{**{STEPS!r}, 'inputs': {{'x': {{'type': 'string'}}}}}}).build_dag()\n"
        "assert 'jsonschema' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- the input of a run ----------------------------------------------------------------------------------------------


def test_defaults_are_filled_in() -> None:
    """What is not given has its default, also null, and what is given stays, also null."""
    assert completed(REPORT, {"day": "2026-11-28"}) == {"day": "2026-11-28", "limit": 100, "tags": [], "note": None}
    given = {"day": "2026-11-28", "limit": 5, "tags": ["a"], "note": "n"}
    assert completed(REPORT, given) == given


def test_no_input_is_an_empty_one() -> None:
    """`None` stands for no input: all defaults, or all that is missing."""
    assert completed({"limit": {"default": 5}}, None) == {"limit": 5}
    assert completed({}, None) == {}
    assert problems({"day": "string"}, None) == [("day", "day", "is missing; it must be a string")]


def test_defaults_are_not_shared_between_runs() -> None:
    """A program that changes a completed input changes no later one."""
    declared = DeclaredInputs("report", REPORT)
    declared.complete({"day": "2026-11-28"})["tags"].append("changed")
    assert declared.complete({"day": "2026-11-28"})["tags"] == []


def test_only_defaults_of_whole_inputs_are_filled_in() -> None:
    """A `default` deeper in a schema is an annotation, as JSON Schema says."""
    inputs = {"to": {"type": "object", "properties": {"city": {"type": "string", "default": "Ulm"}}}}
    assert completed(inputs, {"to": {}}) == {"to": {}}


def test_every_mistake_of_an_input_is_reported_at_once() -> None:
    """Each problem has the name of the input, the place inside, the given value and the allowed ones."""
    given = {"dya": "2026-11-28", "limit": "many", "tags": ["a", 1, {}]}
    assert problems(REPORT, given) == [
        ("dya", "dya", "is no input of this DAG; did you mean 'day'?"),
        ("limit", "limit", "must be a whole number, not the text 'many'"),
        ("tags", "tags[1]", "must be a string, not the number 1"),
        ("tags", "tags[2]", "must be a string, not a mapping"),
        ("day", "day", "is missing; it must be a date like '2026-11-28'"),
    ]


def test_the_error_is_one_text_with_all_problems() -> None:
    """The message names the DAG, the number of problems and each of them, and says that no run was started."""
    with pytest.raises(InvalidInputError) as raised:
        completed(REPORT, {"limit": 0, "a b": 1})
    assert str(raised.value) == (
        "the input for DAG 'report' is not valid (3 problems), so no run was started:\n"
        "  - limit: must be at least 1, not the number 0\n"
        '  - ["a b"]: is no input of this DAG; its inputs: day, limit, tags and note\n'
        "  - day: is missing; it must be a date like '2026-11-28'"
    )
    assert raised.value.dag == "report"


def test_the_error_for_logs_has_no_values() -> None:
    """`without_values` names the places of the problems only."""
    with pytest.raises(InvalidInputError) as raised:
        completed(REPORT, {"limit": "secret", "tags": ["secret", 5]})
    assert raised.value.without_values == (
        "the input for DAG 'report' is not valid, so no run was started: limit, tags[1], day"
    )


def test_the_error_of_very_many_problems_is_cut() -> None:
    """The text has 50 problems and counts the others; `problems` has all of them."""
    with pytest.raises(InvalidInputError) as raised:
        completed({}, {f"x{number}": 1 for number in range(60)})
    assert len(raised.value.problems) == 60
    assert str(raised.value).splitlines()[-1] == "  … and 10 more problems; the attribute `problems` has all of them"


@pytest.mark.parametrize("value", [[], "day", 5, True, False, 0, ""])
def test_an_input_that_is_no_mapping_is_refused(value: Any) -> None:
    """A DAG with inputs takes a mapping only."""
    [(name, path, message)] = problems({}, value)
    assert (name, path) == ("", "")
    assert message.startswith("must be a mapping of values by the names of inputs, not ")


def test_all_values_of_a_start_share_the_checks() -> None:
    """A start of many large values is given up as one of a single large value is."""
    inputs = {f"x{number}": {"items": {"type": "integer"}} for number in range(100)}
    found = problems(inputs, {name: [1] * 2000 for name in inputs})
    assert {message for _, _, message in found} == {"takes more than 50,000 checks, and must be smaller"}
    assert 70 < len(found) < 80


def test_names_of_any_text_are_names_of_inputs() -> None:
    """Names with spaces, dots, keywords and letters of any script are declared and given like all others."""
    names = ["from", "a b", "x.y", "größe", "$ref", "5", "a=b", "n" * 128]
    assert completed(dict.fromkeys(names, "integer"), dict.fromkeys(names, 1)) == dict.fromkeys(names, 1)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["2026-11-28", "a"]),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=3,
)


@given(st.dictionaries(st.sampled_from([*REPORT, "other"]), json_values))
def test_completing_twice_is_completing_once(value: dict[str, Any]) -> None:
    """A completed input is valid and complete; and completing removes and changes nothing that was given."""
    declared = DeclaredInputs("report", REPORT)
    try:
        once = declared.complete(value)
    except InvalidInputError:
        return
    assert declared.complete(once) == once
    assert [once[name] for name in value] == list(value.values())
    assert once.keys() == REPORT.keys()


def test_the_encoded_input_of_a_dag_without_inputs_stays_as_it_is() -> None:
    """Without declared inputs, no byte of an input changes: neither spaces nor the order of keys."""
    dag = DAGBuilder(STEPS).build_dag()
    assert dag.inputs is None
    assert dag.complete_input(b'{"b" : 1.0, "a": [ ]}') == b'{"b" : 1.0, "a": [ ]}'


# -- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-1.5e3", -1500.0),
        ("true", True),
        ("null", None),
        ('["a", 1]', ["a", 1]),
        ('{"a": 1}', {"a": 1}),
        ("", ""),
        ("007", "007"),
        ("2026-11-28", "2026-11-28"),
        ("True", "True"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ('"5"', '"5"'),
        ("[1", "[1"),
        ("a=b", "a=b"),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_a_text_is_read_as_json_or_as_itself(text: str, value: Any) -> None:
    """A text that is a number, a constant, a list or a mapping of JSON is this value; any other is a text."""
    assert read_text(text) == value
    assert type(read_text(text)) is type(value)


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ("string", "5", "5"),
        ("string", "null", "null"),
        ("string", '"a"', '"a"'),
        ("integer", "5", 5),
        ("integer", "five", "five"),
        ("number", "1e2", 100.0),
        ("boolean", "true", True),
        ("null", "null", None),
        ("array", "[1]", [1]),
        ("object", "{}", {}),
        ({"type": ["integer", "string"]}, "5", 5),
        ({"type": ["integer", "string"]}, "5.5", "5.5"),
        ({"type": ["string", "null"]}, "null", None),
        ({"type": ["string", "null"]}, "5", "5"),
        ({"enum": [1, "a"]}, "1", 1),
        ({}, "007", "007"),
    ],
)
def test_a_text_is_read_by_the_declared_type(schema: Any, text: str, value: Any) -> None:
    """A string stays text, every other type is read as JSON; a text that is neither is left for the check."""
    declared = dag_of({"x": schema}).inputs
    assert declared is not None
    assert declared.read({"x": text}) == {"x": value}
    assert type(declared.read({"x": text})["x"]) is type(value)


def test_a_text_of_an_unknown_input_is_left_for_the_check() -> None:
    """The name is reported by `complete`, with all other mistakes."""
    assert DeclaredInputs("report", REPORT).read({"limt": "5"}) == {"limt": 5}
