"""Settings of the target for Python callables."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from aiorch.errors import InvalidSettingError
from aiorch.settings import TargetSettings, refuse_type, setting


@dataclass(frozen=True, kw_only=True)
class Functions(TargetSettings):
    """Settings for the lookup and the calls of callables."""

    target_type: ClassVar[str] = "Function"

    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    """Callables by the name that stands for them in definitions."""

    search_paths: Sequence[str | Path] = ()
    """Folders in which modules with callables are looked up."""

    threads_max: int = setting(
        64, "Sync callables that run at once.", type=int, least=0, is_option=False, is_variable=False
    )

    def __post_init__(self) -> None:
        """Check the settings. Raises: InvalidSettingError."""
        super().__post_init__()
        refuse_type(self, "functions", Mapping, "a mapping of names to callables")
        for name, each in self.functions.items():
            if not callable(each):
                rule = f"is {each!r}, of type {type(each).__name__}, and must be a callable"
                raise InvalidSettingError(f"Functions.functions[{name!r}]", each, rule)
        if isinstance(self.search_paths, (str, os.PathLike)):
            rule = f"is {self.search_paths!r}, one folder, and must be a list of folders"
            raise InvalidSettingError("Functions.search_paths", self.search_paths, rule)
