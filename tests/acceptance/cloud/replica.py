"""Processes of ``service.py``, killed and started as a platform does it."""

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

ROOT = Path(__file__).parents[3]
LOOK_S = 0.05
ACK_S = 0.3
"""An acknowledgement goes out 50 ms after a message is settled: in a life that lasted so much longer it was heard."""


class Settled(NamedTuple):
    """Ids of messages that a replica has handled."""

    surely: set[str]
    """Pub/Sub has heard of it."""

    perhaps: set[str]
    """The replica was killed just then."""


class Replica:
    """
    One replica, which has had any number of lives.

    Args:
        name: For messages.

        folder: Where the log of each life goes.

        settings: Its environment.

    Attributes:
        killed_at: End of the last life that was ended by `kill`, by the monotonic clock.
    """

    def __init__(self, name: str, folder: Path, settings: Mapping[str, str]) -> None:
        self.name = name
        self._folder = folder
        self._environment = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ} | dict(settings)
        self._logs: list[Path] = []
        self._kills: list[float | None] = []
        self.killed_at = 0.0
        self.process: asyncio.subprocess.Process | None = None

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    async def start(self) -> None:
        """Begin a life. It is ready when it says so."""
        assert not self.is_alive
        log = self._folder / f"{self.name}-{len(self._logs)}.log"
        self._logs.append(log)
        self._kills.append(None)
        with log.open("wb") as output:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(ROOT / "service.py"),
                cwd=ROOT,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    async def ready(self) -> str:
        """Wait until it serves, and return its URL."""
        while True:
            for record in self._records(self._logs[-1], "serving"):
                return str(record["url"])
            assert self.is_alive, f"{self.name} has ended:\n{self.tail()}"
            await asyncio.sleep(LOOK_S)

    async def kill(self, *, is_at_rest: bool = False) -> None:
        """
        SIGKILL: it cannot do anything about it.

        Args:
            is_at_rest: Pub/Sub is known to have heard all its answers.
        """
        assert self.process is not None
        assert self.is_alive, f"{self.name} has ended by itself:\n{self.tail()}"
        self.process.kill()
        await self.process.wait()
        self.killed_at = time.monotonic()
        self._kills[-1] = None if is_at_rest else time.time()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP, and SIGCONT at the end: it does nothing for as long as this."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    async def stop(self) -> tuple[int, float]:
        """SIGTERM: let it end by itself. Return its exit code, and how many seconds it took."""
        assert self.process is not None
        begun_at = time.monotonic()
        self.process.terminate()
        code = await self.process.wait()
        return code, time.monotonic() - begun_at

    async def end(self) -> None:
        """Whatever happened, it does not outlive its test."""
        if self.is_alive:
            assert self.process is not None
            self.process.kill()
            await self.process.wait()

    def settled(self) -> "Settled":
        """Ids of the messages that were handled for good."""
        surely, perhaps = set(), set()
        for log, killed_at in zip(self._logs, self._kills, strict=True):
            for record in self._records(log, "message_settled"):
                if record["outcome"] != "returned":
                    is_sure = killed_at is None or _seconds(record["time"]) < killed_at - ACK_S
                    (surely if is_sure else perhaps).add(record["message_id"])
        return Settled(surely, perhaps)

    def outcomes(self) -> Counter[str]:
        """What became of the messages."""
        return Counter(record["outcome"] for log in self._logs for record in self._records(log, "message_settled"))

    async def metric(self, name: str) -> float:
        """The value of a metric that has no labels."""
        async with aiohttp.ClientSession() as session, session.get(f"{await self.ready()}/metrics") as reply:
            lines = (await reply.text()).splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))

    def tail(self) -> str:
        return self._logs[-1].read_text(errors="replace")[-4000:]

    def errors(self) -> list[str]:
        """Lines of severity ERROR and above, and what is no log record at all, of all lives."""
        return [
            line[:2000]
            for log in self._logs
            for line in log.read_text(errors="replace").splitlines()
            if not line.startswith("{") or '"severity": "ERROR"' in line or '"severity": "CRITICAL"' in line
        ]

    def _records(self, log: Path, action: str) -> Iterator[dict[str, Any]]:
        for line in log.read_bytes().splitlines():
            if line.startswith(b"{") and line.endswith(b"}"):  # the last one may have been cut off
                record = json.loads(line)
                if record.get("action") == action:
                    yield record


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
