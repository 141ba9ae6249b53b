"""Settings of the target for Cloud Functions."""

from dataclasses import dataclass
from typing import ClassVar

from aiorch.settings import FUNCTION_CONNECTIONS_MAX, URL_PATTERN, TargetSettings, setting


@dataclass(frozen=True, kw_only=True)
class CloudFunctions(TargetSettings):
    """Settings for the calls of Cloud Functions."""

    target_type: ClassVar[str] = "CloudFunction"

    url: str | None = setting(
        None,
        "URL of Cloud Functions whose step has no url, with {name}, {project_id} and {region}.",
        name="function_url",
        give="an https URL with {name}, {service}, {project_id} and {region}",
        metavar="PATTERN",
        check=URL_PATTERN,
    )
    anonymous: bool = setting(
        False,
        "Send no ID tokens: for public functions, and for URLs outside Google Cloud.",
        name="function_anonymous",
        type=bool,
        give="true or false",
    )
    impersonate: str | None = setting(
        None,
        "Service account that calls the Cloud Functions.",
        name="function_impersonate",
        give="the e-mail of a service account",
        metavar="E-MAIL",
    )
    connections_max: int = setting(
        FUNCTION_CONNECTIONS_MAX,
        "Calls of Cloud Functions under way at once.",
        name="function_connections_max",
        type=int,
        least=1,
        is_option=False,
        is_variable=False,
    )
