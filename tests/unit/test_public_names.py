"""The public names: at the top those that most programs need, one level down all of them."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import aiorch
from tests.documentation import REPOSITORY

TOP = """
    AiorchError Client DAG DAGBuilder DefinitionError Failure Node Orchestrator Parallel RunHandle RunNotFoundError
    RunResult RunStatus Settings StoreError Task TaskContext TaskStatus
"""

FOLDERS = ["documents", "engine", "events", "ports"]
LAZY_FOLDERS = ["definition", "model", "sources", "stores"]

BESIDES = """
    CancelEvent CloudFunction CloudFunctionEvent CurrentExecution DAGExecutor DataflowEvent DataflowJob
    DataflowTemplateType DocumentError Event EventFactory Execution ExecutionFilter ExecutionStatus Function
    InvalidIdError InvalidInputError InvalidSettingError NoResultError NodeFactory NodeTypes OnFailure OnLost
    OrchestrationStatus OrchestratorLeftError ResultPendingError RetryPolicy RunConflictError RunStateError
    RunTooLargeError StartEvent StoreUrlError TargetTypes TaskNotFoundError UnresolvedFunctionError current_execution
"""
"""Names of the original design and of 0.1 that a program may import from the top, though they are not listed there."""


def typed_names(package: str) -> dict[str, str]:
    """Names that type checkers find in a package, with the module that each comes from."""
    path = import_module(package).__file__
    assert path is not None
    return {
        alias.name: node.module or ""
        for node in ast.walk(ast.parse(Path(path).read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }


def test_the_names_at_the_top_are_pinned() -> None:
    """`__all__` holds these names and no others, so that a new one is a decision."""
    assert sorted(aiorch.__all__) == sorted(TOP.split())
    assert len(aiorch.__all__) <= 20


def test_other_names_are_importable_from_the_top() -> None:
    """Every other name of 0.1 can be imported from `aiorch`, and type checkers know it there."""
    assert sorted(typed_names("aiorch")) == sorted((TOP + BESIDES).split())


@pytest.mark.parametrize("package", ["aiorch", *(f"aiorch.{name}" for name in (*FOLDERS, *LAZY_FOLDERS))])
def test_type_checkers_and_python_find_the_same_object(package: str) -> None:
    """A name that a package shows to type checkers is at run time the object of the module it comes from."""
    names = typed_names(package)
    assert names
    for name, module in names.items():
        assert getattr(import_module(package), name) is getattr(import_module(module), name)
        if package == "aiorch":
            assert len(module.split(".")) == 2  # one level down


@pytest.mark.parametrize("package", ["aiorch", *(f"aiorch.{name}" for name in LAZY_FOLDERS)])
def test_lazy_packages_promise_nothing_else(package: str) -> None:
    """The table of a lazy package has the names that type checkers see, and any other name is an AttributeError."""
    module = import_module(package)
    assert sorted(module._HOME_OF) == sorted(typed_names(package))
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Nodde'"):
        module.Nodde  # noqa: B018  that it raises is the point


def test_importing_the_package_imports_no_other_module_of_it() -> None:
    """`import aiorch` and `import aiorch.model` load no module that a name of them would load."""
    code = "import sys, aiorch.model; print(*sorted(each for each in sys.modules if each.startswith('aiorch')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["aiorch", "aiorch.model"]


def test_the_page_of_the_library_says_where_each_name_comes_from() -> None:
    """Each name of the table is importable from its package, and the table holds every public name of the page."""
    page = (REPOSITORY / "docs/library.md").read_text()
    rows = dict(re.findall(r"^\| `(aiorch[.\w]*)` \| (.+) \|$", page, re.MULTILINE))
    homes = {package: set(re.findall(r"`(\w+)`", cell)) for package, cell in rows.items()}
    assert homes["aiorch"] == set(aiorch.__all__)
    for package, names in homes.items():
        assert [name for name in names if not hasattr(import_module(package), name)] == []
    listed = set().union(*homes.values(), dir(import_module("aiorch.errors")))
    public = set(TOP.split() + BESIDES.split())
    assert {name for name in re.findall(r"`(\w+)`", page) if name in public} <= listed
