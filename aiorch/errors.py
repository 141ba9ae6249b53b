"""
The exceptions that aiorch raises on purpose: one type per distinct reaction of the caller.

    AiorchError
    ├── DefinitionError          correct the DAG definition; lists every problem
    ├── InvalidIdError           choose a valid run id or execution id
    ├── UnknownDAGError          name a DAG that this process serves
    ├── MalformedEventError      park the message, acknowledge it, find its sender
    ├── InvalidInputError        correct the input of the run; lists every problem
    ├── InvalidSettingError      correct the setting
    ├── MissingExtraError        install the extra that brings the library
    ├── StoreUrlError            use one of the known URL forms
    ├── UnresolvedFunctionError  make the callables importable, register them, or use a process that has the target
    ├── RunConflictError         a run with a different definition or input has this id: choose a new id
    ├── RunNotFoundError         no such run
    ├── RunStateError            the status of the run does not allow the call
    ├── StepNotResumableError    name one of the steps with which a resumed run may begin
    ├── DefinitionChangedError   restore the steps whose results are kept, or resume from an earlier step
    ├── RunTooLargeError         split the DAG or shorten its input
    ├── NoResultError            the task, or the run, has ended without a result: read the reason
    │   ├── TaskNotFoundError    no task has this name: correct the name
    │   └── ResultPendingError   there is no result yet: wait
    ├── OrchestratorClosedError  use an open orchestrator or client
    │   └── OrchestratorLeftError  attach to the run with an open orchestrator
    ├── DocumentError            a stored document is not one that aiorch wrote: inspect the document
    │   ├── DefinitionGoneError  the definition of a run is no longer in the store: restore the definition
    │   ├── ResultUnreadableError  a result outside its run's document cannot be read: restore the object
    │   └── NewerSchemaError     a newer aiorch wrote it: upgrade this process; nack, because a replica may be newer
    └── StoreError               the store refused permanently: read the message
        ├── GenerationConflict   a different process wrote: read again, decide again
        ├── StoreThrottled       too many writes to this object, not applied: wait, then try again
        └── StoreUnavailable     may have been applied or not: read again, decide again
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class AiorchError(Exception):
    """Base of all exceptions that aiorch raises on purpose."""


def in_words(error: BaseException) -> str:
    """Return the type and the message of *error*, ``OSError: disk full``; only the type without a message."""
    words = words_of(error)
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def words_of(error: BaseException) -> str:
    """Return the message of *error*; the `__str__` of an exception of a user may itself raise."""
    try:
        return str(error).strip()
    except Exception as broken:  # noqa: BLE001  its __str__ is code of the user
        return f"its message cannot be shown, because __str__ raised {type(broken).__name__}"


class Problem(NamedTuple):
    """One mistake in a DAG definition."""

    path: str
    """Path in the definition, e.g. ``steps.Step2.branches[1].steps.X.next``; ``""`` is the whole definition."""

    message: str
    """The mistake, with a hint if there is one."""

    line: int | None = None
    """Line in the source text, from 1; ``None`` without a text."""

    column: int | None = None
    """Column in the source text, from 1."""

    def __str__(self) -> str:
        where = f"line {self.line}, column {self.column}: " if self.line is not None else ""
        return f"{where}{self.path}: {self.message}" if self.path else f"{where}{self.message}"


STEPS_SHOWN = 20
"""Steps in the text of a `StepNotResumableError`; the rest is counted."""

PROBLEMS_SHOWN = 50
"""Problems in the text of a `DefinitionError`; the rest is counted."""


class DefinitionError(AiorchError):
    """The DAG definition cannot be built, so no run was started. Correct every entry of `problems`."""

    def __init__(
        self,
        problems: Sequence[Problem],
        *,
        source: str = "DAG definition",
        undone: str = "no run was started",
        listed_by: str = "aiorch validate --json",
    ) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        self.source = source
        count = counted(len(self.problems), "problem")
        lines = [f"\n  - {problem}" for problem in self.problems[:PROBLEMS_SHOWN]]
        if left := len(self.problems) - len(lines):
            lines.append(f"\n  … and {counted(left, 'more problem')}; `{listed_by}` lists all of them")
        super().__init__(f"{source} is not valid ({count}), so {undone}:{''.join(lines)}")


class InvalidSettingError(AiorchError, ValueError):
    """A setting has a wrong value, so the settings, or the orchestrator with them, were not made."""

    def __init__(self, setting: str, value: object, rule: str, *, undone: str = "these settings were not made") -> None:
        self.setting: str = setting
        self.value: object = value
        self.rule: str = rule
        """The rule that the value breaks, as the end of the sentence "The setting …"."""
        super().__init__(f"{setting} {rule}, so {undone}. Correct the setting, or leave it out for its default.")


class InvalidIdError(AiorchError, ValueError):
    """A run id or execution id cannot become part of an object name."""

    def __init__(self, kind: str, value: object) -> None:
        self.kind: str = kind
        self.value: object = value
        if isinstance(value, str):
            shown = ascii(value[:64]) + ("…" if len(value) > 64 else "")
        else:
            shown = f"{ascii(value)[:64]}, which is no text but of type {type(value).__name__},"
        super().__init__(
            f"{kind} {shown} is refused, so no object with this name was read or written: use 1 to 128 of the "
            f"characters A-Z a-z 0-9 . _ -, not beginning with a dot."
        )


class MalformedEventError(AiorchError, ValueError):
    """A message has the form of an event of aiorch and cannot be read as one."""

    def __init__(self, what: str, reason: str) -> None:
        self.what: str = what
        self.reason: str = reason
        super().__init__(
            f"{what} is malformed: {reason}. It was applied to no run, and a repetition does not help: find the "
            f"publisher that sends it to the topic."
        )


class UnknownDAGError(AiorchError, LookupError):
    """A start names no DAG that this process serves, so no run was started."""

    def __init__(self, name: str | None, served: Iterable[str]) -> None:
        self.name = name
        listed = ", ".join(sorted(served)) or "none"
        asked = (
            f"this process does not serve a DAG {name!r}" if name else "a start message must name one of several DAGs"
        )
        super().__init__(f"{asked}, so no run was started; served: {listed}")


class InputProblem(NamedTuple):
    """One mistake in the input of a run."""

    name: str
    """Name of the input; ``""`` is the input as a whole."""

    path: str
    """Place in the input, e.g. ``orders[3].id``; ``""`` is the input as a whole."""

    message: str
    """The mistake: the given value, and the allowed ones."""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else f"it {self.message}"


class InvalidInputError(AiorchError, ValueError):
    """The input is not JSON, or not as the definition declares it, so no run was started. Correct all `problems`."""

    def __init__(self, problems: Sequence[InputProblem], *, dag: str | None = None) -> None:
        self.problems: tuple[InputProblem, ...] = tuple(problems)
        self.dag: str | None = dag
        whose = "the input" if dag is None else f"the input for DAG {dag!r}"
        lines = [f"\n  - {problem}" for problem in self.problems[:PROBLEMS_SHOWN]]
        if left := len(self.problems) - len(lines):
            lines.append(f"\n  … and {counted(left, 'more problem')}; the attribute `problems` has all of them")
        paths = dict.fromkeys(problem.path or "the input as a whole" for problem in self.problems[:PROBLEMS_SHOWN])
        self.without_values: str = f"{whose} is not valid, so no run was started: {', '.join(paths)}"
        """The message for logs: the places of the problems, and no value of the input."""
        count = counted(len(self.problems), "problem")
        super().__init__(f"{whose} is not valid ({count}), so no run was started:{''.join(lines)}")


class MissingExtraError(AiorchError, ImportError):
    """A library is missing that only an extra of this package installs."""

    def __init__(self, extra: str, library: str) -> None:
        self.extra: str = extra
        self.library: str = library
        super().__init__(
            f"the library {library!r} is not installed, so no store was opened and no request sent. Cloud Storage, "
            f"Pub/Sub, ID tokens and Dataflow need the extra {extra!r}: run pip install '.[{extra}]' in a clone of "
            f"aiorch."
        )


class StoreUrlError(AiorchError, ValueError):
    """No kind of store has such a URL."""

    def __init__(self, url: str, hint: str = "") -> None:
        self.url = url
        reason = f" ({hint})" if hint else ""
        shown = re.sub("//.*@", "//…@", url, flags=re.DOTALL)  # without a password
        super().__init__(
            f"{shown!r} names no store{reason}, so no store was opened; use sqlite:///relative/path.db, "
            f"sqlite:////absolute/path.db, gs://bucket, gs://bucket/prefix or memory:"
        )


class UnresolvedFunctionError(AiorchError):
    """Tasks that this process cannot launch, for want of their callables or targets."""

    def __init__(
        self,
        missing: Sequence[tuple[str, str, str]],
        *,
        lacks_callable: bool,
        problems: Sequence[Problem] = (),
        undone: str = "no run was started",
    ) -> None:
        self.missing: tuple[tuple[str, str, str], ...] = tuple(missing)
        """Tuples of node name, callable name and reason."""
        self.lacks_callable: bool = lacks_callable
        """Whether a callable is missing, rather than a target or a setting."""
        self.problems: tuple[Problem, ...] = tuple(problems)
        """The same, with the places of the steps in the definition."""
        lines = "".join(f"\n  - step {node!r}: {name!r}: {reason}" for node, name, reason in self.missing)
        looked_up = (
            "\nCallables are looked up as 'module:name' among those registered with the orchestrator, in the folder "
            "of the definition file, in the folders of --path, on the import path, and for `run`, `validate` and "
            "served definitions in the current folder."
        )
        super().__init__(
            f"{counted(len(self.missing), 'task')} cannot be launched, so {undone}:{lines}"
            f"{looked_up if lacks_callable else ''}"
        )


class SecretError(AiorchError):
    """A secret cannot be read at present, so the task that needs the secret was not launched yet."""


class RunConflictError(AiorchError):
    """A run with this id exists already and differs from the requested one."""

    def __init__(self, run_id: str, difference: str, *, resumed_from: str | None = None) -> None:
        self.run_id: str = run_id
        self.difference: str = difference
        move = f"Choose a new run id, or start it with the same {difference}"
        if resumed_from is not None:
            move = f"Resume {run_id!r} when it has ended, or resume {resumed_from!r} with the same {difference}"
        super().__init__(
            f"run {run_id!r} exists with a different {difference}, so no run was started. {move} to get the existing "
            f"run."
        )


class RunNotFoundError(AiorchError, LookupError):
    """The store has no run with this id."""

    def __init__(self, run_id: str, store: str) -> None:
        import shlex  # noqa: PLC0415  only this message needs it

        self.run_id = run_id
        listed_by = "`runs()`" if store == "memory:" else f"`aiorch runs --store {shlex.quote(store)}`"
        super().__init__(f"there is no run {run_id!r} in {store}; {listed_by} lists its runs.")


class RunStateError(AiorchError):
    """The status of the run does not allow the call."""


class StepNotResumableError(AiorchError):
    """No resumed run can begin with this step, so no run was started."""

    def __init__(self, run_id: str, step: str, reason: str, possible: Sequence[str]) -> None:
        self.run_id: str = run_id
        self.step: str = step
        self.possible: tuple[str, ...] = tuple(possible)
        """The steps with which a resumed run may begin."""
        named = ", ".join(map(repr, self.possible[:STEPS_SHOWN])) or "none"
        if (left := len(self.possible) - STEPS_SHOWN) > 0:
            named += f" and {left:,} more"
        super().__init__(
            f"run {run_id!r} cannot be resumed from step {step!r}: {reason}. No run was started. A resumed run may "
            f"begin with: {named}."
        )


class Difference(NamedTuple):
    """A difference between two definitions that keeps a resumed run from taking over the result of a step."""

    step: str
    """The step whose result would be kept; empty for the first level of the definition."""

    key: str
    """The key of the step; ``step`` for the step as a whole, ``place`` for the path of its level."""

    old: str
    """The value in the definition of the earlier run, as JSON; ``none`` where there is none."""

    new: str

    def __str__(self) -> str:
        where = f"step {self.step!r}" if self.step else "the definition"
        return f"{where}: {self.key!r} was {self.old}, and is {self.new}"


class StepMissingError(AiorchError, ValueError):
    """A resume got a new input, and no step to run anew."""

    def __init__(self, run_id: str) -> None:
        self.run_id: str = run_id
        super().__init__(
            f"the resume of run {run_id!r} got a new input and no step, so no run was started: results that are kept "
            f"come from the old input. Name the step to run anew (`--from STEP`), or start a new run."
        )


class DefinitionChangedError(AiorchError):
    """A resume keeps results of steps that the given definition changes, so no run was started."""

    def __init__(self, run_id: str, source: str, differences: Sequence[Difference]) -> None:
        self.run_id: str = run_id
        self.differences: tuple[Difference, ...] = tuple(differences)
        lines = [f"\n  - {each}" for each in self.differences[:PROBLEMS_SHOWN]]
        if left := len(self.differences) - len(lines):
            lines.append(f"\n  … and {counted(left, 'more difference')}")
        super().__init__(
            f"run {run_id!r} cannot be resumed with this definition of DAG {source!r}, which changes steps whose "
            f"results are kept, so no run was started:{''.join(lines)}\nRestore these steps, or resume from the first "
            f"of them, so that it runs anew (`--from STEP`)."
        )


class RunTooLargeError(AiorchError):
    """The document of the run could outgrow the limit of one object."""


class NoResultError(AiorchError, KeyError):
    """A task or a run has no result that is visible here. A `KeyError`, because `Results` is a mapping."""

    def __str__(self) -> str:
        """Return the message. A `KeyError` would show it in quotes."""
        return Exception.__str__(self)


class TaskNotFoundError(NoResultError):
    """No task of the DAG has this name, so there is no result."""


class ResultPendingError(NoResultError):
    """The task or the run has not ended, so there is no result yet."""


class OrchestratorClosedError(AiorchError):
    """The orchestrator or client is not open, so it did nothing."""


class OrchestratorLeftError(OrchestratorClosedError):
    """The orchestrator was closed before a request or a wait had ended."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(
            f"the orchestrator was closed before the wait for run {run_id!r} had ended; the last request for the run "
            f"may not have been committed. The next process continues the run: attach to the run there."
        )


class DocumentError(AiorchError):
    """A stored document has content that aiorch never writes; it is not changed."""


class DefinitionGoneError(DocumentError):
    """The definition of a run is not in the store, so the run cannot continue."""


class ResultUnreadableError(DocumentError):
    """A result that a run document keeps elsewhere is not there, or not readable; the run cannot go on without it."""


class NewerSchemaError(DocumentError):
    """A newer version of aiorch wrote this document."""


class StoreError(AiorchError):
    """The store refused permanently: a repetition does not help."""


class GenerationConflict(StoreError):  # noqa: N818  a normal answer, named as the field names it
    """The object has a different generation than the caller knows."""


class StoreThrottled(StoreError):  # noqa: N818
    """Too many writes to this object; this one was not applied."""


class StoreUnavailable(StoreError):  # noqa: N818
    """No usable answer came: the write may have been applied or not."""


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return *count* and its noun: ``1 task``, ``2 tasks``, ``1,000 branches`` (with a given *plural*)."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
