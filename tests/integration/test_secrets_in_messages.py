"""Secrets that messages hold escaped, cut or indented: neither the store nor the log has a part of them."""

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from aiorch import Orchestrator, Settings, TargetTypes
from aiorch.engine.execution_context import ExecutionFilter
from aiorch.engine.redaction import REDACTED, without_secrets
from aiorch.model.failure import TRACEBACK_CHARS_MAX, Failure
from aiorch.ports.target import Answer, Failed, Unknown
from aiorch.stores.memory import MemoryStore
from aiorch.targets.function.target import FunctionTarget
from aiorch.testing import ManualClock, SeededEntropy, in_virtual_time
from tests.definitions import chain, job, task
from tests.fakes.jobs import Jobs

PIECE_CHARS = 12


def unlike(seed: str, count: int) -> str:
    """Characters of which no piece stands anywhere else."""
    return "".join(hashlib.sha256(f"{seed}{n}".encode()).hexdigest() for n in range(count // 64 + 1))[:count]


SECRETS = {
    "pem": "\n".join(
        [f"--{unlike('pem', 8)}--", *(unlike(f"line {n}", 64) for n in range(30)), f"--{unlike('end', 8)}"]
    ),
    "json": json.dumps({"key": f"{unlike('json', 40)}\n'\"", "path": "C:\\new\\" + unlike("path", 30)}, indent=2),
    "long": unlike("long", 300),
    "words": f"pässwörter-{unlike('words', 9)}-für-Ångström-😀-{unlike('more', 20)}-ключ-от-дома",
}


def forms(secret: str) -> list[str]:
    """The secret as it is, and escaped in the ways of Python and JSON."""
    escaped = [repr(secret), json.dumps(secret), json.dumps(secret, ensure_ascii=False), ascii(secret)]
    return [secret, *(text[1:-1] for text in [*escaped, repr(repr(secret))]), repr(secret.encode())[2:-1]]


def pieces_in(texts: list[str], secret: str) -> list[str]:
    """The pieces of a secret in these texts, escaped or not."""
    plain = "\0".join(texts)
    plain += "\0" + plain.replace("\\", "")
    whole = {form for one in forms(secret) for form in (one, one.replace("\\", ""))}
    pieces = {form[n : n + PIECE_CHARS] for form in whole for n in range(len(form) - PIECE_CHARS + 1)}
    return sorted(piece for piece in pieces if piece in plain)


class Told(logging.Handler):
    """Keeps the text and the facts of all log records, as a handler of a service gets them."""

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(ExecutionFilter())
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts += [self.format(record), *map(str, vars(record).values())]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.DEBUG)
    handler = Told()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


@pytest.fixture(params=SECRETS)
def secret(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    value = SECRETS[request.param]
    monkeypatch.setenv("SECRET_OF_A_TEST", value)
    return value


SETTINGS = Settings(secrets={"s": "env:SECRET_OF_A_TEST"}, drain_s=0)


async def stored(store: MemoryStore) -> list[str]:
    return [found.data.decode() for info in await store.list("") if (found := await store.read(info.name))]


def mapping(key: str) -> None:
    raise KeyError(key)


def parameters(key: str) -> None:
    raise ValueError(f"no access with { ({'key': key, 'n': 1})!r}")


def quoted(key: str) -> None:
    raise RuntimeError(f"body {json.dumps({'key': key})} and {json.dumps({'key': key})!r}, {key.encode()!r}, {key!a}")


def raw(key: str) -> None:
    logging.getLogger("tasks").error("of %r", key, exc_info=ValueError(key))
    raise ValueError(key)


def cut(key: str) -> None:
    raise ValueError("." * (1000 - 1 - min(len(key), 200) // 2) + repr(key))


def line(key: str) -> None:
    raise ValueError("x" * 3000 + key + "y" * 1985)


def group(key: str) -> None:
    raise ExceptionGroup("of calls", [ValueError(f"no access with {key}"), RuntimeError(f"{key!r}")])


def result(key: str) -> list[str]:
    return [key, repr(key), json.dumps([key]), f"{key[:40]}…{key[-40:]}"]


def expression(key: str) -> None:
    raise AssertionError("the parameters have no value")


@pytest.mark.parametrize("function", [mapping, parameters, quoted, raw, cut, line, group, result, expression])
async def test_no_part_of_a_secret_leaves_the_process_of_a_function(
    function: Callable[[str], Any], secret: str, told: Told
) -> None:
    """The secret is in no object of the store and in no log record, however the message of the function holds it."""
    store = MemoryStore()
    text = "${ int(secrets.s) }" if function is expression else "${ secrets.s }"
    definition = {"secrets": ["s"], **chain(A=task(parameters={"key": text}))}
    async with Orchestrator(store, functions={"t:work": function}, settings=SETTINGS) as engine:
        ended = await (await engine.start(definition)).wait()
    assert (ended.status == "Completed") == (function is result)
    assert pieces_in(await stored(store), secret) == []
    assert pieces_in(told.texts, secret) == []
    if function not in (line, group):
        assert any(REDACTED in text for text in await stored(store))


@pytest.mark.parametrize("kind", ["function", "job"])
@in_virtual_time
async def test_no_part_of_a_secret_leaves_the_process_of_a_target_that_raises(
    kind: str, secret: str, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception out of a target's own code is stored and logged without the secret."""

    async def launch(self: Any, task: Any, context: Any) -> Answer:
        raise RuntimeError(f"cannot send {context.parameters}, {context.parameters['key']}")

    monkeypatch.setattr(FunctionTarget, "launch", launch)
    monkeypatch.setattr(Jobs, "launch", launch)
    store = MemoryStore()
    step = (task if kind == "function" else job)(parameters={"key": "${ secrets.s }"})
    keys: dict[str, Any] = {"targets": {TargetTypes.DATAFLOW: Jobs()}} if kind == "job" else {}
    functions: Mapping[str, Any] = {"t:work": expression}
    async with Orchestrator(
        store, functions=functions, settings=SETTINGS, clock=ManualClock(), entropy=SeededEntropy(1), **keys
    ) as engine:
        ended = await (await engine.start({"secrets": ["s"], **chain(A=step)})).wait()
    assert ended.error is not None
    assert "InternalError" in str(ended.error)
    assert pieces_in(await stored(store), secret) == []
    assert pieces_in(told.texts, secret) == []
    assert any(REDACTED in text for text in told.texts)


class TellingJobs(Jobs):
    """Jobs whose questions and stops raise an exception with the secret, of which only the environment knows."""

    def __init__(self, secret: str) -> None:
        super().__init__()
        self.secret = secret
        self.polls = 0
        self.stops = 0

    async def poll(self, task: Any, context: Any, job_id: str | None) -> Answer | None:
        self.polls += 1
        if self.polls % 2:
            raise RuntimeError(f"no job of {self.secret!r}")
        logging.getLogger("jobs").warning("asked with %s", self.secret)
        return None

    async def stop(self, task: Any, context: Any, job_id: str | None) -> None:
        self.stops += 1
        if self.stops < 3:
            raise RuntimeError(f"no stop of {self.secret!r}")


@pytest.mark.parametrize("replicas", [1, 2])
@in_virtual_time
async def test_no_part_of_a_secret_leaves_the_process_that_asks_about_a_job_and_stops_it(
    replicas: int, secret: str, told: Told
) -> None:
    """Exceptions of polls and stops are logged without the secret, in a process that took the job over as well."""
    store, jobs, clock = MemoryStore(), TellingJobs(secret), ManualClock()
    definition = {"secrets": ["s"], **chain(A=job(parameters={"key": "${ secrets.s }"}))}
    run_id = None
    for replica in range(replicas):
        jobs.polls = 0
        targets = {TargetTypes.DATAFLOW: jobs}
        seed = SeededEntropy(replica)
        async with Orchestrator(store, targets=targets, settings=SETTINGS, clock=clock, entropy=seed) as engine:
            handle = await (engine.attach(run_id) if run_id else engine.start(definition))
            run_id = handle.run_id
            while jobs.polls < 3:
                await asyncio.sleep(1)
            if replica == replicas - 1:
                await handle.cancel()
                await handle.wait()
    assert len(jobs.launched) == 1
    assert jobs.stops == 3
    assert pieces_in(await stored(store), secret) == []
    assert pieces_in(told.texts, secret) == []
    assert any(REDACTED in text for text in told.texts)


def test_a_traceback_keeps_whole_lines() -> None:
    """A line that the limit would cut is left out: a part of a secret in the line could not be told from a text."""
    begin, end = "Traceback\n  frame\n", "\nlast"
    assert Failure.of("E", "m", traceback=begin + "x" * TRACEBACK_CHARS_MAX).traceback == f"{begin}…\n"
    assert Failure.of("E", "m", traceback="x" * TRACEBACK_CHARS_MAX + end).traceback == "…\nlast"


SHORT = "abcdefgh-\\n\\é-12345678"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("abcdefgh-…", f"{REDACTED}…"),
        (r"'abcdefgh-\\n\\\xe…", rf"'{REDACTED}\\\xe…"),
        (r"abcdefgh-\\n\\\u00…", rf"{REDACTED}\\\u00…"),
        ("'abcdefgh…5678' and …-12345678'", f"'{REDACTED}…5678' and …{REDACTED}'"),
        ("abcdefgh-...\n-12345678.", f"{REDACTED}...\n{REDACTED}."),
        ("abcdefgh and abcd…", "abcdefgh and abcd…"),
        (json.dumps({"k": SHORT}), f'{{"k": "{REDACTED}"}}'),
        (json.dumps(json.dumps([SHORT, SHORT])), rf'"[\"{REDACTED}\", \"{REDACTED}\"]"'),
        ("C:\\new\n   and …", "C:\\new\n   and …"),
    ],
)
def test_escaped_and_cut_secrets_are_replaced_alone(text: str, cleaned: str) -> None:
    """The text around a secret stays as it is, with its escapes; 8 characters at a cut are taken for the secret."""
    assert without_secrets(Unknown(text), [SHORT]) == Unknown(cleaned)


def test_a_secret_inside_a_larger_one_leaves_no_part_of_the_larger_one() -> None:
    """All places are found before the first one is replaced."""
    pem = SECRETS["pem"]
    inner = pem.splitlines()[3]
    answer = without_secrets(Failed(Failure.of("E", repr(pem[:900]))), [inner, pem[:900]])
    assert isinstance(answer, Failed)
    assert answer.failure.message == f"'{REDACTED}'"
