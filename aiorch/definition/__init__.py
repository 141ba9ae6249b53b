"""
The language of DAG definitions: reading text, models, checks, and building the DAG.

From the text inwards: `syntax` (JSON and YAML with positions), `source` (files), `plain` (JSON types only, callables by
name), `version`, `models` (keys, types and limits), `check` (every problem at once), `build` (from the checked
definition to a `DAG`), `files` (definition files in folders). Parts of the check: `level` and `levels` (chains and
graphs), `failures` (`retry` and `catch`), `references` and `ways` (expressions, and the names that they may read).
"""

from importlib import import_module

TYPE_CHECKING = False  # see `aiorch`
if TYPE_CHECKING:
    from aiorch.definition.build import DAGBuilder as DAGBuilder
    from aiorch.definition.build import NodeFactory as NodeFactory
    from aiorch.definition.source import load_definition as load_definition
    from aiorch.definition.source import parse_definition as parse_definition
else:
    _HOMES = {
        "build": ("DAGBuilder", "NodeFactory"),
        "source": ("load_definition", "parse_definition"),
    }
    _HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
        return value
