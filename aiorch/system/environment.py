"""The environment variables that aiorch reads, and hints for misspelt ones."""

from collections.abc import Iterable

PREFIX = "AIORCH_"

SERVICE_VARIABLES = frozenset(
    PREFIX + name
    for name in (
        *("STORE", "SUBSCRIPTION", "DAGS", "PATH", "HOST", "PORT", "PROJECT_ID", "REGION"),
        *("CONCURRENCY", "LAUNCHES", "POLL_INTERVAL", "SWEEP_INTERVAL", "HEARTBEAT", "DEAD_AFTER"),
        *("DRAIN", "LOG_LEVEL", "SECRETS", "SERVE_TOKEN", "SERVE_ALLOW_DEFINITIONS", "OWN_NAMES"),
    )
)
"""Variables of the service, without those of targets. `aiorch.service.settings` has their types, but imports slowly."""


def service_variables(*, installed: bool = True) -> frozenset[str]:
    """Return the variables of the service, with those of the kinds of targets: of all, or of the built-in ones."""
    from aiorch.targets.kind import settings_classes  # noqa: PLC0415  `aiorch --help` needs none

    rows = [row for each in settings_classes(installed=installed) for row in each.rows() if row.is_variable]
    return SERVICE_VARIABLES.union(PREFIX + row.name.upper() for row in rows)


def unknown_variables(environment: Iterable[str], known: Iterable[str]) -> dict[str, str | None]:
    """Return the variables with the prefix that are not *known*, each with the most similar known name, if any."""
    names = sorted({name for name in environment if name.startswith(PREFIX)}.difference(known))
    if not names:
        return {}
    from aiorch.model.findings import Hints  # noqa: PLC0415  the command line starts faster without this import

    hints, by_word = Hints(), {variable.removeprefix(PREFIX): variable for variable in sorted(known)}
    return {name: by_word.get(hints.closest(name.removeprefix(PREFIX), by_word) or "") for name in names}
