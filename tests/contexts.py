"""The context of an execution, as a target is given it."""

from typing import Any

from aiorch.ports.context import TaskContext

KEY = "0af7651916cd43dd8448eb211c80319c"


def a_context(**changes: Any) -> TaskContext:
    """Return that of an attempt of ``Step 1`` whose execution key is `KEY`, but for *changes*."""
    facts = {
        "run_id": "run_1",
        "dag": "etl",
        "node": "Step 1",
        "attempt": 2,
        "execution_id": KEY,
        "parameters": {},
        "encoded_input": b"null",
        "results": {},
    }
    return TaskContext(**{**facts, **changes})
