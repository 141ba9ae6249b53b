"""The records of cases: what targets answer, what is expected, and what happened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import msgspec
from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from aiorch.client import Definition
from aiorch.errors import AiorchError, Problem
from aiorch.model.failure import Failure
from aiorch.model.run_document import NodeState, is_json
from aiorch.model.status import RunStatus, TaskStatus
from aiorch.steps import Delay, Given, Model, Text, needs_one_of
from aiorch.testing.time import START

ENDS_OF_RUNS: list[str] = [status.value for status in RunStatus if status.is_terminal]
ENDS_OF_STEPS: list[str] = [status.value for status in TaskStatus if status.is_terminal]
"""The statuses in which runs and steps may end."""

NO_ANSWERS = frozenset({"Cancelled", "Interrupted"})
"""Types of failures that no target answers with: aiorch itself gives them to attempts."""


class Answer(Model):
    """The answer to one call of a step. It has one of `result`, `error` and `call`."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        json_schema_extra={"anyOf": needs_one_of("result", "error", "call")}
    )

    result: Any = Field(default=None, description="The result, any JSON.")
    error: Given[Text] = Field(
        default=None,
        description="Type of the failure. `Lost`: no answer comes, and `on_lost` of the step decides.",
        examples=["Timeout"],
    )
    message: Given[str] = Field(default=None, description="Message of the failure.")
    call: bool = Field(default=False, description="Call the function of the step; only for Function tasks.")
    after: Delay = Field(default=0.0, description="Seconds of the run between the call and the answer.", examples=[30])

    @model_validator(mode="after")
    def _has_one_answer(self) -> Self:
        given = self.model_fields_set & {"result", "error", *(["call"] if self.call else ())}
        if len(given) != 1:
            has = " and ".join(f"`{name}`" for name in sorted(given))
            found = f"this answer has {has}" if given else "this answer is empty"
            raise ValueError(f"{found}; give one of `result`, `error` and `call`, e.g. {{result: null}}")
        if self.message is not None and self.error is None:
            raise ValueError("`message` is the message of an `error`, and this answer has none")
        if self.error in NO_ANSWERS:
            raise ValueError(
                f"no target answers with the failure {self.error!r}; to cancel the run, give the case `cancel_after`"
            )
        try:
            is_kept = is_json(msgspec.json.encode(self.result))
        except (TypeError, ValueError, OverflowError, RecursionError):
            is_kept = False
        if not is_kept:
            raise ValueError("`result` is not JSON: use numbers, texts, lists and mappings of such")
        return self


def _is_list(value: Any) -> str:
    return "a list" if isinstance(value, list) else "one"


def _is_mapping(value: Any) -> str:
    return "a mapping" if isinstance(value, Mapping | Model) else "a text"


def _is_number(value: Any) -> str:
    return "a number" if isinstance(value, int | float) else "a list"


OneOrMoreAnswers = Annotated[
    Annotated[Answer, Tag("one")] | Annotated[list[Answer], Tag("a list")],
    Discriminator(_is_list),
]


class ExpectedFailure(Model):
    """The expected failure of a run or of a step."""

    type: Given[Text] = Field(default=None, description="Type of the failure.", examples=["Timeout"])
    message: Given[str] = Field(default=None, description="Part of the message.")


TypeOrFailure = Annotated[
    Annotated[str, Tag("a text")] | Annotated[ExpectedFailure, Tag("a mapping")],
    Discriminator(_is_mapping),
]


class ExpectedStep(Model):
    """The expected end of a step."""

    status: Given[str] = Field(
        default=None,
        description="Status of the step.",
        examples=["Skipped"],
        json_schema_extra={"enum": [*ENDS_OF_STEPS]},
    )
    result: Any = Field(default=None, description="Result of the step.")
    error: Given[TypeOrFailure] = Field(
        default=None, description="Type of the failure of the step, or type and message."
    )


StatusOrStep = Annotated[
    Annotated[str, Tag("a text"), Field(json_schema_extra={"enum": [*ENDS_OF_STEPS]})]
    | Annotated[ExpectedStep, Tag("a mapping")],
    Discriminator(_is_mapping),
]


class ExpectedCall(Model):
    """One expected call of a step."""

    parameters: Any = Field(default=None, description="The parameters that the target gets.")


CountOrCalls = Annotated[
    Annotated[int, Tag("a number"), Field(ge=0)] | Annotated[list[ExpectedCall], Tag("a list")],
    Discriminator(_is_number),
]


class Expectation(Model):
    """The expected outcome of a case; parts that are left out are not compared."""

    status: Given[str] = Field(
        default=None,
        description="Status of the run: `Completed` by default, or `Failed` with an `error`.",
        examples=["Failed"],
        json_schema_extra={"enum": [*ENDS_OF_RUNS]},
    )
    output: Any = Field(default=None, description="Result of the run.")
    error: Given[TypeOrFailure] = Field(
        default=None, description="Type of the failure of the run, or type and message."
    )
    steps: dict[str, StatusOrStep] = Field(
        default_factory=dict, description="Statuses, results and failures of steps.", examples=[{"Ship": "Skipped"}]
    )
    way: Given[list[str]] = Field(
        default=None, description="All steps that began, in the order in which they began.", examples=[["Pack", "Ship"]]
    )
    calls: dict[str, CountOrCalls] = Field(
        default_factory=dict,
        description="By step, the number of calls, or a list of the calls.",
        examples=[{"Ship": 2}],
    )

    @property
    def status_of_run(self) -> str:
        """The expected status of the run."""
        return self.status or (RunStatus.COMPLETED if self.error is None else RunStatus.FAILED)


@dataclass(frozen=True)
class Case:
    """
    One run of a definition, with the answers that its targets give.

    ::

        Case("parcels.yaml", input=3, answers={"Pack": Answer(result=[1, 2]), "Ship": Answer(error="Timeout")})
    """

    definition: Definition
    """A DAG, a definition as a mapping, or the path of a definition file."""

    name: str = field(default="case", kw_only=True)

    input: Any = field(default=None, kw_only=True)
    """The input of the run, any JSON."""

    answers: Mapping[str, Answer | Sequence[Answer]] = field(default_factory=dict, kw_only=True)
    """
    Answers by step. The answers of a list are those of the first call, the second call, and so on; a single answer is
    that of every call. ``"*"`` stands for all steps without answers of their own.
    """

    secrets: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    """Values of the secrets that the definition declares; each other secret has the value ``value of NAME``."""

    expect: Expectation | None = field(default=None, kw_only=True)
    """The expected outcome; `None`: any."""

    started_at: datetime = field(default=START, kw_only=True)
    """Time of day at the start of the run, aware."""

    cancel_after: float | None = field(default=None, kw_only=True)
    """Seconds of the run after which it is cancelled; `None`: never."""

    folder: Path | None = field(default=None, kw_only=True)
    """Folder in which modules of functions are looked up; `None`: that of the definition file."""

    place: str = field(default="", kw_only=True)
    """File and line of the case, ``parcels.cases.yaml:4``; empty for a case of a program."""

    def __post_init__(self) -> None:
        """Check the types that would only be missed in the middle of the run. Raises: TypeError, ValueError."""
        for name, given in self.answers.items():
            answers = given if isinstance(given, (list, tuple)) else [given]
            if wrong := [each for each in answers if not isinstance(each, Answer)]:
                kind = type(wrong[0]).__name__
                raise TypeError(
                    f"answers[{name!r}] has a {kind} and must be an Answer or a list of them; no case was made."
                )
        if self.started_at.tzinfo is None:
            raise ValueError(f"started_at is {self.started_at} and must have a time zone; no case was made.")

    def __str__(self) -> str:
        """Return the name, for reports."""
        return self.name


@dataclass(frozen=True, kw_only=True)
class TargetCall:
    """One call of a target, instead of which a case gave an answer."""

    entry: str
    """The step; inside a repeated level with the number of the round or the item: ``Poll[3].Check``."""

    attempt: int
    """Number of the attempt, from 1."""

    parameters: dict[str, Any]
    """The parameters that the target got."""

    at_s: float
    """Seconds between the start of the run and the call."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of a case."""

    status: RunStatus
    """Status of the run."""

    output: Any
    """The result of the run, `None` for a run that did not complete."""

    error: Failure | None
    """The failure of the run, `None` if it has not failed."""

    began: Mapping[str, float]
    """All steps that began, in the order in which they began, each with the seconds since the start of the run."""

    steps: Mapping[str, NodeState]
    """The last state of every entry of the run."""

    results: Mapping[str, Any]
    """Results of the completed steps by name, those of the entries of `steps`."""

    calls: Mapping[str, tuple[TargetCall, ...]]
    """The calls of every task, in order, by name of the step."""

    seconds: float
    """Seconds that passed in the run."""

    @property
    def way(self) -> tuple[str, ...]:
        """The names of all steps that began, in the order in which they began."""
        return tuple(self.began)


class CaseFailedError(AiorchError, AssertionError):
    """The outcome of a case is not the expected one, or there was none."""

    def __init__(self, case: Case, problems: Sequence[Problem], outcome: Outcome, lines: Sequence[str]) -> None:
        self.case: Case = case
        self.problems: tuple[Problem, ...] = tuple(problems)
        """The differences: where, and what was expected and found there."""

        self.outcome: Outcome = outcome
        """The outcome; of a run that could not go on, its last state."""

        self.lines: tuple[str, ...] = tuple(lines)
        """The differences and the way of the run, as lines of text."""

        place = f" ({case.place})" if case.place else ""
        super().__init__("\n".join([f"case {case.name!r}{place} failed:", *self.lines]))
