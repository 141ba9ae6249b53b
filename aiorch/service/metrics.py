"""
Metrics for Prometheus: calls of the engine to its observer are counted, gauges are read at each scrape.

Each instance has its own registry, so several engines in one process do not disturb each other.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from aiorch import __version__
from aiorch.model.status import RunStatus
from aiorch.orchestrator import Orchestrator
from aiorch.ports.target import Answer
from aiorch.targets.kind import target_kinds

MESSAGE_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
COMMIT_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
EXECUTION_BUCKETS_S = (0.05, 0.25, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)


class Messages(Protocol):
    """Figures of a source that leases messages, see `aiorch.sources.pubsub.PubSubSource`."""

    received: int
    acked: int
    nacked: int
    let_go: int
    unheard: int
    pull_errors: int

    @property
    def is_paused(self) -> bool:
        """Whether pulling is paused because the store does not answer."""
        ...

    @property
    def outstanding(self) -> int:
        """Messages that count against the limit."""
        ...

    @property
    def oldest_unacked_s(self) -> float:
        """Age of the oldest unanswered message."""
        ...


class Metrics:
    """An `aiorch.ports.Observer` whose counts can be scraped."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Info("aiorch_build", "The version that runs.", registry=registry).info({"version": __version__})
        self._messages = Counter("aiorch_messages", "Answered deliveries.", ["kind", "outcome"], registry=registry)
        self._message_s = Histogram(
            "aiorch_message_duration_seconds",
            "Time from the arrival of a message to its answer.",
            ["kind"],
            buckets=MESSAGE_BUCKETS_S,
            registry=registry,
        )
        self._commits = Counter("aiorch_commits", "Written run documents.", registry=registry)
        self._events = Counter("aiorch_events", "Events in those commits.", registry=registry)
        self._commit_s = Histogram(
            "aiorch_commit_duration_seconds",
            "Duration of the write of a run document.",
            buckets=COMMIT_BUCKETS_S,
            registry=registry,
        )
        self._conflicts = Counter(
            "aiorch_conflicts", "Commits that conflicted with a different commit.", registry=registry
        )
        self._throttled = Counter("aiorch_throttled", "Commits refused for their rate.", registry=registry)
        self._runs = Counter("aiorch_runs", "Runs whose end this process committed.", ["status"], registry=registry)
        self._launches = Counter(
            "aiorch_launches", "Executions handed to their target.", ["target_type"], registry=registry
        )
        self._answers = Counter(
            "aiorch_answers", "Outcomes of executions.", ["target_type", "answer"], registry=registry
        )
        self._execution_s = Histogram(
            "aiorch_execution_duration_seconds",
            "Duration of executions in this process.",
            ["target_type"],
            buckets=EXECUTION_BUCKETS_S,
            registry=registry,
        )
        for target_type in target_kinds():
            self._launches.labels(target_type)  # a rate needs a first value
        for status in RunStatus:
            if status.is_terminal:
                self._runs.labels(status.value)

    def watch(
        self,
        orchestrator: Orchestrator,
        *,
        store_operations: Mapping[str, int] | None = None,
        messages: Messages | None = None,
    ) -> None:
        """
        Read the gauges of these objects at each scrape.

        Args:
            orchestrator: The engine.

            store_operations: Requests to the store by class, if the store counts them.

            messages: The source, if it leases messages.
        """
        self.registry.register(_State(orchestrator, {} if store_operations is None else store_operations, messages))

    async def scrape(self, request: web.Request) -> web.Response:
        """Answer ``GET /metrics``."""
        encode: Callable[[CollectorRegistry], bytes]
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self.registry), headers={"Content-Type": content_type})

    # -- the observer --------------------------------------------------------------------------------------------

    def message_settled(self, kind: str, outcome: str, seconds: float) -> None:
        """See `Observer.message_settled`."""
        self._messages.labels(kind, outcome).inc()
        self._message_s.labels(kind).observe(seconds)

    def committed(self, events: int, seconds: float) -> None:
        """See `Observer.committed`."""
        self._commits.inc()
        self._events.inc(events)
        self._commit_s.observe(seconds)

    def conflicted(self) -> None:
        """See `Observer.conflicted`."""
        self._conflicts.inc()

    def throttled(self) -> None:
        """See `Observer.throttled`."""
        self._throttled.inc()

    def run_ended(self, status: RunStatus) -> None:
        """See `Observer.run_ended`."""
        self._runs.labels(status.value).inc()

    def launched(self, target_type: str) -> None:
        """See `Observer.launched`."""
        self._launches.labels(target_type).inc()

    def ended(self, target_type: str, answer: Answer, seconds: float) -> None:
        """See `Observer.ended`."""
        self._answers.labels(target_type, type(answer).__name__.lower()).inc()
        self._execution_s.labels(target_type).observe(seconds)


class _State(Collector):
    """The gauges, read at each scrape."""

    def __init__(
        self, orchestrator: Orchestrator, store_operations: Mapping[str, int], messages: Messages | None
    ) -> None:
        self._orchestrator = orchestrator
        self._store_operations = store_operations
        self._messages = messages

    def collect(self) -> Iterator[Metric]:
        open_runs = GaugeMetricFamily("aiorch_open_runs", "Open runs of the store, at the last sweep.")
        if self._orchestrator.open_runs is not None:
            open_runs.add_metric([], self._orchestrator.open_runs)
        yield open_runs
        yield GaugeMetricFamily("aiorch_held_runs", "Runs in memory.", value=self._orchestrator.held_runs)
        operations = CounterMetricFamily("aiorch_store_operations", "Requests to the store.", labels=["class"])
        for kind, count in sorted(self._store_operations.items()):
            operations.add_metric([kind], count)
        yield operations
        if self._messages is not None:
            yield from _about_messages(self._messages)


def _about_messages(messages: Messages) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "aiorch_outstanding_messages",
        "Messages that are held, or whose answer is not confirmed.",
        value=messages.outstanding,
    )
    yield GaugeMetricFamily(
        "aiorch_oldest_unacked_seconds",
        "Age of the oldest unanswered message; 0 without one.",
        value=messages.oldest_unacked_s,
    )
    yield GaugeMetricFamily(
        "aiorch_paused", "1 while pulling is paused because the store does not answer.", value=messages.is_paused
    )
    answers = CounterMetricFamily("aiorch_deliveries", "Messages by the state of their lease.", labels=["state"])
    for state in ("received", "acked", "nacked", "let_go", "unheard"):
        answers.add_metric([state], getattr(messages, state))
    yield answers
    yield CounterMetricFamily("aiorch_pull_errors", "Failed pulls.", value=messages.pull_errors)
