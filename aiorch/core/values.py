"""
The values that expressions of one run read: results, caught errors, the input, and facts of the run.

All readable nodes have ended before an expression reads them, so that the values depend neither on the process nor on
the moment.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from aiorch.expressions.errors import ExpressionError
from aiorch.model.dag import DAG, Node, Read
from aiorch.model.place import At, seen_from
from aiorch.model.run_document import NodeState, RunHeader, is_json
from aiorch.model.status import TaskStatus

_decode = msgspec.json.decode
_INPUT = "$input"


VALUE_BYTES_MAX = 1024 * 1024
"""A step whose expressions work out a larger value fails: as large as the result of a callable may be."""

_encode = msgspec.json.Encoder().encode


def encode_value(value: Any) -> bytes:
    """Return a value that expressions have worked out as JSON. Raises: ExpressionError, if it is too large to keep."""
    encoded = _encode(value)
    if len(encoded) > VALUE_BYTES_MAX:
        raise ExpressionError(f"the value has {len(encoded):,} bytes as JSON, and at most {VALUE_BYTES_MAX:,} are kept")
    if not is_json(encoded):
        raise ExpressionError("the value has too many levels")
    return encoded


class NeedsResults(Exception):  # noqa: N818  an answer, not an error
    """A decision depends on results outside the run document that were not given: by entry, where each one is."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self.places = places
        super().__init__(f"results of {', '.join(sorted(places))}")


class Values:
    """
    The values of one run.

    Args:
        header: The facts of the run as a whole.

        state: Returns an entry by its name. Raises KeyError.

        loaded: Results from outside the document, by the name of the entry.

        fresh: Values that no object holds yet, by the names of their objects.

        decoded: Keeps decoded values between uses of the same run: of the input, and of entries by name.
    """

    __slots__ = ("_decoded", "_fresh", "_header", "_loaded", "_state")

    def __init__(
        self,
        header: RunHeader,
        state: Callable[[str], NodeState],
        loaded: Mapping[str, msgspec.Raw | bytes],
        fresh: Mapping[str, bytes] = MappingProxyType({}),
        decoded: dict[str, Any] | None = None,
    ) -> None:
        self._header = header
        self._state = state
        self._loaded = loaded
        self._fresh = fresh
        self._decoded = {} if decoded is None else decoded

    def names(self, at: At[Node], reads: Iterable[Read], **more: Any) -> dict[str, Any]:
        """
        Return the values of the names that the expressions of a node read.

        Args:
            at: The place of the node.

            reads: The names.

            more: Values by name that only these expressions may read, e.g. `result`.

        Raises:
            NeedsResults: With all results that were not given.
        """
        names: dict[str, Any] = dict(more)
        needed: dict[str, str] = {}
        for read in reads:
            match read.root:
                case "results" | "errors" as root:
                    assert read.name is not None
                    of = names.setdefault(root, {})
                    if read.name not in of:
                        value_of = self.value if root == "results" else self._error
                        try:
                            of[read.name] = value_of(self._visible(at, read.name))
                        except KeyError:
                            continue  # the entry has no such value
                        except NeedsResults as error:
                            needed |= error.places
                case "input" if "input" not in names:
                    names["input"] = self._decode(_INPUT, self._header.input)
                case "run" if "run" not in names:
                    names["run"] = self._run()
        if needed:
            raise NeedsResults(needed)
        return names

    def value(self, at: At[Node]) -> Any:
        """
        Return the value of a node that has ended: its result, or for a node with scopes that of the scopes.

        Raises:
            KeyError: The node has no value: it has failed, say, or was skipped because the run went a different way.

            NeedsResults: The value is outside the document.
        """
        state = self._state(at.name)
        if state.skipped is not None:
            return None
        has_value = state.status is TaskStatus.COMPLETED or (state.caught and state.went_to is None)
        if not has_value:
            raise KeyError(at.name)
        if state.status is TaskStatus.COMPLETED and at.node.scopes and at.node.result_value is None:
            return self.scopes(at)
        return self._decode(at.name, self.encoded(at.name))

    def _decode(self, name: str, encoded: msgspec.Raw | bytes) -> Any:
        if name not in self._decoded:
            self._decoded[name] = _decode(encoded)
        return self._decoded[name]

    def encoded(self, name: str) -> msgspec.Raw | bytes:
        """Return the result of an entry as JSON. Raises: NeedsResults."""
        state = self._state(name)
        if state.result_in is None:
            return state.result
        found = self._loaded.get(name, self._fresh.get(state.result_in))
        if found is None:
            raise NeedsResults({name: state.result_place})
        return found

    def level(self, at: At[Node], level: DAG) -> Any:
        """
        Return the value of a level that has ended well: of a chain that of its last node, of a graph a mapping.

        Args:
            at: The place of a node of the level.

            level: The level.

        Raises:
            NeedsResults: With all results that were not given.
        """
        if level.is_graph:
            return self._gather({end.name: at.beside(end) for end in level.ends})
        left = next((end for end in map(at.beside, level.ends) if self._state(end.name).ended_chain), None)
        return None if left is None else self.value(left)

    def _visible(self, at: At[Node], name: str) -> At[Node]:
        """Return the place of the node *name* that an expression at *at* reads: in this scope, around it, or inside."""
        level = at.node.parent_dag
        if name in level.nodes:
            return at.beside(level.nodes[name])
        found = seen_from(at, level.root.all_nodes[name], lambda entry: self._state(entry).attempt)
        if found is None:
            raise KeyError(name)
        return found

    def scopes(self, at: At[Node]) -> list[Any]:
        """Return the values of the scopes of a node, all of which have ended well. Raises: NeedsResults."""
        return list(self._gather(dict(enumerate((at, scope) for scope in at.node.scopes))).values())

    def _gather(self, places: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return the values at several places, and ask for all missing results at once."""
        found: dict[Any, Any] = {}
        needed: dict[str, str] = {}
        for key, place in places.items():
            try:
                if isinstance(place, At):
                    found[key] = self.value(place)
                else:
                    outer, scope = place
                    found[key] = self.level(outer.within(self._state(outer.name).attempt, scope.starts[0]), scope)
            except KeyError:
                found[key] = None
            except NeedsResults as error:
                needed |= error.places
        if needed:
            raise NeedsResults(needed)
        return found

    def _error(self, at: At[Node]) -> dict[str, Any]:
        state = self._state(at.name)
        if not state.caught or state.error is None:
            raise KeyError(at.name)
        return {"type": state.error.type, "message": state.error.message, "cause": state.error.cause}

    def _run(self) -> dict[str, Any]:
        header = self._header
        facts: dict[str, Any] = {
            "id": header.run_id,
            "dag": header.dag,
            "started_at": header.created_at.isoformat(),
            "resumed_from": header.resumed_from,
        }
        if header.final is not None:
            error = header.final.error
            facts["outcome"] = header.final.outcome.value
            facts["error"] = None if error is None else {"type": error.type, "message": error.message}
        return facts
