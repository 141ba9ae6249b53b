"""Messages of somebody who means harm, and knows the formats."""

import json
from collections.abc import Iterator
from typing import Any

from tests.fakes.dataflow import FakeJob
from tests.log_samples import sample

DEPTH = 100_000
LARGE = 10 * 1000 * 1000 - 1000
"""Pub/Sub takes messages of 10 MB, all counted."""

SERVED = "cloud-short"
"""A DAG that may be started."""

TRICKS = [
    "../../runs/{run_id}.json",
    "../runs/{run_id}",
    "runs/{run_id}.json",
    "{run_id}/../../open/x",
    "..",
    ".",
    "",
    " ",
    "/",
    "//{run_id}",
    ".{run_id}",
    "%2e%2e%2fruns%2f{run_id}",
    "{run_id}.json\x00",
    "{run_id}\n",
    "{run_id}?alt=media",
    "{run_id}#1700000000",
    "..\\runs\\{run_id}",
    "rüns",
    "\u202e{run_id}",
    "\ud800",
    "x" * 129,
    "x" * 100_000,
]
"""What might become part of an object name, and must not."""

WRONG = [None, True, 0, -1, 2**70, 1.5, "", "x", [], [[]], {}, {"x": {}}]
"""Values of the wrong type, in one place or another."""


def hostile_messages(run_id: str, job: FakeJob) -> Iterator[bytes]:
    """Yield bodies of messages about a run that is open and waits for *job*."""
    yield from _bodies()
    tricks = [trick.format(run_id=run_id) for trick in TRICKS]
    for message in [*_starts(run_id, tricks), *_ends(tricks, job.labels["aiorch_execution"], job)]:
        # Lone surrogates are escaped, as JSON can have them.
        yield json.dumps(message).encode()


def _bodies() -> Iterator[bytes]:
    start = b'{"resource": {"type": "start", "labels": {"dag": "%s"}}, "parameters": ' % SERVED.encode()
    yield from (b"null", b"[]", b'"start"', b"7", b"{", b"\xff\xfe{}", b"\x00", b"NaN", b"{'a': 1}", b"\xef\xbb\xbf{}")
    yield json.dumps(_start()).encode("utf-16")
    yield b"[" * DEPTH + b"]" * DEPTH
    yield b'{"a":' * DEPTH + b"1" + b"}" * DEPTH
    yield start + b'{"a":' * DEPTH + b"1" + b"}" * DEPTH + b"}"
    yield start + b'{"a": NaN}}'
    yield start + b'{"a": 1e999}}'
    yield start + b'{"a": "\xff"}}'
    yield start + b'{"a": "' + b"x" * LARGE + b'"}}'
    yield b" " * (LARGE // 5)
    yield json.dumps(_start(run_id="y" * (LARGE // 5))).encode()


def _starts(run_id: str, tricks: list[str]) -> Iterator[Any]:
    for trick in tricks:
        yield _start(run_id=trick)
        yield {"resource": {"type": "cancel", "labels": {"run_id": trick}}}
        yield _start(run_id=trick, dag=trick)
        yield _start(run_id="hostile", dag=trick or "..")
    for wrong in WRONG:
        if wrong is not None and not isinstance(wrong, dict):
            yield {**_start(run_id="hostile"), "parameters": wrong}
        yield {"resource": {"type": "start", "labels": wrong or [1]}, "parameters": [1]}
        yield {"resource": {"type": "cancel", "labels": wrong}}
        if wrong != "x":  # a run that may still begin
            yield {"resource": {"type": "cancel", "labels": {"run_id": wrong}}}
        yield {"resource": {"type": wrong}}
        yield {"resource": wrong}
        if not isinstance(wrong, str) and wrong is not None:
            yield _start(run_id=wrong)
            yield _start(run_id="hostile", dag=wrong)
    # Another input, and an input that could not be stored again.
    yield {**_start(run_id=run_id), "parameters": {"other": 1}}
    yield {**_start(run_id=run_id), "parameters": {"\ud800": 1}}


def _start(**labels: Any) -> dict[str, Any]:
    return {"resource": {"type": "start", "labels": {"dag": SERVED, **labels}}}


def _ends(tricks: list[str], key: str, job: FakeJob) -> Iterator[Any]:
    gen1, gen2 = sample("gen1_function_end_200_new_wording"), sample("gen2_request_200")
    line, changed = sample("dataflow_worker_pool_stopped"), sample("eventarc_dataflow_status_changed_done")
    trace = f"projects/acme-data-dev/traces/{key}"
    # The key of the open execution, in events that are not about it.
    yield gen1 | {"trace": trace}
    yield gen2 | {"trace": trace}
    yield _with(line, {"job_name": f"x-{key}", "job_id": "x", "region": "us-east1"})
    yield _with(line, {"job_name": job.name, "job_id": job.id, "region": "us-east1"})
    for trick in tricks:
        for function in (gen1, gen2):
            yield function | {"trace": trick}
            yield function | {"trace": f"projects/{trick}/traces/{key}"}
            yield function | {"trace": trace, "labels": {"execution_id": trick, "goog-drz-cloudfunctions-id": trick}}
            yield _with(function | {"trace": trace}, {"function_name": trick, "service_name": trick, "region": trick})
        yield _with(line, {"job_id": trick})
        yield _with(line, {"job_name": f"{trick}-{key}", "job_id": trick, "region": trick})
        yield _with_job(changed, {"id": trick, "name": trick, "labels": {"aiorch_execution": trick}})
    for wrong in WRONG:
        for entry in (gen1, gen2, line):
            for field in ("trace", "labels", "timestamp", "logName", "textPayload", "resource"):
                yield entry | {"trace": trace, field: wrong}
            yield entry | {"trace": trace, "resource": entry["resource"] | {"labels": wrong}}
            yield _with(entry | {"trace": trace}, dict.fromkeys(entry["resource"]["labels"], wrong))
        yield gen2 | {"trace": trace, "httpRequest": wrong}
        yield gen2 | {"trace": trace, "httpRequest": gen2["httpRequest"] | {"status": wrong, "latency": wrong}}
        yield changed | {"data": wrong}
        yield changed | {"data": {"payload": wrong}}
        for field in ("id", "name", "location", "currentState", "currentStateTime", "labels"):
            yield _with_job(changed, {field: wrong})
    large = {f"label-{number}": "x" * 10_000 for number in range(90)}
    yield gen1 | {"trace": trace, "labels": large}
    yield _with_job(changed, {"labels": large | {"aiorch_execution": key * 1000}})
    yield gen2 | {"trace": trace, "timestamp": "9999-12-31T23:59:59.999999999Z"}
    yield gen1 | {"trace": trace, "textPayload": "Function execution took 1 ms. Finished with status: " + "x" * 500_000}


def _with(entry: dict[str, Any], labels: dict[str, Any]) -> dict[str, Any]:
    resource = entry["resource"]
    return entry | {"resource": resource | {"labels": resource["labels"] | labels}}


def _with_job(event: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    data = event["data"]
    return event | {"data": data | {"payload": data["payload"] | fields}}
