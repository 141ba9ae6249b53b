"""`Pass`: a value from the definition, or the end of a chain. A `Pass` needs no extra commit."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from aiorch.core.draft import Draft
from aiorch.core.kind import NodeKind
from aiorch.model.dag import DAG, Node, Value
from aiorch.model.place import At

CAPTION_CHARS_MAX = 40


class Pass(Node):
    """A node that completes at once, with the result that the step gives."""

    schema_version = 2

    def __init__(
        self, name: str, parent_dag: DAG, *, result: Any = None, value: Value | None = None, **node: Any
    ) -> None:
        super().__init__(name, parent_dag, **node)
        self.encoded_result: msgspec.Raw = msgspec.Raw(msgspec.json.encode(result, order="sorted"))
        self.value = value
        self.entry_growth: int = self.entry_growth + (len(self.encoded_result) if value is None else 0)

    def values(self) -> Iterator[Value]:
        """Yield the values of the definition, the result among them."""
        yield from super().values()
        if self.value is not None:
            yield self.value


class PassKind(NodeKind[Pass]):
    """The decisions of a `Pass`, which completes in the fold that enters the node."""

    name = "Pass"
    has_result = True

    def enter(self, draft: Draft, at: At[Pass]) -> None:
        """Complete with the result of the step."""
        draft.set(at.name, replace(draft.state(at.name), started_at=draft.now))
        if at.node.value is None:
            draft.complete(at, result=at.node.encoded_result)
        else:
            draft.complete(at, *draft.keep(draft.evaluate(at, at.node.value)))

    def caption(self, node: Pass) -> tuple[str, str]:
        """Return the beginning of the result."""
        text = bytes(node.encoded_result).decode()
        return self.name, text if len(text) <= CAPTION_CHARS_MAX else text[: CAPTION_CHARS_MAX - 1] + "…"


PASS = PassKind()
