"""
The settings of the service, from the environment: typed, with all mistakes reported at once.

The variable of a field is ``AIORCH_`` and its name in capitals. An empty variable counts as not set, except the token:
an empty token would protect no request.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    create_model,
)
from pydantic import field_validator as check
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from aiorch.errors import AiorchError
from aiorch.model.url import MASK, masked
from aiorch.settings import SOURCE_FORMS, TargetSetting, TargetSettings, refuse_wrong_source
from aiorch.stores import DEFAULT_STORE, open_store
from aiorch.system.environment import PREFIX, service_variables, unknown_variables
from aiorch.targets.kind import load, settings_classes

VALUE_CHARS_MAX = 200

OWN_NAME_VARIABLES = ("K_SERVICE", "K_REVISION", "K_CONFIGURATION", "FUNCTION_TARGET", "FUNCTION_NAME")
"""Variables in which Cloud Run and Cloud Functions give a container its name."""


def _store(url: str) -> str:
    open_store(url)  # opens no connection, and creates no file
    return url


def _subscription(name: str) -> str:
    from aiorch.sources.pubsub_api import check_name  # noqa: PLC0415  imported only when used

    return check_name("subscription", name)


def _address(text: str) -> str:
    if "/" in text or ":" not in text:
        raise ValueError("it is not host:port")
    return text


def _split(separator: str) -> Callable[[Any], Any]:
    def split(value: Any) -> Any:
        return [part.strip() for part in value.split(separator) if part.strip()] if isinstance(value, str) else value

    return split


def _sources(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    sources = dict(pair.partition("=")[::2] for pair in _split(",")(value))
    for name, source in sources.items():
        refuse_wrong_source(f"the source of the secret {name!r}", source)
    return sources


def _there(path: Path) -> Path:
    if not path.exists():
        raise ValueError(f"there is no file or folder {str(path)!r}")
    return path


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise ValueError(f"{str(path)!r} is no folder")
    return path


_Text = Annotated[str, Field(min_length=1)]
_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=1)]
_Paths = Annotated[tuple[Annotated[Path, AfterValidator(_there)], ...], NoDecode, BeforeValidator(_split(os.pathsep))]
_Folders = Annotated[
    tuple[Annotated[Path, AfterValidator(_folder)], ...], NoDecode, BeforeValidator(_split(os.pathsep))
]
_Names = Annotated[frozenset[str], NoDecode, BeforeValidator(_split(","))]
_Sources = Annotated[dict[str, str], NoDecode, BeforeValidator(_sources)]


def _variable(default: Any, meaning: str, give: str, **more: Any) -> Any:
    """A setting: its default, its meaning, and the expected form for error messages."""
    return Field(default, description=meaning, json_schema_extra={"give": give}, **more)


class _GeneralSettings(BaseSettings):
    """The settings of ``service.py``. Created by `load_settings`."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        alias_generator=lambda name: PREFIX + name.upper(),
        case_sensitive=True,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
    )

    store: Annotated[str, AfterValidator(_store)] = _variable(
        DEFAULT_STORE, "store of the runs", "gs://bucket/prefix, sqlite:///path or memory:"
    )
    subscription: Annotated[str, AfterValidator(_subscription)] | None = _variable(
        None,
        "subscription to pull messages from; without one, messages come only from within the process",
        "projects/PROJECT/subscriptions/NAME",
    )
    dags: _Paths = _variable(
        (),
        "definitions that may be started by name, or folders of definitions",
        "files or folders that exist, between ':'",
    )
    path: _Folders = _variable((), "additional folders with callables", "folders that exist, between ':'")
    host: _Text = _variable("0.0.0.0", "address to bind", "an address of this machine")  # noqa: S104  a container's
    port: Annotated[int, Field(ge=0, le=65535)] = _variable(
        8080,
        "port to bind, 0 for a free one",
        "a whole number from 0 to 65535",
        validation_alias=AliasChoices("AIORCH_PORT", "PORT"),
    )
    project_id: _Text | None = _variable(
        None,
        "project for steps without their own",
        "the id of a project",
        validation_alias=AliasChoices("AIORCH_PROJECT_ID", "GOOGLE_CLOUD_PROJECT"),
    )
    region: _Text | None = _variable(None, "region for steps without their own", "a region like europe-west1")
    concurrency: _Count = _variable(1000, "messages held at once", "a whole number from 1")
    launches: _Count = _variable(10_000, "executions under way at once", "a whole number from 1")
    poll_interval: _Seconds = _variable(30.0, "longest pause between two polls of a Dataflow job", "seconds above 0")
    sweep_interval: _Seconds | None = _variable(
        None, "pause between two sweeps of the open runs; by default the store decides", "seconds above 0"
    )
    heartbeat: _Seconds = _variable(
        20.0, "pause between two heartbeats, in a bucket", "seconds above 0, at most half of AIORCH_DEAD_AFTER"
    )
    dead_after: _Seconds = _variable(
        60.0, "silence after which a process counts as dead, in a bucket", "seconds, at least twice AIORCH_HEARTBEAT"
    )
    drain: Annotated[float, Field(ge=0, allow_inf_nan=False)] = _variable(
        3.0, "time for running tasks to end after SIGTERM", "seconds from 0"
    )
    log_level: Literal["debug", "info", "warning", "error"] = _variable(
        "info", "lowest level of the logged records", "debug, info, warning or error"
    )
    serve_token: Annotated[SecretStr, Field(min_length=1)] | None = _variable(
        None,
        "bearer token that every request except the probes must carry",
        "a secret, or leave it unset",
    )
    serve_allow_definitions: bool = _variable(
        False, "let requests carry their own definitions, which can name any callable", "true or false"
    )
    secrets: _Sources | None = _variable(
        None, "where the secrets of definitions come from", f"NAME=SOURCE, between ','; a source is {SOURCE_FORMS}"
    )
    own_names: _Names = _variable(
        frozenset(), "further names under which this service is deployed", "names, between ','"
    )
    storage_emulator_host: _Text | None = _variable(
        None,
        "emulator of Cloud Storage, without credentials",
        "host:port or a URL",
        validation_alias="STORAGE_EMULATOR_HOST",
    )
    pubsub_emulator_host: Annotated[str, AfterValidator(_address)] | None = _variable(
        None,
        "emulator of Pub/Sub, without credentials",
        "host:port, without http://",
        validation_alias="PUBSUB_EMULATOR_HOST",
    )

    @check("dead_after")
    @classmethod
    def _fits(cls, dead_after: float, info: ValidationInfo) -> float:
        heartbeat = info.data.get("heartbeat")
        if heartbeat is not None and dead_after < 2 * heartbeat:
            raise ValueError(f"with a heartbeat every {heartbeat:g} s, one lost heartbeat would count as death")
        return dead_after

    @property
    def log_project_id(self) -> str | None:
        """Project of the traces: that of the service, if known."""
        return self.project_id or (self.subscription.split("/")[1] if self.subscription else None)

    def with_own_names(self, environment: Mapping[str, str]) -> Self:
        """Add the names that the platform gives this process."""
        told = {name for variable in OWN_NAME_VARIABLES if (name := environment.get(variable))}
        return self.model_copy(update={"own_names": self.own_names | told})


def _fields_of_targets() -> dict[str, Any]:
    """Return the fields that the tables of the kinds of targets declare."""
    rows = [row for each in settings_classes() for row in each.rows() if row.is_variable]
    return {
        row.name: (_type_of(row), _variable(row.default, f"{row.help[0].lower()}{row.help[1:].rstrip('.')}", row.give))
        for row in rows
    }


def _type_of(row: TargetSetting) -> Any:
    kind: Any = {str: _Text, bool: bool}.get(row.type, Annotated[row.type, Field(ge=row.least)])
    if row.check is not None:
        kind = Annotated[kind, AfterValidator(partial(_checked, row.check))]
    return kind if row.default is not None else kind | None


def _checked(check: str, value: Any) -> Any:
    load(check)(value)
    return value


if TYPE_CHECKING:

    class ServiceSettings(_GeneralSettings):
        """The settings of ``service.py``. Created by `load_settings`."""

else:
    ServiceSettings = create_model("ServiceSettings", __base__=_GeneralSettings, **_fields_of_targets())


def target_settings(settings: ServiceSettings) -> list[TargetSettings]:
    """Return the settings of the kinds of targets."""
    return [
        each(**{row.attribute: getattr(settings, row.name) for row in each.rows() if row.is_variable})
        for each in settings_classes()
    ]


class Wrong(NamedTuple):
    """One mistake in the environment."""

    variable: str
    value: str
    """The value in a form that may be shown."""

    problem: str
    """The problem and the remedy."""

    def __str__(self) -> str:
        return f"{self.variable} is {self.value}: {self.problem}"


class SettingsError(AiorchError):
    """The settings in the environment are wrong, so the service was not started. Correct every entry of `wrong`."""

    def __init__(self, wrong: Iterable[Wrong]) -> None:
        self.wrong = tuple(wrong)
        count = f"{len(self.wrong)} setting{'s are' if len(self.wrong) != 1 else ' is'} wrong"
        super().__init__("\n  - ".join([f"{count}, so the service was not started:", *map(str, self.wrong)]))


def variables(field: str) -> tuple[str, ...]:
    """Return the environment variables of a setting, in order of precedence."""
    return _variables(ServiceSettings.model_fields[field])


def shown_default(field: str) -> str:
    """Return the default of a setting as text, ``""`` for none."""
    return _shown(ServiceSettings.model_fields[field].default)


def load_settings() -> ServiceSettings:
    """
    Read the environment.

    Raises:
        SettingsError: With all mistakes in the environment.
    """
    environment = os.environ
    wrong = [*_unknown(environment), *_empty_secrets(environment)]
    settings = None
    try:
        settings = ServiceSettings()
    except ValidationError as error:
        wrong += [_wrong(problem, environment) for problem in error.errors(include_url=False)]
    if wrong or settings is None:
        raise SettingsError(sorted(wrong))
    return settings.with_own_names(environment)


def effective(settings: ServiceSettings) -> str:
    """Return every setting as a line ``NAME=value``, with secrets masked and defaults marked."""
    lines = []
    for name, field in ServiceSettings.model_fields.items():
        value = getattr(settings, name)
        note = "" if name in settings.model_fields_set else "  (default)"
        lines.append(f"{_variables(field)[0]}={_shown(value)}{note}")
    return "\n".join(lines)


def _variables(field: FieldInfo) -> tuple[str, ...]:
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return tuple(str(choice) for choice in alias.choices)
    return (str(alias),)


_FIELDS = {variable: field for field in ServiceSettings.model_fields.values() for variable in _variables(field)}


def _unknown(environment: Mapping[str, str]) -> list[Wrong]:
    wrong = []
    for name, meant in unknown_variables(environment, service_variables()).items():
        hint = f"did you mean {meant}?" if meant else "unset the variable, or see docs/service.md for all settings"
        wrong.append(Wrong(name, MASK, f"there is no such setting: {hint}"))
    return wrong


def _empty_secrets(environment: Mapping[str, str]) -> list[Wrong]:
    return [
        Wrong(name, "empty", f"an empty token would protect no request. Give {_give(_FIELDS[name])}")
        for name in ("AIORCH_SERVE_TOKEN",)
        if environment.get(name) == ""
    ]


def _wrong(problem: Any, environment: Mapping[str, str]) -> Wrong:
    where = str(problem["loc"][0])  # the variable; for a default that is no longer valid, the field
    field = _FIELDS[where] if where in _FIELDS else ServiceSettings.model_fields[where]
    names = _variables(field)
    variable = next((name for name in names if environment.get(name)), names[0])
    given = environment.get(variable)
    value = repr(masked(given)[:VALUE_CHARS_MAX]) if given else _shown(field.default)
    message = str(problem["ctx"]["error"] if "error" in problem.get("ctx", {}) else problem["msg"]).rstrip(".")
    if given:
        message = message.replace(repr(given), repr(masked(given)))
    return Wrong(variable, MASK if _is_secret(field) else value, f"{message}. Give {_give(field)}")


def _give(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    return str(extra["give"])


def _is_secret(field: FieldInfo) -> bool:
    return "SecretStr" in str(field.annotation)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, frozenset):
        return ",".join(sorted(value))
    return os.pathsep.join(map(str, value)) if isinstance(value, tuple) else masked(str(value))
