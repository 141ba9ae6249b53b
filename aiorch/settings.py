"""What can be tuned."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiorch.errors import InvalidSettingError
from aiorch.model.enums import TargetTypes

FUNCTION_CONNECTIONS_MAX = 400
"""
Calls of Cloud Functions under way at once, unless `aiorch.Settings` says otherwise; more wait for their turn.

Each call has a connection of its own for as long as the call takes, and a process may usually open 1,024 files. The
store's connections take 256 of them, incoming connections up to 256; 112 are left for files, the subscription and other
targets. Google sets no lower limit: a function that has no free instance answers 429, and the call is sent again.
"""

DATAFLOW_JOBS_MAX = 25
"""Source: Dataflow documentation, "Quotas": 25 concurrent jobs per project, unless raised."""


@dataclass(frozen=True, kw_only=True)
class LaunchSettings:
    """What can be tuned about launches."""

    at_once_max: int = 10_000
    """Executions under way at once in this process: more wait their turn, so that memory is bounded."""

    running_after_s: float | None = None
    """After how long an execution that is under way is recorded as ``Running``; `None`: the store's `Pace` says it."""

    poll_interval_s: float = 30.0
    """Longest pause between two questions about an execution whose target has taken it."""

    limits: Mapping[str, int] = field(default_factory=lambda: {TargetTypes.DATAFLOW: DATAFLOW_JOBS_MAX})
    """Executions of a target type under way at once in this process. Surplus tasks wait as ``New``."""

    backoff_max_s: float = 30.0
    """Longest pause before a launch that never started is sent again."""

    def __post_init__(self) -> None:
        """Raises: InvalidSettingError."""
        refuse_below(self, {"at_once_max": 1, "poll_interval_s": 0.001, "backoff_max_s": 0, "running_after_s": 0})
        for kind, limit in self.limits.items():
            if not limit >= 0:
                raise InvalidSettingError(f"LaunchSettings.limits[{kind}]", limit, 0)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What can be tuned. Where `None` stands, the store decides: see its `Pace`."""

    sweep_interval_s: float | None = None
    """Pause between two looks at the open runs, for starts, cancels and deaths that no event tells."""

    relook_s: float | None = None
    """How often an open run is read without a reason."""

    commit_interval_s: float | None = None
    """Least time between two commits of one run, see `aiorch.ports.Pace`."""

    drain_s: float = 5.0
    """How long work that is under way may go on when the orchestrator is left."""

    function_url: str | None = None
    """Pattern of a Cloud Function's URL, with ``{name}``, ``{project_id}``, ``{region}``; `None`: the gen1 form."""

    function_connections_max: int = FUNCTION_CONNECTIONS_MAX
    """Calls of Cloud Functions under way at once."""

    function_anonymous: bool = False
    """Send no ID token: for functions that everybody may call, and for URLs that are not Google's."""

    function_impersonate: str | None = None
    """E-mail of the service account in whose name functions are called, `None`: in our own."""

    project_id: str | None = None
    """Project of steps that name none."""

    region: str | None = None
    """Region of steps that name none."""

    dataflow_api: str | None = None
    """Another endpoint of the Dataflow API, e.g. a private one; `None`: Google's own."""

    threads_max: int = 64
    """Synchronous callables that run at once."""

    launches: LaunchSettings = field(default_factory=LaunchSettings)

    def __post_init__(self) -> None:
        """Raises: InvalidSettingError."""
        refuse_below(self, {"sweep_interval_s": 0.001, "relook_s": 0, "commit_interval_s": 0, "drain_s": 0})
        refuse_below(self, {"function_connections_max": 1, "threads_max": 1})


def refuse_below(settings: Any, least: Mapping[str, float]) -> None:
    """
    Refuse settings below their least values, and what is no number; `None` where that is the default.

    Raises:
        InvalidSettingError: Of the first one.
    """
    for name, minimum in least.items():
        value = getattr(settings, name)
        if value is None and getattr(type(settings), name) is None:
            continue
        if not (isinstance(value, int | float) and value >= minimum):
            raise InvalidSettingError(f"{type(settings).__name__}.{name}", value, minimum)
