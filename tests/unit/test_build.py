"""Building DAGs: every problem of a definition at once, and what is built of one that is right."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorch.definition.build import DAGBuilder, NodeFactory
from aiorch.definition.source import load_definition, parse_definition
from aiorch.definition.syntax import VALUES_MAX
from aiorch.errors import DefinitionError
from aiorch.model.dag import DAG
from aiorch.model.enums import DataflowTemplateType, OnFailure, OnLost, TargetTypes
from aiorch.model.retry import RetryPolicy
from aiorch.nodes.parallel import Parallel
from aiorch.orchestrator import Orchestrator
from aiorch.targets.cloud_function.node import CloudFunction
from aiorch.targets.dataflow.node import DataflowJob
from aiorch.targets.function.node import Function
from tests.definitions import chain, in_text, only_problem, problems_if_any, problems_of

SAMPLE = Path(__file__).parents[2] / "examples" / "sample.yaml"


def task(**keys: Any) -> dict[str, Any]:
    """A step that is right but for what *keys* make of it; a key of value `...` is taken out."""
    step = {"type": "Task", "target_type": "Function", "target_name": "tasks:run", **keys}
    if "next" not in keys:
        step.setdefault("end", True)
    return {key: value for key, value in step.items() if value is not ...}


def definition(step: Any = None, **keys: Any) -> dict[str, Any]:
    """A definition of one step `A`."""
    return {"start": "A", "steps": {"A": task() if step is None else step}, **keys}


# -- one problem each ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "path", "words"),
    [
        (
            {"type": ...},
            "type",
            "this key is missing; its value is `Task`, `Choice`, `Wait`, `Parallel`, `Pass` or `Fail`",
        ),
        ({"type": "task"}, "type", ", not 'task'; did you mean `Task`?"),
        ({"type": "CloudFunction"}, "type", "so write `type: Task` and `target_type: CloudFunction`"),
        ({"type": ["Task"]}, "type", ", not a list"),
        ({"target_type": ...}, "target_type", "its value is `Function`, `CloudFunction` or `Dataflow`"),
        ({"target_type": "cloud_function"}, "target_type", "did you mean `CloudFunction`?"),
        ({"target_type": "Start"}, "target_type", "must be `Function`, `CloudFunction` or `Dataflow`, not 'Start'"),
        ({"target_type": 3}, "target_type", "not the number 3"),
        ({"target_name": ...}, "target_name", "this key is missing; it is the function that runs"),
        ({"target_name": "tasks.run"}, "target_name", "not 'tasks.run'; did you mean 'tasks:run'?"),
        ({"target_name": "my/tasks.py:run"}, "target_name", "did you mean 'my.tasks:run'?"),
        ({"target_name": "run"}, "target_name", "a function is named `module:callable`, not 'run'"),
        ({"target_name": 5}, "target_name", "must be a string, not the number 5; put it in quotes"),
        ({"target_name": None}, "target_name", "this is null; give it a value, or leave the key out"),
        ({"function": "tasks.py:run"}, "function", "did you mean 'tasks:run'?"),
        ({"function": ""}, "function", "a function is named `module:callable`, not ''"),
        ({"function": "m:" + "f" * 300}, "function", "must have at most 300 characters"),
        ({"function": []}, "function", "must be a string, not a list"),
        ({"parameters": [1]}, "parameters", "must be a mapping, not a list"),
        ({"parameters": None}, "parameters", "must be a mapping, not null"),
        ({"comment": 1}, "comment", "must be a string, not the number 1"),
        ({"timeout": 0}, "timeout", "must be above 0, not 0"),
        ({"timeout": -1.5}, "timeout", "must be above 0, not -1.5"),
        ({"timeout": 2e9}, "timeout", "must be at most 1e+09, not 2000000000.0"),
        ({"timeout": "30"}, "timeout", "must be a number, not '30', e.g. 60"),
        ({"timeout": True}, "timeout", "must be a number, not true"),
        ({"timeout": None}, "timeout", "this is null"),
        ({"timeout": float("inf")}, "timeout", "this number is not finite"),
        ({"on_lost": "again"}, "on_lost", "must be 'retry' or 'fail', not 'again'"),
        ({"retry": 3}, "retry", 'must be a mapping, not the number 3, e.g. {"max_attempts": 3}'),
        ({"retry": {"max_attempts": 0}}, "retry.max_attempts", "must be at least 1, not 0"),
        ({"retry": {"max_attempts": 101}}, "retry.max_attempts", "must be at most 100, not 101"),
        ({"retry": {"max_attempts": 2.5}}, "retry.max_attempts", "must be a whole number, not the number 2.5"),
        ({"retry": {"max_attempts": "3"}}, "retry.max_attempts", "must be a whole number, not '3'"),
        ({"retry": {"max_attempts": True}}, "retry.max_attempts", "must be a whole number, not true"),
        ({"retry": {"initial_delay": -1}}, "retry.initial_delay", "must be at least 0, not -1"),
        ({"retry": {"backoff": 0.5}}, "retry.backoff", "must be at least 1, not 0.5"),
        ({"retry": {"backoff": 1e5}}, "retry.backoff", "must be at most 100"),
        ({"retry": {"max_delay": "1h"}}, "retry.max_delay", "must be a number, not '1h'"),
        ({"retry": {"jitter": 1.1}}, "retry.jitter", "must be at most 1, not 1.1"),
        ({"retry": {"on": "Timeout"}}, "retry.on", "must be a list, not 'Timeout'"),
        ({"retry": {"on": []}}, "retry.on", "must not be empty"),
        ({"retry": {"on": ["Timeout", 503]}}, "retry.on[1]", "must be a string, not the number 503; put it in quotes"),
        ({"retry": {"max_attempt": 3}}, "retry.max_attempt", "unknown key; did you mean `max_attempts`?"),
        ({"retry": []}, "retry", "must not be empty"),
        ({"retry": [{"max_attempts": 0}]}, "retry[0].max_attempts", "must be at least 1, not 0"),
        ({"retry": [3]}, "retry[0]", "must be a mapping, not the number 3"),
        ({"timeout": "${ input.t }"}, "timeout", "this key takes no expression, and this is '${ input.t }'"),
        ({"when": ""}, "when", "must not be empty"),
        ({"when": True}, "when", "must be a string, not true; put it in quotes"),
        ({"when": None}, "when", "this is null"),
        ({"catch": {"result": 1}}, "catch", "must be a list, not a mapping"),
        ({"catch": []}, "catch", "must not be empty"),
        ({"catch": [5]}, "catch[0]", "must be a mapping, not the number 5"),
        ({"catch": [{"result": 1, "nxt": "B"}]}, "catch[0].nxt", "unknown key; did you mean `next`?"),
        ({"choices": []}, "choices", "`choices` is a key of Choice steps, and this is a Function step"),
        ({"Timeout": 3}, "Timeout", "unknown key; did you mean `timeout`?"),
        ({"depends": ["A"]}, "depends", "unknown key; did you mean `needs`?"),
        ({"upstream": ["A"]}, "upstream", "unknown key; did you mean `needs`?"),
        ({"onLost": "fail"}, "onLost", "unknown key; did you mean `on_lost`?"),
        ({"xyz": 3}, "xyz", "unknown key; known here: "),
        ({"x" * 10_000: 3}, f'["{"x" * 64}"…]', "unknown key"),
        ({"url": "https://x"}, "url", "`url` is a key of CloudFunction steps, and this is a Function step"),
        ({"region": "r"}, "region", "is a key of CloudFunction and Dataflow steps, and this is a Function step"),
        ({"branches": []}, "branches", "is a key of Parallel steps, and this is a Function step"),
        ({"end": "yes"}, "end", "must be true or false, not 'yes'"),
        ({"end": 1}, "end", "must be true or false, not the number 1"),
        ({"end": ..., "next": None}, "next", "this is null"),
        ({"end": ..., "next": ["A"]}, "next", "must be a string, not a list"),
    ],
)
def test_a_wrong_step_has_one_problem_that_says_what_is_right(keys: dict[str, Any], path: str, words: str):
    """Each mistake is reported once, at its own path, with what would be right."""
    problem = only_problem(definition(task(**keys)))
    assert problem.path == (f"steps.A{path}" if path.startswith("[") else f"steps.A.{path}")
    assert words in problem.message


@pytest.mark.parametrize(
    ("keys", "path", "words"),
    [
        (
            {"url": "http://example.com/f"},
            "url",
            "plain http shows the call to every host on the way",
        ),
        ({"url": "http://10.0.0.1/f"}, "url", "use https"),
        ({"url": "http://localhost.example.com/"}, "url", "use https"),
        ({"url": "ftp://localhost/f"}, "url", "a URL must begin with https://"),
        ({"url": "example.com/f"}, "url", "a URL must begin with https://"),
        ({"url": "https:///f"}, "url", "a URL must begin with https:// and name a host"),
        ({"url": "https://u:p@example.com/"}, "url", "holds a user name or password"),
        ({"url": "http://example.com\\@localhost/"}, "url", "no spaces, backslashes or control characters"),
        ({"url": "https://example.com/ f"}, "url", "no spaces"),
        ({"url": "https://[::1/"}, "url", "is not valid"),
        ({"url": "https://example.com:99999/"}, "url", "is not valid"),
        ({"url": ""}, "url", "a URL must begin with https://"),
        ({"url": None}, "url", "this is null"),
        ({"project_id": "My Project"}, "project_id", "'My Project' has a wrong form, e.g. \"my-project-1\""),
        ({"region": "../x"}, "region", 'has a wrong form, e.g. "europe-west1"'),
        ({"target_name": ...}, "target_name", "this key is missing"),
        ({"target_name": ""}, "target_name", "must not be empty"),
        ({"target_name": "x\n"}, "target_name", "'x\\n' has a wrong form"),
        ({"function": "prepare"}, "function", "a function is named `module:callable`"),
        (
            {"template_path": "gs://a/b"},
            "template_path",
            "is a key of Dataflow steps, and this is a CloudFunction step",
        ),
    ],
)
def test_a_wrong_cloud_function_step_has_one_problem(keys: dict[str, Any], path: str, words: str):
    """URLs that would be refused at the launch are refused here."""
    step = task(**{"target_type": "CloudFunction", "target_name": "f", **keys})
    problem = only_problem(definition(step))
    assert problem.path == f"steps.A.{path}"
    assert words in problem.message


@pytest.mark.parametrize(
    ("keys", "path", "words"),
    [
        ({}, "", "this step has neither of `container_gcs_path` (of a Flex template) and `template_path`"),
        ({"template_path": "gs://a/b", "container_gcs_path": "gs://a/b"}, "", "this step has both of"),
        ({"template_path": "s3://a/b"}, ".template_path", 'has a wrong form, e.g. "gs://my-bucket/templates/etl"'),
        ({"container_gcs_path": "gs://bucket"}, ".container_gcs_path", "has a wrong form"),
        ({"template_path": "gs://a/b", "environment": 1}, ".environment", "must be a mapping, not the number 1"),
    ],
)
def test_a_wrong_dataflow_step_has_one_problem(keys: dict[str, Any], path: str, words: str):
    """A job comes from exactly one template in Cloud Storage."""
    problem = only_problem(definition(task(target_type="Dataflow", target_name="etl", **keys)))
    assert problem.path == f"steps.A{path}"
    assert words in problem.message


@pytest.mark.parametrize(
    ("keys", "path", "words"),
    [
        ({"branches": ...}, ".branches", "this key is missing. DAGs that run at the same time"),
        ({"branches": []}, ".branches", "must not be empty"),
        ({"branches": {}}, ".branches", "must be a list, not a mapping"),
        ({"branches": [[]]}, ".branches[0]", "must be a mapping with `start` and `steps`, not a list"),
        ({"branches": [{"start": "B", "steps": {}}]}, ".branches[0].steps", "must not be empty"),
        ({"branches": [{"steps": {"B": task()}}]}, ".branches[0].start", "this key is missing"),
        ({"branches": [{"start": "B", "steps": {"B": task()}, "next": "C"}]}, ".branches[0].next", "unknown key"),
        ({"branches": [{"start": "B", "steps": [task()]}]}, ".branches[0].steps", "must be a mapping of steps by name"),
        ({"on_failure": "stop"}, ".on_failure", "must be 'fail_fast' or 'wait', not 'stop'"),
        ({"onfailure": "wait"}, ".onfailure", "did you mean `on_failure`?"),
        ({"target_name": "x"}, ".target_name", "`target_name` is a key of Task steps, and this is a Parallel step"),
        ({"type": ...}, ".type", "this key is missing"),
    ],
)
def test_a_wrong_parallel_has_one_problem(keys: dict[str, Any], path: str, words: str):
    """A `Parallel` has branches, each with a start and steps of its own."""
    step = {"type": "Parallel", "branches": [{"start": "B", "steps": {"B": task()}}], "end": True, **keys}
    problem = only_problem(definition({key: value for key, value in step.items() if value is not ...}))
    assert problem.path == f"steps.A{path}"
    assert words in problem.message


@pytest.mark.parametrize(
    ("keys", "path", "words"),
    [
        ({"start": ...}, "start", "this key is missing: the name of the first step, it seems 'A'"),
        ({"start": 1}, "start", "must be a string, not the number 1"),
        ({"start": "a"}, "start", "there is no step 'a' here; did you mean 'A'?"),
        ({"start": "Init"}, "start", "there is no step 'Init' here, only 'A'"),
        ({"steps": ...}, "steps", "this key is missing"),
        ({"steps": {}}, "steps", "must not be empty"),
        ({"steps": [task()]}, "steps", "must be a mapping of steps by name, not a list"),
        ({"steps": {"A": None}}, "steps.A", "must be a mapping of keys to values, not null"),
        ({"name": "../x"}, "name", "'../x' has a wrong form, e.g. \"nightly-etl\""),
        ({"name": ".x"}, "name", "has a wrong form"),
        ({"name": "x" * 129}, "name", "has a wrong form"),
        ({"name": None}, "name", "this is null"),
        ({"timeout": "1h"}, "timeout", "must be a number, not '1h', e.g. 3600"),
        ({"$schema": 1}, "$schema", "must be a string"),
        ({"schema_version": 1}, "schema_version", "must be 2, not the number 1"),
        ({"finally": None}, "finally", "must be a mapping with `start` and `steps`, not null"),
        ({"finally": {"start": "F", "steps": {"F": task()}, "timeout": 0}}, "finally.timeout", "must be above 0"),
        ({"schema": "x"}, "schema", "unknown key; did you mean `$schema`?"),
        ({"version": 1}, "version", "unknown key; known here: start, steps, on_failure, comment, name"),
    ],
)
def test_a_wrong_definition_has_one_problem(keys: dict[str, Any], path: str, words: str):
    """The keys of the definition itself are checked as those of its steps."""
    data = {key: value for key, value in definition(**keys).items() if value is not ...}
    problem = only_problem(data)
    assert problem.path == path
    assert words in problem.message


@pytest.mark.parametrize("data", [[], "text", 1, None, True])
def test_a_definition_is_a_mapping(data: Any):
    """JSON of another kind says what it should be."""
    loaded = parse_definition(json.dumps(data), source="dag.json", format="json")
    problem = only_problem(loaded)
    assert "must be a mapping with `start` and `steps`, not " in problem.message
    assert (problem.path, problem.line, problem.column) == ("", 1, 1)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "is not blank"),
        ("  ", "is not blank"),
        ("$run", "must not begin with $"),
        ("a\nb", "no control characters"),
        ("a\x1b[31m", "no control characters"),
        ("a\x85", "no control characters"),
        ("x" * 129, "1 to 128 characters"),
        ("x" * 10_000, "1 to 128 characters"),
    ],
)
def test_a_name_that_no_node_may_have_is_refused(name: str, words: str):
    """Names become keys of documents and lines of output; the message shows nothing that a terminal would obey."""
    problem = only_problem({"start": name, "steps": {name: task()}})
    assert words in problem.message
    assert problem.path.startswith("steps")
    assert str(problem).isprintable()
    assert len(str(problem)) < 300


@pytest.mark.parametrize("name", ["../x", "a.b", "a b", "ä", "steps", "x" * 128, "日本", "1", "'\"[]"])
def test_a_name_may_be_anything_else(name: str):
    """Names of nodes never become part of an object name, so they are free."""
    assert list(DAGBuilder({"start": name, "steps": {name: task()}}).build_dag().nodes) == [name]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (date(2026, 1, 1), "this is a date, which JSON cannot hold"),
        ({1, 2}, "this is a set"),
        (b"x", "this is a bytes"),
        (object(), "this is an object"),
        (print, "this is a builtin_function_or_method"),
        (float("nan"), "this number is not finite"),
        (2**64, "needs more than 64 bits; put it in quotes"),
        (-(2**63) - 1, "needs more than 64 bits"),
        ("\ud800", "half of a character"),
    ],
)
def test_values_that_json_cannot_hold_are_refused_anywhere(value: Any, words: str):
    """Parameters are stored and sent as JSON; what would be lost on the way is refused before anything starts."""
    problem = only_problem(definition(task(parameters={"deep": [{"value": value}]})))
    assert problem.path == "steps.A.parameters.deep[0].value"
    assert words in problem.message


def test_values_that_json_cannot_hold_are_found_in_text_as_well():
    """JSON text has ways to write infinity, and numbers and characters that cannot be stored."""
    big = "9" * 5000
    parameters = f'{{"a": NaN, "b": 1e999, "c": {big}, "d": "\\ud800", "\\ud800": 1}}'
    text = json.dumps(definition(task(parameters={}))).replace("{}", parameters)
    paths = [problem.path for problem in problems_of(parse_definition(text, format="json"))]
    assert paths == [f"steps.A.parameters{key}" for key in (".a", ".b", ".c", ".d", '["\\ud800"]')]


def test_keys_are_strings():
    """A number as a key would come back from the store as text."""
    problem = only_problem(definition(task(parameters={1: "x"})))
    assert (problem.path, problem.message) == ("steps.A.parameters.1", "the key 1 is no string; put it in quotes")


def test_names_are_unique_over_the_whole_definition():
    """A name used in a branch, in another branch and outside is reported for each use after the first."""
    inner = {"type": "Parallel", "branches": [{"start": "X", "steps": {"X": task()}}], "end": True}
    branches = [{"start": "X", "steps": {"X": task()}}, {"start": "Q", "steps": {"Q": inner}}]
    outer = {"type": "Parallel", "branches": branches, "next": "X"}
    found = problems_of({"start": "P", "steps": {"P": outer, "X": task()}})
    assert [problem.path for problem in found] == [
        "steps.P.branches[0].steps.X",
        "steps.P.branches[1].steps.Q.branches[0].steps.X",
    ]
    assert all("a step with this name exists at steps.X" in problem.message for problem in found)


# -- all at once, with positions -------------------------------------------------------------------------------------


def test_all_problems_of_all_kinds_come_at_once_in_the_order_of_the_text():
    """Keys, values, names and chains, on all levels, each with its line, column and path."""
    found = in_text(
        """
        Start: Init
        steps:
          Init:
            type: Task
            target_type: Function
            target_name: my_tasks.load
            nxet: Step1
            next: Stpe1
          Step1:
            type: Task
            target_type: Function
            target_name: my_tasks:load
            retry: {on: [503]}
            next: Step2
            end: yes
          Step2:
            type: Parallel
            branches:
              - start: W
                steps:
                  W: {type: Task, target_type: CloudFunction, target_name: f, url: "http://x.org", end: true}
              - start: X
                steps:
                  X:
                    type: Task
                    target_type: Function
                    target_name: my_tasks:load
                    next: Y
                  Init: {type: Task, target_type: Function, target_name: "m:f", end: true}
              - start: Z
                steps:
            next: End
          End: {type: Task, target_type: Function, target_name: "m:f", end: true}
          End: {type: Task, target_type: Function, target_name: "m:f", end: true}
        """
    )
    assert found == [
        "line 1, column 1: Start: unknown key; did you mean `start`?",
        (
            "line 6, column 18: steps.Init.target_name: a function is named `module:callable`, not 'my_tasks.load'; "
            "did you mean 'my_tasks:load'?"
        ),
        (
            "line 7, column 5: steps.Init.nxet: unknown key; known here: next, end, needs, comment, when, result, "
            "catch, type, target_type, target_name, parameters, function, timeout, retry, on_lost"
        ),
        "line 8, column 11: steps.Init.next: there is no step 'Stpe1' here; did you mean 'Step1'?",
        "line 13, column 18: steps.Step1.retry.on[0]: must be a string, not the number 503; put it in quotes",
        "line 15, column 10: steps.Step1.end: must be true or false, not 'yes'",
        (
            "line 21, column 76: steps.Step2.branches[0].steps.W.url: URL 'http://x.org' is refused: plain http "
            "shows the call to every host on the way, and is allowed to this machine only (localhost, 127.0.0.0/8, "
            "::1); use https"
        ),
        "line 28, column 19: steps.Step2.branches[1].steps.X.next: there is no step 'Y' here, only 'X', 'Init'",
        (
            "line 29, column 11: steps.Step2.branches[1].steps.Init: a step with this name exists at steps.Init; names "
            "are unique in the whole definition, including branches and `finally`"
        ),
        "line 31, column 15: steps.Step2.branches[2].steps: must be a mapping of steps by name, not null",
        "line 34, column 3: steps.End: this key is repeated (first on line 33), and only one value would be kept",
    ]


def test_problems_of_json_have_positions_too():
    """JSON is read without positions, which are worked out when there is something to report."""
    found = in_text('{"start": "A",\n "steps": {\n  "A": {"type": "Task",\n   "target_type": "Functoin"}}}', "json")
    assert found == [
        (
            "line 3, column 3: steps.A: this step has no successor: give `next: <name of a step>`, or "
            "`end: true` if it is the last step"
        ),
        (
            "line 3, column 3: steps.A.target_name: this key is missing; it is the function that runs, as "
            "`module:callable` (or give `function`)"
        ),
        (
            "line 4, column 19: steps.A.target_type: must be `Function`, `CloudFunction` or `Dataflow`, not "
            "'Functoin'; did you mean `Function`?"
        ),
    ]


def test_problems_of_a_mapping_are_in_the_order_of_their_paths():
    """Without a text, indexes count as numbers and keys as text."""
    branches = [{"start": f"B{number}", "steps": {f"B{number}": task(xyz=1)}} for number in range(11)]
    found = problems_of({"start": "P", "steps": {"P": {"type": "Parallel", "branches": branches, "end": True}}, "a": 1})
    assert [problem.path for problem in found] == [
        "a",
        *(f"steps.P.branches[{number}].steps.B{number}.xyz" for number in range(11)),
    ]
    assert all(problem.line is None for problem in found)


def test_errors_of_text_and_values_are_reported_together():
    """Keys that stand twice and values that JSON cannot hold do not hide what is wrong besides."""
    found = in_text(
        """
        start: A
        steps:
          A: {type: Task, target_type: Function, target_name: "m:f", timeout: .inf, timeout: .nan, next: C}
          B: {type: Task, target_type: Function, target_name: "m:f", end: true}
        """
    )
    assert [line.partition(": steps.A.")[2].partition(":")[0] for line in found] == ["timeout", "timeout", "next"]
    assert "is repeated" in found[0]
    assert "not finite" in found[1]


def test_the_source_stands_in_front_of_the_problems():
    """Whoever reads the error knows which definition it is about, and that nothing was started."""
    with pytest.raises(DefinitionError, match=r"^nightly is not valid \(1 problem\), so no run"):
        DAGBuilder({"steps": {"A": task()}}, source="nightly").build_dag()


def test_hints_have_a_price_and_a_limit():
    """Thousands of misspelt names among thousands are all reported, in seconds: only the hints get fewer."""
    steps = {f"Step number {number}": task(next=f"Step nunber {number + 1}") for number in range(2000)}
    found = problems_of({"start": "Step number 0", "steps": steps})
    assert len(found) == 2000
    assert 0 < sum("did you mean" in problem.message for problem in found) < 50


# -- limits ----------------------------------------------------------------------------------------------------------


def test_an_alias_bomb_is_refused():
    """Nine levels of nine aliases stand for 400 million values; they are counted, not made."""
    lines = ["start: A", "steps: {A: {}}", "l0: &l0 [x]"]
    lines += [f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 9)}]" for level in range(1, 10)]
    problem = only_problem(parse_definition("\n".join(lines), format="yaml"))
    assert (
        problem.message
        == f"this holds more than the {VALUES_MAX} values that a definition may have; pass data by reference"
    )


def test_many_aliases_of_one_long_text_are_refused():
    """What is stored is written out in full, so its length counts as often as it stands there."""
    text = f"start: &x {'x' * 10_000}\nsteps: [{', '.join(['*x'] * 1000)}]\n"
    assert "longer than the 8388608 bytes" in only_problem(parse_definition(text, format="yaml")).message


def test_a_mapping_that_holds_itself_is_refused():
    """A Python mapping can do what text cannot."""
    data: dict[str, Any] = definition()
    data["steps"]["A"]["parameters"] = {"self": data, "again": data}
    assert "nested more than 500 levels deep" in only_problem(data).message


def nested(depth: int) -> dict[str, Any]:
    data = {"start": "T", "steps": {"T": task()}}
    for level in range(depth):
        data = {"start": f"P{level}", "steps": {f"P{level}": {"type": "Parallel", "branches": [data], "end": True}}}
    return data


@pytest.mark.parametrize("depth", [50, 120])
def test_a_parallel_nests_deeply(depth: int):
    """Depth takes no recursion, neither to build nor to build again from what was stored."""
    dag = DAGBuilder(nested(depth)).build_dag()
    assert len(dag.all_nodes) == depth + 1
    again = DAGBuilder(json.loads(dag.definition)).build_dag()
    assert again.definition_id == dag.definition_id
    level: DAG = again
    for _ in range(depth):
        (node,) = level.nodes.values()
        assert isinstance(node, Parallel)
        (level,) = node.branches
        assert level.parent_node is node
    assert list(level.nodes) == ["T"]


def test_a_parallel_nested_too_deeply_is_refused():
    """The limit says so, in text and in a mapping alike."""
    for source in (nested(125), parse_definition(json.dumps(nested(125)), format="json")):
        assert "nested more than 500 levels deep (each `Parallel` takes 4)" in only_problem(source).message


def test_a_chain_may_be_long():
    """5,000 steps, one after the other."""
    dag = DAGBuilder(chain(*(f"S{number}" for number in range(5000)))).build_dag()
    assert len(dag.nodes) == 5000
    assert list(dag.nodes)[-1] == dag.ends[0].name == "S4999"
    assert dag.nodes["S2"].previous_nodes == (dag.nodes["S1"],)


def test_ten_thousand_branches_are_built_quickly():
    """The cost per branch is that of a few dictionaries: 0.4 s of CPU measured, far from the limit here."""
    branches = [
        {"start": f"B{number}", "steps": {f"B{number}": task(parameters={"n": number})}} for number in range(10_000)
    ]
    data = {"start": "P", "steps": {"P": {"type": "Parallel", "branches": branches, "end": True}}}
    begin = time.process_time()
    dag = DAGBuilder(data).build_dag()
    assert time.process_time() - begin < 15
    assert len(dag.all_tasks) == 10_000


# -- what is built ---------------------------------------------------------------------------------------------------


def test_the_sample_is_built():
    """The shipped example: five tasks, one `Parallel` of two branches, in the order in which they run."""
    dag = DAGBuilder(SAMPLE).build_dag()
    assert dag.name == "sample"
    assert dag.timeout == 60
    assert dag.parent_node is None
    assert list(dag.nodes) == ["Init", "Step1", "Step3", "End"]
    assert list(dag.all_tasks) == ["Init", "Step1", "Branch1", "Branch2", "End"]
    parallel = dag.nodes["Step3"]
    assert isinstance(parallel, Parallel)
    assert [branch.start_node for branch in parallel.branches] == ["Branch1", "Branch2"]
    assert all(branch.parent_node is parallel and branch.name == "sample" for branch in parallel.branches)
    assert parallel.previous_nodes == (dag.nodes["Step1"],)
    assert parallel.next == "End"
    assert dag.nodes["Init"].parameters == {"count": 5}
    assert dag.nodes["Step1"].retry == RetryPolicy(max_attempts=3, initial_delay=0.2, on=("OSError", "Timeout"))
    assert dag.functions == {}


async def test_the_sample_shows_what_its_comments_say():
    """One task of the sample fails once and is tried again, and its branches run at the same time."""
    async with Orchestrator("memory:") as orchestrator:
        run = await orchestrator.start(SAMPLE, input={"first": 3})
        result = await run.wait()
    assert {name: state.attempt for name, state in run.run.nodes.items() if state.attempt != 1} == {
        "Step1": 2,
        "Step3": 0,
    }
    sum_and_product, _, both_s = result.results["End"].rpartition(" for ")
    assert sum_and_product == "sum 25, product 2520, worked out at the same time"
    assert float(both_s.removesuffix(" s")) > 0


def test_every_key_of_a_task_reaches_its_node():
    """Nothing that a definition says is lost on the way, and defaults are those of the nodes."""
    common = {
        "target_name": "t",
        "parameters": {"a": [1]},
        "function": "prepare:it",
        "timeout": 1.5,
        "retry": {"max_attempts": 2, "initial_delay": 0, "backoff": 1, "max_delay": 9, "jitter": 0, "on": ["5xx"]},
        "on_lost": "fail",
        "comment": "why",
    }
    place = {"project_id": "my-project", "region": "europe-west1"}
    steps = {
        "A": task(next="B", **common),
        "B": task(next="C", **common, **place, target_type="CloudFunction", url="http://127.0.0.1:8080/f"),
        "C": task(
            next="D", **common, **place, target_type="Dataflow", template_path="gs://a/b", environment={"numWorkers": 1}
        ),
        "D": task(target_type="Dataflow", target_name="j", container_gcs_path="gs://a/c"),
    }
    nodes = DAGBuilder({"start": "A", "steps": steps}).build_dag().nodes
    for node in list(nodes.values())[:3]:
        assert (node.target_name, node.parameters, node.function) == ("t", {"a": [1]}, "prepare:it")
        assert (node.timeout, node.on_lost, node.comment) == (1.5, OnLost.FAIL, "why")
        assert node.retry == RetryPolicy(max_attempts=2, initial_delay=0, backoff=1, max_delay=9, jitter=0, on=("5xx",))
    a, b, c, d = nodes.values()
    assert type(a) is Function
    assert type(b) is CloudFunction
    assert (b.project_id, b.region, b.url) == ("my-project", "europe-west1", "http://127.0.0.1:8080/f")
    assert type(c) is DataflowJob
    assert (c.project_id, c.region, c.environment) == ("my-project", "europe-west1", {"numWorkers": 1})
    assert c.template_type is DataflowTemplateType.CLASSIC
    assert (d.template_type, d.container_gcs_path) == (DataflowTemplateType.FLEX, "gs://a/c")
    assert (d.parameters, d.function, d.timeout, d.comment, d.next) == ({}, None, None, "", None)
    assert (d.retry, d.on_lost) == (RetryPolicy(), OnLost.RETRY)


@pytest.mark.parametrize(
    ("keys", "target_name", "function"),
    [
        ({"target_name": "m:f"}, "m:f", "m:f"),
        ({"target_name": "label", "function": "m:f"}, "label", "m:f"),
        ({"target_name": ..., "function": "m:f"}, "m:f", "m:f"),
    ],
)
def test_a_function_task_runs_its_function_or_else_its_target(keys: dict[str, Any], target_name: str, function: str):
    """`function` is what runs; without it `target_name` is; without `target_name` its name is shown."""
    node = DAGBuilder(definition(task(**keys))).build_dag().nodes["A"]
    assert (node.target_name, node.function) == (target_name, function)


@pytest.mark.parametrize(
    "url", ["https://x.org", "http://localhost:1/a?b=c", "http://127.8.9.1/", "http://[::1]:80/", "HTTPS://X.org/%20"]
)
def test_urls_that_may_be_called_are_accepted(url: str):
    """https to anywhere, plain http to this machine."""
    step = task(target_type="CloudFunction", target_name="f", url=url)
    assert DAGBuilder(definition(step)).build_dag().nodes["A"].url == url


def test_the_policy_of_a_parallel_reaches_its_node():
    """`fail_fast` unless the step says `wait`."""
    for keys, policy in (({}, OnFailure.FAIL_FAST), ({"on_failure": "wait"}, OnFailure.WAIT)):
        step = {"type": "Parallel", "branches": [{"start": "B", "steps": {"B": task()}}], "end": True, **keys}
        assert DAGBuilder(definition(step)).build_dag().nodes["A"].on_failure is policy


def test_nodes_can_be_made_one_by_one():
    """The factory takes a step as it is written, and refuses what is wrong with it."""
    dag = DAG("A")
    node = NodeFactory.create_node(task(next="B"), dag, name="A")
    assert (type(node), node.parent_dag, node.next, node.target_type) == (Function, dag, "B", TargetTypes.FUNCTION)
    parallel = {"type": "Parallel", "branches": [definition()], "end": True}
    assert type(NodeFactory.create_node(parallel, dag, name="P")) is Parallel
    with pytest.raises(DefinitionError, match=r"^step 'A' is not valid \(2 problems\)") as raised:
        NodeFactory.create_node(task(timeout=0, parameters={"x": {1}}), dag, name="A")
    assert [problem.path for problem in raised.value.problems] == ["parameters.x", "timeout"]


# -- what is stored --------------------------------------------------------------------------------------------------


def test_the_same_definition_has_the_same_id(tmp_path: Path):
    """Order of keys, language, comments of YAML and classes of Python make no difference; the content does."""

    class Target(StrEnum):
        FUNCTION = "Function"

    step = {"type": "Task", "target_type": "Function", "target_name": "m:f", "parameters": {"b": [1, 2], "a": 1.5}}
    data = {"name": "x", "start": "A", "steps": {"A": {**step, "next": "B"}, "B": {**step, "end": True}}}
    turned = {
        "steps": MappingProxyType(
            {
                "B": {"end": True, **dict(reversed(step.items()))},
                "A": {"next": "B", **step, "target_type": Target.FUNCTION, "parameters": {"a": 1.5, "b": (1, 2)}},
            }
        ),
        "start": "A",
        "name": "x",
    }
    path = tmp_path / "y.yaml"
    path.write_text("# a comment\n" + json.dumps(data, indent=2))
    dags = [DAGBuilder(source).build_dag() for source in (data, turned, path, str(path), load_definition(path))]
    assert len({dag.definition_id for dag in dags}) == 1
    assert all(list(dag.nodes) == ["A", "B"] for dag in dags)
    assert DAGBuilder({**data, "name": "z"}).build_dag().definition_id != dags[0].definition_id
    assert dags[0].definition_id.startswith("sha256:")


def test_the_stored_definition_needs_nothing_besides_it(tmp_path: Path):
    """Built again from its stored bytes a DAG is the same, with the name that its file gave it."""
    path = tmp_path / "my nightly.etl.yaml"
    path.write_text(json.dumps(definition(task(parameters={"ü": None}), timeout=5)))
    dag = DAGBuilder(path).build_dag()
    assert dag.name == "my-nightly.etl"
    again = DAGBuilder(json.loads(dag.definition), source="definitions/x.json").build_dag()
    assert (again.name, again.timeout) == ("my-nightly.etl", 5)
    assert (again.definition, again.definition_id) == (dag.definition, dag.definition_id)


def test_a_mapping_without_a_name_is_called_dag():
    """There is always a name to show."""
    assert DAGBuilder(definition()).build_dag().name == "dag"


def test_a_built_dag_does_not_change_with_its_source():
    """What a caller does to a mapping later changes nothing that was built of it."""
    parameters = {"list": [1]}
    data = definition(task(parameters=parameters))
    dag = DAGBuilder(data).build_dag()
    stored = dag.definition
    parameters["list"].append(2)
    data["steps"]["A"]["next"] = "B"
    assert dag.nodes["A"].parameters == {"list": [1]}
    assert dag.definition == stored


# -- anything at all -------------------------------------------------------------------------------------------------

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["A", "B", "Task"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@dataclass
class Names:
    """Names for nodes, each given once."""

    count: int = 0

    def __call__(self) -> str:
        self.count += 1
        return f"N{self.count}"


@st.composite
def levels(draw: st.DrawFn, depth: int = 3, names: Names | None = None) -> dict[str, Any]:
    """A definition that is right, or a branch of one."""
    names = names or Names()
    chain_of = [names() for _ in range(draw(st.integers(1, 4)))]
    steps = {}
    for name, after in zip(chain_of, [*chain_of[1:], None], strict=True):
        if depth and draw(st.booleans()):
            branches = [draw(levels(depth - 1, names)) for _ in range(draw(st.integers(1, 3)))]
            step = {
                "type": "Parallel",
                "branches": branches,
                "on_failure": draw(st.sampled_from(["fail_fast", "wait"])),
            }
        else:
            step = task(end=..., parameters=draw(st.dictionaries(st.text(max_size=3), st.integers(0, 9), max_size=2)))
        steps[name] = {**step, "next": after} if after else {**step, "end": True}
    order = draw(st.permutations(list(steps)))
    return {"start": chain_of[0], "steps": {name: steps[name] for name in order}}


def places(value: Any, key: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every key of *value*, from the outside in."""
    yield key
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for part, inner in items:
        yield from places(inner, (*key, part))


@given(levels())
def test_any_right_definition_is_built(data: dict[str, Any]):
    """Nested as it may be: every step becomes a node, chains are linked both ways, stored bytes build the same."""
    dag = DAGBuilder(data).build_dag()
    names = [key[-1] for key in places(data) if len(key) > 1 and key[-2] == "steps" and "parameters" not in key]
    assert sorted(dag.all_nodes) == sorted(str(name) for name in names)
    for node in dag.all_nodes.values():
        if node.next is not None:
            assert node.parent_dag.nodes[node.next].previous_nodes == (node,)
        assert next(iter(node.parent_dag.nodes)) == node.parent_dag.start_node
    again = DAGBuilder(parse_definition(dag.definition.decode(), format="json")).build_dag()
    assert again.definition_id == dag.definition_id
    assert list(again.all_nodes) == list(dag.all_nodes)


@given(st.data())
def test_a_definition_with_anything_put_in_anywhere_is_built_or_refused(data: st.DataObject):
    """No value in any place raises anything but a DefinitionError, and each path of it leads somewhere."""
    made = data.draw(levels())
    key = data.draw(st.sampled_from([key for key in places(made) if key]))
    place = made
    for part in key[:-1]:
        place = place[part]
    place[key[-1]] = data.draw(JSON_VALUES)
    for problem in problems_if_any(made):
        assert problem.path.startswith(("start", "steps"))
        assert str(problem).isprintable()


@given(JSON_VALUES)
def test_anything_at_all_is_refused_in_any_language(value: Any):
    """What is no definition never becomes one, and never crashes the reader."""
    text = json.dumps(value)
    for language in ("json", "yaml"):
        with pytest.raises(DefinitionError):
            DAGBuilder(parse_definition(text, format=language)).build_dag()
