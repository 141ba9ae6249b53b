"""
Callables by their names, ``module:callable``: registered callables, and callables that an import finds.

A DAG has its own folders for its modules: the folder of its definition, then the search paths. The folders stand at
the end of the import path, so a module there never replaces one of the standard library or of an installed package.
Python keeps one module of a name, so an import may give a module of a foreign folder. One rule refuses that module. The
rule holds for the callable's module, for the modules that any part of it may import, and for the parents of all these
modules: if the folders of the DAG hold the file, then an import must give that file, and else the import must give no
file in a folder that is on the import path for other DAGs alone.
"""

import ast
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from aiorch.ports.context import TaskContext
from aiorch.targets.function.arguments import Arguments

_definition_folders: list[Path] = []
"""Folders of definitions that this process has put on the import path, in order of arrival."""

_search_paths: list[Path] = []
"""Search paths that this process has put on the import path; they stand behind the folders of definitions."""

_PACKAGES = {"site-packages", "dist-packages"}
"""Names of folders of installed packages elsewhere: a user's own, those under a virtual environment."""


class Callee:
    """
    A callable, and the rule by which it gets its arguments.

    Attributes:
        function: The callable.

        is_async: Whether the callable is a coroutine function.

        arguments: The rule.

        call: A function of the context that calls the callable. Raises: ParameterError, the callable's exceptions.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.function: Callable[..., Any] = function
        self.is_async: bool = inspect.iscoroutinefunction(function)
        self.arguments: Arguments = Arguments(name, function)
        self.call: Callable[[TaskContext], Any] = function if self.arguments.are_context_alone else self._call

    def _call(self, context: TaskContext) -> Any:
        by_position, by_name = self.arguments.of(context)
        return self.function(*by_position, **by_name)


class Callables:
    """
    Finds callables.

    Args:
        functions: Callables by the name that stands for them in the definitions of all DAGs.

        search_paths: Folders in which the modules of all DAGs are looked up.

        find_folder: Returns the folder that holds the definition of a DAG, by its name; `None`: there is none.
    """

    def __init__(
        self,
        functions: Mapping[str, Callable[..., Any]],
        search_paths: Sequence[Path],
        find_folder: Callable[[str], Path | None],
    ) -> None:
        self._functions = dict(functions)
        self._functions_of: dict[str, dict[str, Callable[..., Any]]] = {}
        self._search_paths = tuple(path.resolve() for path in search_paths)
        self._find_folder = find_folder
        self._home_of: dict[str, Path | None] = {}
        self._folders_of: dict[str, tuple[Path, ...]] = {}
        self._found: dict[tuple[str, str], Callee] = {}
        self._found_on: list[str] = []
        for path in self._search_paths:
            _append_to_import_path(path)

    def learn(
        self,
        dag: str,
        functions: Mapping[str, Callable[..., Any]],
        folder: Path | None,
        search_paths: Sequence[Path] = (),
    ) -> bool:
        """
        Take in the callables of a DAG by their names, and the folder of its definition.

        Args:
            dag: Name of the DAG; no other DAG shares these callables.

            functions: Callables by their names.

            folder: Folder of the file of the definition, `None` for a definition that is no file.

            search_paths: Folders in which the modules of this DAG alone are looked up, after those of all DAGs.

        Returns:
            Whether a callable or the folder is new.

        Raises:
            LookupError: The definition of a DAG of this name was read from a different folder.
        """
        known = self._home_of.get(dag)
        if folder is not None and known not in (None, folder):
            raise LookupError(
                f"a DAG {dag!r} was read from {known} before, and its callables are looked up there, so this one was "
                f"not taken; rename one of the two DAGs"
            )
        own = self._functions_of.setdefault(dag, {})
        is_new = not functions.keys() <= own.keys()
        own.update(functions)
        if known is None and (folder is not None or search_paths):
            is_new = True
            self._learn_folder(dag, folder, [path.resolve() for path in search_paths])
        if is_new:
            self._found.clear()
        return is_new

    def _learn_folder(self, dag: str, folder: Path | None, search_paths: Sequence[Path] = ()) -> None:
        self._home_of[dag] = folder
        self._folders_of[dag] = (*filter(None, [folder]), *self._search_paths, *search_paths)
        if folder is not None:
            _insert_into_import_path(folder)
        for path in search_paths:
            _append_to_import_path(path)

    def find(self, name: str, dag: str) -> Callee:
        """
        Return the callable that a definition of a DAG names.

        Raises:
            LookupError: There is no such callable, or an import gives a module of a foreign folder.

            TypeError: The object is no callable.

            Exception: Any exception that the import of the module raises.
        """
        if self._found_on != sys.path:  # an import inside a function may now find a different module
            self._found.clear()
            self._found_on = list(sys.path)
        key = name, dag
        found = self._found.get(key)
        if found is None:
            function = self._functions.get(name) or self._functions_of.get(dag, {}).get(name) or self._import(name, dag)
            found = self._found[key] = Callee(name, function)
        return found

    def _import(self, name: str, dag: str) -> Callable[..., Any]:
        module_name, _, path = name.partition(":")
        if not path:
            raise LookupError("not of the form 'module:callable', and not registered under this name")
        if dag not in self._folders_of:
            self._learn_folder(dag, self._find_folder(dag))
        _check_origins(module_name, self._folders_of[dag])
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if self._home_of[dag] is not None or error.name not in _with_parents(module_name):
                raise
            raise LookupError(
                f"no module {error.name!r} was found, and no file of a DAG {dag!r} is known here whose folder could "
                f"hold it; name the folder with --path (the current folder: --path .), in a program by search_paths"
            ) from None
        for part in path.split("."):
            try:
                found = getattr(found, part)
            except AttributeError:
                known = getattr(found, "__dict__", {})
                from difflib import get_close_matches  # noqa: PLC0415  only a mistake needs it

                meant = get_close_matches(part, [name for name, value in known.items() if callable(value)], n=1)
                hint = f"; did you mean {meant[0]!r}?" if meant else ""
                raise LookupError(f"module {module_name!r} ({_origin(module_name)}) has no {path!r}{hint}") from None
        if not callable(found):
            raise TypeError(f"{path!r} in module {module_name!r} is a {type(found).__name__}, not a callable")
        return found  # type: ignore[no-any-return]  # callable() has narrowed Any


@contextmanager
def imports_undone() -> Iterator[None]:
    """
    Let the imports of this block have no consequences for later imports.

    After the block a name may stand for a module of a different folder. Installed modules stay imported.
    """
    lists = (sys.path, _definition_folders, _search_paths)
    before = [list(each) for each in lists]
    modules = set(sys.modules)
    try:
        yield
    finally:
        for each, old in zip(lists, before, strict=True):
            each[:] = old  # type: ignore[index]  # one type each
        for name in sys.modules.keys() - modules:
            if not _is_installed(_origin(name)):
                del sys.modules[name]


def _append_to_import_path(folder: Path) -> None:
    if not _is_on_import_path(folder):
        sys.path.append(str(folder))
        _search_paths.append(folder)


def _insert_into_import_path(folder: Path) -> None:
    """Put the folder of a definition behind the earlier folders of definitions, and before the search paths."""
    if folder in _search_paths:
        _search_paths.remove(folder)
        sys.path.remove(str(folder))
    elif _is_on_import_path(folder):
        return
    places = [sys.path.index(str(path)) for path in _search_paths if str(path) in sys.path]
    sys.path.insert(min(places, default=len(sys.path)), str(folder))
    _definition_folders.append(folder)


def _is_on_import_path(folder: Path) -> bool:
    return any(Path(entry).resolve() == folder for entry in sys.path)


def _check_origins(module_name: str, folders: Sequence[Path]) -> None:
    """
    Make sure that imports give a DAG its own modules. Imports no module.

    Args:
        module_name: The module of a callable.

        folders: The folders of the DAG.

    Raises:
        LookupError: An import gives the module, or one that the module may import, from a foreign folder.
    """
    foreign = [folder for folder in (*_definition_folders, *_search_paths) if folder not in folders]
    are_alone = not foreign and all(path in folders or _is_installed(path) for path in _import_path())
    importers = dict.fromkeys(_with_parents(module_name), "")
    waiting = list(importers)
    while waiting:
        name = waiting.pop()
        origin = _origin(name)
        _check_origin(name, origin, folders, foreign, importers[name])
        if are_alone or origin is None or _is_installed(origin):
            continue
        imported = {each for found in _imported_names(origin, name) for each in _with_parents(found)}
        for each in imported - importers.keys():
            importers[each] = name
            waiting.append(each)


def _check_origin(
    name: str, origin: Path | str | None, folders: Sequence[Path], foreign: Sequence[Path], importer: str
) -> None:
    """Refuse the file that an import gives for a name if the DAG has a different one; see the module's docstring."""
    wanted = next((file for folder in folders if (file := _file_in(folder, name))), None)
    is_foreign = origin is not None and any(_file_in(folder, name) == origin for folder in foreign)
    may_stay = origin in (None, wanted) or (importer and not is_foreign and _is_installed(origin))
    role = f"{importer!r} imports" if importer else "this definition names"
    if wanted is not None and not may_stay:
        raise LookupError(
            f"{role} the module {name!r} of {wanted}, and in this process that name stands for {origin}, so neither "
            f"was taken; rename one of the two modules, or run this definition in a process of its own"
        )
    if wanted is None and is_foreign:
        raise LookupError(
            f"{role} the module {name!r}, which is only beside another definition or in its search paths ({origin}), "
            f"so it was not taken; name the folder of the intended module with --path"
        )


def _with_parents(module_name: str) -> list[str]:
    """Return the names of a module and of the packages around the module."""
    parts = module_name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _file_in(folder: Path, module_name: str) -> Path | None:
    """Return the file of a module in a folder, `None` when there is none."""
    path = folder.joinpath(*module_name.split("."))
    for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
        if file.is_file():
            return file.resolve()
    return None


def _origin(module_name: str) -> Path | str | None:
    """Return the file that an import gives for a name, a word when that is no file, `None` when there is none."""
    module = sys.modules.get(module_name)
    if module is not None:
        file = getattr(module, "__file__", None)
        return Path(file).resolve() if file else "built in"
    package, _, last = module_name.rpartition(".")
    if package:
        return next((file for folder in _folders_of(package) if (file := _file_in(folder, last))), None)
    spec = find_spec(module_name)
    if spec is None:
        return None
    return Path(spec.origin).resolve() if spec.has_location and spec.origin else "built in"


def _folders_of(package: str) -> list[Path]:
    """Return the folders in which an import looks for the modules of a package."""
    module = sys.modules.get(package)
    if module is not None:
        return [Path(each) for each in getattr(module, "__path__", ())]
    outer, _, last = package.rpartition(".")
    if not outer:
        spec = find_spec(package)
        return [Path(each) for each in (spec and spec.submodule_search_locations) or ()]
    origin = _origin(package)
    if isinstance(origin, Path):
        return [origin.parent] if origin.name == "__init__.py" else []
    return [folder / last for folder in _folders_of(outer)]  # a package without a file may be in several folders


def _import_path() -> list[Path]:
    return [path for entry in sys.path if (path := Path(entry).resolve()).is_dir()]


def _is_installed(origin: Path | str | None) -> bool:
    """Whether a module is of the standard library, of an installed package or of this package."""
    if not isinstance(origin, Path):
        return True
    return any(origin.is_relative_to(folder) for folder in _installed()) or not _PACKAGES.isdisjoint(origin.parts)


@cache
def _imported_names(file: Path, module_name: str) -> frozenset[str]:
    """Return the modules that any part of a source file may import; a name that ``from`` imports may be one, too."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return frozenset()  # the import will raise the error
    names: set[str] = set()
    package = module_name.split(".") if file.name == "__init__.py" else module_name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package[: len(package) + 1 - node.level] if node.level else []
            base = [*parts, *filter(None, [node.module])]
            names.update(".".join([*base, *last]) for last in ((), *((alias.name,) for alias in node.names)))
    return frozenset(names) - {""}


@cache
def _installed() -> tuple[Path, ...]:
    """Return the folders of the standard library, of installed packages and of this package."""
    import sysconfig  # noqa: PLC0415  its tables take long, and the first callable comes later than the import

    names = ("stdlib", "platstdlib", "purelib", "platlib", "scripts")
    return *(Path(sysconfig.get_path(name)).resolve() for name in names), Path(__file__).resolve().parents[2]
