"""Secrets: given to a process by its operator, named by definitions, and kept out of all that leaves the process."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from aiorch import Client, Orchestrator, Settings, TargetTypes
from aiorch.engine.redaction import REDACTED, redact, without_secrets
from aiorch.errors import InvalidSettingError
from aiorch.model.failure import MESSAGE_CHARS_MAX, Failure
from aiorch.ports.target import Failed
from aiorch.service.logs import CloudFormatter
from aiorch.stores.memory import MemoryStore
from aiorch.system.secrets import SecretSources
from aiorch.testing import ManualClock, SeededEntropy, in_virtual_time
from tests.definitions import chain, job, task
from tests.fakes.jobs import Jobs

SECRET = "a-very-secret-value"
SOURCE = {"api_key": "env:SECRET_OF_A_TEST"}


def calling(function: str, **keys: Any) -> dict[str, Any]:
    step = task(target_name=f"t:{function}", parameters={"key": "${ secrets.api_key }", "n": 1})
    return {"name": "d", "secrets": ["api_key"], **chain(A=step), **keys}


def echo(key: str, n: int) -> dict[str, Any]:
    return {"key": key, key: [f"<{key}>", n]}


def leak(key: str, n: int) -> None:
    try:
        raise OSError(f"no access with {key}")
    except OSError as error:
        raise ExceptionGroup(f"with {key}", [ValueError(key), RuntimeError(str(n))]) from error


@pytest.fixture
def engine(tmp_path: Path) -> Orchestrator:
    functions = {"t:echo": echo, "t:leak": leak}
    store = f"sqlite:///{tmp_path}/state.db"
    return Orchestrator(store, functions=functions, settings=Settings(secrets=SOURCE, sweep_interval_s=0.05))


async def test_a_secret_reaches_the_task_and_nothing_else(
    engine: Orchestrator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Results, failures with their causes, parts and tracebacks, logs and files of the store do not hold the value."""
    monkeypatch.setenv("SECRET_OF_A_TEST", SECRET)
    caplog.set_level(logging.DEBUG)
    async with engine:
        good = await (await engine.start(calling("echo"))).wait()
        bad = await (await engine.start(calling("leak"))).wait()
    assert good.results["A"] == {"key": REDACTED, REDACTED: [f"<{REDACTED}>", 1]}
    assert bad.error is not None
    assert REDACTED in bad.error.message
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"api_key" in stored
    assert SECRET.encode() not in stored
    texts = [caplog.text, *(str(vars(record)) for record in caplog.records), *capfd.readouterr()]
    assert not any(SECRET in text for text in texts)


async def test_a_task_waits_for_a_process_that_has_the_secret(
    engine: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry says which secret is missing; a process that has it carries the task out."""
    monkeypatch.delenv("SECRET_OF_A_TEST", raising=False)
    async with Client(str(engine.store)) as client:
        run_id = (await client.start(calling("echo"))).run_id
    async with engine:
        handle = await engine.attach(run_id)
        async for view in handle.changes():
            if (reason := view.nodes["A"].waits_because) is not None:
                break
        assert (
            reason == "no process that can launch it: the variable SECRET_OF_A_TEST of the secret 'api_key' is not set"
        )
    monkeypatch.setenv("SECRET_OF_A_TEST", SECRET)
    again = Orchestrator(str(engine.store), functions={"t:echo": echo}, settings=Settings(secrets=SOURCE))
    async with again:
        result = await asyncio.wait_for((await again.attach(handle.run_id)).wait(), 60)
    assert result.status == "Completed"


class TellingJobs(Jobs):
    """Jobs that end when the test lets them, with the secret in the reason of their failure."""

    has_ended = False

    async def poll(self, task: Any, context: Any, job_id: str | None) -> Any:
        return Failed(Failure.of("JobFailed", f"the key {SECRET} was refused")) if self.has_ended else None


@in_virtual_time
async def test_a_process_that_took_a_job_over_hides_the_secret_in_its_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that launched the job knew the value; the one that learns of the failure reads it for that."""
    monkeypatch.setenv("SECRET_OF_A_TEST", SECRET)
    store, jobs = MemoryStore(), TellingJobs()
    definition = {"secrets": ["api_key"], **chain(A=job(parameters={"key": "${ secrets.api_key }"}))}
    keys: dict[str, Any] = {"targets": {TargetTypes.DATAFLOW: jobs}, "settings": Settings(secrets=SOURCE, drain_s=0)}
    async with Orchestrator(store, clock=ManualClock(), entropy=SeededEntropy(1), **keys) as first:
        run_id = (await first.start(definition)).run_id
        while not jobs.launched:
            await asyncio.sleep(1)
        await asyncio.sleep(5)
    jobs.has_ended = True
    async with Orchestrator(store, clock=ManualClock(), entropy=SeededEntropy(2), **keys) as second:
        result = await (await second.attach(run_id)).wait()
    assert len(jobs.launched) == 1
    assert result.error is not None
    assert f"the key {REDACTED} was refused" in result.error.message


async def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    """The line break at the end of the file is no part of the secret."""
    (tmp_path / "key").write_text("short\n")
    settings = Settings(secrets={"api_key": f"file:{tmp_path}/key"})
    async with Orchestrator("memory:", functions={"t:echo": echo}, settings=settings) as engine:
        result = await (await engine.start(calling("echo"))).wait()
    assert result.results["A"]["key"] == "short", "a value of fewer than 8 characters is not replaced"


@pytest.mark.parametrize(
    ("value", "sources", "reason"),
    [
        (None, SOURCE, "the variable SECRET_OF_A_TEST of the secret 'api_key' is not set"),
        ("", SOURCE, "the variable SECRET_OF_A_TEST of the secret 'api_key' is empty"),
        ("x", {"api_kee": "env:X"}, "which name 'api_kee' instead: did you mean 'api_key' there?"),
        (
            "x",
            {"zzz": "env:X"},
            "this process has no secret 'api_key'; name its source with --secret or AIORCH_SECRETS",
        ),
    ],
)
def test_the_reason_why_a_process_has_no_secret(
    monkeypatch: pytest.MonkeyPatch, value: str | None, sources: dict[str, str], reason: str
) -> None:
    """An empty variable is no secret, and of two similar names that of the definition is proposed."""
    monkeypatch.delenv("SECRET_OF_A_TEST", raising=False)
    if value is not None:
        monkeypatch.setenv("SECRET_OF_A_TEST", value)
    found = SecretSources(sources).why_not("api_key")
    assert found is not None
    assert found.endswith(reason)


@pytest.mark.parametrize("source", ["API_KEY", "env:", "vault:key", None])
def test_a_source_without_a_known_form_is_refused(source: Any) -> None:
    """The message names the secret and the forms that there are."""
    with pytest.raises(
        InvalidSettingError, match=r"Settings.secrets\[api_key\] must be env:VARIABLE, file:PATH or sm:"
    ):
        Settings(secrets={"api_key": source})


def test_the_beginning_of_a_value_at_the_end_of_a_cut_text_is_replaced() -> None:
    """A failure is cut before its secrets are replaced, so half of a value may be left at the cut."""
    message = "x" * (MESSAGE_CHARS_MAX - 11) + SECRET
    cleaned = without_secrets(Failed(Failure.of("E", message)), [SECRET])
    assert isinstance(cleaned, Failed)
    assert cleaned.failure.message == "x" * (MESSAGE_CHARS_MAX - 11) + REDACTED + "…"


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError(SECRET)


@pytest.mark.parametrize("args", [(SECRET, "one too many"), (Unprintable(),)])
def test_a_record_that_cannot_be_formatted_raises_no_error_in_its_task(args: tuple[Any, ...]) -> None:
    """The text of the record keeps what can be told, without the value."""
    record = logging.LogRecord("tasks", logging.INFO, "tasks.py", 1, f"%r of {SECRET}", args, None)
    redact(record, [SECRET])
    assert REDACTED in record.getMessage()
    assert SECRET not in record.getMessage()


def test_a_cleaned_traceback_is_in_the_logs_of_the_service() -> None:
    """The traceback is a text by then, and is written as the stack of the record."""
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("tasks", logging.ERROR, "tasks.py", 1, "failed", (), info)
    redact(record, [SECRET])
    line = CloudFormatter().format(record)
    assert f"ValueError: {REDACTED}" in line
    assert SECRET not in line
