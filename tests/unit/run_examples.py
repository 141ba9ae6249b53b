"""A DAG with everything that a picture or a progress view has to show, and runs of it in any state."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from aiorch.core.begin import new_run
from aiorch.definition.build import DAGBuilder
from aiorch.model.dag import DAG
from aiorch.model.enums import NodeTypes
from aiorch.model.failure import Failure
from aiorch.model.run import Run
from aiorch.model.run_document import RunHeader
from aiorch.model.status import RunStatus, TaskStatus
from tests import definitions

ORDERS: dict[str, Any] = {
    "name": "orders",
    "start": "Reserve",
    "steps": {
        "Reserve": definitions.task("Pay"),
        "Pay": definitions.task("Ship", catch=[{"on": ["Declined", "Expired"], "next": "Ask"}, {"next": "Release"}]),
        "Ask": definitions.task("Pause"),
        "Pause": {"type": "Wait", "seconds": 3 * 86400, "next": "PayAgain"},
        "PayAgain": definitions.task("Ship", catch=[{"next": "Release"}]),
        "Ship": definitions.task("Size"),
        "Size": {
            "type": "Choice",
            "choices": [{"when": "results.Reserve.parcels > 1", "next": "Split"}],
            "default": "Notify",
        },
        "Split": definitions.task("Notify"),
        "Notify": definitions.task(when="input.mail"),
        "Release": definitions.task("Refused"),
        "Refused": {"type": "Fail", "error": "Refused", "message": "no payment"},
    },
    "finally": {"start": "Clean", "steps": {"Clean": definitions.task("Log"), "Log": definitions.task()}},
}
"""Ways that part and join, failures that are caught, a wait, a condition of a step, and `finally`."""


def needing(*needs: str, **keys: Any) -> dict[str, Any]:
    """Return a task of a graph."""
    step = definitions.task(**keys, **({"needs": list(needs)} if needs else {}))
    del step["end"]
    return step


DAILY: dict[str, Any] = {
    "steps": {
        "Orders": needing(),
        "Rates": needing(),
        "Convert": needing("Orders", "Rates"),
        "Score": needing("Convert"),
        "Export": needing("Convert", when="input.export"),
        "Report": needing("Score", "Rates"),
        "Mail": needing("Report", "Export"),
    }
}
"""A graph."""

TRIES: dict[str, Any] = definitions.chain(
    Fan=definitions.parallel(
        definitions.chain("Left"),
        definitions.chain("A", "B"),
        retry={"max_attempts": 2, "initial_delay": 60, "jitter": 0},
        catch=[{"result": None}],
    ),
    End=definitions.task(),
)
"""A node whose branches are tried again, and whose failure is caught."""

STARTED = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def chain(*names: str) -> dict[str, Any]:
    """Return a definition, or a branch, of these steps in sequence."""
    return definitions.chain(**{name: definitions.task(target_name="work", function="work:do") for name in names})


def parallel(name: str, branches: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a definition, or a branch, that is one `Parallel`."""
    return definitions.chain(**{name: definitions.parallel(*branches)})


def build(definition: dict[str, Any], name: str = "sample") -> DAG:
    """Build a DAG."""
    return DAGBuilder({"name": name} | definition).build_dag()


def sample() -> DAG:
    """Init, then Par of a chain and a nested Parallel, then End."""
    inner = parallel("Inner", [chain("C1"), chain("C2")])
    definition = chain("Init", "Par", "End")
    definition["steps"]["Par"] = {"type": "Parallel", "next": "End", "branches": [chain("A1", "A2"), inner]}
    return build(definition)


def fan(width: int) -> DAG:
    """One Parallel of *width* branches."""
    return build(parallel("Fan", [chain(f"B{index}") for index in range(width)]))


def run_of(
    dag: DAG,
    statuses: Mapping[str, TaskStatus] | None = None,
    status: RunStatus = RunStatus.RUNNING,
    **changes: Mapping[str, Any],
) -> Run:
    """
    Return a run of *dag* with nodes in these statuses, the others ``New``.

    What has begun did so one second after the run, what has ended took two seconds. Changes of single nodes are given
    by their names.
    """
    header = RunHeader(
        schema_version=1,
        run_id="r1",
        nonce="0",
        dag=dag.name,
        definition=dag.definition_id,
        status=status,
        input=msgspec.Raw(b"null"),
        created_at=STARTED,
        updated_at=STARTED,
        ended_at=STARTED + timedelta(seconds=10) if status.is_terminal else None,
    )
    run = new_run(dag, header)
    for name, node_status in (statuses or {}).items():
        run.nodes[name] = msgspec.structs.replace(run.nodes[name], **_facts(run, name, node_status))
    for name, change in changes.items():
        run.nodes[name] = msgspec.structs.replace(run.nodes[name], **change)
    return run


def _facts(run: Run, name: str, status: TaskStatus) -> dict[str, Any]:
    facts: dict[str, Any] = {"status": status}
    if status not in (TaskStatus.NEW, TaskStatus.SKIPPED):
        facts["started_at"] = STARTED + timedelta(seconds=1)
        facts["attempt"] = 1 if run.nodes[name].node_type == NodeTypes.TASK else 0
    if status.is_terminal and status is not TaskStatus.SKIPPED:
        facts["ended_at"] = STARTED + timedelta(seconds=3)
    if status is TaskStatus.FAILED:
        facts["error"] = Failure("ValueError", "no number: 'n/a'", "row 17", attempt=1)
    return facts
