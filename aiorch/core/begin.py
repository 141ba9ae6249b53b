"""The first state of a run: blank, or with the entries that `aiorch.core.resume` keeps of an earlier run."""

from collections.abc import Mapping
from datetime import datetime

from aiorch.errors import RunTooLargeError, counted
from aiorch.model.dag import DAG
from aiorch.model.run import DOCUMENT_BYTES_MAX, Run, blank_entries
from aiorch.model.run_document import NodeState, RunHeader, StartCommand, encode_entry
from aiorch.model.status import RunStatus


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
        resumed_from_step=command.from_step,
        labels=dict(dag.labels),
    )


def refuse_too_large(dag: DAG, input_bytes: int, undone: str) -> None:
    """
    Refuse a DAG with very many nodes, or a very large input.

    Args:
        dag: The DAG to run.

        input_bytes: Size of the input of the run as JSON.

        undone: Beginning of the message: the action that does not happen.

    Raises:
        RunTooLargeError: The run document could pass `DOCUMENT_BYTES_MAX`.
    """
    blank = blank_entries(dag)
    size_max = blank.size_max + input_bytes
    if size_max > DOCUMENT_BYTES_MAX:
        nodes, retried, fewer = counted(len(blank.nodes), "node"), "", ""
        if blank.entries_max > len(blank.nodes):
            retried = f", which all tries of each Parallel turn into {counted(blank.entries_max, 'entry', 'entries')},"
            fewer = " lower `max_attempts` in the `retry` of a Parallel,"
        raise RunTooLargeError(
            f"{undone}: with {nodes}{retried} and {input_bytes} bytes of input the run document could grow to "
            f"{size_max} bytes, and the limit is {DOCUMENT_BYTES_MAX}. Split the DAG,{fewer} or pass a reference (e.g. "
            f"an object name) instead of the data."
        )


def new_run(dag: DAG, header: RunHeader, kept: Mapping[str, NodeState] | None = None) -> Run:
    """
    Return the state of a run in which no node has begun.

    Args:
        dag: The DAG to run.

        header: The facts of the run as a whole.

        kept: Entries taken over from an earlier run, by name (resume).

    Raises:
        RunTooLargeError: The run document could pass `DOCUMENT_BYTES_MAX`.
    """
    refuse_too_large(dag, len(header.input), f"run {header.run_id!r} of DAG {dag.name!r} was not started")
    blank = blank_entries(dag)
    nodes, entries = dict(blank.nodes), dict(blank.encoded)
    for name, state in (kept or {}).items():
        nodes[name] = state
        entries[name] = encode_entry(state)
    return Run(dag, header, nodes, entries)
