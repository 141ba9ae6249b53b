"""Files of cases: each mistake is reported with its place, all of them at once, and before any case runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from aiorch import DefinitionError
from aiorch.definition.files import cases_files, definition_files
from aiorch.testing import Answer, Case, Expectation, load_cases
from aiorch.testing.cases.files import cases_schema
from tests.definitions import call, chain, parallel, task

DEFINITION = chain(
    Load=call(),
    Check=task(),
    Both=parallel(chain(Skip={"type": "Pass", "result": 5}), chain("Mail")),
    Ship=call(),
)

WRONG = """\
definition: orders.yaml
awnsers: {}
answers:
  Shipp: {result: 1}
  Both: {result: 1}
cases:
  - name: first
    inptu: 5
    answers:
      Load: {reslt: 5}
      Check: []
      Mail: [{error: X, result: 5}, 7]
      Ship: {call: true}
      "*": {after: -1, result: .inf}
    expect:
      status: Complete
      steps: {Load: Complet, Chck: Completed, Ship: {status: Running}, Mail: 5}
      way: [Load, Chek]
      calls: {Load: many, Skip: 1, Mail: -1}
      error: {typ: X}
  - name: first
    started_at: yesterday
    answers: {Load: {}, Check: {error: Cancelled}, Ship: {message: x, result: 1}, Mail: {call: false}}
    cancel_after: soon
  - 5
  - answers: []
    expect: null
  - name: [a]
"""

PROBLEMS = [
    (2, 1, "awnsers: unknown key; known here: definition, cases, answers"),
    (4, 3, "answers.Shipp: the definition has no step 'Shipp'; did you mean `Ship`?"),
    (5, 3, "answers.Both: 'Both' is a Parallel step, which calls no target, so it takes no answer: remove the key"),
    (8, 5, "cases[0].inptu: unknown key; did you mean `input`?"),
    (10, 14, "cases[0].answers.Load.reslt: unknown key; did you mean `result`?"),
    (11, 7, "cases[0].answers.Check: this list is empty; give an answer for each call of the step"),
    (12, 14, "cases[0].answers.Mail[0]: this answer has `error` and `result`; give one of"),
    (12, 37, "cases[0].answers.Mail[1]: must be a mapping, not the number 7"),
    (13, 14, "cases[0].answers.Ship.call: 'Ship' is a CloudFunction task, and `call` calls Python functions only"),
    (14, 20, 'cases[0].answers["*"].after: must be at least 0, not -1'),
    (14, 32, 'cases[0].answers["*"].result: this number is not finite'),
    (16, 15, "cases[0].expect.status: must be `Completed`, `Failed` or `Cancelled`, not 'Complete'; did you mean"),
    (17, 21, "cases[0].expect.steps.Load: must be `Completed`, `Failed`, `Cancelled` or `Skipped`, not 'Complet'"),
    (17, 30, "cases[0].expect.steps.Chck: the definition has no step 'Chck'; did you mean `Check`?"),
    (17, 62, "cases[0].expect.steps.Ship.status: must be `Completed`, `Failed`, `Cancelled` or `Skipped`, not 'Runn"),
    (17, 78, "cases[0].expect.steps.Mail: must be a string, not the number 5"),
    (18, 19, "cases[0].expect.way[1]: the definition has no step 'Chek'; did you mean `Check`?"),
    (19, 21, "cases[0].expect.calls.Load: must be a list, not 'many'"),
    (19, 27, "cases[0].expect.calls.Skip: 'Skip' is a Pass step, which calls no target, so it makes no call"),
    (19, 42, "cases[0].expect.calls.Mail: must be at least 0, not -1"),
    (20, 15, "cases[0].expect.error.typ: unknown key; did you mean `type`?"),
    (21, 11, "cases[1].name: a case before this one has the name 'first', so reports would not tell them apart"),
    (22, 17, "cases[1].started_at: must be a time with a time zone, not 'yesterday'"),
    (23, 21, "cases[1].answers.Load: this answer is empty; give one of `result`, `error` and `call`"),
    (
        23,
        32,
        "cases[1].answers.Check: no target answers with the failure 'Cancelled'; to cancel the run, give the case",
    ),
    (23, 58, "cases[1].answers.Ship: `message` is the message of an `error`, and this answer has none"),
    (23, 89, "cases[1].answers.Mail: this answer is empty"),
    (24, 19, "cases[1].cancel_after: must be a number, not 'soon'"),
    (25, 5, "cases[2]: must be a mapping, not the number 5"),
    (26, 5, "cases[3].name: this key is missing"),
    (26, 14, "cases[3].answers: must be a mapping, not a list"),
    (27, 13, "cases[3].expect: this is null; give it a value, or leave the key out"),
    (28, 11, "cases[4].name: must be a string, not a list"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "orders.yaml").write_text(json.dumps(DEFINITION))
    return tmp_path


def refused(path: Path, text: str) -> DefinitionError:
    path.write_text(text)
    with pytest.raises(DefinitionError) as error:
        load_cases(path)
    return error.value


def test_every_mistake_is_reported_at_once_with_its_place(folder: Path) -> None:
    """Unknown keys, wrong values, unknown steps and statuses, and repeated names: each with line and column."""
    error = refused(folder / "orders.cases.yaml", WRONG)
    found = [(problem.line, problem.column, f"{problem.path}: {problem.message}") for problem in error.problems]
    for wanted, got in zip(PROBLEMS, found, strict=True):
        assert got[:2] == wanted[:2], got
        assert got[2].startswith(wanted[2]), got
    assert "orders.cases.yaml is not valid (33 problems), so no case was run:" in str(error)


def test_json_has_the_same_mistakes(folder: Path) -> None:
    """A file of JSON gives line and column, too."""
    text = '{"definition": "orders.yaml",\n "cases": [{"name": "a", "answers": {"Laod": {"result": 1}}}]}'
    (problem,) = refused(folder / "a.cases.json", text).problems
    assert (problem.line, problem.column, problem.path) == (2, 38, "cases[0].answers.Laod")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "this is empty; a file of cases has `definition` and `cases`"),
        ("[]", "must be a mapping with `definition` and `cases`, not a list"),
        ("start: A\nsteps: {A: {}}", "(1 problem), so no case was run:\n  - line 1, column 1: this is a definition,"),
        ("definition: order.yaml\ncases: [{name: a}]", "there is no file order.yaml; did you mean 'orders.yaml'?"),
        ("definition: far/x.yaml\ncases: [{name: a}]", "give its path relative to the folder of this file"),
        (f"definition: {300 * 'x'}.yaml\ncases: [{{name: a}}]", "there is no file xxx"),
        ("definition: orders.yaml\ncases: []", "line 2, column 8: cases: must not be empty"),
        ("cases: [{name: a}]", "definition: this key is missing. The definition file, relative to the folder of this"),
        ("definition: 5\ncases: [{name: a}]", "line 1, column 13: definition: must be a string, not the number 5"),
        ("definition: a.yaml\ndefinition: b.yaml\ncases: [{name: a}]", "this key is repeated (first on line 1)"),
    ],
)
def test_a_file_that_is_none_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str) -> None:
    """Empty files, missing definitions and missing cases are told with the next move."""
    monkeypatch.chdir(folder)
    assert said in str(refused(Path("a.cases.yaml"), text))


def test_mistakes_of_the_definition_are_told_beside_those_of_the_cases(folder: Path) -> None:
    """Each problem of the definition stands at the key that names the file, with its own line."""
    (folder / "orders.yaml").write_text("start: A\nsteps:\n  A: {type: Task, target_type: Function, nxt: B}\n")
    error = refused(folder / "a.cases.yaml", "definition: orders.yaml\ncases: [{name: a, inptu: 1}]")
    paths = [problem.path for problem in error.problems]
    assert paths.count("definition") == len(paths) - 1 > 1
    assert paths[-1] == "cases[0].inptu"
    assert "orders.yaml: line 3, column 42: steps.A.nxt: unknown key; did you mean `next`?" in str(error)


def test_answers_of_all_cases_give_way_to_those_of_a_case(folder: Path) -> None:
    """A case has the answers of the file, and its own in place of those of the same step."""
    (folder / "a.cases.yaml").write_text(
        "definition: orders.yaml\nanswers: {Load: {result: 1}, Ship: {result: 2}}\n"
        "cases:\n  - {name: a, answers: {Load: {result: 3}, Mail: [{error: X}, {result: 4}]}, input: {n: 1}}\n"
        "  - {name: b, started_at: '2026-11-23T08:00:00Z', cancel_after: 5}\n"
    )
    first, second = load_cases(folder / "a.cases.yaml")
    assert first.answers == {
        "Load": Answer(result=3),
        "Ship": Answer(result=2),
        "Mail": [Answer(error="X"), Answer(result=4)],
    }
    assert (first.name, first.input, first.expect) == (str(first), {"n": 1}, Expectation())
    assert first.place.endswith("a.cases.yaml:4")
    assert second.answers == {"Load": Answer(result=1), "Ship": Answer(result=2)}
    assert (second.started_at.hour, second.cancel_after) == (8, 5)


def test_files_of_cases_are_no_definitions(folder: Path) -> None:
    """A folder of definitions may hold files of cases; those in folders below are found, in hidden ones not."""
    for name in ("a.cases.yaml", "deep/er/b.cases.json", ".hidden/c.cases.yml", "cases.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert [path.name for path in definition_files(folder)] == ["cases.yaml", "orders.yaml"]
    assert [str(path.relative_to(folder)) for path in cases_files(folder)] == ["a.cases.yaml", "deep/er/b.cases.json"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Answer, "this answer is empty"),
        (lambda: Answer(result=1, error="X"), "this answer has `error` and `result`"),
        (lambda: Answer(result=object()), "`result` is not JSON"),
        (lambda: Case({}, answers={"A": [5]}), r"answers\['A'\] has a int and must be an Answer or a list of them"),
        (lambda: Case({}, answers={"A": {"result": 5}}), r"answers\['A'\] has a dict and must be an Answer"),
        (lambda: Case({}, started_at=Case({}).started_at.replace(tzinfo=None)), "must have a time zone"),
    ],
)
def test_cases_of_a_program_refuse_wrong_values(make: Any, said: str) -> None:
    """The mistake is told where the answer or the case is made."""
    with pytest.raises((TypeError, ValueError), match=said):
        make()


def test_the_schema_has_every_key_and_the_ends() -> None:
    """Editors complete the keys, and know that an answer has one of three keys and a status one of a few values."""
    schema = cases_schema()
    assert schema["properties"].keys() == {"definition", "cases", "answers", "comment", "$schema"}
    parts = schema["$defs"]
    assert parts["Answer"]["anyOf"] == [{"required": [key]} for key in ("result", "error", "call")]
    assert parts["Expectation"]["properties"]["status"]["enum"] == ["Completed", "Failed", "Cancelled"]
    for part in (schema, *parts.values()):
        assert not part["additionalProperties"]
        assert all("description" in each for each in part["properties"].values())
        assert "null" not in json.dumps(part)
