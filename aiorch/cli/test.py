"""`aiorch test`."""
# ruff: noqa: PLC0415  imports and arguments: see `aiorch.cli.main`

from collections.abc import Iterable, Sequence
from json import dumps
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from aiorch.cli.completion import definition_files
from aiorch.cli.options import json_option, option, path_option, require_file
from aiorch.cli.output import NOT_COMPLETED, OK, USAGE_OR_DEFINITION_WRONG, print_result
from aiorch.errors import AiorchError, DefinitionError, Problem, counted

if TYPE_CHECKING:
    from aiorch.testing import Case, Outcome


@click.command()
@click.argument("cases", nargs=-1, required=True, shell_complete=definition_files)
@option("--case", metavar="TEXT", help="Run only the cases whose name contains this text.")
@path_option
@json_option
def test(cases: Sequence[str], case: str | None, path: Sequence[str], *, json: bool) -> int:
    """
    Test definitions: run cases with scripted answers, in virtual time, and compare their outcomes.

    CASES are files of cases, or folders with files that end in .cases.yaml, .cases.yml or .cases.json.
    """
    from aiorch.cli.logs import leave_failures_to_the_report
    from aiorch.cli.prints import prints_to_stderr
    from aiorch.views.streams import write_line

    loaded, wrong = _load(_files(cases))
    if wrong and json:
        problems = [{"file": error.source, **problem._asdict()} for error in wrong for problem in error.problems]
        print_result(dumps({"problems": problems}, indent=2))
        return USAGE_OR_DEFINITION_WRONG
    if wrong:
        raise AiorchError("\n".join(map(str, wrong)))
    chosen = _chosen(loaded, case)
    leave_failures_to_the_report()
    reports = []
    with prints_to_stderr() as (results, _):
        for each in chosen:
            reports.append(_run(each, [*path, Path.cwd()]))
            if not json:
                for line in reports[-1].lines():
                    write_line(results, line)
        failed = sum(report.failure is not None for report in reports)
        passed = len(reports) - failed
        if json:
            found = [report.as_json() for report in reports]
            write_line(results, dumps({"passed": passed, "failed": failed, "cases": found}, indent=2))
        else:
            write_line(results, f"{counted(len(reports), 'case')}: {passed:,} passed, {failed:,} failed")
    return NOT_COMPLETED if failed else OK


class _Report(NamedTuple):
    """The end of one case."""

    case: "Case"
    took_s: float
    outcome: "Outcome | None"
    failure: AiorchError | None
    problems: Sequence[Problem]
    details: Sequence[str]

    def lines(self) -> Iterable[str]:
        from aiorch.views.escaping import one_line
        from aiorch.views.outline import duration_text

        mark = "passed" if self.failure is None else "FAILED"
        yield f"{mark}  {one_line(self.case.place)}: {one_line(self.case.name)} ({duration_text(self.took_s)})"
        yield from self.details

    def as_json(self) -> dict[str, Any]:
        file, _, line = self.case.place.rpartition(":")
        outcome = self.outcome
        return {
            "file": file,
            "line": int(line),
            "name": self.case.name,
            "passed": self.failure is None,
            "status": None if outcome is None else outcome.status,
            "seconds": None if outcome is None else outcome.seconds,
            "way": None if outcome is None else outcome.way,
            "problems": [{"path": each.path, "message": each.message} for each in self.problems],
        }


def _run(case: "Case", search_paths: Sequence[str | Path]) -> _Report:
    from aiorch.testing import CaseFailedError, run_case

    begun_at = monotonic()
    try:
        outcome = run_case(case, search_paths=search_paths)
    except CaseFailedError as error:
        return _Report(case, monotonic() - begun_at, error.outcome, error, error.problems, error.lines)
    except AiorchError as error:  # the run cannot be started
        lines = [f"  {line}" for line in str(error).splitlines()]
        return _Report(case, monotonic() - begun_at, None, error, [Problem("", str(error))], lines)
    return _Report(case, monotonic() - begun_at, outcome, None, [], [])


def _files(given: Iterable[str]) -> list[Path]:
    from aiorch.definition.files import CASES_SUFFIXES, cases_files

    found: dict[Path, None] = {}
    for text in given:
        require_file(text, "no case was run", kind="file of cases")
        path = Path(text)
        files = cases_files(path) if path.is_dir() else [path]
        if not files:
            raise click.UsageError(
                f"{text} holds no cases, so no case was run: no file there ends in {', '.join(CASES_SUFFIXES)}."
            )
        found.update(dict.fromkeys(files))
    return list(found)


def _load(files: Iterable[Path]) -> "tuple[list[Case], list[DefinitionError]]":
    """Return the cases of all files, and the mistakes in the files."""
    from aiorch.testing import load_cases

    cases: list[Case] = []
    wrong: list[DefinitionError] = []
    for file in files:
        try:
            cases += load_cases(file)
        except DefinitionError as error:
            wrong.append(error)
    return cases, wrong


def _chosen(cases: "Sequence[Case]", text: str | None) -> "Sequence[Case]":
    if text is None:
        return cases
    chosen = [case for case in cases if text.lower() in case.name.lower()]
    if not chosen:
        from aiorch.model.findings import Hints

        meant = Hints().closest(text, [case.name for case in cases])
        hint = f"did you mean {meant!r}?" if meant else f"the first of them is {cases[0].name!r}."
        raise click.UsageError(
            f"none of the {counted(len(cases), 'case')} has {text!r} in its name, so no case was run; {hint}"
        )
    return chosen
