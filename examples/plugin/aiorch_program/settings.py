"""Settings of the target for programs."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from aiorch.settings import TargetSettings, setting


@dataclass(frozen=True, kw_only=True)
class Programs(TargetSettings):
    """Settings for the execution of programs."""

    target_type: ClassVar[str] = "Program"

    folder: str = setting(
        ".",
        "Folder in which programs run.",
        name="program_folder",
        give="a folder that exists",
        metavar="FOLDER",
        check="aiorch_program.settings:check_folder",
    )


def check_folder(folder: str) -> None:
    """Raise a ValueError for a folder that does not exist."""
    if not Path(folder).is_dir():
        raise ValueError(f"there is no folder {folder!r}")
