"""
The runtime environment of a Dataflow job: its permitted fields, by the kind of template, and the type of each field.

Source: Dataflow REST reference v1b3, "RuntimeEnvironment" (Classic) and "FlexTemplateRuntimeEnvironment" (Flex).
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from aiorch.model.enums import DataflowTemplateType
from aiorch.model.findings import Finding, Hints, Key, shown

OWN_LABELS = "aiorch_"
"""Prefix of the names of the labels that aiorch itself gives to a job."""

USER_LABELS_MAX = 60
"""A job has 64 labels at most, and ours are among them. Source: Dataflow REST reference v1b3, "Job", `labels`."""


class _Kind(NamedTuple):
    words: str
    accepts: Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _one_of(prefix: str, *names: str) -> _Kind:
    values = [f"{prefix}_{name}" for name in names]
    return _Kind(f"one of {', '.join(f'`{value}`' for value in values)}", values.__contains__)


_TEXT = _Kind("text", _is_text)
_FLAG = _Kind("true or false", lambda value: isinstance(value, bool))
_COUNT = _Kind("a whole number from 0 to 2147483647", _is_count)
_BUCKET = _Kind("a `gs://` path", lambda value: _is_text(value) and re.match(r"gs://[^/\s]", value) is not None)
_TEXTS = _Kind("a list of texts", lambda value: isinstance(value, list) and all(map(_is_text, value)))
_LABELS = _Kind("a mapping of labels", lambda value: isinstance(value, dict))

_EITHER: dict[str, _Kind] = {
    "additionalExperiments": _TEXTS,
    "additionalPipelineOptions": _TEXTS,
    "additionalUserLabels": _LABELS,
    "diskSizeGb": _COUNT,
    "enableStreamingEngine": _FLAG,
    "ipConfiguration": _one_of("WORKER_IP", "UNSPECIFIED", "PUBLIC", "PRIVATE"),
    "kmsKeyName": _TEXT,
    "machineType": _TEXT,
    "maxWorkers": _COUNT,
    "network": _TEXT,
    "numWorkers": _COUNT,
    "serviceAccountEmail": _TEXT,
    "streamingMode": _one_of("STREAMING_MODE", "UNSPECIFIED", "EXACTLY_ONCE", "AT_LEAST_ONCE"),
    "subnetwork": _TEXT,
    "tempLocation": _BUCKET,
    "workerRegion": _TEXT,
    "workerZone": _TEXT,
    "zone": _TEXT,
}
_OF_ONE: dict[DataflowTemplateType, dict[str, _Kind]] = {
    DataflowTemplateType.CLASSIC: {"bypassTempDirValidation": _FLAG},
    DataflowTemplateType.FLEX: {
        "autoscalingAlgorithm": _one_of("AUTOSCALING_ALGORITHM", "UNKNOWN", "NONE", "BASIC"),
        "dumpHeapOnOom": _FLAG,
        "enableLauncherVmSerialPortLogging": _FLAG,
        "flexrsGoal": _one_of("FLEXRS", "UNSPECIFIED", "SPEED_OPTIMIZED", "COST_OPTIMIZED"),
        "launcherMachineType": _TEXT,
        "saveHeapDumpsToGcsPath": _BUCKET,
        "sdkContainerImage": _TEXT,
        "stagingLocation": _BUCKET,
    },
}


def check_environment(
    key: Key, environment: Mapping[str, Any], template_type: DataflowTemplateType, hints: Hints
) -> Iterator[Finding]:
    """
    Yield every problem of an environment.

    Args:
        key: Place of the environment in the definition.

        environment: The environment as the user wrote it.

        template_type: Kind of the template that the step names.

        hints: Finds the known word that an unknown word resembles most.
    """
    known = _EITHER | _OF_ONE[template_type]
    for name, value in environment.items():
        kind = known.get(name)
        if kind is None:
            yield Finding((*key, name), _unknown(name, template_type, known, hints))
        elif not kind.accepts(value):
            yield Finding((*key, name), f"must be {kind.words}, not {shown(value)}", at_value=True)
        elif kind is _LABELS:
            yield from _check_labels((*key, name), value)
    if environment.keys() >= {"workerRegion", "workerZone"}:
        yield Finding((*key, "workerZone"), "`workerRegion` is given too, and a job may have one of the two")


def _unknown(name: str, template_type: DataflowTemplateType, known: Mapping[str, _Kind], hints: Hints) -> str:
    for other, names in _OF_ONE.items():
        if name in names:
            return f"`{name}` is for {other} templates, and this step names a {template_type} template"
    closest = hints.closest(name, known)
    return f"unknown field; did you mean `{closest}`?" if closest else f"unknown field; known here: {', '.join(known)}"


def _check_labels(key: Key, labels: Mapping[str, Any]) -> Iterator[Finding]:
    if len(labels) > USER_LABELS_MAX:
        message = f"these are {len(labels)} labels, and {USER_LABELS_MAX} are left beside those that aiorch gives"
        yield Finding(key, message, at_value=True)
    for name, value in labels.items():
        if name.startswith(OWN_LABELS):
            yield Finding((*key, name), f"labels that begin with `{OWN_LABELS}` are given by aiorch: use another name")
        elif not _is_label(name) or unicodedata.category(name[0]) not in _LETTERS:
            yield Finding((*key, name), f"the name of a label begins with a small letter, and has {_LABEL}")
        if not isinstance(value, str) or (value and not _is_label(value)):
            yield Finding((*key, name), f"must be text of {_LABEL}, not {shown(value)}", at_value=True)


_LABEL = "small letters, digits, `_` and `-`, 63 at most"
_LETTERS = frozenset({"Ll", "Lo"})


def _is_label(text: str) -> bool:
    """Source: Dataflow REST reference v1b3, "Job", `labels`: letters of any script that are not capitals."""
    return 0 < len(text) <= 63 and len(text.encode("utf-8", "replace")) <= 128 and all(map(_is_in_labels, text))


def _is_in_labels(char: str) -> bool:
    category = unicodedata.category(char)
    return char in "_-" or category in _LETTERS or category.startswith("N")
