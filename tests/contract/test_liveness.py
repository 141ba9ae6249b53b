"""What every `Liveness` does alike."""

from aiorch.ports.store import Liveness

ONE, TWO, NEVER = "1" * 32, "2" * 32, "f" * 32
ALL = frozenset({ONE, TWO, NEVER})


async def test_a_process_that_was_never_heard_of_is_dead(store: Liveness) -> None:
    """Work of an unknown process may be taken over, or it would wait for ever."""
    assert await store.dead_among(ALL) == ALL


async def test_a_process_that_joined_is_alive_until_it_leaves(store: Liveness) -> None:
    """Its work is left alone while it may act, and is free at once when it says that it will not."""
    await store.join(ONE)
    await store.join(TWO)
    assert await store.dead_among(ALL) == {NEVER}
    assert await store.dead_among(ALL) == {NEVER}, "looking must not change the answer"
    await store.leave(ONE)
    assert await store.dead_among(ALL) == {ONE, NEVER}
    await store.leave(TWO)
    assert await store.dead_among(ALL) == ALL


async def test_only_those_asked_about_are_named(store: Liveness) -> None:
    """The answer is about the question: nobody else is called dead."""
    await store.join(ONE)
    assert await store.dead_among(frozenset()) == frozenset()
    assert await store.dead_among(frozenset({ONE})) == frozenset()
    assert await store.dead_among(frozenset({TWO})) == {TWO}
    await store.leave(ONE)


async def test_joining_and_leaving_may_be_repeated(store: Liveness) -> None:
    """A start or stop that is tried again finds itself where it wanted to be."""
    await store.join(ONE)
    await store.join(ONE)
    assert await store.dead_among(frozenset({ONE})) == frozenset()
    await store.leave(ONE)
    await store.leave(ONE)
    await store.leave(NEVER)
    assert await store.dead_among(frozenset({ONE})) == {ONE}
