"""Every example on the page about definitions is run, with scripted answers, and there is one for each key."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aiorch import steps
from aiorch.definition import models
from aiorch.definition.source import parse_definition
from aiorch.nodes.steps import STEPS
from aiorch.testing import Answer, Case, Expectation, Outcome, run_case
from tests.documentation import REPOSITORY, blocks

PAGE = REPOSITORY / "docs/definitions.md"
EXAMPLES = {
    block.file_name or name: data
    for block in blocks(PAGE)
    if block.language == "yaml"
    for data in [parse_definition(block.text, format="yaml").data]
    for name in ["/".join(data["steps"]) if "steps" in data else next(iter(data))]
}
"""The examples, by the name of the file or of the steps."""

RUN_BY_COMMANDS = {"typo.yaml", "shipping.yaml", "report.yaml", "shop.yaml", "shop_typo.yaml"}
"""Examples that the page runs with `aiorch`, see `tests.acceptance.test_doc_examples`."""

DAY = {"day": "2026-01-02"}
OK = Answer(result={"path": "x", "count": 1})
ROWS = Answer(result={"job": {"id": 7}, "rows": 3, "secret": "left out"})
STARTED = datetime(2026, 1, 1, tzinfo=UTC)


def completed(**steps: Any) -> Expectation:
    return Expectation(steps=steps)


def failed(error: str, **steps: Any) -> Expectation:
    return Expectation(error=error, steps=steps)


RUNS: dict[str, list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], Expectation]]] = {
    # the results of steps before, the input, the answers, the outcome
    "Extract/Transform/Load": [({}, {}, {"*": OK}, Expectation(output={"path": "x", "count": 1}))],
    "Only": [({}, {}, {"*": Answer(result=1, after=3601)}, failed("Timeout"))],
    "Send": [({}, {}, {"*": OK}, Expectation(calls={"Send": [{"parameters": {"key": "value of mail_key"}}]}))],
    "Orders/Customers/Rates/Report/Archive": [
        (
            {},
            {},
            {"*": OK, "Rates": Answer(error="HTTP 503")},
            Expectation(
                way=["Customers", "Orders", "Rates", "Archive", "Report"],
                calls={"Report": [{"parameters": {"orders": "x", "rates": {"EUR": 1}}}]},
            ),
        ),
        (
            {},
            {},
            {"*": OK, "Customers": Answer(error="OSError", after=5)},
            failed("OSError", Report="Skipped", Archive="Completed"),
        ),
        ({}, {}, {"*": OK, "Orders": Answer(result={"path": "x", "count": 0})}, completed(Archive="Skipped")),
    ],
    "Refund": [
        ({"Check": {"amount": 3}}, {"mode": "real"}, {"*": OK}, completed(Refund="Completed", Report="Completed")),
        ({"Check": {"amount": 3}}, {"mode": "dry"}, {"*": OK}, completed(Refund="Skipped", Report="Completed")),
    ],
    "Export": [({}, {}, {"*": ROWS}, completed(Export={"result": {"job": 7, "rows": 3}}))],
    "Extract": [
        (
            {},
            {},
            {"Extract": [Answer(error="HTTP 503"), OK]},
            Expectation(calls={"Extract": [{"parameters": {"table": "orders", "day": 1}}] * 2}),
        )
    ],
    "Load": [({}, {}, {"*": OK}, completed(Load="Completed"))],
    "Notify": [({}, {}, {"Notify": Answer(result=1, after=61)}, failed("Timeout"))],
    "Aggregate": [({}, {}, {"*": OK}, completed(Aggregate="Completed"))],
    "Transform": [
        ({}, {}, {"*": OK}, completed(Transform="Completed")),
        (
            {},
            {},
            {"Orders": Answer(error="OSError"), "Customers": Answer(result=1, after=60)},
            failed("BranchFailed", Customers="Completed"),
        ),
    ],
    "Book": [
        (
            {},
            {},
            {"Hotel": [Answer(result={"rooms": 0}), Answer(result={"rooms": 1})], "Flight": Answer(result="LH1")},
            Expectation(calls={"Hotel": 2, "Flight": 1}, steps={"Book": "Completed"}),
        ),
        ({}, {}, {"Hotel": Answer(result={"rooms": 0})}, Expectation(output=None, calls={"Hotel": 2})),
        (
            {},
            {},
            {"Hotel": Answer(result={"rooms": 1}, after=601)},
            Expectation(output=None, calls={"Hotel": 2}, steps={"Book": {"status": "Failed", "error": "Timeout"}}),
        ),
    ],
    "Size": [
        ({"Load": {"rows": 0}}, {"limit": 5}, {}, completed(Nothing="Completed", Approve="Skipped", Render="Skipped")),
        ({"Load": {"rows": 9}}, {"limit": 5}, {}, completed(Nothing="Skipped", Approve="Completed", Render="Skipped")),
        ({"Load": {"rows": 5}}, {"limit": 5}, {}, completed(Nothing="Skipped", Approve="Skipped", Render="Completed")),
    ],
    "Morning": [({}, DAY, {}, completed(Morning="Completed", Send="Completed"))],
    "Defaults": [({}, {}, {}, completed(Defaults={"result": {"region": "europe-west1", "limit": 1000}}))],
    "Reject": [({}, DAY, {}, failed("NoOrders", Reject="Failed"))],
    "Enough": [
        ({"Count": {"free": 1, "needed": 2}}, {}, {}, failed("OutOfStock", Pack="Skipped")),
        ({"Count": {"free": 2, "needed": 2}}, {}, {}, completed(Enough="Skipped", Pack="Completed")),
    ],
    "Create/Work": [
        ({}, {}, {"*": Answer(result={"name": "c1"})}, completed(Delete="Completed", Tell="Skipped")),
        (
            {},
            {},
            {"*": OK, "Create": Answer(error="HTTP 400", message="no quota")},
            Expectation(
                error="HTTP 400",
                steps={"Delete": "Skipped"},
                calls={"Tell": [{"parameters": {"text": "run case: node 'Create' failed: no quota"}}]},
            ),
        ),
    ],
    "Fetch": [
        ({}, {}, {"Fetch": [Answer(error="HTTP 503")] * 3 + [OK]}, Expectation(calls={"Fetch": 4})),
        ({}, {}, {"Fetch": Answer(error="ValueError")}, failed("ValueError")),
    ],
    "Score": [
        (
            {},
            {},
            {"Score": [Answer(error="HTTP 503"), Answer(error="Timeout"), Answer(error="HTTP 500"), OK]},
            Expectation(calls={"Score": 4}),
        ),
        ({}, {}, {"Score": Answer(error="Timeout")}, Expectation(error="Timeout", calls={"Score": 2})),
    ],
    "Rates": [
        (
            {},
            {},
            {"Rates": Answer(error="HTTP 500")},
            Expectation(calls={"Rates": 3}, steps={"Rates": "Failed", "Price": "Completed", "Tell": "Skipped"}),
        ),
        ({}, {}, {"Rates": Answer(error="HTTP 400")}, completed(Price="Skipped", Tell="Completed")),
    ],
}


def whole(name: str, before: dict[str, Any]) -> dict[str, Any]:
    """A definition with the steps of an example, after steps with these results, and before all that it names."""
    example = EXAMPLES[name]
    if "steps" in example:
        return example
    (step,) = example.values()
    options = [*step.get("choices", []), *step.get("catch", []), {"next": step.get("default")}, step]
    found = {option["next"]: {"type": "Pass", "end": True} for option in options if option.get("next")}
    earlier = list(before)
    for number, one in enumerate(earlier):
        found[one] = {"type": "Pass", "result": before[one], "next": [*earlier, name][number + 1]}
    return {"start": [*earlier, name][0], "steps": {**example, **found}}


@pytest.mark.parametrize(
    ("name", "run"),
    [pytest.param(name, run, id=f"{name}-{number}") for name, runs in RUNS.items() for number, run in enumerate(runs)],
)
def test_examples_do_what_the_page_says(name: str, run: Any) -> None:
    """Each example has the outcome that the page gives for these answers."""
    before, given, answers, expect = run
    case = Case(whole(name, before), input=given, answers=answers, expect=expect, started_at=STARTED)
    functions = {"etl_tasks:day_to_extract": lambda context: {"day": 1}}
    outcome: Outcome = run_case(case, functions=functions if name == "Extract" else None)
    if name == "Morning":
        assert outcome.seconds == 29 * 3600


def test_the_example_of_orders_writes_invoices(tmp_path: Path) -> None:
    """The graph in `examples/orders` waits, goes on after two caught failures, and writes its invoices."""
    file = REPOSITORY / "examples/orders/orders.yaml"
    given = {"folder": str(file.parent / "data"), "invoices": str(tmp_path), "patience": 3600}
    outcome = run_case(Case(file, input=given, answers={"*": Answer(call=True)}))
    assert outcome.seconds == pytest.approx(3600, abs=1)
    assert {name for name, entry in outcome.steps.items() if entry.caught} == {"Prices", "Again"}
    assert outcome.output["revenue"] == 54
    assert [Path(each).read_text() != "" for each in outcome.output["invoices"]] == [True, True]


@pytest.mark.parametrize(
    ("answers", "expect"),
    [
        ({"Export": Answer(result={"count": 0})}, Expectation(output={"made": 0}, calls={"Clean": 1})),
        ({"Export": [Answer(error="HTTP 503"), OK]}, Expectation(output={"made": 1}, calls={"Clean": 1})),
        ({"Pdfs": Answer(error="HTTP 500")}, Expectation(error="NotMade", calls={"Tell": 1, "Clean": 1})),
    ],
    ids=["no invoices", "made", "not made"],
)
def test_the_workflow_beside_other_languages_does_what_its_page_says(answers: Any, expect: Expectation) -> None:
    """Without invoices the run ends, a failure is told and fails the run, and the files are removed in every case."""
    [block] = [each for each in blocks(REPOSITORY / "docs/coming-from.md") if each.language == "yaml"]
    definition = parse_definition(block.text, format="yaml").data
    run_case(Case(definition, input={"month": "2026-11"}, answers={"*": OK, **answers}, expect=expect))


def test_every_example_is_run() -> None:
    """No example stands on the page that neither a command of the page nor a case runs."""
    assert EXAMPLES.keys() == RUNS.keys() | RUN_BY_COMMANDS


def keys_of(step: Any, kind: str = "") -> Iterator[tuple[str, str]]:
    """Yield the keys of all mappings inside a definition, each with the type of the step around it."""
    if isinstance(step, dict):
        kind = step.get("target_type") or step.get("type") or kind
        for key, value in step.items():
            yield kind, key
            yield from keys_of(value, kind if key not in ("steps", "finally") else "")
    elif isinstance(step, list):
        for each in step:
            yield from keys_of(each, kind)


def test_every_key_has_an_example() -> None:
    """Each key of a definition, of each kind of step, and of handlers and policies stands in an example."""
    shown = {pair for example in EXAMPLES.values() for pair in keys_of(example)}
    anywhere = {key for _, key in shown}
    kinds = (models.Definition, models.Branch, models.FinalLevel, steps.Step, steps.Links, steps.WorkingStep)
    for model in (*kinds, steps.TaskStep, steps.Retry, steps.CatchHandler):
        names = {field.alias or name for name, field in model.model_fields.items()}
        assert names - anywhere - {"schema_version"} == set(), model
    for kind in STEPS:
        step = models.all_steps()[kind]
        assert {(kind, name) for name in step.__annotations__ if name in step.model_fields} - shown == set(), kind
    assert {("Parallel", key) for key in ("retry", "timeout", "catch", "on_failure")} <= shown
