"""Following a run: its end and its errors come through, and the view never outlives it."""

import asyncio
from io import StringIO

import pytest

from aiorch.errors import StoreError
from aiorch.model.status import RunStatus, TaskStatus
from aiorch.views.follow import PlainView, follow, view_for
from tests.unit.run_examples import build, chain, run_of


class Terminal(StringIO):
    """A stream that says that it is a terminal."""

    encoding = "utf-8"

    def isatty(self):
        return True


class Followed:
    """A run that goes through given states, one per change; an exception among them is raised."""

    def __init__(self, dag, states):
        self.dag = dag
        self.run = states[0]
        self._states = states

    async def changes(self):
        for state in self._states:
            if isinstance(state, Exception):
                raise state
            self.run = state
            yield
            await asyncio.sleep(0)


class Recorder(PlainView):
    """A plain view that knows whether it is open."""

    is_open = False

    def __enter__(self):
        self.is_open = True
        return self

    def __exit__(self, *_):
        self.is_open = False


async def test_last_state_is_shown():
    """However quickly a run ends, its last state is shown before `follow` returns."""
    dag = build(chain("A"))
    stream = StringIO()
    states = [run_of(dag), run_of(dag, {"A": TaskStatus.COMPLETED}, RunStatus.COMPLETED)]
    await follow(Followed(dag, states), PlainView(stream, dag))
    assert stream.getvalue().endswith("A Completed (attempt 1, 2.0 s)\n")


async def test_refusing_store_is_raised():
    """What the store refused comes out as it is, after the view is closed."""
    dag = build(chain("A"))
    view = Recorder(StringIO(), dag)
    with pytest.raises(StoreError, match="the disk is full"):
        await follow(Followed(dag, [run_of(dag), StoreError("the disk is full")]), view)
    assert not view.is_open


async def test_cancelling_closes_the_view():
    """A cancelled `follow` leaves no view open and no task behind."""
    dag = build(chain("A"))

    class Endless(Followed):
        async def changes(self):
            yield
            await asyncio.get_running_loop().create_future()

    view = Recorder(StringIO(), dag)
    following = asyncio.create_task(follow(Endless(dag, [run_of(dag)]), view))
    while not view.is_open:
        await asyncio.sleep(0)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    assert not view.is_open
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_only_a_capable_terminal_gets_the_live_view(monkeypatch):
    """Pipes, dumb terminals and those without UTF-8 get plain lines."""
    dag = build(chain("A"))
    monkeypatch.setenv("TERM", "xterm")
    assert not isinstance(view_for(Terminal(), dag), PlainView)
    assert isinstance(view_for(StringIO(), dag), PlainView)
    latin = Terminal()
    latin.encoding = "latin-1"
    assert isinstance(view_for(latin, dag), PlainView)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(view_for(Terminal(), dag), PlainView)
