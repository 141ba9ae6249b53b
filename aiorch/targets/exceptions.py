"""From what a callable raised to the failure of its attempt."""

import sysconfig
from pathlib import Path
from traceback import walk_tb
from types import CodeType
from typing import Any

from aiorch.errors import in_words
from aiorch.failure import Failure

_OTHERS_CODE = (
    str(Path(__file__).parents[1]),
    "<frozen",
    *(path for name, path in sysconfig.get_paths().items() if name in ("stdlib", "platstdlib", "purelib", "platlib")),
)


def failure_of(error: BaseException) -> Failure:
    """Return the failure of an attempt whose callable raised *error*."""
    behind = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    cause = None if behind is None else in_words(behind)
    return Failure.of(type(error).__name__, str(error) or "no message", cause, raised_at(error))


def raised_at(error: BaseException) -> str | None:
    """Return the line that raised *error*, the last one in code that is neither ours nor a library's."""
    lines = [
        f"{_file(frame.f_code, frame.f_globals.get('__name__'))}:{number} in {frame.f_code.co_name}"
        for frame, number in walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith(_OTHERS_CODE)
    ]
    return lines[-1] if lines else None


def _file(code: CodeType, module: Any) -> str:
    """Return the file of *code* from the folder of its package; the folder of a server is of no use to a reader."""
    path = Path(code.co_filename)
    depth = str(module).count(".") + (2 if path.name == "__init__.py" else 1)
    return "/".join(path.parts[-depth:]) if path.is_absolute() else code.co_filename
