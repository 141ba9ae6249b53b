"""The runtime environment of Dataflow steps: every field checked, every mistake found when the DAG is built."""

from typing import Any

import pytest

from aiorch.definition.build import DAGBuilder
from aiorch.errors import DefinitionError
from tests.documentation import named, section

EITHER = {
    "additionalExperiments": ["use_runner_v2"],
    "additionalPipelineOptions": ["--foo=1"],
    "additionalUserLabels": {"team": "data", "größe": "", "数": "1"},
    "diskSizeGb": 0,
    "enableStreamingEngine": True,
    "ipConfiguration": "WORKER_IP_PRIVATE",
    "kmsKeyName": "projects/p/locations/l/keyRings/r/cryptoKeys/k",
    "machineType": "n1-standard-1",
    "maxWorkers": 1000,
    "network": "default",
    "numWorkers": 1,
    "serviceAccountEmail": "worker@acme.iam.gserviceaccount.com",
    "streamingMode": "STREAMING_MODE_AT_LEAST_ONCE",
    "subnetwork": "regions/europe-west1/subnetworks/s",
    "tempLocation": "gs://acme/tmp",
    "workerZone": "europe-west1-b",
    "zone": "europe-west1-b",
}
CLASSIC = {"bypassTempDirValidation": False}
FLEX = {
    "autoscalingAlgorithm": "AUTOSCALING_ALGORITHM_NONE",
    "dumpHeapOnOom": True,
    "enableLauncherVmSerialPortLogging": True,
    "flexrsGoal": "FLEXRS_COST_OPTIMIZED",
    "launcherMachineType": "n1-standard-1",
    "saveHeapDumpsToGcsPath": "gs://acme",
    "sdkContainerImage": "europe-docker.pkg.dev/acme/images/worker",
    "stagingLocation": "gs://acme/staging",
}
TEMPLATES = {"template_path": EITHER | CLASSIC, "container_gcs_path": EITHER | FLEX}


def build(template: str, environment: Any) -> Any:
    step = {
        "type": "Task",
        "target_type": "Dataflow",
        "target_name": "etl",
        template: "gs://acme/templates/etl",
        "environment": environment,
        "end": True,
    }
    return DAGBuilder({"start": "A", "steps": {"A": step}}).build_dag().tasks["A"]


def problems(template: str, environment: Any) -> list[tuple[str, str]]:
    with pytest.raises(DefinitionError) as caught:
        build(template, environment)
    return [(problem.path.removeprefix("steps.A.environment"), problem.message) for problem in caught.value.problems]


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_field_of_the_api_is_taken_as_it_is(template: str):
    """An environment with every field that the API has for such a template is kept unchanged."""
    assert build(template, TEMPLATES[template]).environment == TEMPLATES[template]


@pytest.mark.parametrize(
    ("template", "name"),
    [(template, name) for template, environment in TEMPLATES.items() for name in environment],
)
@pytest.mark.parametrize("value", [None, -1, 1.5, [1], {"A B": 3}, ""])
def test_no_field_takes_a_value_of_another_type(template: str, name: str, value: Any):
    """Null, numbers that are no counts, lists and mappings of the wrong things, and empty text are refused."""
    assert {path.split(".")[1].split("[")[0] for path, _ in problems(template, {name: value})} == {name}


@pytest.mark.parametrize(
    ("template", "environment", "path", "words"),
    [
        ("template_path", {"max_workers": 1}, ".max_workers", "unknown field; did you mean `maxWorkers`?"),
        ("template_path", {"Zzz": 1}, ".Zzz", "unknown field; known here: additionalExperiments, "),
        ("template_path", {"maxWorkers": True}, ".maxWorkers", "must be a whole number from 0 to 2147483647, not true"),
        ("template_path", {"maxWorkers": 2**31}, ".maxWorkers", "not the number 2147483648"),
        ("template_path", {"maxWorkers": "5"}, ".maxWorkers", "not '5'"),
        ("template_path", {"tempLocation": "s3://x"}, ".tempLocation", "must be a `gs://` path, not 's3://x'"),
        ("template_path", {"tempLocation": "gs://"}, ".tempLocation", "must be a `gs://` path"),
        ("template_path", {"ipConfiguration": "PRIVATE"}, ".ipConfiguration", "`WORKER_IP_PRIVATE`, not 'PRIVATE'"),
        ("template_path", {"stagingLocation": "gs://a"}, ".stagingLocation", "is for Flex templates, and this step"),
        (
            "container_gcs_path",
            {"bypassTempDirValidation": True},
            ".bypassTempDirValidation",
            "is for Classic templates",
        ),
        ("template_path", {"workerRegion": "a", "workerZone": "b"}, ".workerZone", "`workerRegion` is given too"),
        ("template_path", {"additionalUserLabels": {"Team": "x"}}, ".additionalUserLabels.Team", "small letter"),
        ("template_path", {"additionalUserLabels": {"1st": "x"}}, ".additionalUserLabels.1st", "small letter"),
        ("template_path", {"additionalUserLabels": {"team": "X"}}, ".additionalUserLabels.team", "not 'X'"),
        ("template_path", {"additionalUserLabels": {"team": 3}}, ".additionalUserLabels.team", "not the number 3"),
        ("template_path", {"additionalUserLabels": {"t": "x" * 64}}, ".additionalUserLabels.t", "63 at most"),
        ("template_path", {"additionalUserLabels": {"t": "数" * 43}}, ".additionalUserLabels.t", "63 at most"),
        (
            "template_path",
            {"additionalUserLabels": {"aiorch_execution": "0" * 32}},
            ".additionalUserLabels.aiorch_execution",
            "are given by aiorch: use another name",
        ),
        (
            "template_path",
            {"additionalUserLabels": {f"l{number}": "" for number in range(61)}},
            ".additionalUserLabels",
            "these are 61 labels, and 60 are left",
        ),
    ],
)
def test_a_wrong_environment_has_one_problem(template: str, environment: dict[str, Any], path: str, words: str):
    """What the API would refuse at the launch is refused when the DAG is built, and says what is meant."""
    [(found, message)] = problems(template, environment)
    assert found == path
    assert words in message


def test_the_documentation_names_every_field():
    """The page on Dataflow names the fields of either kind of template, those of each, and no others."""
    both, *each = section("docs/dataflow.md", "Environment").split("\n- ")
    fields = both.partition("These are fields of both kinds:")[2]
    assert set(named(fields)) == EITHER.keys() | {"workerRegion"}
    assert [set(named(line)) for line in each] == [CLASSIC.keys(), FLEX.keys()]
