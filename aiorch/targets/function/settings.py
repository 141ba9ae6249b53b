"""Settings of the target for Python callables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from aiorch.settings import TargetSettings, setting


@dataclass(frozen=True, kw_only=True)
class Functions(TargetSettings):
    """Settings for the lookup and the calls of callables."""

    target_type: ClassVar[str] = "Function"

    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    """Callables by the name that stands for them in definitions."""

    search_paths: Sequence[str | Path] = ()
    """Folders in which modules with callables are looked up."""

    threads_max: int = setting(
        64, "Sync callables that run at once.", type=int, least=1, is_option=False, is_variable=False
    )
