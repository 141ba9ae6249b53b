"""Expressions of definitions: every mistake in their syntax and in their names is found when a DAG is built."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings

from aiorch.definition.build import DAGBuilder, NodeFactory
from aiorch.definition.check import Check
from aiorch.definition.ways import Ways
from aiorch.errors import DefinitionError, NewerSchemaError
from aiorch.model.dag import DAG
from tests.definitions import call, chain, in_text, parallel, problems_if_any, problems_of, task
from tests.unit.test_levels import choice, graph, is_right_chain, is_right_graph, level, some_levels, step


def reading(text: str, **keys: Any) -> dict[str, Any]:
    """A task whose parameters hold an expression."""
    return {**step(), "parameters": {"x": f"${{ {text} }}"}, **keys}


def messages(data: Any) -> list[str]:
    return [problem.message for problem in problems_if_any(data)]


def check(data: Any, words: str | None) -> None:
    """Check that a definition has no mistake, or one whose message has these words."""
    found = messages(data)
    assert len(found) == (words is not None), found
    assert words is None or words in found[0], found


# -- where expressions stand -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "path"),
    [
        ({"A": task(when="nope > 1")}, "steps.A.when"),
        ({"A": task(parameters={"a": {"b": [1, "x ${ nope }"]}})}, "steps.A.parameters.a.b[1]"),
        ({"A": task(result={"a": "${ nope }"})}, "steps.A.result.a"),
        ({"A": task(catch=[{"on": ["Timeout"], "result": 1}, {"result": "${ nope }"}])}, "steps.A.catch[1].result"),
        ({"A": {**choice("B"), "choices": [{"when": "nope", "next": "B"}]}, "B": task()}, "steps.A.choices[0].when"),
        ({"A": {"type": "Wait", "seconds": "${ nope }", "end": True}}, "steps.A.seconds"),
        ({"A": {"type": "Wait", "until": "${ nope }", "end": True}}, "steps.A.until"),
        ({"A": {"type": "Pass", "result": ["${ nope }"], "end": True}}, "steps.A.result[0]"),
        ({"A": {"type": "Fail", "error": "E", "message": "a ${ nope }"}}, "steps.A.message"),
        ({"A": {**parallel(chain("X")), "result": "${ nope }"}}, "steps.A.result"),
        ({"A": parallel(chain(X=task(when="nope")))}, "steps.A.branches[0].steps.X.when"),
    ],
)
def test_every_expression_of_a_step_is_checked(steps: dict[str, Any], path: str) -> None:
    """In each key that takes expressions, at any depth."""
    (problem,) = problems_of({"start": "A", "steps": steps})
    assert problem.path == path
    assert "there is no name `nope`" in problem.message


def test_expressions_of_levels_are_checked() -> None:
    """In `output`, and in the steps of `finally`."""
    data = {**chain("A"), "output": {"a": "${ nope }"}, "finally": chain(F=task(when="nope == 1"))}
    assert [problem.path for problem in problems_of(data)] == ["finally.steps.F.when", "output.a"]


def test_keys_and_other_texts_are_literal() -> None:
    """No key of a mapping is an expression, and no text of a key that takes none."""
    step = task(parameters={"${ nope }": "$${ nope }"}, comment="${ nope")
    node = DAGBuilder(chain(A=step)).build_dag().nodes["A"]
    assert node.parameters_value.evaluate({}) == {"${ nope }": "${ nope }"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("input.x >", "this is no expression"),
        ("input.x = 1", "compare with `==`"),
        ("lenn(input.x)", "there is no function `lenn`; did you mean `len`?"),
        ("${ input.x }", "`when` is always an expression: write it without `${` and `}`"),
        ("len()", "`len` is called with 1 argument"),
        ("results", "a name must follow `results`"),
        ("1", "a condition is true or false, for example `input.n == 1`"),
        ("'yes'", "a condition is true or false"),
        ("input.n + 1", "a condition is true or false"),
        ("[input.n]", "a condition is true or false"),
    ],
)
def test_mistakes_of_syntax_are_found(text: str, words: str) -> None:
    """The parser's words are the message."""
    check(chain(A=task(when=text)), words)


# -- positions -------------------------------------------------------------------------------------------------------


def test_a_mistake_has_its_line_and_its_column() -> None:
    """Exactly where the text stands as it is; else the place of the text, and the column within it."""
    found = in_text(
        """
        start: A
        steps:
          A:
            type: Task
            target_type: Function
            target_name: "m:f"
            when: input.a and nope1
            parameters:
              plain: a ${ nope2 }
              single: 'a ${ nope3 }'
              double: "a ${ nope4 } and ${ nope5 }"
              escaped: "\\ta ${ nope6 }"
              doubled: 'it''s ${ nope7 }'
              folded: >-
                first line
                ${ nope8 }
              anchored: &text ${ nope9 }
              alias: *text
            end: true
        """
    )
    expected = {
        1: "line 7, column 23: steps.A.when: ",
        2: "line 9, column 19: steps.A.parameters.plain: ",
        3: "line 10, column 21: steps.A.parameters.single: ",
        4: "line 11, column 21: steps.A.parameters.double: ",
        5: "line 11, column 36: steps.A.parameters.double: ",
        6: "line 12, column 16: steps.A.parameters.escaped: ",
        7: "line 13, column 16: steps.A.parameters.doubled: ",
        8: "line 14, column 15: steps.A.parameters.folded: ",
    }
    columns = {6: " (column 7 of this text)", 7: " (column 9 of this text)", 8: " (column 15 of this text)"}
    for number, where in expected.items():
        line = found[number - 1]
        assert line.startswith(f"{where}there is no name `nope{number}`"), line
        assert ("of this text" in line) == (number in columns)
        assert line.endswith(columns.get(number, ""))
    assert [line.partition(":")[0] for line in found[8:]] == ["line 17, column 17", "line 18, column 14"]
    assert all(line.endswith(" (column 4 of this text)") for line in found[8:])


def test_a_mistake_in_json_has_its_line_and_its_column() -> None:
    """A text with an escape has the place of the text, and the column within it."""
    text = """{"start": "A", "steps": {"A": {"type": "Pass", "end": true,
        "result": ["x ${ nope }", "\\n${ nope }"]}}}"""
    found = in_text(text, "json")
    assert found[0].startswith("line 2, column 26: steps.A.result[0]: there is no name")
    assert found[1].startswith("line 2, column 35: steps.A.result[1]: there is no name")
    assert found[1].endswith("(column 5 of this text)")


def test_a_mistake_in_a_mapping_has_its_column() -> None:
    """There is no line without a text."""
    (problem,) = problems_of(chain(A=task(when="input.a and nope")))
    assert (problem.line, problem.column) == (None, None)
    assert problem.message.endswith("(column 13 of this text)")


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("input.anything", None),
        ("input", None),
        ('input["a key"]', None),
        ("run.id + run.dag + run.started_at", None),
        ("run.resumed_from", None),
        ("run", None),
        ("[x.y for x in input.list if x.z]", None),
        ("task.execution_id", None),
        ("task.attempt", None),
        ("secrets.api_key", None),
        ('secrets["api_key"]', None),
        ("run.outcome", "`run.outcome` can be read in `finally` only"),
        ("run.error", "`run.error` can be read in `finally` only"),
        ("run.idd", "`run` has no 'idd'; did you mean `run.id`?"),
        ("task.token", "`task` has no 'token', only attempt, execution_id"),
        ("secrets.apikey", "declares no secret 'apikey' with the key `secrets`; did you mean `secrets.api_key`?"),
        ("result.x", "`result` is the answer of the step's own target, and can be read in the `result`"),
        ("inputs.x", "there is no name `inputs`; did you mean `input`?"),
        ("result_s.x", "there is no name `result_s`; did you mean `results`?"),
        ("A.x", "there is no name `A`; the result of that step is `results.A`"),
        ("item.x", "there is no name `item`; the names here are errors, input, results, run, secrets, task"),
        ("results.Aa", "there is no step 'Aa'; did you mean `results.A`?"),
        ("results.Zebra", "there is no step 'Zebra'"),
        ('results["My step!"]', "there is no step 'My step!'; did you mean `results[\"My step\"]`?"),
        ("default(results.Zebra, 1)", "there is no step 'Zebra'"),
        ("default(input.x, nope)", "there is no name `nope`"),
        ("errors.A", "step 'A' has no `catch`, so there is never an error"),
        ("default(errors.A, 1)", "step 'A' has no `catch`, so there is never an error"),
    ],
)
def test_names_of_parameters(text: str, words: str | None) -> None:
    """A name that exists nowhere, or not here, is a mistake, also inside of `default`."""
    data = chain(A=task(), B=reading(text), **{"My step": task()})
    check({**data, "secrets": ["api_key"]}, words)


@pytest.mark.parametrize("key", ["when", "result", "catch", "output", "seconds"])
@pytest.mark.parametrize("name", ["secrets.api_key", "task.attempt"])
def test_names_of_a_task_are_for_its_parameters_alone(key: str, name: str) -> None:
    """Other values are stored, or are worked out without an attempt."""
    template = f"${{ {name} }}"
    steps = {
        "when": {"A": task(when=f"{name} == 1")},
        "result": {"A": task(result=template)},
        "catch": {"A": task(catch=[{"result": template}])},
        "output": {"A": task()},
        "seconds": {"A": {"type": "Wait", "seconds": template, "end": True}},
    }[key]
    data = {"start": "A", "steps": steps, "secrets": ["api_key"], **({"output": template} if key == "output" else {})}
    check(data, f"`{name.partition('.')[0]}` can be read in the `parameters` of a task only")


def test_the_answer_is_read_in_the_result_alone() -> None:
    """`result` is the answer before it becomes the result of the step."""
    check(chain(A=task(result="${ result.rows }")), None)
    check(
        chain(A=task(result="${ results.A.rows }")), "'A' is this step, which has no result yet; its answer is `result`"
    )
    check(chain(A=task(when="result.rows > 1")), "can be read in the `result` of a step only")
    check(chain(A={"type": "Pass", "result": "${ result }"}), "can be read in the `result` of a step only")


def test_declared_inputs_are_all_inputs() -> None:
    """Without a declaration, any input may be given; with one, a name outside is a mistake, in `default`, too."""
    scope = Check()
    data = chain(A=task(parameters={"x": "${ default(input.dya, 1) + input.limit }", "y": "${ input[run.id] }"}))
    scope.definition({**data, "inputs": {"day": "string", "limit": "integer"}})
    found = [finding.message for finding in scope.findings if finding.key[0] == "steps"]
    assert found == ["the definition declares no input 'dya'; did you mean `input.day`?"]
    check(data, None)


def test_secrets_are_names_that_are_given_once() -> None:
    """Unused ones are allowed; a name has a form that a variable of any system can have."""
    check({**chain("A"), "secrets": ["api_key", "b"]}, None)
    check({**chain("A"), "secrets": ["a", "b", "a"]}, "'a' is named twice")
    check({**chain("A"), "secrets": ["API_KEY"]}, "has up to 63 of a-z 0-9 _, and this is 'API_KEY'")
    check({**chain("A"), "secrets": {"a": 1}}, "must be a list")


def test_a_task_knows_the_secrets_that_it_reads() -> None:
    """The engine asks for these before the launch."""
    steps = {"A": reading("secrets.a + secrets.b", next="B"), "B": task()}
    nodes = DAGBuilder({"start": "A", "steps": steps, "secrets": ["a", "b", "c"]}).build_dag().all_tasks
    assert (nodes["A"].secrets, nodes["B"].secrets) == ({"a", "b"}, frozenset())


# -- results of steps ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("results.A", None),
        ("results.P", None),
        ("results.X", None),
        ("results.N", None),
        ("results.Z", "step 'Z' runs after this step"),
        ("results.ZN", "step 'ZN' runs after this step"),
        ("results.M", "'M' is this step, which has no result yet"),
        ("default(results.Z, 1)", "step 'Z' runs after this step"),
        ("default(results.F, 1)", "step 'F' belongs to `finally`, which runs after all other steps"),
    ],
)
def test_a_step_reads_what_has_ended_before(text: str, words: str | None) -> None:
    """Steps before it on its level, and the insides of each `Parallel` among them, at any depth."""
    nested = parallel(chain(Q=parallel(graph(N=[], O=["N"]))))
    data = chain(A=task(), P=parallel(chain("X"), chain(R=nested)), M=reading(text), Z=parallel(chain("ZN")))
    check({**data, "finally": chain("F")}, words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("results.A + results.X", None),
        ("results.Y", "step 'Y' runs beside this step, in another branch of 'P'"),
        ("default(results.Y, 1)", "step 'Y' runs beside this step, in another branch of 'P'"),
        ("results.P", "step 'P' is around this step, and ends after it"),
        ("results.Z", "step 'Z' runs after this step"),
    ],
)
def test_a_step_inside_reads_what_its_container_may_read(text: str, words: str | None) -> None:
    """Besides the steps before it in its branch, and never the branches beside it."""
    check(chain(A=task(), P=parallel(chain(X=task(), M=reading(text)), chain("Y")), Z=task()), words)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("when", "results.X == 1", "step 'X' is inside of this step, and cannot be read by the step itself"),
        ("result", "${ results.X }", "by the step itself; the value of its branch is `result[1]`"),
        ("result", "${ results.Deep }", "the value of its branch is `result[1]`"),
    ],
)
def test_a_container_does_not_read_its_insides(key: str, value: str, words: str) -> None:
    """Its answer is the list of the values of its branches, whose index the message tells where it can be read."""
    branches = chain("First"), chain(X=task(), Inner=parallel(chain("Deep")))
    check(chain(P=parallel(*branches, **{key: value})), words)


@pytest.mark.parametrize("value", [1, 0.5, ["input.n == 1"]])
def test_a_condition_that_is_no_text_is_refused_with_an_example(value: Any) -> None:
    """A number in quotes would be no condition either; `true` in quotes is one."""
    (message,) = messages(chain(A=task(when=value)))
    assert message.startswith("a condition is true or false, for example `input.n == 1`, and this is ")
    assert "e.g." not in message
    check(chain(A=task(when=True)), "put it in quotes")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("results.A + results.B + results.C", None),
        ("results.D", "this step does not need step 'D', which may still run: add 'D' to `needs`"),
        ("default(results.D, 1)", "add 'D' to `needs`"),
        ("results.PN", "this step does not need step 'PN', which may still run: add 'P' to `needs`"),
        ("results.Z", "step 'Z' runs after this step"),
    ],
)
def test_a_step_of_a_graph_reads_what_it_needs(text: str, words: str | None) -> None:
    """Also over the needs of its needs; all these steps have ended well."""
    inner = {"type": "Parallel", "branches": [graph(PN=[])]}
    check(graph(A=[], B=["A"], C=["B"], D=[], P=inner, M=reading(text, needs=["C"]), Z=["M"]), words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("results.A + results.C", None),
        ("default(results.B, 0) + default(results.D.x[0].y, 0)", None),
        (
            "results.B",
            "since not every way leads here over 'B'; write `default(results.B, …)`",
        ),
        ("default(results.B + 1, 0)", "`results.B` may not exist here"),
        ("default(results.A[results.B], 0)", "`results.B` may not exist here"),
    ],
)
def test_a_result_of_some_ways_only_needs_a_default(text: str, words: str | None) -> None:
    """Ways part at the choice and join at the reading step; only the path of a `default` may be missing."""
    data = level(A="C", C=choice("B", "D"), B="M", D="M", M=reading(text, end=True))
    check(data, words)


@pytest.mark.parametrize(
    ("text", "at_handler", "words"),
    [
        ("errors.B.message", True, None),
        ("results.A", True, None),
        ("default(results.B, 0)", True, None),
        ("results.B", True, "since only a failure of 'B' leads here, which can be read as `errors.B`"),
        (
            "errors.B.message",
            False,
            "may not exist here, since not every way leads here over a failure of 'B'",
        ),
        ("results.B", False, "not every way leads here over 'B'"),
        ("default(errors.B.message, '')", False, None),
        ("default(results.B, 0)", False, None),
    ],
)
def test_an_error_exists_behind_the_handler_alone(text: str, at_handler: Any, words: str | None) -> None:
    """The way to the handler carries the error and not the result; where ways join again, neither is certain."""
    handler, end = (reading(text, next="M"), None) if at_handler else ("M", reading(text, end=True))
    check(level(A="B", B=step("M", catch=[{"on": ["Timeout"], "next": "H"}]), H=handler, M=end), words)


def test_a_value_that_stands_for_the_result_is_a_result() -> None:
    """`catch … result` and a skip by `when` leave a value; the error may be there, and is read with a default."""
    data = level(A=step("B", catch=[{"result": 0}], when="input.x"), B=reading("results.A", end=True))
    check(data, None)
    data["steps"]["B"] = reading("default(errors.A, null)", end=True)
    check(data, None)
    data["steps"]["B"] = reading("errors.A", end=True)
    check(data, "`errors.A` may not exist here")


def test_a_handler_reads_the_error_of_its_own_step() -> None:
    """It is worked out after the failure; other parts of the step cannot read the error."""
    check(chain(A=task(catch=[{"result": "${ errors.A.message }"}])), None)
    check(chain(A=task(catch=[{"result": 1}], when="errors.A == null")), "'A' is this step, whose error its handlers")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, None),
        ({"catch": [{"on": ["BranchFailed"], "next": "H"}]}, None),
        ({"when": "input.x"}, "`results.X` may not exist here, since 'P' around it may be skipped by its `when`"),
        ({"catch": [{"result": 1}]}, "since 'P' around it may fail, with a `result` from its `catch`"),
    ],
)
def test_steps_inside_exist_if_their_container_has_completed(keys: dict[str, Any], words: str | None) -> None:
    """A container that was skipped or caught is no proof that the steps inside have ended well."""
    data = level(A="P", P={**parallel(chain("X")), "next": "M", **keys}, M=reading("results.X", end=True))
    del data["steps"]["P"]["end"]
    if "next" in keys.get("catch", [{}])[0]:
        data["steps"]["H"] = step(None)
    check(data, words)
    data["steps"]["M"] = reading("default(results.X, 1)", end=True)
    check(data, None)


def test_steps_inside_may_be_on_some_ways_of_their_branch() -> None:
    """A step that the branch passes on every way that ends well is certain, also where another way fails."""
    branch = {**level(A=choice("X", default="Y"), X=None, Y={"type": "Fail", "error": "Ups"}), "start": "A"}
    check(
        {
            "start": "P",
            "steps": {"P": {**parallel(branch), "next": "M", "end": False}, "M": reading("results.X", end=True)},
        },
        None,
    )
    branch["steps"]["Y"] = step(None)
    check(
        {
            "start": "P",
            "steps": {"P": {**parallel(branch), "next": "M", "end": False}, "M": reading("results.X", end=True)},
        },
        "`results.X` may not exist here, since not every way leads here over 'X'",
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("results.A", None),
        ("results.P + results.X", None),
        ("default(results.B, 1)", None),
        ("results.B", "`results.B` may not exist here"),
        ("default(results.F, 1)", "step 'F' belongs to `finally`"),
    ],
)
def test_the_output_reads_all_steps(text: str, words: str | None) -> None:
    """What is on every way to an end of the definition is certain."""
    data = level(A="P", P={**parallel(chain("X")), "next": "C"}, C=choice("B", "D"), B=None, D=None)
    del data["steps"]["P"]["end"]
    check({**data, "output": f"${{ {text} }}", "finally": chain("F")}, words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("default(results.A, 1)", None),
        ("default(results.X.y, 1)", None),
        ("results.F", None),
        ("run.outcome", None),
        ("default(run.error.type, '')", None),
        ("results.A", "`results.A` may not exist here, since `finally` also runs after a failure and after a cancel"),
        ("results.H", "step 'H' runs after this step"),
    ],
)
def test_finally_reads_all_steps_with_a_default(text: str, words: str | None) -> None:
    """It runs however the run has ended, so no result of the other steps is certain."""
    data = chain(A=task(), P=parallel(chain("X")))
    check({**data, "finally": chain(F=task(), G=parallel(chain(M=reading(text))), H=task())}, words)


# -- one mistake, one message ----------------------------------------------------------------------------------------


def test_a_broken_level_hides_no_name_and_adds_no_message() -> None:
    """While ways are not clear, no result is reported as unreachable; a name that exists nowhere still is."""
    data = level(A="Bb", B=reading("results.A + results.Nope", end=True))
    assert [problem.path for problem in problems_of(data)] == ["steps.A.next", "steps.B.parameters.x"]


def test_all_mistakes_of_one_text_are_reported() -> None:
    """Each with its own column."""
    assert [text.rpartition("(")[2] for text in messages(chain(A=reading("a1 + b2 + results.C3")))] == [
        "column 4 of this text)",
        "column 9 of this text)",
        "column 14 of this text)",
    ]


# -- stored definitions ----------------------------------------------------------------------------------------------


def stored(data: dict[str, Any], **keys: Any) -> DAG:
    return DAGBuilder({**data, "name": "old", **keys}).build_stored_dag()


def test_yesterdays_texts_stay_literal() -> None:
    """A stored definition of version 1 may hold `${` as text; a new definition is checked."""
    data = chain(A=task(parameters={"x": "${ nope } ${"}))
    dag = stored(data)
    assert dag.language_version == 1
    assert dag.all_tasks["A"].parameters_value is None
    with pytest.raises(DefinitionError):
        DAGBuilder(data).build_dag()
    again = stored(chain(A=reading("input.x")), schema_version=2)
    assert again.all_tasks["A"].parameters_value is not None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (chain(A=reading("time.zone(1)")), "an expression with a new function (there is no function `time.zone`)"),
        (chain(A=reading("item.x")), "an expression with the new name 'item'"),
        (chain(A=task(), P=parallel(chain(B=task(when="item.x")))), "with the new name 'item' at steps.P.branches"),
    ],
)
def test_a_stored_expression_with_new_words_is_of_a_newer_version(data: dict[str, Any], words: str) -> None:
    """A process that does not know the words leaves the runs alone."""
    with pytest.raises(NewerSchemaError, match="upgrade this process") as raised:
        stored(data, schema_version=2)
    assert words in str(raised.value)


def test_a_stored_definition_of_a_newer_language_is_left_alone() -> None:
    """Its parts may mean anything."""
    with pytest.raises(NewerSchemaError, match="has version 3 of the language at schema_version"):
        stored(chain("A"), schema_version=3)


def test_a_single_step_is_checked_for_its_syntax() -> None:
    """Its names depend on the definition where it will stand."""
    NodeFactory.create_node(reading("results.Anything", end=True), DAG("A"), name="A")
    with pytest.raises(DefinitionError, match="there is no function `lenn`"):
        NodeFactory.create_node(reading("lenn(1)", end=True), DAG("A"), name="A")


# -- size ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["line", "handlers", "first", "defaults", "graph"])
def test_ten_thousand_readers_are_checked_in_proportion(shape: str) -> None:
    """Reading the step before, or the first one, or one of some ways costs about the same in long levels."""
    size = 10_000
    names = [f"S{number}" for number in range(size)]
    steps: dict[str, Any] = {}
    for number, name in enumerate(names):
        before = names[max(0, number - 1)] if shape != "first" else names[0]
        link = {"next": names[number + 1]} if number < size - 1 else {"end": True}
        text = {"defaults": f"default(results.{names[number // 2]}, 1)", "handlers": "results.S0"}.get(
            shape, f"results.{before}"
        )
        if shape in ("handlers", "defaults") and 0 < number < size - 1:
            link["catch"] = [{"next": names[min(number + 2, size - 1)] if shape == "defaults" else names[-1]}]
        if shape == "graph":
            link = {"needs": [before]} if number else {}
            text = f"results.{names[number // 2]}"
        steps[name] = reading(text, **link) if number else step(**link)
    data = {"steps": steps} if shape == "graph" else {"start": names[0], "steps": steps}
    check_of = Check()
    begin = time.process_time()
    check_of.definition(data)
    assert time.process_time() - begin < 15
    assert check_of.findings == []


# -- against all ways ------------------------------------------------------------------------------------------------

Way = tuple[tuple[str, bool], ...]
"""The steps that the token has left, each with whether it has left over a handler."""


def tokens(steps: dict[str, Any], name: str | None, way: Way = ()) -> Iterator[tuple[Way, str | None]]:
    """Yield every way with the step that it has reached, `None` at an end."""
    yield way, name
    if name is None:
        return
    each = steps[name]
    followers = [option["next"] for option in each.get("choices", ())] + [
        each[key] for key in ("default", "next") if key in each
    ]
    for follower in [*followers, *([None] if each.get("end") else [])]:
        yield from tokens(steps, follower, (*way, (name, False)))
    for handler in each.get("catch", ()):
        yield from tokens(steps, handler["next"], (*way, (name, True)))


@settings(deadline=None)
@given(some_levels())
def test_ways_are_those_of_the_token(data: dict[str, Any]) -> None:
    """A walk along every way finds the same steps; in a graph, a walk along the needs."""
    steps = data["steps"]
    if "start" not in data:
        if is_right_graph(steps):
            compare_graph(data)
        return
    if not is_right_chain(data["start"], steps):
        return
    walked = list(tokens(steps, data["start"]))
    ways = Ways(Check().definition(data))
    for after in [*steps, None]:
        before_it = [way for way, reached in walked if reached == after]
        for before in steps:
            if before == after:
                continue
            for caught in (False, True):
                certain = all((before, caught) in way for way in before_it)
                assert ways.passes(before, after, caught=caught) == certain, (before, after, caught)
            if after is not None:
                assert ways.leads(before, after) == any(before in dict(way) for way in before_it), (before, after)


def compare_graph(data: dict[str, Any]) -> None:
    needed: dict[str, set[str]] = {}
    steps = data["steps"]
    while len(needed) < len(steps):
        for name, each in steps.items():
            needs = each.get("needs", [])
            if needed.keys() >= set(needs):
                needed[name] = set(needs).union(*(needed[other] for other in needs))
    ways = Ways(Check().definition(data))
    for after in steps:
        for before in steps:
            if before != after:
                assert ways.leads(before, after) == ways.passes(before, after) == (before in needed[after])


# -- keys that take no expression ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("definition", "path"),
    [
        (level(A=call(target_name="${ input.f }")), "steps.A.target_name"),
        (level(A=call(target_name="a $${ b")), "steps.A.target_name"),
        (level(A=task(retry={"on": ["${ input.e }"]})), "steps.A.retry.on[0]"),
        (level(A=task(timeout="${ input.s }")), "steps.A.timeout"),
        (level(A={**parallel(chain(X=call(target_name="${ input.f }")))}), "steps.A.branches[0].steps.X.target_name"),
        ({**level(A=task()), "name": "${ input.n }"}, "name"),
        ({**level(A=task()), "labels": {"team": "${ input.n }"}}, "labels.team"),
    ],
)
def test_a_key_that_takes_no_expression_refuses_one(definition: dict[str, Any], path: str) -> None:
    """A new definition with `${` in such a key has one mistake, at the place of the key."""
    (problem,) = problems_of({"start": "A", **definition})
    assert problem.path == path


def test_the_message_names_the_key_that_takes_no_expression() -> None:
    """The user reads which key refuses the expression."""
    check({"start": "A", **level(A=call(target_name="${ input.f }"))}, "`target_name` takes no expression")


def test_a_comment_may_hold_the_two_characters() -> None:
    """A comment is a text for readers, never an expression."""
    check({"start": "A", **level(A=task(comment="see ${ x }"))}, None)


def test_a_stored_definition_keeps_its_literal_text() -> None:
    """A definition of version 1 from the store still has no mistake."""
    check_stored = Check(is_stored=True)
    check_stored.definition({"start": "A", **level(A=call(target_name="${ input.f }"))})
    assert check_stored.findings == []


def test_an_unknown_type_is_one_mistake() -> None:
    """A missing `target_type` is not reported of a step whose type is unknown."""
    check({"start": "A", **level(A={"type": "Map", "end": True})}, "must be")
