"""The real clock and real chance, of which the engine has no other source, and an observer that does nothing."""

import random
import secrets
import threading
import time
from datetime import UTC, datetime

from aiorch.enums import RunStatus, TargetTypes
from aiorch.ports import Answer


class SystemClock:
    """Time of day of this machine."""

    def now(self) -> datetime:
        """Aware, in UTC."""
        return datetime.now(UTC)


BEAT_S = 0.1
BEAT_LATE_S = 0.2
"""Pause between two beats of a `ProcessWatch`, and how much later than due a beat may come in a busy process."""


class ProcessWatch:
    """
    Tells a process that stood still (SIGSTOP, a paused machine) from one that was busy, or slept in one of its threads.

    A daemon thread looks at the clock while the watch has users. When it is late, and the process has spent no
    processor time meanwhile, the process stood still. A call into C that sleeps and lets no other thread run looks the
    same.

    Attributes:
        total_s: The seconds of standstill that were noticed so far.
    """

    def __init__(self) -> None:
        self.total_s = 0.0
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None
        self._users = 0
        self._beat_at = self._cpu_s = 0.0

    def attach(self) -> None:
        """Begin to watch, for one more user."""
        with self._lock:
            self._users += 1
            if not self._wanted.is_set():
                self._beat_at, self._cpu_s = time.monotonic(), time.process_time()
                self._wanted.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="aiorch-watch", daemon=True)
                self._thread.start()

    def detach(self) -> None:
        """Watch for one user less."""
        with self._lock:
            self._users -= 1

    def measure(self) -> float:
        """Look at the clock, and return the seconds of standstill so far."""
        with self._lock:
            now, cpu_s = time.monotonic(), time.process_time()
            late_s = now - self._beat_at - BEAT_S - (cpu_s - self._cpu_s)
            if late_s > BEAT_LATE_S:
                self.total_s += late_s
            self._beat_at, self._cpu_s = now, cpu_s
            return self.total_s

    def _beat(self) -> None:
        while True:
            self._wanted.wait()
            time.sleep(BEAT_S)
            self.measure()
            with self._lock:
                if not self._users:
                    self._wanted.clear()


PROCESS_WATCH = ProcessWatch()
"""The one of this process."""


class SystemEntropy:
    """Chance from the operating system."""

    def token(self) -> str:
        """32 random hex digits."""
        return secrets.token_hex(16)

    def jitter(self) -> float:
        """A number in [0, 1)."""
        return random.random()  # noqa: S311  spreads retries, protects nothing


class NoObserver:
    """An `aiorch.ports.Observer` that does not listen."""

    def message_settled(self, kind: str, outcome: str, seconds: float) -> None:
        """Do nothing."""

    def committed(self, events: int, seconds: float) -> None:
        """Do nothing."""

    def throttled(self) -> None:
        """Do nothing."""

    def run_ended(self, status: RunStatus) -> None:
        """Do nothing."""

    def conflicted(self) -> None:
        """Do nothing."""

    def launched(self, target_type: TargetTypes) -> None:
        """Do nothing."""

    def ended(self, target_type: TargetTypes, answer: Answer, seconds: float) -> None:
        """Do nothing."""
