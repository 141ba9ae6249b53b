"""Settings of the library that make no sense are refused where they are made, and not met hours later."""

import re
from collections.abc import Callable
from typing import Any, cast

import pytest

from aiorch import AiorchError, InvalidSettingError, Settings
from aiorch.model.enums import TargetTypes
from aiorch.settings import LaunchSettings
from aiorch.stores.concurrency import REQUESTS_MAX
from aiorch.targets import CloudFunctions, Dataflow, Functions
from aiorch.targets.cloud_function.target import CloudFunctionTarget


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (Settings, "drain_s", -1),
        (Settings, "drain_s", float("nan")),
        (Settings, "drain_s", "5"),
        (Settings, "sweep_interval_s", 0),
        (Settings, "commit_interval_s", -0.1),
        (Settings, "threads_max", -1),
        (Settings, "function_connections_max", 0),
        (Settings, "threads_max", None),
        (LaunchSettings, "at_once_max", 0),
        (LaunchSettings, "poll_interval_s", 0),
        (LaunchSettings, "running_after_s", -1),
    ],
)
def test_a_setting_out_of_its_range_is_refused(kind: Any, name: str, value: Any) -> None:
    """The message names the setting, the value, what it must be and what did not happen."""
    with pytest.raises(InvalidSettingError) as refused:
        kind(**{name: value})
    assert isinstance(refused.value, AiorchError)
    assert refused.value.setting == f"{kind.__name__}.{name}"
    for part in (
        f"{kind.__name__}.{name} is {value!r}",
        "at least",
        "these settings were not made",
        "Correct the setting",
    ):
        assert part in str(refused.value)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: CloudFunctions(limit=-1), "CloudFunctions.limit is -1 and must be a whole number of at least 0"),
        (lambda: CloudFunctions(limit=cast("Any", "5")), "CloudFunctions.limit is '5' and must be a whole number"),
        (lambda: CloudFunctions(limit=cast("Any", 0.5)), "CloudFunctions.limit is 0.5 and must be a whole number"),
        (lambda: Dataflow(limit=cast("Any", 1.5)), "Dataflow.limit is 1.5 and must be a whole number"),
        (lambda: Functions(limit=True), "Functions.limit is True and must be a whole number"),
        (lambda: CloudFunctions(url="https://{nope}.x/"), "CloudFunctions.url cannot be used: URL pattern"),
        (lambda: CloudFunctions(url="nope"), "CloudFunctions.url cannot be used: URL 'nope' is not valid"),
        (lambda: CloudFunctions(url=cast("Any", 5)), "CloudFunctions.url is 5, of type int, and must be a text"),
        (
            lambda: CloudFunctions(anonymous=cast("Any", 1)),
            "CloudFunctions.anonymous is 1, of type int, and must be",
        ),
        (lambda: Dataflow(api="nope"), "Dataflow.api cannot be used: URL 'nope' is not valid"),
        (lambda: Functions(search_paths="abc"), "Functions.search_paths is 'abc', one folder, and must be a list"),
        (
            lambda: Functions(functions=cast("Any", [1])),
            "Functions.functions is [1], of type list, and must be a mapping",
        ),
        (
            lambda: Functions(functions=cast("Any", {"a": 1})),
            "Functions.functions['a'] is 1, of type int, and must be a c",
        ),
        (lambda: Settings(launches=cast("Any", {"at_once_max": 3})), "of type dict, and must be a LaunchSettings"),
        (lambda: Settings(project_id=cast("Any", 5)), "Settings.project_id is 5, of type int, and must be a text"),
        (lambda: Settings(function_url="https://{nope}.x/"), "Settings.function_url cannot be used: URL pattern"),
        (lambda: Settings(dataflow_api="nope"), "Settings.dataflow_api cannot be used: URL 'nope' is not valid"),
        (lambda: Settings(drain_s=True), "Settings.drain_s is True and must be a number"),
        (lambda: LaunchSettings(limits={"Function": cast("Any", "3")}), "limits[Function] is '3' and must be a whole"),
        (
            lambda: LaunchSettings(limits=cast("Any", 3)),
            "LaunchSettings.limits is 3, of type int, and must be a mapping",
        ),
    ],
)
def test_a_setting_of_a_wrong_type_is_refused(make: Callable[[], Any], said: str) -> None:
    """The settings are not made, and the message names the setting, the value and the rule."""
    with pytest.raises(InvalidSettingError, match=re.escape(said)) as refused:
        make()
    assert "so these settings were not made. Correct the setting" in str(refused.value)


def test_a_refused_url_shows_no_password() -> None:
    """The message of a URL with a password repeats neither user name nor password."""
    with pytest.raises(InvalidSettingError) as refused:
        CloudFunctions(url="https://someone:secret@host/{name}")
    assert "secret" not in str(refused.value)


def test_a_limit_below_nothing_is_refused() -> None:
    """The message names the target type."""
    with pytest.raises(InvalidSettingError, match=r"LaunchSettings.limits\[Dataflow\] is -1"):
        LaunchSettings(limits={TargetTypes.DATAFLOW: -1})


def test_settings_that_the_store_decides_are_optional() -> None:
    """`None` stands for the store's own pace, and a drain may last for ever."""
    assert Settings().sweep_interval_s is None
    assert LaunchSettings(running_after_s=None).running_after_s is None
    assert Settings(drain_s=float("inf")).drain_s == float("inf")


def test_outgoing_connections_fit_the_files_that_a_process_may_open() -> None:
    """Calls, store and incoming connections leave 64 of 1,024 files; settings and target have the same number."""
    incoming = 1024 // 4
    assert CloudFunctionTarget(anonymous=True)._connections_max == Settings().function_connections_max
    assert Settings().function_connections_max + REQUESTS_MAX + incoming + 64 <= 1024
