"""The decisions of a resume that depend on whether the resumed run has a definition of its own."""

from collections.abc import Mapping

from aiorch.core.resume import kept_by_resume
from aiorch.model.dag import DAG
from aiorch.model.run import Run
from aiorch.model.run_document import NodeState

_VERSION = 2
"""The schema version that brought the resume from a step, and the resume with a new definition."""


def kept_by(dag: DAG, old: DAG, run: Run, from_step: str | None) -> Mapping[str, NodeState]:
    """
    Return the entries that a resumed run takes over.

    Args:
        dag: The DAG of the resumed run.

        old: The DAG of the run to resume.

        run: The run to resume.

        from_step: Name of the step that runs anew together with all steps that may follow, `None` for none.

    Raises:
        RunStateError, StepNotResumableError, DefinitionChangedError: The run cannot be resumed so.
    """
    if dag.definition_id == old.definition_id:
        return kept_by_resume(old, run, from_step)
    from aiorch.definition.changes import kept_by_resume_with  # noqa: PLC0415  slow to import, and rarely needed

    return kept_by_resume_with(dag, old, run, from_step)


def resume_version(dag: DAG, old: DAG, from_step: str | None) -> int:
    """Return the schema version of the start command of a resume: versions before it would keep other entries."""
    is_plain = from_step is None and dag.definition_id == old.definition_id
    return dag.schema_version if is_plain else max(dag.schema_version, _VERSION)
