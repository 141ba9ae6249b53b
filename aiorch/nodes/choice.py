"""`Choice`: the step that follows is that of the first option whose condition is true. A `Choice` needs no commit."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from msgspec.structs import replace

from aiorch.core.draft import Draft
from aiorch.core.kind import NodeKind
from aiorch.errors import counted
from aiorch.model.dag import DAG, Node, Value, Way
from aiorch.model.failure import Failure
from aiorch.model.place import At


class Option(NamedTuple):
    """One option of a `Choice`: the step that follows if the condition is true."""

    when: Value
    next: str


class Choice(Node):
    """A node that chooses the node that follows."""

    schema_version = 2

    def __init__(
        self, name: str, parent_dag: DAG, *, options: tuple[Option, ...], default: str | None = None, **node: Any
    ) -> None:
        super().__init__(name, parent_dag, **node)
        self.options = options
        self.default = default

    @property
    def ways(self) -> Iterable[Way]:
        """The ways of all options, and of the default."""
        for option in self.options:
            yield Way(option.next, option.when.text)
        if self.default is not None:
            yield Way(self.default, "default")

    def values(self) -> Iterator[Value]:
        """Yield the values of the definition, the conditions among them."""
        yield from super().values()
        yield from (option.when for option in self.options)

    @property
    def is_end(self) -> bool:
        """`False`: a node always follows."""
        return False


class ChoiceKind(NodeKind[Choice]):
    """The decisions of a `Choice`, which completes in the fold that enters the node."""

    name = "Choice"

    def enter(self, draft: Draft, at: At[Choice]) -> None:
        """Complete, and go on with the node of the first true condition; fail if there is none and no default."""
        node = at.node
        draft.set(at.name, replace(draft.state(at.name), started_at=draft.now))
        chosen = next((option.next for option in node.options if draft.evaluate(at, option.when)), node.default)
        if chosen is None:
            message = "none of its conditions is true, and it has no `default`"
            draft.fail(at, Failure.of("NoChoiceMatched", message))
        else:
            draft.complete(at, went_to=chosen)

    def caption(self, node: Choice) -> tuple[str, str]:
        """Return the number of options."""
        return self.name, counted(len(node.options), "option")


CHOICE = ChoiceKind()
