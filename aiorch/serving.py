"""Which DAGs a process serves: definition files, and folders of them."""

from collections.abc import Iterable
from pathlib import Path

from aiorch.errors import AiorchError
from aiorch.orchestrator import Orchestrator

DEFINITION_SUFFIXES = (".json", ".yaml", ".yml")


def serve_dags(orchestrator: Orchestrator, paths: Iterable[Path]) -> list[str]:
    """Let *orchestrator* serve every definition of *paths*, and return all that is wrong with any of them."""
    wrong: list[str] = []
    files: dict[str, Path] = {}
    for path in paths:
        found = [path]
        if path.is_dir():
            found = sorted(each for each in path.iterdir() if each.suffix in DEFINITION_SUFFIXES)
            if not found:
                wrong.append(f"{path} holds no definition: no file there ends in {', '.join(DEFINITION_SUFFIXES)}")
        for file in found:
            try:
                dag = orchestrator.dag(file)
                orchestrator.check(dag)
            except AiorchError as error:
                wrong.append(f"{file}: {error}" if str(file) not in str(error) else str(error))
                continue
            if dag.name in files:
                wrong.append(f"{file} and {files[dag.name]} both define a DAG {dag.name!r}: give one another name.")
            files[dag.name] = file
            orchestrator.serve_dag(dag)
    return wrong
