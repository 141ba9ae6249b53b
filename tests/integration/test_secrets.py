"""Secrets: given to a process by its operator, named by definitions, and kept out of all that leaves the process."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from aiorch import Client, Orchestrator, Settings
from aiorch.engine.redaction import REDACTED
from aiorch.errors import InvalidSettingError
from tests.definitions import chain, task

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


async def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    """The line break at the end of the file is no part of the secret."""
    (tmp_path / "key").write_text("short\n")
    settings = Settings(secrets={"api_key": f"file:{tmp_path}/key"})
    async with Orchestrator("memory:", functions={"t:echo": echo}, settings=settings) as engine:
        result = await (await engine.start(calling("echo"))).wait()
    assert result.results["A"]["key"] == "short", "a value of fewer than 8 characters is not replaced"


@pytest.mark.parametrize("source", ["API_KEY", "env:", "vault:key", None])
def test_a_source_without_a_known_form_is_refused(source: Any) -> None:
    """The message names the secret and the forms that there are."""
    with pytest.raises(
        InvalidSettingError, match=r"Settings.secrets\[api_key\] must be env:VARIABLE, file:PATH or sm:"
    ):
        Settings(secrets={"api_key": source})
