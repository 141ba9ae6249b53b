"""The settings of the service: read from the environment, and everything that is wrong with them told at once."""

import os
from pathlib import Path

import pytest

from aiorch.service.settings import (
    MASK,
    OWN_NAME_VARIABLES,
    ServiceSettings,
    SettingsError,
    effective,
    load_settings,
    variables,
)
from aiorch.system.environment import PREFIX, service_variables

SECRET = "s3cret-token"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    """Only what a test sets is there."""
    known = {variable for field in ServiceSettings.model_fields for variable in variables(field)}
    for name in list(os.environ):
        if name.startswith(PREFIX) or name in known or name in OWN_NAME_VARIABLES:
            monkeypatch.delenv(name)


@pytest.fixture
def wrong(monkeypatch):
    """Return what is wrong with an environment, by variable: as it is shown, and the problem."""

    def told(**environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SettingsError) as caught:
            load_settings()
        for each in caught.value.wrong:
            assert str(each) in str(caught.value)
        return {each.variable: (each.value, each.problem) for each in caught.value.wrong}

    return told


def test_without_any_the_defaults_hold():
    """An environment that sets nothing is right."""
    settings = load_settings()
    assert (settings.store, settings.subscription, settings.port) == ("sqlite:///.aiorch/state.db", None, 8080)
    assert (settings.host, settings.drain, settings.log_level) == ("0.0.0.0", 3.0, "info")


def test_everything_is_typed(monkeypatch, tmp_path):
    """Numbers, switches, lists of paths and of names come as what they are; an empty variable counts as not set."""
    first, second = tmp_path / "a.yaml", tmp_path / "dags"
    first.touch()
    second.mkdir()
    for name, value in {
        "AIORCH_STORE": "gs://bucket/prefix",
        "AIORCH_SUBSCRIPTION": "projects/acme/subscriptions/events",
        "AIORCH_DAGS": f"{first}:{second}:",
        "AIORCH_CONCURRENCY": "7",
        "AIORCH_POLL_INTERVAL": "1.5",
        "AIORCH_FUNCTION_ANONYMOUS": "1",
        "AIORCH_OWN_NAMES": "one, two",
        "AIORCH_SERVE_TOKEN": SECRET,
        "AIORCH_REGION": "",
        "AIORCH_SWEEP_INTERVAL": "",
    }.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.dags == (Path(first), Path(second))
    assert (settings.concurrency, settings.poll_interval, settings.function_anonymous) == (7, 1.5, True)
    assert settings.own_names == {"one", "two"}
    assert settings.serve_token is not None
    assert settings.serve_token.get_secret_value() == SECRET
    assert (settings.region, settings.sweep_interval) == (None, None)


def test_everything_wrong_is_told_at_once(wrong):
    """Each wrong variable is there with its value, what is wrong with it, and what to give."""
    told = wrong(
        AIORCH_PORT="80x",
        AIORCH_DAGS="nowhere",
        AIORCH_PATH="pyproject.toml",
        AIORCH_STORE="gs:/bucket",
        AIORCH_SUBSCRIPTION="events",
        AIORCH_FUNCTION_URL="https://x/{word}",
        AIORCH_DATAFLOW_API="ftp://x",
        AIORCH_CONCURRENCY="0",
        AIORCH_DRAIN="nan",
        AIORCH_HEARTBEAT="40",
        AIORCH_LOG_LEVEL="loud",
        PUBSUB_EMULATOR_HOST="http://127.0.0.1:1",
    )
    assert told["AIORCH_PORT"][0] == "'80x'"
    assert "a whole number from 0 to 65535" in told["AIORCH_PORT"][1]
    assert "there is no file or folder 'nowhere'" in told["AIORCH_DAGS"][1]
    assert "projects/PROJECT/subscriptions/NAME" in told["AIORCH_SUBSCRIPTION"][1]
    assert "debug, info, warning or error" in told["AIORCH_LOG_LEVEL"][1]
    assert "with a heartbeat every 40 s" in told["AIORCH_DEAD_AFTER"][1]
    assert told.keys() == {
        *("AIORCH_PORT", "AIORCH_DAGS", "AIORCH_PATH", "AIORCH_STORE", "AIORCH_SUBSCRIPTION", "AIORCH_FUNCTION_URL"),
        *("AIORCH_DATAFLOW_API", "AIORCH_CONCURRENCY", "AIORCH_DRAIN", "AIORCH_DEAD_AFTER", "AIORCH_LOG_LEVEL"),
        "PUBSUB_EMULATOR_HOST",
    }


def test_numbers_out_of_range_are_told_at_once(wrong):
    """Ports, counts and times that cannot be are refused all together, each with what to give."""
    too_small = {"AIORCH_DRAIN": "-1", "AIORCH_LAUNCHES": "0", "AIORCH_DATAFLOW_JOBS": "-3", "AIORCH_CONCURRENCY": "0"}
    no_times = {"AIORCH_POLL_INTERVAL": "0", "AIORCH_SWEEP_INTERVAL": "inf", "AIORCH_HEARTBEAT": "-20"}
    told = wrong(AIORCH_PORT="70000", **too_small, **no_times)
    assert told.keys() == {"AIORCH_PORT", *too_small, *no_times}
    assert all(". Give " in problem for _, problem in told.values())


def test_unknown_names_are_told(wrong):
    """A misspelt variable is wrong, with what was meant; its value, which may be a secret, is not shown."""
    told = wrong(AIORCH_SERVE_TOKN=SECRET, AIORCH_XYZZY="1")
    assert "did you mean AIORCH_SERVE_TOKEN?" in told["AIORCH_SERVE_TOKN"][1]
    assert "no such setting" in told["AIORCH_XYZZY"][1]
    assert SECRET not in str(told)


def test_the_table_of_variables_is_that_of_the_settings():
    """What is known by name is what is read, so neither the service nor the command line takes one for misspelt."""
    read = {variable for field in ServiceSettings.model_fields for variable in variables(field)}
    assert {variable for variable in read if variable.startswith(PREFIX)} == service_variables()


def test_an_empty_token_is_refused(wrong):
    """An empty token would protect no request, so it does not count as not set."""
    assert "protect no request" in wrong(AIORCH_SERVE_TOKEN="")["AIORCH_SERVE_TOKEN"][1]


def test_secrets_are_masked(monkeypatch):
    """Neither the settings that are printed nor their representation shows the token."""
    monkeypatch.setenv("AIORCH_SERVE_TOKEN", SECRET)
    settings = load_settings()
    assert "AIORCH_SERVE_TOKEN=**********\n" in effective(settings)
    assert SECRET not in effective(settings) + repr(settings)


@pytest.mark.parametrize(
    ("own", "platform", "field"),
    [("AIORCH_PORT", "PORT", "port"), ("AIORCH_PROJECT_ID", "GOOGLE_CLOUD_PROJECT", "project_id")],
)
def test_platform_variables_count_second(monkeypatch, own, platform, field):
    """A variable of the platform is used where ours is not set, and a wrong one is named as it is."""
    monkeypatch.setenv(platform, "1")
    assert str(getattr(load_settings(), field)) == "1"
    monkeypatch.setenv(own, "2")
    assert str(getattr(load_settings(), field)) == "2"


def test_a_wrong_port_of_the_platform_is_named(wrong):
    """It is the variable that was set that is told, not the one that was not."""
    assert wrong(PORT="http").keys() == {"PORT"}


def test_own_names_of_the_platform_are_added(monkeypatch):
    """What Cloud Run and Cloud Functions call this process is among the names whose log is its own."""
    monkeypatch.setenv("K_SERVICE", "orchestrator")
    monkeypatch.setenv("FUNCTION_TARGET", "orchestrate")
    monkeypatch.setenv("AIORCH_OWN_NAMES", "other")
    assert load_settings().own_names == {"orchestrator", "orchestrate", "other"}


def test_traces_belong_to_the_project_that_is_known(monkeypatch):
    """The project of the traces is ours, else that of the subscription."""
    assert load_settings().log_project_id is None
    monkeypatch.setenv("AIORCH_SUBSCRIPTION", "projects/theirs/subscriptions/events")
    assert load_settings().log_project_id == "theirs"
    monkeypatch.setenv("AIORCH_PROJECT_ID", "ours")
    assert load_settings().log_project_id == "ours"


URLS = [
    "AIORCH_STORE",
    "AIORCH_FUNCTION_URL",
    "AIORCH_DATAFLOW_API",
    "STORAGE_EMULATOR_HOST",
    "PUBSUB_EMULATOR_HOST",
]


@pytest.mark.parametrize("name", URLS)
@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{SECRET}@example.com/x",
        f"https://{SECRET}@example.com/x",
        f"https://user:{SECRET} with a space@example.com/x",
        f"https://user:{SECRET}/with@slash@example.com/{{word}}",
        f"ftp://user:{SECRET}@example.com/x",
        f"http://user:{SECRET}@example.com:80/x",
        f"http://user:{SECRET}@[::1/x",
        f"user:{SECRET}@example.com:80",
        f"https://example.com/{{word}}?code={SECRET}",
        f"ftp://example.com/x?a=1&code={SECRET}#x",
    ],
)
def test_urls_are_shown_without_secrets(monkeypatch, name, url):
    """Neither a refusal nor the settings that are printed show a user name, a password or a value of a query."""
    monkeypatch.setenv(name, url)
    try:
        said = effective(load_settings())
    except SettingsError as error:
        said = str(error)
    assert name in said
    assert MASK in said
    assert SECRET not in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AIORCH_STORE", "sqlite:////home/me@work/state.db"),
        ("AIORCH_FUNCTION_URL", "https://{region}-{project_id}.example.com:8443/{name}"),
        ("AIORCH_FUNCTION_IMPERSONATE", "runner@acme.iam.gserviceaccount.com"),
        ("PUBSUB_EMULATOR_HOST", "[::1]:8085"),
    ],
)
def test_other_values_are_shown_whole(monkeypatch, name, value):
    """A path, an e-mail address and a URL without secrets are printed as they are set."""
    monkeypatch.setenv(name, value)
    assert f"{name}={value}\n" in effective(load_settings()) + "\n"
