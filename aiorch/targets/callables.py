"""
Callables by their names, ``module:callable``: those that were registered, and those that an import finds.

A module is looked up beside the definition that names it, then in the search paths, then wherever Python finds it. The
folders stand at the end of the import path, so a module there never replaces one of the standard library or of an
installed package. Python keeps one module of a name, so two folders may hold modules of the same name: a callable
whose module would come from another folder than its own is refused, with both paths. So is a callable whose module
imports a neighbour that another folder has under the same name.
"""

import ast
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_definition_folders: list[Path] = []
"""Folders of definitions that this process has put on the import path, in order of arrival."""

_search_paths: list[Path] = []
"""Search paths that this process has put on the import path; they stand behind the folders of definitions."""


class Callables:
    """
    Finds callables.

    Args:
        functions: Callables by the name that stands for them in definitions.

        search_paths: Folders in which modules are looked up.
    """

    def __init__(self, functions: Mapping[str, Callable[..., Any]], search_paths: Sequence[Path]) -> None:
        self._functions = dict(functions)
        self._search_paths = [path.resolve() for path in search_paths]
        self._folders: dict[str, Path] = {}
        self._found: dict[tuple[str, Path | None], Callable[..., Any]] = {}
        for path in self._search_paths:
            _append_to_import_path(path)

    def learn(self, dag: str, functions: Mapping[str, Callable[..., Any]], folder: Path | None) -> bool:
        """
        Take in callables by their names, and the folder of the definition of a DAG.

        Returns:
            Whether any of it is new.

        Raises:
            LookupError: The definition of a DAG of this name was read from another folder.
        """
        known = self._folders.get(dag)
        if folder is not None and known not in (None, folder):
            raise LookupError(
                f"a DAG {dag!r} was read from {known} before, and its callables are looked up there, so this one was "
                f"not taken; give one of them another name"
            )
        is_new = not functions.keys() <= self._functions.keys()
        self._functions.update(functions)
        if folder is None or folder == known:
            return is_new
        self._folders[dag] = folder
        _insert_into_import_path(folder)
        return True

    def find(self, name: str, dag: str) -> Callable[..., Any]:
        """
        Return the callable that a definition of a DAG names.

        Raises:
            LookupError: There is none, or its module is another one than the module beside the definition.

            TypeError: It is no callable, or cannot be called with one argument.

            Exception: Whatever the import of its module raises.
        """
        key = name, self._folders.get(dag)
        found = self._found.get(key)
        if found is None:
            found = self._functions.get(name) or self._import(name, key[1])
            _check_signature(name, found)
            self._found[key] = found
        return found

    def _import(self, name: str, folder: Path | None) -> Callable[..., Any]:
        module_name, _, path = name.partition(":")
        if not path:
            raise LookupError("not of the form 'module:callable', and not registered under this name")
        own = [folder] if folder is not None else []
        homes = [home for home in (*own, *self._search_paths) if _file_in(home, module_name)]
        if homes:
            _check_origin(homes[0], module_name)
        elif self._is_of_another_definition(module_name):
            raise LookupError(
                f"module {module_name!r} is beside another definition ({_origin(module_name)}), so it was not taken; "
                f"--path names folders for all definitions"
            )
        found: Any = importlib.import_module(module_name)
        for part in path.split("."):
            try:
                found = getattr(found, part)
            except AttributeError:
                raise LookupError(f"module {module_name!r} ({_origin(module_name)}) has no {path!r}") from None
        if not callable(found):
            raise TypeError(f"{path!r} in module {module_name!r} is a {type(found).__name__}, not a callable")
        return found  # type: ignore[no-any-return]  # callable() has narrowed Any

    def _is_of_another_definition(self, module_name: str) -> bool:
        """Whether a module is found only since the folder of another definition is on the import path."""
        folders = [folder for folder in _definition_folders if folder not in self._search_paths]
        return _is_from(folders, module_name)


def _append_to_import_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
        _search_paths.append(folder)


def _insert_into_import_path(folder: Path) -> None:
    """Put the folder of a definition behind those that came before it, and before the search paths."""
    if str(folder) in sys.path and folder not in _search_paths:
        return
    if folder in _search_paths:
        _search_paths.remove(folder)
        sys.path.remove(str(folder))
    places = [sys.path.index(str(path)) for path in _search_paths if str(path) in sys.path]
    sys.path.insert(min(places, default=len(sys.path)), str(folder))
    _definition_folders.append(folder)


def _file_in(folder: Path, module_name: str) -> Path | None:
    """Return the file of a module in a folder, `None` when there is none."""
    path = folder.joinpath(*module_name.split("."))
    for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
        if file.is_file():
            return file
    return None


def _origin(module_name: str) -> Path | str | None:
    """Return the file from which an import takes a module, a word when that is no file, `None` when there is none."""
    module = sys.modules.get(module_name)
    file = getattr(module, "__file__", None)
    if file is None and module is None:
        try:
            spec = find_spec(module_name)
        except (ImportError, ValueError):
            spec = None
        if spec is None:
            return None
        file = spec.origin if spec.has_location else None
    return Path(file).resolve() if file else "built in"


def _check_origin(home: Path, module_name: str) -> None:
    """
    Make sure that an import takes a module from its home, and that it finds the modules of its home which it imports.

    Raises:
        LookupError: An import takes one of them from elsewhere.
    """
    top = module_name.partition(".")[0]
    _refuse_other(home, top if _file_in(home, top) else module_name)
    others = [folder for folder in (*_definition_folders, *_search_paths) if folder != home]
    shared = {name for name in _names_in(home) if _is_from(others, name)} if others else None
    if shared:
        for imported in _imports_within(home, module_name):
            if imported.partition(".")[0] in shared:
                _refuse_other(home, imported.partition(".")[0], imported_by=module_name)


def _refuse_other(home: Path, module_name: str, imported_by: str = "") -> None:
    wanted, given = _file_in(home, module_name), _origin(module_name)
    if wanted is None or given is None or given == wanted.resolve():
        return
    role = f"{imported_by!r} imports" if imported_by else "this definition names"
    raise LookupError(
        f"{role} the module {module_name!r} of {wanted}, and in this process that name stands for {given}, so neither "
        f"was taken; rename one of the two modules, or run the two definitions in processes of their own"
    )


def _names_in(folder: Path) -> Iterator[str]:
    """Yield the names of the modules and packages in a folder."""
    for entry in folder.iterdir():
        name = entry.stem if entry.suffix == ".py" else entry.name
        if name.isidentifier() and _file_in(folder, name):
            yield name


def _is_from(folders: Sequence[Path], module_name: str) -> bool:
    """Whether an import takes a module from one of *folders*."""
    files = [file.resolve() for folder in folders if (file := _file_in(folder, module_name))]
    return bool(files) and _origin(module_name) in files


def _imports_within(home: Path, module_name: str) -> Iterator[str]:
    """Yield the names that a module imports, and that the modules of its home which it imports import in turn."""
    waiting, seen = [module_name], {module_name}
    while waiting:
        name = waiting.pop()
        file = _file_in(home, name)
        if file is None:
            continue
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        for imported in _imported_names(file, package):
            if imported not in seen:
                seen.add(imported)
                waiting.append(imported)
                yield imported


def _imported_names(file: Path, package: str) -> Iterator[str]:
    """Yield the modules that a source file may import, wherever in it; what follows ``from`` may be a module, too."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return  # its import will tell
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*parts, *filter(None, [node.module])])
            yield base
            for alias in node.names:
                yield f"{base}.{alias.name}"


def _check_signature(name: str, function: Callable[..., Any]) -> None:
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        raise TypeError(
            f"a callable is called with one argument, the TaskContext, and {name!r} does not take that ({error})"
        ) from None
    except ValueError:
        return  # some built-in ones do not tell
