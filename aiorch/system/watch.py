"""A watch that notices when this process really stood still."""

import threading
import time

BEAT_S = 0.1
BEAT_LATE_S = 0.2
"""Pause between two beats of a `ProcessWatch`, and the largest delay of a beat in a busy process."""


class ProcessWatch:
    """
    Distinguishes a process that stood still (SIGSTOP, a paused machine) from one that was busy or slept in a thread.

    A daemon thread reads the clock while the watch has users. If the thread is late, and the process has spent no
    processor time meanwhile, the process stood still. A call into C that sleeps and blocks all threads has the same
    effect.

    Attributes:
        total_s: Seconds of standstill so far.
    """

    def __init__(self) -> None:
        self.total_s: float = 0.0
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None
        self._users = 0
        self._beat_at = self._cpu_s = 0.0

    def attach(self) -> None:
        """Watch for one more user."""
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
        """Read the clock, and return the seconds of standstill so far."""
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
"""The watch of this process."""
