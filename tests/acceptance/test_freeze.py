"""A process that is really stopped, for longer than the timeouts of its tasks."""

import asyncio
import signal
import sys
from pathlib import Path

from aiohttp import web

from tests.acceptance.frozen_child import RUNS, TIMEOUT_S
from tests.fakes.serving import serving

CHILD = Path(__file__).with_name("frozen_child.py")


async def test_calls_that_were_answered_while_the_process_was_stopped_complete() -> None:
    """SIGSTOP for longer than the timeout, SIGCONT: the answers that wait in the sockets count, and no timer does."""
    calls = asyncio.Semaphore(0)
    is_stopped = asyncio.Event()

    async def function(_: web.Request) -> web.Response:
        calls.release()
        await is_stopped.wait()
        return web.json_response({"done": True})

    app = web.Application()
    app.router.add_post("/f", function)
    async with serving(app) as url:
        child = await asyncio.create_subprocess_exec(
            sys.executable, str(CHILD), f"{url}/f", stdout=asyncio.subprocess.PIPE, cwd=CHILD.parents[2]
        )
        try:
            for _ in range(RUNS):
                await calls.acquire()
            child.send_signal(signal.SIGSTOP)
            is_stopped.set()
            await asyncio.sleep(TIMEOUT_S + 1)  # real time is the fault: the timers of the child become overdue
            child.send_signal(signal.SIGCONT)
            printed, _ = await child.communicate()
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
    assert printed.decode().split() == ["Completed:"] * RUNS
