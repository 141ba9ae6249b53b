"""`deploy/` is what `docs/deploy.md` says: the image, and what Terraform makes around it."""

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from aiorch.engine.answers import USER_AGENT_PREFIX
from aiorch.errors import MalformedEventError
from aiorch.events.decode import EventFactory
from aiorch.events.event import CloudFunctionEvent, StartEvent
from aiorch.model import names
from aiorch.service.settings import ServiceSettings, variables
from tests.documentation import REPOSITORY, named, rows, section
from tests.log_filter import compile_filter
from tests.log_samples import SAMPLES, sample
from tests.terraform import (
    FILES,
    FOLDER,
    blocks,
    dynamic,
    local_values,
    named_blocks,
    parse,
    render,
    resources,
    terraform,
)

SERVICE_VARIABLES = frozenset(variable for field in ServiceSettings.model_fields for variable in variables(field))
"""What `service.py` reads."""

GUIDE = "docs/deploy.md"
OWN = "orchestrator-dev-default"
REQUIRED = {"project_id": "acme-data-dev", "region": "europe-west1", "image": "aiorch:1"}

SERVICE = resources("google_cloud_run_v2_service")["orchestrator"]
CONTAINER = SERVICE["template"][0]["containers"][0]
BUCKET = resources("google_storage_bucket")["store"]
SUBSCRIPTIONS = resources("google_pubsub_subscription")


def default(variable: str) -> Any:
    return named_blocks("variable")[variable]["default"]


# -- the files -------------------------------------------------------------------------------------------------------


def test_files_are_formatted(tmp_path: Path) -> None:
    """Every Terraform file is as `terraform fmt` writes it."""
    done = terraform("fmt", "-check", "-diff", "-recursive", str(FOLDER), cwd=tmp_path, home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_everything_that_is_named_exists_and_is_used() -> None:
    """Every variable, local value and resource that is referred to is there, and none of the first two is idle."""
    text = "\n".join(re.sub(r"^\s*#.*", "", path.read_text(), flags=re.MULTILINE) for path in FILES)
    assert set(re.findall(r"\bvar\.(\w+)", text)) == named_blocks("variable").keys()
    assert set(re.findall(r"\blocal\.(\w+)", text)) == local_values().keys()
    referred = set(re.findall(r"(?<![\w.])(?:data\.)?google_\w+\.\w+", text))
    there = resources().keys() | {f"data.{'.'.join(labels)}" for kind, labels, _ in blocks() if kind == "data"}
    assert referred
    assert referred <= there


def test_variables_and_outputs_are_described() -> None:
    """Every variable has a type and a description, every output a description, each a sentence."""
    for name, body in named_blocks("variable").items():
        assert body["type"], name
    for name, body in (named_blocks("variable") | named_blocks("output")).items():
        assert body["description"].endswith((".", "...")) or "@" in body["description"], name


def test_versions_are_pinned() -> None:
    """The version of Terraform has a lower bound, that of the provider an upper one, too."""
    (settings,) = [body for kind, _, body in blocks() if kind == "terraform"]
    assert settings["required_version"].startswith(">= ")
    assert {each["version"][:2] for each in settings["required_providers"][0].values()} == {"~>"}


def test_the_example_has_what_is_required() -> None:
    """`terraform.tfvars.example` sets only what is a variable, and every one that has no default."""
    example = parse(FOLDER / "terraform.tfvars.example").keys()
    variables = named_blocks("variable")
    assert {name for name, body in variables.items() if "default" not in body} == REQUIRED.keys()
    assert REQUIRED.keys() <= example <= variables.keys()


# -- messages --------------------------------------------------------------------------------------------------------


def test_the_subscription() -> None:
    """It never expires, waits 60 s for answers, comes again after 1 to 60 s, and gives up after 100 attempts."""
    events = SUBSCRIPTIONS["events"]
    assert events["topic"] == "${google_pubsub_topic.events.id}"
    assert events["ack_deadline_seconds"] == 60
    assert events["expiration_policy"] == [{"ttl": ""}]
    assert events["retry_policy"] == [{"minimum_backoff": "1s", "maximum_backoff": "60s"}]
    assert events["dead_letter_policy"] == [
        {"dead_letter_topic": "${google_pubsub_topic.dead_letters.id}", "max_delivery_attempts": 100}
    ]
    assert events["enable_exactly_once_delivery"] is False
    assert not {"push_config", "filter", "enable_message_ordering"} & events.keys()


def test_dead_letters_are_kept() -> None:
    """The dead-letter topic has a subscription that never expires and keeps them as long as Pub/Sub can: 31 days."""
    kept = SUBSCRIPTIONS["dead_letters"]
    assert kept["topic"] == "${google_pubsub_topic.dead_letters.id}"
    assert kept["expiration_policy"] == [{"ttl": ""}]
    assert kept["message_retention_duration"] == f"{31 * 24 * 3600}s"


def test_pubsub_itself_may_move_dead_letters() -> None:
    """The Pub/Sub service agent may publish to the dead-letter topic and acknowledge in the subscription."""
    agent = "${local.pubsub_agent}"
    assert local_values()["pubsub_agent"] == (
        "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
    )
    assert resources("google_pubsub_topic_iam_member")["dead_letters_agent"] == {
        "topic": "${google_pubsub_topic.dead_letters.id}",
        "role": "roles/pubsub.publisher",
        "member": agent,
    }
    assert resources("google_pubsub_subscription_iam_member")["events_agent"] == {
        "subscription": "${google_pubsub_subscription.events.id}",
        "role": "roles/pubsub.subscriber",
        "member": agent,
    }


# -- log sinks -------------------------------------------------------------------------------------------------------


def entry(name: str, **changes: Any) -> dict[str, Any]:
    return sample(name) | changes


def gen1(text: str, function: str = "load-orders") -> dict[str, Any]:
    made = entry("gen1_function_end_200_new_wording", textPayload=text)
    made["resource"]["labels"]["function_name"] = function
    return made


def request(status: int, agent: str = "aiorch/0.1.0", service: str = "load-orders") -> dict[str, Any]:
    made = entry("gen2_request_200")
    made["httpRequest"] |= {"status": status, "userAgent": agent}
    made["resource"]["labels"]["service_name"] = made["resource"]["labels"]["configuration_name"] = service
    made["labels"].pop("goog-drz-cloudfunctions-id", None)
    return made


def job_line(text: str) -> dict[str, Any]:
    return entry("dataflow_worker_pool_stopped", textPayload=text)


def entries() -> dict[str, dict[str, Any]]:
    """Every sample that is a log entry, and variations of the platforms' lines."""
    found = {path.stem: json.loads(path.read_bytes()) for path in sorted(SAMPLES.glob("*.json"))}
    found = {name: each for name, each in found.items() if "logName" in each}
    words = ["ok", "crash", "timeout", "error", "out of memory", "connection error", "200", "404", "500"]
    for word in words:
        kind = "status code" if word.isdigit() else "status"
        found[f"old {word}"] = gen1(f"Function execution took 3 ms, finished with {kind}: {word}")
        found[f"new {word}"] = gen1(f"Function execution took 3 ms. Finished with {kind}: {word}")
    for text in (
        "Function execution started",
        "Function execution took 12 ms; done: well",  # a third wording: to be parked and seen, so it must pass
        "he said: Function execution took 3 ms, finished with status code: 200",
        "Function execution took ages",
        "",
    ):
        found[f"gen1 {text!r}"] = gen1(text)
    for status in (200, 204, 404, 429, 500, 503, 504):
        found[f"ours {status}"] = request(status)
        found[f"another's {status}"] = request(status, agent="curl/8.5")
    found["nobody named"] = request(200, agent="")
    found["ours within another's"] = request(200, agent="proxy aiorch/0.1.0")
    for text in (
        "Worker pool stopped.",
        "Worker pool stopped. Twice.",
        "Starting 3 workers in europe-west4-a...",
        "Workflow failed. Causes: no quota",
        "Workflow failed",
        "Error occurred in the launcher container: no image",
        "the job's own words: Workflow failed.",
    ):
        found[f"job {text!r}"] = job_line(text)
    found["own function"] = gen1("Function execution took 3 ms. Finished with status code: 200", function=OWN)
    found["own service, called by itself"] = request(200, service=OWN)
    found["another log of a service"] = request(200) | {
        "logName": "projects/acme-data-dev/logs/run.googleapis.com%2Fstdout"
    }
    return found


def is_of_use(log_entry: dict[str, Any]) -> bool:
    """
    Whether aiorch makes anything of a log entry: decodes it, and would not drop it for who wrote it or who asked.

    One that it must park counts: a wording that nobody knew is to be seen, not lost.
    """
    factory = EventFactory(frozenset({OWN}))
    try:
        event = factory.create_from_event(log_entry)
    except MalformedEventError:
        return True
    if event is None or factory.is_own(event):
        return False
    agent = event.user_agent if isinstance(event, CloudFunctionEvent) else None
    return agent is None or agent.startswith(USER_AGENT_PREFIX)


def sinks() -> dict[str, Callable[[dict[str, Any]], bool]]:
    filters = local_values()["sink_filters"]
    return {name: compile_filter(render(text, {"name": OWN})) for name, text in filters.items()}


@pytest.mark.parametrize("name", entries())
def test_sinks_pass_exactly_what_is_of_use(name: str) -> None:
    """A log entry passes one sink, and one only, if aiorch can use it, and none otherwise."""
    log_entry = entries()[name]
    passed = [sink for sink, matches in sinks().items() if matches(log_entry)]
    assert len(passed) == (1 if is_of_use(log_entry) else 0), passed


def test_every_sink_passes_something() -> None:
    """Each sink is needed: some sample passes it that no other does."""
    samples = [each for each in entries().values() if is_of_use(each)]
    assert {sink for sink, matches in sinks().items() for each in samples if matches(each)} == sinks().keys()


@pytest.mark.parametrize("sink", ["functions-gen1", "requests"])
def test_sinks_exclude_the_orchestrator_by_the_name_of_the_service(sink: str) -> None:
    """What passes under another name does not pass under the name that the Cloud Run service has."""
    assert SERVICE["name"] == "${var.name}"
    log_entry = (
        gen1("Function execution took 3 ms. Finished with status: ok") if sink == "functions-gen1" else request(200)
    )
    text = local_values()["sink_filters"][sink]
    assert compile_filter(render(text, {"name": "aiorch"}))(log_entry)
    assert not compile_filter(render(text, {"name": "load-orders"}))(log_entry)


def test_sinks_may_publish_to_the_topic() -> None:
    """There is a sink per filter, with a writer that may publish to the topic; without that entries are dropped."""
    sink = resources("google_logging_project_sink")["events"]
    assert sink["for_each"] == "${local.sink_filters}"
    assert sink["filter"] == "${trimspace(each.value)}"
    assert sink["destination"] == "pubsub.googleapis.com/${google_pubsub_topic.events.id}"
    assert sink["unique_writer_identity"] is True
    assert not {"exclusions", "disabled"} & sink.keys()
    publishers = resources("google_pubsub_topic_iam_binding")["publishers"]
    assert (publishers["topic"], publishers["role"]) == ("${google_pubsub_topic.events.id}", "roles/pubsub.publisher")
    assert re.search(r"google_logging_project_sink\.events : \w+\.writer_identity", publishers["members"])


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ('a="X"', True),  # case is ignored
        ('a="y"', False),
        ('a:"X"', True),
        ('a=~"^X"', False),  # but not by regular expressions
        ('a=~"^x"', True),
        ('NOT a="x"', False),
        ('gone="x"', False),
        ('gone!="x"', False),  # a field that is missing matches nothing
        ('NOT gone="x"', True),
        ('a="y" OR a="x" AND b.c="2"', False),  # OR binds tighter
        ('(a="x" AND b.c="1") OR a="y"', True),
        ('log_id("run.googleapis.com/requests")', True),
        ('log_id("requests")', False),
    ],
)
def test_the_filters_are_evaluated_as_documented(text: str, matches: Any) -> None:
    """The evaluator that the tests above trust does what the documentation of the language says."""
    log_entry = {"a": "x", "b": {"c": 1}, "logName": "projects/p/logs/run.googleapis.com%2Frequests"}
    assert compile_filter(text)(log_entry) is matches


@pytest.mark.parametrize(
    "text", ['a="x" b="y"', 'a>"x"', "a=x", '(a="x"', 'a=~"[.]\\."', 'a=~"(?i)x"', 'AND a="x"', ""]
)
def test_evaluator_refuses_unknown_syntax(text: str) -> None:
    """A filter in more of the language than is evaluated fails here, and is not taken for tested."""
    with pytest.raises((AssertionError, IndexError)):
        compile_filter(text)


# -- storage ---------------------------------------------------------------------------------------------------------


def test_the_bucket() -> None:
    """Nothing that was overwritten is kept and billed, nothing is public, and what holds state is not destroyed."""
    assert BUCKET["soft_delete_policy"] == [{"retention_duration_seconds": 0}]
    assert BUCKET["versioning"] == [{"enabled": False}]
    assert BUCKET["uniform_bucket_level_access"] is True
    assert BUCKET["public_access_prevention"] == "enforced"
    assert BUCKET["force_destroy"] is False
    assert BUCKET["location"] == SERVICE["location"] == "${var.region}"
    assert not {"retention_policy", "autoclass", "storage_class"} & BUCKET.keys()


def test_only_what_may_expire_expires() -> None:
    """Runs, their records and rejected messages can expire, records last; nothing else, and no run by default."""
    days = local_values()["expiry_days"]
    assert days == {
        names.RUNS: "${var.keep_runs_days}",
        names.EXECUTIONS: "${var.keep_runs_days == null ? null : 2 * var.keep_runs_days}",
        names.VALUES: "${var.keep_runs_days == null ? null : 2 * var.keep_runs_days}",
        names.REJECTED: "${var.keep_rejected_days}",
    }
    assert not {names.OPEN, names.ALIVE, names.DEFINITIONS} & days.keys()
    assert default("keep_runs_days") in (None, "null")
    ((over, rule),) = dynamic(BUCKET, "lifecycle_rule")
    assert over == "${{for prefix, days in local.expiry_days : prefix => days if days != null}}"
    assert rule == {
        "action": [{"type": "Delete"}],
        "condition": [
            {
                "age": "${lifecycle_rule.value}",
                "matches_prefix": ["${local.object_prefix}${lifecycle_rule.key}"],
            }
        ],
    }
    assert "lifecycle_rule" not in BUCKET


# -- permissions -----------------------------------------------------------------------------------------------------


def grants() -> dict[str, dict[str, Any]]:
    return {name: body for name, body in resources().items() if "_iam_" in name}


def test_every_role_is_explained() -> None:
    """The table of permissions has a line for every grant, with the role, and none that is not given."""
    explained = [named(row[0])[0] for row in rows(section(GUIDE, "Permissions"))]
    assert sorted(explained) == sorted(body["role"] for body in grants().values())


def test_no_role_is_wider_than_it_must_be() -> None:
    """No primitive role, no admin's; on the project only the one that cannot be given on less; the rest is additive."""
    for name, body in grants().items():
        assert not re.fullmatch(r"roles/(owner|editor|viewer)|.*[aA]dmin", body["role"]), name
        assert "_iam_policy" not in name
    on_project = {body["role"] for name, body in grants().items() if name.startswith("google_project_iam")}
    assert on_project == {"roles/dataflow.developer"}
    assert [name for name in grants() if "_iam_binding" in name] == ["google_pubsub_topic_iam_binding.publishers"]


def test_grants_name_known_members_only() -> None:
    """`allUsers` and the like stand in no grant: members are the service, Google's agents, or named by a variable."""
    members = {str(body.get("member", body.get("members"))) for body in grants().values()}
    assert not any("allUsers" in each or "allAuthenticatedUsers" in each for each in members)
    assert SERVICE["ingress"] == "${var.ingress}"
    assert default("ingress") == "INGRESS_TRAFFIC_INTERNAL_ONLY"
    assert default("invokers") == []
    assert resources("google_cloud_run_v2_service_iam_member")["invokers"]["for_each"] == "${var.invokers}"
    assert "invoker_iam_disabled" not in SERVICE


# -- the service -----------------------------------------------------------------------------------------------------


def test_an_instance_is_always_there_and_always_runs() -> None:
    """One instance, no more and no less unless one says so, with its processor allocated without requests."""
    scaling = SERVICE["template"][0]["scaling"]
    assert scaling == [{"min_instance_count": "${var.min_instances}", "max_instance_count": "${var.max_instances}"}]
    assert (default("min_instances"), default("max_instances")) == (1, 1)
    assert CONTAINER["resources"][0]["cpu_idle"] is False


def test_probes() -> None:
    """The service is ready when `/readyz` says so, is restarted for `/healthz` only, and both are on its port."""
    assert CONTAINER["ports"] == [{"container_port": 8080}]
    assert CONTAINER["startup_probe"][0]["http_get"] == [{"path": "/readyz"}]
    assert CONTAINER["liveness_probe"][0]["http_get"] == [{"path": "/healthz"}]
    for probe in (CONTAINER["startup_probe"][0], CONTAINER["liveness_probe"][0]):
        assert probe["timeout_seconds"] < probe["period_seconds"]  # else Cloud Run refuses it


def test_alerts() -> None:
    """With somebody to tell there are alerts for dead letters, for messages that wait and for sinks that fail."""
    policy = resources("google_monitoring_alert_policy")["this"]
    assert policy["for_each"] == "${length(var.notification_channels) == 0 ? {} : local.alerts}"
    watched = {
        "dead-letters": "/num_undelivered_messages .*{google_pubsub_subscription.dead_letters.name}",
        "waiting": "/oldest_unacked_message_age .*{google_pubsub_subscription.events.name}",
        "sinks": "logging.googleapis.com/exports/error_count ",
    }
    alerts = local_values()["alerts"]
    assert alerts.keys() == watched.keys()
    for name, pattern in watched.items():
        assert re.search(pattern, re.sub(r'[\\"$]+', "", alerts[name]["filter"]).replace(" AND", " ")), name


def test_the_service_runs_as_its_own_account() -> None:
    """It runs as the account that has the permissions, and starts after the ones without which it is never ready."""
    account = "google_service_account.orchestrator"
    assert SERVICE["template"][0]["service_account"] == f"${{{account}.email}}"
    assert {"google_storage_bucket_iam_member.store", "google_pubsub_subscription_iam_member.events"} <= {
        each.strip("${}") for each in SERVICE["depends_on"]
    }


def test_the_environment_is_what_the_service_reads() -> None:
    """Every variable that is set, by Terraform or in the image, is one that the service reads."""
    environment = local_values()["environment"]
    assert environment.keys() <= SERVICE_VARIABLES
    assert {"AIORCH_STORE", "AIORCH_SUBSCRIPTION", "AIORCH_DAGS", "AIORCH_HOST"} <= environment.keys()
    assert set(re.findall(r"\bAIORCH_\w+", DOCKERFILE.read_text())) <= SERVICE_VARIABLES
    assert next(over for over, _ in dynamic(CONTAINER, "env")) == (
        "${{for name, value in local.environment : name => value if value != null}}"
    )


def test_the_token_comes_from_a_secret() -> None:
    """The token is referred to, and stands in no plain variable, where everyone who sees the service could read it."""
    assert "AIORCH_SERVE_TOKEN" not in local_values()["environment"]
    (content,) = [content for _, content in dynamic(CONTAINER, "env") if content["name"] == "AIORCH_SERVE_TOKEN"]
    assert "value" not in content
    assert content["value_source"][0]["secret_key_ref"][0]["secret"] == "${env.value}"


# -- what Terraform itself computes ----------------------------------------------------------------------------------


def refused(folder: Path, **variables: Any) -> set[str]:
    """Check variables as `terraform apply` would, in a folder that needs no provider; return which are refused."""
    (folder / "variables.tf").write_bytes((FOLDER / "variables.tf").read_bytes())
    (folder / "test.tfvars.json").write_text(json.dumps(REQUIRED | variables))
    done = terraform("plan", "-input=false", "-no-color", "-var-file=test.tfvars.json", cwd=folder, home=folder)
    rules = re.findall(r"validation rule at\s+variables\.tf:(\d+)", done.stderr)
    assert bool(rules) == (done.returncode != 0), done.stderr
    lines = (FOLDER / "variables.tf").read_text().splitlines()
    return {re.findall(r'^variable "(\w+)"', "\n".join(lines[: int(rule)]), re.MULTILINE)[-1] for rule in rules}


REFUSED = [
    ("project_id", "100000000001"),
    ("name", "Aio"),
    ("store_prefix", "/a"),
    ("store_prefix", "a/"),
    ("store_prefix", ".hidden"),
    ("keep_runs_days", 39),
    ("keep_rejected_days", 0),
    ("start_publishers", ["allUsers"]),
    ("start_publishers", ["user:a@example.com", "allAuthenticatedUsers"]),
    ("invokers", ["allUsers"]),
    ("invokers", ["allAuthenticatedUsers"]),
    ("min_instances", 0),
    ("max_instances", 0),
    ("ingress", "everywhere"),
    ("drain", 7),
    ("log_level", "verbose"),
]


@pytest.mark.parametrize(("variable", "value"), REFUSED, ids=str)
def test_harmful_variables_are_refused(variable: str, value: Any, tmp_path: Path) -> None:
    """A value that would break the deployment or open it to everybody does not come past the plan."""
    assert refused(tmp_path, **{variable: value}) == {variable}


def test_every_validation_is_tested() -> None:
    """Each variable with a validation has a value above that it refuses."""
    checked = {name for name, body in named_blocks("variable").items() if "validation" in body}
    assert checked == {variable for variable, _ in REFUSED}


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"keep_runs_days": 40, "keep_rejected_days": None, "store_prefix": "team-a/prod.1", "drain": 6},
        {"min_instances": 2, "max_instances": 3, "log_level": "debug", "ingress": "INGRESS_TRAFFIC_ALL"},
        {"call_services": [{"name": "a"}, {"name": "b", "region": "us-central1", "project": "other-project"}]},
        {"start_publishers": ["user:a@example.com"], "invokers": ["group:ops@example.com"]},
    ],
    ids=str,
)
def test_sensible_variables_are_accepted(variables: dict[str, Any], tmp_path: Path) -> None:
    """The defaults and other sensible values pass every validation."""
    assert refused(tmp_path, **variables) == set()


def test_terraform_renders_the_filters_as_the_tests_do(tmp_path: Path) -> None:
    """The filters that are evaluated above are those that Terraform would send."""
    for name in ("variables.tf", "filters.tf"):
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    arguments = [f"-var={name}={value}" for name, value in (REQUIRED | {"name": OWN}).items()]
    asked = "jsonencode({ for name, filter in local.sink_filters : name => trimspace(filter) })\n"
    done = terraform("console", *arguments, cwd=tmp_path, home=tmp_path, stdin=asked)
    rendered = {name: render(text, {"name": OWN}) for name, text in local_values()["sink_filters"].items()}
    assert json.loads(json.loads(done.stdout)) == rendered


# -- the image -------------------------------------------------------------------------------------------------------

DOCKERFILE = REPOSITORY / "deploy/Dockerfile"


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of the Dockerfile, by stage."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    instructions = [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line]
    starts = [index for index, (word, _) in enumerate(instructions) if word == "FROM"]
    return [instructions[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]


def copied(stage: list[tuple[str, str]]) -> set[str]:
    """What a stage takes from the repository."""
    operands = [rest.split() for word, rest in stage if word == "COPY" and not rest.startswith("--from")]
    return {source.rstrip("/") for words in operands for source in words[:-1]}


def test_the_image_is_built_in_two_stages() -> None:
    """The wheel is built and installed in the first; the second, as slim, takes the result and installs nothing."""
    build, final = stages()
    assert [stage[0][1].split()[0] for stage in (build, final)] == ["python:3.13-slim"] * 2
    assert any("pip wheel" in rest for word, rest in build if word == "RUN")
    assert any("[service]" in rest for word, rest in build if word == "RUN")
    assert [rest for word, rest in final if word == "COPY" and "--from" in rest] == [
        "--from=build /opt/aiorch /opt/aiorch"
    ]
    assert not any("pip" in rest or "apt" in rest for word, rest in final if word == "RUN")


def test_the_image_does_not_run_as_root() -> None:
    """The last user is a number other than 0, after everything that was written as root."""
    final = stages()[-1]
    words = [word for word, _ in final]
    (user,) = [rest for word, rest in final if word == "USER"]
    assert all(int(number) > 0 for number in user.split(":"))
    assert not {"COPY", "RUN", "ADD"} & set(words[words.index("USER") :])


def test_the_process_of_the_image_gets_the_signals() -> None:
    """The command is in exec form, and nothing stands before it: SIGTERM reaches Python."""
    final = stages()[-1]
    assert [json.loads(rest) for word, rest in final if word == "CMD"] == [["python", "service.py"]]
    assert not {"ENTRYPOINT", "SHELL", "STOPSIGNAL"} & {word for word, _ in final}


def test_copied_files_exist_and_are_not_ignored() -> None:
    """`.dockerignore` lets pass what the Dockerfile copies and nothing else, and all of it is in the repository."""
    ignore = [line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line[:1] not in ("#", "")]
    needed = copied(stages()[0]) | copied(stages()[1])
    assert ignore[0] == "*"
    assert {line[1:] for line in ignore if line.startswith("!")} == needed
    assert {line for line in ignore[1:] if not line.startswith("!")} == {"**/__pycache__"}
    assert [name for name in needed - {"service.py"} if not (REPOSITORY / name).exists()] == []
    if not (REPOSITORY / "service.py").exists():
        pytest.skip("service.py is not there yet, so the image cannot be built")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert "service" in project["optional-dependencies"]  # pip only warns of an extra that there is not


def test_the_wheel_can_be_built_from_what_is_copied() -> None:
    """The first stage has every file that the build names, and Python of the image is one that the package supports."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    metadata = project["project"]
    wanted = {"pyproject.toml", metadata["readme"], *metadata["license-files"], *packages}
    assert wanted <= copied(stages()[0])
    assert "Programming Language :: Python :: 3.13" in metadata["classifiers"]


def test_cloud_build_builds_this_image() -> None:
    """Cloud Build builds the Dockerfile, and pushes what it has built."""
    build = yaml.safe_load((REPOSITORY / "deploy/cloudbuild.yaml").read_text())
    ((arguments,),) = [[step["args"]] for step in build["steps"]]
    assert arguments == ["build", "--file", "deploy/Dockerfile", "--tag", "$_IMAGE", "."]
    assert build["images"] == ["$_IMAGE"]


# -- the guide -------------------------------------------------------------------------------------------------------


def test_names_in_the_guide_exist() -> None:
    """Every variable, output, metric and sink that the guide names is one."""
    text = (REPOSITORY / GUIDE).read_text()
    metrics = set(re.findall(r"/(\w+)\\\"", (FOLDER / "alerts.tf").read_text()))
    metrics |= {name for row in rows(section("docs/service.md", "Metrics")) for name in named(row[0])}
    known = named_blocks("variable").keys() | metrics | {"run_id", "on_lost"}
    words = named(re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))
    assert {word for word in words if re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", word)} <= known
    outputs = set(re.findall(r"terraform output -raw (\w+)", text))
    assert outputs
    assert outputs <= named_blocks("output").keys()
    prefix = default("name")
    assert {row[0] for row in rows(section(GUIDE, "Log sinks"))} == {
        f"`{prefix}-{sink}`" for sink in local_values()["sink_filters"]
    }


def test_the_start_message_of_the_guide_is_one() -> None:
    """The message that the guide publishes starts the DAG that it shows."""
    (message,) = re.findall(r"--message='(.*)'", (REPOSITORY / GUIDE).read_text())
    event = EventFactory().create_from_event(json.loads(message))
    assert isinstance(event, StartEvent)
    assert (event.dag, event.run_id, event.parameters) == ("hello", "first", {"name": "world"})
    assert f"# {event.dag}.yaml" in (REPOSITORY / GUIDE).read_text()


def test_expiring_prefixes_match_the_guide() -> None:
    """The table of what is deleted has every prefix that there is, and the right ones are never deleted."""
    table = {name: row[1] for row in rows(section(GUIDE, "Deletion")) for name in named(row[0])}
    prefixes = {
        value
        for name, value in vars(names).items()
        if name.isupper() and isinstance(value, str) and value.endswith("/")
    }
    assert table.keys() == prefixes
    assert {prefix for prefix, when in table.items() if when == "never"} == prefixes - local_values()[
        "expiry_days"
    ].keys()
    assert table[names.REJECTED] == f"`keep_rejected_days`; default: {default('keep_rejected_days')}"
