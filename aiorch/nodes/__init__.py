"""One module per kind of node. A new kind adds a row here, and one in `aiorch.nodes.steps`."""

from collections.abc import Mapping
from typing import Any

from aiorch.core.kind import NodeKind
from aiorch.nodes.choice import CHOICE
from aiorch.nodes.fail import FAIL
from aiorch.nodes.parallel import PARALLEL
from aiorch.nodes.parallel import Parallel as Parallel
from aiorch.nodes.pass_ import PASS
from aiorch.nodes.task import TASK
from aiorch.nodes.wait import WAIT

KINDS: Mapping[str, NodeKind[Any]] = {kind.name: kind for kind in (TASK, PARALLEL, PASS, FAIL, CHOICE, WAIT)}
"""The kinds of nodes, by the `type` of their steps."""
