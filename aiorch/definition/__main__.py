"""Print the JSON Schema: ``python -m aiorch.definition > aiorch/definition/schema.json``."""

import json
import sys

from aiorch.definition.models import definition_schema

json.dump(definition_schema(), sys.stdout, indent=2, ensure_ascii=False)
print()  # noqa: T201  the file ends with a line end
