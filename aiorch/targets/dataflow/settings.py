"""Settings of the target for Dataflow jobs."""

from dataclasses import dataclass
from typing import ClassVar

from aiorch.settings import URL, TargetSettings, setting
from aiorch.targets.dataflow import JOBS_MAX


@dataclass(frozen=True, kw_only=True)
class Dataflow(TargetSettings):
    """Settings for the launches of Dataflow jobs."""

    target_type: ClassVar[str] = "Dataflow"

    limit: int | None = setting(
        JOBS_MAX,
        "Dataflow jobs under way at once.",
        name="dataflow_jobs",
        type=int,
        give="a whole number from 1",
        least=1,
        is_option=False,
    )
    api: str | None = setting(
        None,
        "Endpoint of the Dataflow API, instead of Google's own.",
        name="dataflow_api",
        give="an https URL",
        check=URL,
        is_option=False,
    )
