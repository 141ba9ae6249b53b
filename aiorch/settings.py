"""Settings of the engine, of launches, and of kinds of targets."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import Any, ClassVar, NamedTuple, Self

from aiorch.errors import InvalidSettingError

FUNCTION_CONNECTIONS_MAX = 400
"""
Default limit of concurrent calls of Cloud Functions; further calls wait.

Each call needs a connection for its whole duration, and a process may usually open 1,024 files. The connections of the
store take 256 of them, incoming connections up to 256; 112 are left for files, the subscription and other targets.
Google sets no lower limit: a function without a free instance answers 429, and the call is sent again.
"""


URL_PATTERN = "aiorch.model.url:checked_pattern"
URL = "aiorch.model.url:checked_url"
"""Checks of settings that are URLs."""


@dataclass(frozen=True, kw_only=True)
class LaunchSettings:
    """Settings of launches."""

    at_once_max: int = 10_000
    """Executions under way at once in this process. Further ones wait, so that memory is bounded."""

    running_after_s: float | None = None
    """Time after which an execution is recorded as ``Running``; `None`: as the `Pace` of the store says."""

    poll_interval_s: float = 30.0
    """Longest pause between two polls of an execution that its target has accepted."""

    limits: Mapping[str, int] = field(default_factory=dict)
    """
    Executions of a target type under way at once in this process. Surplus tasks wait as ``New``.

    A target type that is missing here has the limit of its target.
    """

    backoff_max_s: float = 30.0
    """Longest pause before a refused launch is sent again."""

    def __post_init__(self) -> None:
        """Check the settings. Raises: InvalidSettingError."""
        refuse_below(self, {"at_once_max": 1, "poll_interval_s": 0.001, "backoff_max_s": 0, "running_after_s": 0})
        refuse_type(self, "limits", Mapping, "a mapping of target types to whole numbers")
        for kind, limit in self.limits.items():
            _refuse_wrong_limit(f"LaunchSettings.limits[{kind}]", limit, 0)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of the engine. For `None`, the `Pace` of the store decides."""

    sweep_interval_s: float | None = None
    """Pause between two sweeps of the open runs, for starts, cancels and deaths that no event announces."""

    relook_s: float | None = None
    """Pause between two reads of an open run without a cause."""

    commit_interval_s: float | None = None
    """Shortest time between two commits of one run, see `aiorch.ports.Pace`."""

    drain_s: float = 5.0
    """Time for running tasks to end when the orchestrator is closed."""

    function_url: str | None = None
    """Pattern of a Cloud Function's URL, with ``{name}``, ``{project_id}``, ``{region}``; `None`: the gen1 form."""

    function_connections_max: int = FUNCTION_CONNECTIONS_MAX
    """Calls of Cloud Functions under way at once."""

    function_anonymous: bool = False
    """Send no ID token: for public functions, and for URLs outside Google Cloud."""

    function_impersonate: str | None = None
    """E-mail of the service account that calls the functions, `None`: the account of the credentials."""

    project_id: str | None = None
    """Project for steps without their own."""

    region: str | None = None
    """Region for steps without their own."""

    dataflow_api: str | None = None
    """Endpoint of the Dataflow API, e.g. a private one; `None`: the public one."""

    threads_max: int = 64
    """Synchronous callables that run at once. With 0 they run on the event loop, for tests in virtual time."""

    secrets: Mapping[str, str] | None = None
    """
    Where the secrets of definitions come from, by name: ``env:VARIABLE``, ``file:PATH`` or
    ``sm:projects/PROJECT/secrets/SECRET`` (Secret Manager).
    """

    launches: LaunchSettings = field(default_factory=LaunchSettings)

    def __post_init__(self) -> None:
        """Check the settings. Raises: InvalidSettingError."""
        refuse_below(self, {"sweep_interval_s": 0.001, "relook_s": 0, "commit_interval_s": 0, "drain_s": 0})
        refuse_below(self, {"function_connections_max": 1, "threads_max": 0})
        for name in ("function_url", "function_impersonate", "project_id", "region", "dataflow_api"):
            refuse_type(self, name, str, "a text")
        refuse_type(self, "function_anonymous", bool, "True or False")
        refuse_type(self, "launches", LaunchSettings, "a LaunchSettings")
        refuse_type(self, "secrets", Mapping, "a mapping of names to sources")
        for name, source in (self.secrets or {}).items():
            refuse_wrong_source(f"Settings.secrets[{name}]", source)
        refuse_unchecked(self, {"function_url": URL_PATTERN, "dataflow_api": URL})


SOURCE_FORMS = "env:VARIABLE, file:PATH or sm:projects/PROJECT/secrets/SECRET"


def refuse_wrong_source(setting: str, source: object) -> None:
    """Refuse a source of a secret without a known form. Raises: InvalidSettingError."""
    kind, colon, place = source.partition(":") if isinstance(source, str) else ("", "", "")
    if not colon or not place or kind not in ("env", "file", "sm"):
        raise InvalidSettingError(setting, source, f"must be {SOURCE_FORMS}, not {source!r}")


def refuse_below(settings: Any, least: Mapping[str, float]) -> None:
    """
    Refuse settings below their least values, and values that are no numbers. `None` is allowed as a default.

    Raises:
        InvalidSettingError: For the first wrong setting.
    """
    for name, minimum in least.items():
        value = getattr(settings, name)
        if _is_default_none(settings, name):
            continue
        if not (isinstance(value, int | float) and not isinstance(value, bool) and value >= minimum):
            rule = f"is {value!r} and must be a number of at least {minimum:g}"
            raise InvalidSettingError(f"{type(settings).__name__}.{name}", value, rule)


def refuse_type(settings: Any, name: str, kind: type[Any], described: str) -> None:
    """Refuse a setting of a wrong type. `None` is allowed as a default. Raises: InvalidSettingError."""
    value = getattr(settings, name)
    if not isinstance(value, kind) and not _is_default_none(settings, name):
        rule = f"is {value!r}, of type {type(value).__name__}, and must be {described}"
        raise InvalidSettingError(f"{type(settings).__name__}.{name}", value, rule)


def refuse_unchecked(settings: Any, checks: Mapping[str, str]) -> None:
    """
    Refuse settings that the functions of their names, ``module:function``, refuse with a ValueError.

    Raises:
        InvalidSettingError: With the text of the function, which shows no secret part of the value.
    """
    for name, check in checks.items():
        value = getattr(settings, name)
        if value is None:
            continue
        module, _, function = check.partition(":")
        try:
            getattr(import_module(module), function)(value)
        except ValueError as error:
            rule = f"cannot be used: {str(error).rstrip('.')}"
            raise InvalidSettingError(f"{type(settings).__name__}.{name}", value, rule) from error


def _is_default_none(settings: Any, name: str) -> bool:
    return getattr(settings, name) is None and getattr(type(settings), name, settings) is None


def _refuse_wrong_limit(setting: str, value: Any, least: int) -> None:
    if not (isinstance(value, int) and not isinstance(value, bool) and value >= least):
        rule = f"is {value!r} and must be a whole number of at least {least}"
        raise InvalidSettingError(setting, value, rule)


class TargetSetting(NamedTuple):
    """
    One setting of a kind of target: a row of the table in its settings class.

    The `name` is the same everywhere: ``function_url`` gives the environment variable ``AIORCH_FUNCTION_URL``, the
    option ``--function-url`` and, for the built-in kinds, the argument ``Settings(function_url=…)``.
    """

    attribute: str
    """Name of the field in the settings class."""

    name: str
    default: Any
    type: type[Any]
    """`str`, `int`, `float` or `bool`; all types except `bool` also allow `None`."""

    help: str
    give: str
    """Description of a correct value, for messages."""

    metavar: str | None
    check: str | None
    """A function ``module:function`` that raises a ValueError for a wrong value."""

    least: float | None
    is_option: bool
    """Whether the command line has an option and reads the environment variable."""

    is_variable: bool
    """Whether the service reads the environment variable."""


def setting(  # noqa: PLR0913  a row of a table
    default: Any,
    help: str,  # noqa: A002
    *,
    name: str | None = None,
    type: type[Any] = str,  # noqa: A002
    give: str = "",
    metavar: str | None = None,
    check: str | None = None,
    least: float | None = None,
    is_option: bool = True,
    is_variable: bool = True,
) -> Any:
    """Return a field of a `TargetSettings`; see `TargetSetting`. The default *name* is that of the field."""
    row = (default, type, help, give, metavar, check, least, is_option, is_variable)
    return field(default=default, metadata={"row": (name, *row)})


_TYPES: Mapping[type[Any], str] = {str: "a text", bool: "True or False"}
"""The types of settings that are no numbers, with their descriptions."""


@dataclass(frozen=True, kw_only=True)
class TargetSettings:
    """
    Settings of one kind of target. Each kind has a subclass with one field, created by `setting`, per setting.

    These fields are the only declaration of a setting: environment variables, command line options and the texts of
    messages follow from them.
    """

    target_type: ClassVar[str]

    limit: int | None = None
    """Executions under way at once in this process. `None`: the limit of the kind."""

    def __post_init__(self) -> None:
        """Check the settings. Raises: InvalidSettingError."""
        for row in self.rows():
            if row.type in _TYPES:
                refuse_type(self, row.attribute, row.type, _TYPES[row.type])
        refuse_below(self, {row.attribute: row.least for row in self.rows() if row.least is not None})
        refuse_unchecked(self, {row.attribute: row.check for row in self.rows() if row.check is not None})
        if self.limit is not None:
            _refuse_wrong_limit(f"{type(self).__name__}.limit", self.limit, 0)

    @classmethod
    def rows(cls) -> tuple[TargetSetting, ...]:
        """Return the table of the settings."""
        rows = [(each.name, *each.metadata["row"]) for each in fields(cls) if "row" in each.metadata]
        return tuple(TargetSetting(attribute, name or attribute, *rest) for attribute, name, *rest in rows)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return these settings with the values that the settings of the process have under the same names."""
        names = {each.name for each in fields(settings)}
        return cls(**{row.attribute: getattr(settings, row.name) for row in cls.rows() if row.name in names})
