"""Cloud Functions and other URLs, called over HTTP."""

from aiorch.model.execution_kind import CALL
from aiorch.targets.kind import TargetKind

TIMEOUT_GEN2_S = 3600.0
"""
The longest timeout that the platform has for a function that is called over HTTP.

Source: GCP documentation, "Configure function timeout": 540 s (gen1), 3,600 s (gen2, HTTP). The name of a function does
not tell its generation, so the longer timeout stands.
"""

TIMEOUT_SLACK_S = 60.0
"""Seconds by which the default timeout exceeds the platform's: the platform ends the call, and we record that end."""

KIND = TargetKind(
    name="CloudFunction",
    execution=CALL,
    step="aiorch.targets.cloud_function.step:CloudFunctionStep",
    target="aiorch.targets.cloud_function.target:CloudFunctionTarget.of",
    settings="aiorch.targets.cloud_function.settings:CloudFunctions",
    events={
        "resource:cloud_function": "aiorch.targets.cloud_function.events:function_end",
        "resource:cloud_run_revision": "aiorch.targets.cloud_function.events:request_end",
    },
    default_timeout_s=TIMEOUT_GEN2_S + TIMEOUT_SLACK_S,
    schema_version=1,
)
