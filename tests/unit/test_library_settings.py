"""Settings of the library that make no sense are refused where they are made, and not met hours later."""

from typing import Any

import pytest

from aiorch import AiorchError, InvalidSettingError, Settings
from aiorch.model.enums import TargetTypes
from aiorch.settings import LaunchSettings
from aiorch.stores.concurrency import REQUESTS_MAX
from aiorch.targets.cloud_function.target import CloudFunctionTarget


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (Settings, "drain_s", -1),
        (Settings, "drain_s", float("nan")),
        (Settings, "drain_s", "5"),
        (Settings, "sweep_interval_s", 0),
        (Settings, "commit_interval_s", -0.1),
        (Settings, "threads_max", 0),
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
    for part in (f"{kind.__name__}.{name} is {value!r}", "at least", "the store was not opened", "Correct the setting"):
        assert part in str(refused.value)


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
