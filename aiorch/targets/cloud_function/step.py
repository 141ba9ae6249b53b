"""The step of a `CloudFunction`."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, Strict

from aiorch.model.dag import Task
from aiorch.model.enums import OnNoResult
from aiorch.model.findings import Finding, Hints
from aiorch.steps import Given, ProjectId, Region, TaskStep
from aiorch.targets.cloud_function.node import CloudFunction


class CloudFunctionStep(TaskStep):
    """Calls a Cloud Function of either generation, or any URL."""

    task_class: ClassVar[type[Task]] = CloudFunction
    target_failures: ClassVar[frozenset[str]] = frozenset(
        # Without 429, which is no failure: the same attempt is sent again. The last line is of the platform's own log.
        {
            *("3xx", "4xx", "5xx", "ConfigurationError", "NoCredentials", "ResultNotJSON", "ResultTooLarge"),
            *("connection error", "crash", "error", "load error", "response error"),
        }
    )

    target_type: Literal["CloudFunction"] = Field(description="A Cloud Function, called over HTTP.")
    project_id: Given[ProjectId] = Field(
        None, description="Project of the function; a setting when left out.", examples=["my-project-1"]
    )
    region: Given[Region] = Field(
        None, description="Region of the function; a setting when left out.", examples=["europe-west1"]
    )
    url: Given[Annotated[str, Field(max_length=2048, json_schema_extra={"pattern": "^https?://"})]] = Field(
        None,
        description="URL of the function, if not the URL made of name, project and region.",
        examples=["https://example.com/my-function"],
    )
    on_no_result: Given[Annotated[OnNoResult, Strict(False)]] = Field(
        None,
        description="Rule for a call that succeeded and whose answer was lost. When left out: `fail` with "
        "`on_lost: fail`, `call_again` where a later Python function may read the result, else `accept`.",
    )

    @classmethod
    def find_problems(cls, data: Mapping[str, Any], hints: Hints) -> Iterator[Finding]:
        """Yield the problem of the URL, too."""
        yield from super().find_problems(data, hints)
        if isinstance(data.get("url"), str):
            from aiorch.model.url import checked_url  # noqa: PLC0415  most definitions hold no URL

            try:
                checked_url(data["url"])
            except ValueError as error:
                yield Finding(("url",), str(error), at_value=True)
