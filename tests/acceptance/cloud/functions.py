"""
Cloud Functions of both generations, served by functions-framework: one target, told apart by the path of the call.

Every call is written down before anything is done for it, in a log that is only appended to: that log is the witness of
what was called how often. What a function does follows from its place in its run, not from chance.
"""

import json
import os
import random
import time
from pathlib import Path

import functions_framework

CALLS = os.open(os.environ["CALLS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
GATES = Path(os.environ["GATES"])
"""A function lasts as long as there is a file of its name here."""

GATE_LOOK_S = 0.02


@functions_framework.http
def serve(request):
    headers, parameters = request.headers, request.get_json()
    call = {
        "name": request.path.strip("/"),
        "key": headers["Idempotency-Key"],
        "execution_id": headers["Function-Execution-Id"],
        "run_id": headers["X-Aiorch-Run-Id"],
        "node": headers["X-Aiorch-Node"],
        "attempt": int(headers["X-Aiorch-Attempt"]),
    }
    os.write(CALLS, json.dumps(call).encode() + b"\n")
    chance = random.Random(f"{call['run_id']}/{call['node']}/{call['attempt']}")
    time.sleep(chance.uniform(0, parameters["seconds_max"]))
    while (GATES / call["name"]).exists():
        time.sleep(GATE_LOOK_S)
    if call["attempt"] == 1 and chance.random() < parameters.get("failing", 0):
        return "not this time", 500
    return {"key": call["key"]}
