"""The first state of a run: blank, or with the completed nodes of an earlier run."""

from collections.abc import Mapping
from datetime import datetime

from aiorch.errors import RunStateError, RunTooLargeError, counted
from aiorch.model.dag import DAG
from aiorch.model.run import DOCUMENT_BYTES_MAX, Run, blank_entries
from aiorch.model.run_document import NodeState, RunHeader, StartCommand, encode_entry
from aiorch.model.status import RunStatus, TaskStatus


def new_header(command: StartCommand, dag: DAG, timeout_at: datetime | None) -> RunHeader:
    """Return the header of a run that begins with *command*."""
    return RunHeader(
        schema_version=dag.schema_version,
        run_id=command.run_id,
        nonce=command.nonce,
        dag=dag.name,
        definition=command.definition,
        status=RunStatus.RUNNING,
        input=command.input,
        created_at=command.created_at,
        updated_at=command.created_at,
        timeout_at=timeout_at,
        resumed_from=command.resumed_from,
    )


def kept_by_resume(run: Run) -> Mapping[str, NodeState]:
    """
    Return the entries that a resumed run takes over: those of completed nodes.

    Raises:
        RunStateError: The run has neither failed nor been cancelled.
    """
    if run.status not in (RunStatus.FAILED, RunStatus.CANCELLED):
        raise RunStateError(
            f"run {run.header.run_id!r} is {run.status}, and only a Failed or Cancelled run can be resumed; "
            f"nothing was started. "
            + ("Start the DAG under a new run id." if run.status.is_terminal else "Wait for its end, or cancel it.")
        )
    return {name: state for name, state in run.nodes.items() if state.status is TaskStatus.COMPLETED}


def new_run(dag: DAG, header: RunHeader, kept: Mapping[str, NodeState] | None = None) -> Run:
    """
    Return the state of a run in which no node has begun.

    Args:
        dag: The DAG to run.

        header: The facts of the run as a whole.

        kept: Entries taken over from an earlier run, by node name (resume).

    Raises:
        RunTooLargeError: The run document could pass `DOCUMENT_BYTES_MAX`.
    """
    blank, encoded, size = blank_entries(dag)
    size_max = size + len(header.input)
    if size_max > DOCUMENT_BYTES_MAX:
        raise RunTooLargeError(
            f"run {header.run_id!r} of DAG {dag.name!r} was not started: with {counted(len(blank), 'node')} and "
            f"{len(header.input)} bytes of input the run document could grow to {size_max} bytes, and the limit is "
            f"{DOCUMENT_BYTES_MAX}. Split the DAG, or pass a reference (e.g. an object name) instead of the data."
        )
    nodes, entries = dict(blank), dict(encoded)
    for name, state in (kept or {}).items():
        nodes[name] = state
        entries[name] = encode_entry(state)
    return Run(dag, header, nodes, entries)
