"""The DAGs that a process serves: definition files, and folders of definitions."""

from collections.abc import Iterable
from pathlib import Path

from aiorch.definition.files import DEFINITION_SUFFIXES, definition_files
from aiorch.errors import AiorchError
from aiorch.orchestrator import Orchestrator


def serve_dags(orchestrator: Orchestrator, paths: Iterable[Path]) -> list[str]:
    """
    Let *orchestrator* serve every definition of *paths*.

    The modules of these DAGs are also looked up in the current folder.

    Returns:
        All mistakes in the definitions.
    """
    wrong: list[str] = []
    files: dict[str, Path] = {}
    for path in paths:
        found = [path]
        if path.is_dir():
            found = definition_files(path)
            if not found:
                wrong.append(f"{path} holds no definition: no file there ends in {', '.join(DEFINITION_SUFFIXES)}")
        for file in found:
            try:
                dag = orchestrator.dag(file, search_paths=[Path.cwd()])
                orchestrator.check(dag)
            except AiorchError as error:
                wrong.append(f"{file}: {error}" if str(file) not in str(error) else str(error))
                continue
            if dag.name in files:
                wrong.append(f"{file} and {files[dag.name]} both define a DAG {dag.name!r}: rename one of them.")
            files[dag.name] = file
            orchestrator.serve_dag(dag)
    return wrong
