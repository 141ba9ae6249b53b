"""What the platforms really log; ``INDEX.md`` beside the samples says where each comes from."""

import json
from pathlib import Path
from typing import Any

SAMPLES = Path(__file__).parent / "data" / "log_samples"


def sample(name: str) -> dict[str, Any]:
    entry: dict[str, Any] = json.loads((SAMPLES / f"{name}.json").read_bytes())
    return entry
