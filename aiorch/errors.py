"""
Every exception that aiorch raises on purpose. One type per distinct reaction of the caller.

    AiorchError
    ├── DefinitionError          fix the DAG definition; lists every problem
    ├── InvalidIdError           choose another run id or execution id
    ├── UnknownDAGError          name a DAG that is served here
    ├── MalformedEventError      park the message, acknowledge it, look at who sent it
    ├── InvalidInputError        give the run an input that is JSON
    ├── InvalidSettingError      correct the setting
    ├── MissingExtraError        install the extra that brings the library
    ├── StoreUrlError            name a store by one of the known URL forms
    ├── UnresolvedFunctionError  make the callables importable, or register them, or run it where the target is
    ├── RunConflictError         the run id is taken by another definition or input: choose another
    ├── RunNotFoundError         no such run
    ├── RunStateError            the run is not in a status that allows this
    ├── RunTooLargeError         split the DAG or shorten its input
    ├── NoResultError            the task, or the run, has ended without a result: see why
    │   ├── TaskNotFoundError    no task has this name: correct it
    │   └── ResultPendingError   there is no result yet: wait for it
    ├── OrchestratorLeftError    attach to the run with an orchestrator that is open
    ├── DocumentError            a stored document is not what this code wrote: look at it
    │   ├── DefinitionGoneError  the definition of a run is not in the store any more: restore it
    │   └── NewerSchemaError     a newer aiorch wrote it: upgrade this process; nack, another replica may read it
    └── StoreError               the store said no, for good: see the message
        ├── GenerationConflict   somebody else wrote: read again, decide again
        ├── StoreThrottled       too often for this object, not applied: wait, then the same again
        └── StoreUnavailable     unknown whether it was applied: read again, decide again
"""

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class AiorchError(Exception):
    """Base of everything that aiorch raises on purpose."""


def in_words(error: BaseException) -> str:
    """Return the type and the words of *error*, ``OSError: disk full``; the type alone where *error* has no words."""
    words = words_of(error)
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def words_of(error: BaseException) -> str:
    """Return what *error* says; an exception of a user may fail at that, and still has to be told."""
    try:
        return str(error).strip()
    except Exception as broken:  # noqa: BLE001  its __str__ is code of the user
        return f"it cannot be shown, since its text raised {type(broken).__name__}"


class Problem(NamedTuple):
    """One thing that is wrong with a DAG definition."""

    path: str
    """Where in the definition, e.g. ``steps.Step2.branches[1].steps.X.next``; ``""`` is the whole of it."""

    message: str
    """What is wrong, with a hint where there is one."""

    line: int | None = None
    """Line in the source text, from 1; ``None`` when it did not come from text."""

    column: int | None = None
    """Column in the source text, from 1."""

    def __str__(self) -> str:
        where = f"line {self.line}, column {self.column}: " if self.line is not None else ""
        return f"{where}{self.path}: {self.message}" if self.path else f"{where}{self.message}"


PROBLEMS_SHOWN = 50
"""Problems in the text of a `DefinitionError`; the others are counted."""


class DefinitionError(AiorchError):
    """The DAG definition cannot be built. Nothing was started. Fix every entry of `problems`."""

    def __init__(self, problems: Sequence[Problem], *, source: str = "DAG definition") -> None:
        self.problems = tuple(problems)
        self.source = source
        count = counted(len(self.problems), "problem")
        lines = [f"\n  - {problem}" for problem in self.problems[:PROBLEMS_SHOWN]]
        if left := len(self.problems) - len(lines):
            lines.append(f"\n  … and {counted(left, 'more problem')}; `aiorch validate --json` lists all of them")
        super().__init__(f"{source} is not valid ({count}), so nothing was started:{''.join(lines)}")


class InvalidSettingError(AiorchError, ValueError):
    """A setting is out of its range. Nothing was opened."""

    def __init__(self, setting: str, value: object, least: float) -> None:
        self.setting, self.value, self.least = setting, value, least
        super().__init__(
            f"{setting} is {value!r} and must be a number of at least {least:g}, so nothing was opened. Correct it, or "
            f"leave it out for its default."
        )


class InvalidIdError(AiorchError, ValueError):
    """A run id or execution id cannot become part of an object name."""

    def __init__(self, kind: str, value: object) -> None:
        self.kind, self.value = kind, value
        if isinstance(value, str):
            shown = ascii(value[:64]) + ("…" if len(value) > 64 else "")
        else:
            shown = f"{ascii(value)[:64]}, which is no text but of type {type(value).__name__},"
        super().__init__(
            f"{kind} {shown} is refused, and nothing was read or written under it: use 1 to 128 of the "
            f"characters A-Z a-z 0-9 . _ -, not beginning with a dot."
        )


class MalformedEventError(AiorchError, ValueError):
    """A message looks like an event of ours and cannot be read as one."""

    def __init__(self, what: str, reason: str) -> None:
        self.what, self.reason = what, reason
        super().__init__(
            f"{what} is malformed: {reason}. It was applied to no run, and repeating it changes nothing: "
            f"look at who publishes to the topic."
        )


class UnknownDAGError(AiorchError, LookupError):
    """A start names no DAG that is served here. No run was started."""

    def __init__(self, name: str | None, served: Iterable[str]) -> None:
        self.name = name
        listed = ", ".join(sorted(served)) or "none"
        asked = f"DAG {name!r} is not served here" if name else "a start message must name one of several DAGs"
        super().__init__(f"{asked}, so no run was started; served: {listed}")


class InvalidInputError(AiorchError, ValueError):
    """The input of a run cannot be stored."""


class MissingExtraError(AiorchError, ImportError):
    """A library is missing that only an extra of this package brings. Nothing was opened or sent."""

    def __init__(self, extra: str, library: str) -> None:
        self.extra, self.library = extra, library
        super().__init__(
            f"the library {library!r} is not installed, so nothing was opened or sent. Cloud Storage, Pub/Sub, ID "
            f"tokens and Dataflow need the extra {extra!r}: run pip install '.[{extra}]' in a clone of aiorch."
        )


class StoreUrlError(AiorchError, ValueError):
    """No store has such a URL."""

    def __init__(self, url: str, hint: str = "") -> None:
        self.url = url
        reason = f" ({hint})" if hint else ""
        shown = re.sub("//.*@", "//…@", url, flags=re.DOTALL)  # without a password
        super().__init__(
            f"{shown!r} names no store{reason}, so nothing was opened; use sqlite:///relative/path.db, "
            f"sqlite:////absolute/path.db, gs://bucket, gs://bucket/prefix or memory:"
        )


class UnresolvedFunctionError(AiorchError):
    """Tasks that this process cannot launch: it does not find their callables, or has no target for them."""

    def __init__(self, missing: Sequence[tuple[str, str, str]], *, lacks_callable: bool) -> None:
        self.missing = tuple(missing)
        """(node name, callable name, reason) each."""
        lines = "".join(f"\n  - step {node!r}: {name!r}: {reason}" for node, name, reason in self.missing)
        looked_up = (
            "\nCallables are looked up as 'module:name' among those registered with the orchestrator, beside the "
            "definition file, in the folders of --path, on the import path, and for `run`, `validate` and served "
            "definitions in the current folder."
        )
        super().__init__(
            f"{counted(len(self.missing), 'task')} cannot be launched, so nothing was started:{lines}"
            f"{looked_up if lacks_callable else ''}"
        )


class RunConflictError(AiorchError):
    """A run of this id exists already and is another one."""

    def __init__(self, run_id: str, difference: str) -> None:
        self.run_id, self.difference = run_id, difference
        super().__init__(
            f"run {run_id!r} exists with another {difference}, so nothing was started. Choose another run id, "
            f"or start it with the same {difference} to get the existing run."
        )


class RunNotFoundError(AiorchError, LookupError):
    """There is no run of this id in the store."""

    def __init__(self, run_id: str, store: str) -> None:
        self.run_id = run_id
        super().__init__(
            f"there is no run {run_id!r} in {store}; `aiorch runs --store {shlex.quote(store)}` lists those that exist."
        )


class RunStateError(AiorchError):
    """The run's status does not allow what was asked."""


class RunTooLargeError(AiorchError):
    """The run's document could outgrow what one object may hold."""


class NoResultError(AiorchError, KeyError):
    """A task or a run has no result, or none that may be seen here. A `KeyError`, since `Results` is a mapping."""

    __str__ = Exception.__str__  # that of KeyError shows a text in quotes


class TaskNotFoundError(NoResultError):
    """No task of the DAG has this name, so there is no result of it."""


class ResultPendingError(NoResultError):
    """The task, or the run, has not ended, so there is no result of it yet."""


class OrchestratorLeftError(AiorchError):
    """The orchestrator was left before what was asked of it, or waited for, had happened."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(
            f"the orchestrator was left before run {run_id!r} came to what was waited for here; what was asked of it "
            f"last may not have been recorded. The run goes on in whichever process comes next: attach to it there."
        )


class DocumentError(AiorchError):
    """A stored document holds something that this code never writes; it is left as it is."""


class DefinitionGoneError(DocumentError):
    """The definition of a run is not in the store, so the run cannot go on."""


class NewerSchemaError(DocumentError):
    """A newer version of aiorch wrote this."""


class StoreError(AiorchError):
    """The store refused for a reason that repeating does not mend."""


class GenerationConflict(StoreError):  # noqa: N818  a normal answer, named as the field names it
    """The object is not at the generation that the caller knows."""


class StoreThrottled(StoreError):  # noqa: N818
    """Too many writes to this object for now; this one was not applied."""


class StoreUnavailable(StoreError):  # noqa: N818
    """No usable answer came: whether it was applied is unknown."""


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return *count* and its noun: ``1 task``, ``2 tasks``, ``1,000 branches`` (whose *plural* is given)."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
