"""Files of cases: every mistake of a file at once, with line and column, and the JSON Schema of these files."""

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from aiorch.definition.build import DAGBuilder
from aiorch.definition.check import Check
from aiorch.definition.files import definition_files
from aiorch.definition.models import WithoutNull
from aiorch.definition.plain import PlainDefinition
from aiorch.definition.source import LoadedDefinition, load_definition
from aiorch.errors import DefinitionError
from aiorch.model.dag import DAG
from aiorch.model.findings import Finding, Hints, shown
from aiorch.steps import Delay, Given, Model, Text
from aiorch.testing.cases.names import Names
from aiorch.testing.cases.records import Case, Expectation, OneOrMoreAnswers
from aiorch.testing.time import START


class CaseInFile(Model):
    """One run of the definition, with the answers that its targets give, and the expected outcome."""

    name: Text = Field(description="The name of the case, unique in the file.")
    comment: Given[str] = Field(None, description="A note for readers.")
    input: Any = Field(None, description="The input of the run, any JSON.")
    started_at: str = Field(
        START.isoformat(),
        description="Time of day at the start of the run, with a time zone.",
        examples=["2026-11-23T08:00:00Z"],
    )
    cancel_after: Given[Delay] = Field(
        None, description="Seconds of the run after which it is cancelled.", examples=[60]
    )
    answers: dict[str, OneOrMoreAnswers] = Field(
        default_factory=dict,
        description="Answers by step, one or a list for one call after the other. `*` stands for all other steps.",
        examples=[{"Load": {"result": [1, 2]}}],
    )
    secrets: dict[str, str] = Field(
        default_factory=dict,
        description="Values of declared secrets; the value of each other secret is `value of NAME`.",
        examples=[{"api_key": "k-123"}],
    )
    expect: Given[Expectation] = Field(
        None,
        description="The expected outcome; by default, that the run completes.",
        examples=[{"status": "Failed"}],
    )

    @field_validator("started_at")
    @classmethod
    def _is_aware(cls, text: str) -> str:
        try:
            is_aware = datetime.fromisoformat(text).tzinfo is not None
        except ValueError:
            is_aware = False
        if not is_aware:
            raise ValueError(f"must be a time with a time zone, not {text!r}")
        return text


class CasesFile(Model):
    """Cases: runs of one definition with scripted answers, and their expected outcomes."""

    definition: str = Field(
        description="The definition file, relative to the folder of this file.", examples=["orders.yaml"]
    )
    cases: Annotated[list[CaseInFile], Field(min_length=1)] = Field(description="The cases.")
    answers: dict[str, OneOrMoreAnswers] = Field(
        default_factory=dict, description="Answers of all cases that have no answers of their own for the same step."
    )
    comment: Given[str] = Field(None, description="A note for readers.")
    json_schema: Given[str] = Field(None, alias="$schema", description="Path of this schema, for editors.")


def cases_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a file of cases."""
    schema = CasesFile.model_json_schema(schema_generator=WithoutNull)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "aiorch cases"}


def load_cases(file: str | os.PathLike[str]) -> list[Case]:
    """
    Read the cases of a file.

    Args:
        file: Path of a ``.yaml``, ``.yml`` or ``.json`` file.

    Raises:
        DefinitionError: The file cannot be read, or has mistakes: all of them, with line and column.
    """
    path = Path(file)
    try:
        return _cases(load_definition(path, holds="a file of cases has `definition` and `cases`"), path)
    except DefinitionError as error:
        raise DefinitionError(
            error.problems, source=error.source, undone="no case was run", listed_by="aiorch test --json"
        ) from error


def _cases(loaded: LoadedDefinition, path: Path) -> list[Case]:
    plain = PlainDefinition(loaded)
    data = plain.data
    if not isinstance(data, dict):
        message = f"must be a mapping with `definition` and `cases`, not {shown(data)}"
        raise loaded.error([Finding((), message, at_value=True)])
    if "steps" in data and not data.keys() & {"definition", "cases"}:
        message = f"this is a definition, not a file of cases, which names it by `definition: {path.name}`"
        raise loaded.error([Finding((), message, at_value=True)])
    check = Check(finding.key for finding in plain.findings)
    model = check.validate((), data, CasesFile)
    findings = [*loaded.text_findings(), *plain.findings, *check.findings, *_repeated_names(data.get("cases"))]
    dag: DAG | None = None
    if isinstance(data.get("definition"), str):
        dag, found = _dag(path.parent / data["definition"])
        findings += found
    if dag is not None:
        findings += _wrong_names(Names(dag), data)
    if findings:
        raise loaded.error(findings)
    assert model is not None
    assert dag is not None
    folder = (path.parent / model.definition).resolve().parent
    return [
        Case(
            dag,
            name=case.name,
            input=case.input,
            answers={**model.answers, **case.answers},
            secrets=case.secrets,
            expect=case.expect or Expectation(),
            started_at=datetime.fromisoformat(case.started_at),
            cancel_after=case.cancel_after,
            folder=folder,
            place=_place(loaded, index),
        )
        for index, case in enumerate(model.cases)
    ]


def _place(loaded: LoadedDefinition, index: int) -> str:
    position = loaded.position(("cases", index), at_value=True)
    return f"{loaded.source}:{position.line}" if position is not None else loaded.source


def _repeated_names(cases: Any) -> Iterator[Finding]:
    seen = set()
    for index, case in enumerate(cases if isinstance(cases, list) else ()):
        name = case.get("name") if isinstance(case, dict) else None
        if not isinstance(name, str):
            continue
        if name in seen:
            message = f"a case before this one has the name {shown(name)}, so reports would not tell them apart"
            yield Finding(("cases", index, "name"), message, at_value=True)
        seen.add(name)


def _dag(file: Path) -> tuple[DAG | None, list[Finding]]:
    """Return the DAG of the definition file, or the mistakes in it."""
    place = ("definition",)
    if not os.path.exists(file):  # noqa: PTH110  Path.exists may raise
        there = definition_files(file.parent) if file.parent.is_dir() else []
        meant = Hints().closest(file.name, [each.name for each in there])
        hint = f"did you mean {meant!r}?" if meant else "give its path relative to the folder of this file"
        return None, [Finding(place, f"there is no file {file}; {hint}", at_value=True)]
    try:
        return DAGBuilder(file).build_dag(), []
    except DefinitionError as error:
        return None, [Finding(place, f"{file}: {problem}", at_value=True) for problem in error.problems]


def _wrong_names(names: Names, data: dict[str, Any]) -> Iterator[Finding]:
    yield from names.in_answers(("answers",), data.get("answers"))
    cases = data.get("cases")
    for index, case in enumerate(cases if isinstance(cases, list) else ()):
        if isinstance(case, dict):
            yield from names.in_answers(("cases", index, "answers"), case.get("answers"))
            yield from names.in_secrets(("cases", index, "secrets"), case.get("secrets"))
            yield from names.in_expectation(("cases", index, "expect"), case.get("expect"))
