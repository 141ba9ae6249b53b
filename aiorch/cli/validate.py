"""`aiorch validate`."""
# ruff: noqa: PLC0415  imports: see `aiorch.cli.main`

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from itertools import groupby
from json import dumps, loads
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from aiorch.cli.completion import definition_files
from aiorch.cli.options import EngineCommand, json_option, launch_options, option, read_stdin, require_file
from aiorch.cli.output import EPILOG, OK, USAGE_OR_DEFINITION_WRONG, print_result, say
from aiorch.errors import AiorchError, DefinitionError, Problem, UnresolvedFunctionError, counted

if TYPE_CHECKING:
    from aiorch.model.dag import DAG
    from aiorch.orchestrator import Orchestrator

STDIN = "-"

UNDONE = "no run of it can be started"


@click.command(cls=EngineCommand, epilog=EPILOG)
@click.argument("dags", metavar="DAG...", nargs=-1, required=True, shell_complete=definition_files)
@option("--callables", is_flag=True, help="Also import every callable, and check the parameters that it gets.")
@json_option
@launch_options
def validate(dags: Sequence[str], *, callables: bool, json: bool, open_engine: Callable[[], "Orchestrator"]) -> int:
    """
    Check definitions, and report every mistake.

    DAG is a definition file, a folder of definition files, or - for stdin. With --callables the command refuses every
    definition that `aiorch run` refuses with the same options.
    """
    checked = []
    for each in _checked(dags, open_engine, callables=callables):
        checked.append(each)
        if not json:
            each.show()
    if json:
        is_one = len(dags) == 1 and not _is_folder(dags[0])
        shown = [each.facts if is_one else {"file": each.name, **each.facts} for each in checked]
        print_result(dumps(shown[0] if is_one else shown, indent=2))
    return OK if all(each.error is None for each in checked) else USAGE_OR_DEFINITION_WRONG


class _Checked(NamedTuple):
    """A definition that was checked, and its DAG, or else its mistakes."""

    name: str
    dag: "DAG | None" = None
    error: AiorchError | click.UsageError | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """The outcome as JSON."""
        if self.dag is not None:
            return {"valid": True, "dag": self.dag.name, "definition": self.dag.definition_id}
        text = self.error.message if isinstance(self.error, click.UsageError) else str(self.error)
        problems = getattr(self.error, "problems", None) or (Problem("", text),)
        return {"valid": False, "problems": [problem._asdict() for problem in problems]}

    def show(self) -> None:
        """Print the outcome: a valid definition as a result, mistakes as messages."""
        if self.dag is not None:
            size = f"{counted(len(self.dag.all_tasks), 'task')} in {counted(len(self.dag.all_nodes), 'node')}"
            print_result(f"{self.name}: DAG {self.dag.name!r} is valid: {size}")
            return
        match self.error:
            case DefinitionError(problems=problems):
                text = str(DefinitionError(problems, source=self.name, undone=UNDONE))
            case UnresolvedFunctionError(missing=missing, lacks_callable=lacks_callable):
                error = UnresolvedFunctionError(missing, lacks_callable=lacks_callable, undone=UNDONE)
                text = f"{self.name}: {error}"
            case click.UsageError(message=text):
                pass
            case error:
                text = f"{self.name}: {error}"
        say(f"Error: {text}")


def _checked(dags: Sequence[str], open_engine: Callable[[], "Orchestrator"], *, callables: bool) -> Iterator[_Checked]:
    """
    Check definitions, in order.

    Definitions in different folders may mean different modules by one name. So the definitions of each folder have an
    orchestrator of their own, and its imports are undone.
    """
    from aiorch.targets.function.callables import imports_undone

    for _, names in groupby(_names(dags), key=lambda each: Path(each).absolute().parent):
        with imports_undone() if callables else nullcontext():
            orchestrator = open_engine()
            for name in names:
                shown = "stdin" if name == STDIN else name
                try:
                    yield _Checked(shown, _check(name, orchestrator, callables=callables))
                except (AiorchError, click.UsageError) as error:
                    yield _Checked(shown, error=error)


def _names(dags: Sequence[str]) -> Iterator[str]:
    """Yield the names of the definitions: of a folder those of its files. A folder without files stays as it is."""
    for dag in dict.fromkeys(dags):
        names = [dag]
        if _is_folder(dag):
            with suppress(click.UsageError):
                names = _files_of(dag)
        yield from names


def _is_folder(dag: str) -> bool:
    return os.path.isdir(dag)  # noqa: PTH112  Path.is_dir may raise


def _files_of(folder: str) -> list[str]:
    """Return the definition files of a folder. Raises: click.UsageError."""
    from aiorch.definition.files import DEFINITION_SUFFIXES
    from aiorch.definition.files import definition_files as files_of

    try:
        files = files_of(Path(folder))
    except OSError as error:
        message = f"the folder {folder} cannot be read, so no file in it was checked: {error.strerror}"
        raise click.UsageError(message) from error
    if not files:
        endings = ", ".join(DEFINITION_SUFFIXES)
        raise click.UsageError(
            f"the folder {folder} holds no definition, so none was checked: no file there ends in {endings}. Name the "
            f"folder with the definitions, or a file."
        )
    return [str(file) for file in files]


def _check(name: str, orchestrator: "Orchestrator", *, callables: bool) -> "DAG":
    """
    Return the DAG of a valid definition.

    Raises:
        AiorchError: With the mistakes in it.

        click.UsageError: There is no such definition.
    """
    from aiorch.cli.prints import prints_to_stderr
    from aiorch.core.begin import refuse_too_large

    if _is_folder(name):
        _files_of(name)
    if name != STDIN:
        require_file(name, "it was not checked")
    dag = orchestrator.dag(_read_stdin() if name == STDIN else name, search_paths=[Path.cwd()])
    with prints_to_stderr() if callables else nullcontext():  # modules print while they are imported
        orchestrator.check(dag, callables=callables)
    refuse_too_large(dag, len(b"null"), f"no run of DAG {dag.name!r} can be started")
    return dag


def _read_stdin() -> "DAG":
    """Build the definition on stdin, which is JSON or YAML. Raises: DefinitionError, click.UsageError."""
    from aiorch.definition.build import DAGBuilder
    from aiorch.definition.source import parse_definition

    try:
        text = read_stdin()
    except (OSError, ValueError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, ValueError) else error.strerror
        raise click.UsageError(f"stdin cannot be read, so it was not checked: {reason}") from error
    try:
        loads(text)
    except (ValueError, RecursionError):
        loaded = parse_definition(text, source="stdin", format="yaml")
    else:
        loaded = parse_definition(text, source="stdin", format="json")
    return DAGBuilder(loaded).build_dag()
