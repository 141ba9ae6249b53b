"""`CloudFunction`: a task that is an HTTP call."""

from functools import cached_property

from aiorch.model.dag import Task
from aiorch.model.enums import OnLost, OnNoResult
from aiorch.targets.cloud_function import KIND
from aiorch.targets.kind import TargetKind


class CloudFunction(Task):
    """An HTTP call of a Cloud Function of either generation, or of any URL."""

    target_kind: TargetKind = KIND

    @property
    def project_id(self) -> str | None:
        """Project of the function, `None`: the one of the settings."""
        return self.options.get("project_id")

    @property
    def region(self) -> str | None:
        """Region of the function, `None`: the one of the settings."""
        return self.options.get("region")

    @property
    def url(self) -> str | None:
        """URL of the function, `None`: the URL made of name, project and region."""
        return self.options.get("url")

    def region_for(self, default: str | None) -> str | None:
        """Return the region of the function; a URL does not tell it."""
        return self.region or (default if self.url is None else None)

    @property
    def reads_results(self) -> bool:
        """Only the function that is called before the launch may read results."""
        return self.function is not None

    @cached_property
    def on_no_result(self) -> OnNoResult:
        """The rule for a success without its result; by default the effects of a second call decide."""
        given: OnNoResult | None = self.options.get("on_no_result")
        if given is not None:
            return given
        if self.on_lost is OnLost.FAIL:
            return OnNoResult.FAIL
        is_read = self.name in self.parent_dag.root.nodes_read or any(
            isinstance(node, Task) and node.reads_results for node in self.later_nodes()
        )
        return OnNoResult.CALL_AGAIN if is_read else OnNoResult.ACCEPT
