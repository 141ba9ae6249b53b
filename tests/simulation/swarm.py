"""
What can go wrong in one world: every fault is on or off, at a rate of its own, all drawn once per seed.

Worlds in which everything goes wrong at once hide defects: what one fault breaks another mends. The sweeper is such a
mender, so it is off where the drawn faults do not need it.
"""

from dataclasses import dataclass

from tests.simulation.tape import Tape

RATES = (0.0, 0.0, 0.0, 0.01, 0.03, 0.1)
"""Half of the worlds do not know a fault at all."""

LOG_RATES = (0.0, 0.0, 0.1, 0.3, 1.0)


THEMES = (
    *("none",) * 4,
    *("zombies",) * 8,
    *("starts",) * 4,
    "calm",
    *("clocks",) * 2,
    "drains",
    *("jobs",) * 3,
    *("strangers",) * 2,
    "crowds",
)
"""What most of the worlds are about besides: rare things that take several others to happen at once."""


@dataclass
class Swarm:
    """The faults of one world."""

    processes: int = 1
    runs: int = 1
    is_order_drawn: bool = False
    is_latency_drawn: bool = False
    is_slow: bool = False
    """Every answer of the store takes long."""
    awaits_events: bool = True
    sweeps: bool = True
    sweep_interval_s: float | None = None

    # The store
    refused: float = 0.0
    """No answer, nothing applied."""
    reply_lost: float = 0.0
    """No answer, applied."""
    late: float = 0.0
    """No answer, applied long after the client has given up."""
    repeated: float = 0.0
    """Applied, and the client's own second try meets it."""
    throttled: float = 0.0
    """429 for no reason that the client could know."""
    rate_limit: int = 0
    """Within a second of an object's last change: 1 refuses some, 2 refuses all."""
    is_rate_first: bool = False
    """The rate is looked at before the precondition."""
    outages: bool = False
    damaged: float = 0.0
    """Reads bring other content than what is stored."""
    capacity: int = 0
    """How many requests the bucket carries out without becoming slower; 0: any number."""

    # Pub/Sub
    has_source: bool = True
    duplicated: float = 0.0
    delayed: float = 0.0
    ack_lost: float = 0.0
    poison: bool = False
    foreign: float = 0.0
    """Events that carry a key of ours and are of another function."""
    topic_outage: bool = False
    has_dead_letters: bool = False
    """Deliveries are counted, and what can never be handled is taken away by another topic."""

    # Targets
    not_started: float = 0.0
    answer_lost: float = 0.0
    event_lost: float = 0.0
    event_first: float = 0.0
    """The event of a completion comes before the answer."""
    two_ends: float = 0.0
    """An execution that is started a second time ends otherwise."""
    fails: float = 0.0
    hangs: float = 0.0
    unsupplied: float = 0.0
    """Supplementary functions fail."""
    denied: float = 0.0
    """Launches of jobs are refused for good."""
    large: float = 0.0
    defects: float = 0.0
    """Code of ours raises after a call or a launch was sent."""

    # Processes
    power_cuts: bool = False
    pauses: bool = False
    freezes: bool = False
    """All processes stand still together, once."""
    drains: bool = False
    is_draining_all: bool = False
    """Every process is told to end soon, and takes its time for it."""
    skewed: bool = False
    jumpy: bool = False
    """Clocks jump often."""
    newer: bool = False
    """A newer version adds fields to documents."""
    unreadable: bool = False
    """A newer version writes documents as nobody else can read them, for a while."""
    narrow: bool = False
    """Few executions at once: others wait for their turn."""
    zombies: bool = False
    """Something happens to every process, and pauses are long: they wake up when their work has been taken over."""
    aimed: bool = False
    """Some pauses meet a process when they hurt most."""
    worded: bool = False
    """Runs whose definitions use the whole language."""
    jobs: bool = False
    """Runs of which at least two tasks are jobs."""
    unequal: bool = False
    """Some processes do not know how to launch everything, as while a new version is rolled out."""
    commands: bool = False
    """Some processes are commands: they carry out only the runs that a client asks them about."""
    leaves: bool = False
    """Most processes that lose power are not replaced."""
    lasts_s: float | None = None
    """How long faults last, `None` to draw it."""

    # Clients
    cancels: bool = False
    resumes: bool = False
    starts: int = 1
    """Clients that start the same run."""
    starts_from: int = 0
    starts_within: int = 20
    """Half seconds after which, and within which, they do."""

    deep_checks: bool = False
    """S7 is checked at every fold, not only at the rare ones: that takes time."""

    @property
    def is_calm(self) -> bool:
        """No event is lost and no process dies, stalls, or is told wrong times: L2 applies."""
        ends = self.drains or self.is_draining_all
        return not (
            self.power_cuts
            or self.pauses
            or self.freezes
            or ends
            or self.cancels
            or self.skewed
            or self.newer
            or self.unreadable
            or self.unequal
            or self.commands
        )

    @property
    def is_store_good(self) -> bool:
        """Nothing goes wrong between a process and the bucket, and every answer comes at once."""
        return not (self._store_faults or self.is_latency_drawn)

    @property
    def _store_faults(self) -> float:
        """Zero when nothing goes wrong in the bucket, or on the way to it."""
        lost = self.refused + self.reply_lost + self.late + self.repeated + self.throttled + self.damaged
        return lost + self.rate_limit + self.outages + self.capacity

    @property
    def is_faultless(self) -> bool:
        """Nothing goes wrong on the way to the store: S8 applies."""
        again = self.duplicated + self.ack_lost + (self.starts > 1) + self.poison
        return self.is_calm and not (self._store_faults or again or self.topic_outage)


def draw_swarm(tape: Tape) -> Swarm:  # noqa: PLR0915  one line per fault
    """Draw the faults of a world."""

    def flag(name: str, *, one_in: int = 3) -> bool:
        return tape.draw(f"swarm {name}", one_in) == 1

    def rate(name: str, rates: tuple[float, ...] = RATES) -> float:
        return tape.pick(f"swarm {name}", rates)

    swarm = Swarm(
        processes=tape.pick("swarm processes", (1, 2, 2, 3)),
        runs=tape.pick("swarm runs", (1, 1, 2, 3)),
        is_order_drawn=flag("order", one_in=2),
        is_latency_drawn=flag("latency", one_in=2),
        deep_checks=flag("deep checks", one_in=4),
        narrow=flag("narrow", one_in=6),
    )
    # A third of all worlds has no trouble with the store, a third none with messages, and so on.
    if not flag("good store"):
        swarm.refused, swarm.reply_lost = rate("refused"), rate("reply lost")
        swarm.late, swarm.repeated = rate("late"), rate("repeated")
        swarm.throttled = rate("throttled")
        swarm.rate_limit = tape.pick("swarm rate limit", (0, 0, 1, 2))
        swarm.is_rate_first = flag("rate first", one_in=2)
        swarm.outages = flag("outages", one_in=6)
        swarm.damaged = rate("damaged", (0.0, 0.0, 0.0, 0.03, 0.1, 0.5))
        swarm.capacity = tape.pick("swarm capacity", (0, 0, 0, 0, 8, 3))
    if not flag("good topic"):
        swarm.duplicated, swarm.delayed = rate("duplicated", LOG_RATES), rate("delayed", LOG_RATES)
        swarm.ack_lost, swarm.foreign = rate("ack lost", LOG_RATES), rate("foreign", LOG_RATES)
        swarm.event_first = rate("event first", LOG_RATES)
        swarm.poison = flag("poison")
        swarm.topic_outage = flag("topic outage", one_in=6)
    if not flag("good targets"):
        swarm.not_started, swarm.answer_lost = (
            rate("not started", (0.0, 0.0, 0.01, 0.3)),
            rate("answer lost", LOG_RATES),
        )
        swarm.event_lost = rate("event lost", LOG_RATES)
        swarm.two_ends = rate("two ends", LOG_RATES)
        swarm.fails, swarm.hangs = rate("fails", LOG_RATES), rate("hangs", LOG_RATES)
        swarm.large, swarm.unsupplied = rate("large", LOG_RATES), rate("unsupplied")
        swarm.denied, swarm.defects = rate("denied"), rate("defects")
    if not flag("good processes"):
        swarm.power_cuts, swarm.pauses = flag("power cuts"), flag("pauses")
        swarm.drains, swarm.skewed = flag("drains"), flag("skewed")
        swarm.newer, swarm.unreadable = flag("newer", one_in=6), flag("unreadable", one_in=12)
        swarm.unequal, swarm.freezes = flag("unequal", one_in=6), flag("freezes", one_in=4)
    swarm.cancels, swarm.resumes = flag("cancels", one_in=4), flag("resumes")
    swarm.starts = 1 + flag("twice")
    swarm.has_source = not flag("no source", one_in=8)
    if swarm.unreadable:
        swarm.damaged = 0.0  # a document of a newer version is another matter than one that is damaged
    # A damaged read may be the fifth delivery of a good message, and then that is put away rightly.
    swarm.has_dead_letters = not swarm.damaged and (flag("dead letters", one_in=2) or swarm.unreadable)
    theme = tape.pick("swarm theme", THEMES)
    if theme == "zombies" or (theme not in ("none", "starts", "crowds") and not flag("damage besides", one_in=4)):
        swarm.damaged, swarm.capacity = 0.0, 0  # it would hide what these are about
    if theme == "zombies":
        swarm.zombies = swarm.pauses = swarm.aimed = True
        swarm.processes, swarm.runs, swarm.lasts_s = max(2, swarm.processes), max(2, swarm.runs), 240.0
        swarm.narrow, swarm.power_cuts, swarm.jobs = not flag("wide zombies"), False, flag("zombies with jobs")
        swarm.drains, swarm.unequal = flag("zombies drain", one_in=2), False
        swarm.not_started = rate("zombies not started", (0.0, 0.0, 0.3))
        swarm.hangs, swarm.answer_lost = rate("zombies hang", (0.0, 1.0)), rate("zombies unanswered", (0.0, 0.5))
        swarm.late, swarm.reply_lost = rate("late zombies", (0.0, 0.0, 0.15)), rate("lost zombies", (0.0, 0.0, 0.15))
        match tape.pick("zombies are", ("any", "any", "unanswered", "unsupplied", "unequal")):
            case "unanswered":
                swarm.has_source, swarm.answer_lost, swarm.jobs = False, 0.7, False
            case "unsupplied":
                swarm.unsupplied, swarm.denied = 0.7, 0.3
            case "unequal":
                swarm.unequal, swarm.has_source = True, True
    elif theme == "starts":
        swarm.starts = 10
        # All at once, about as soon as there is anybody; or whenever there is work already.
        swarm.starts_from, swarm.starts_within = tape.pick("swarm starts", ((8, 4), (8, 4), (0, 80)))
        swarm.refused, swarm.late = rate("refused starts", (0.2, 0.5)), rate("late starts", (0.0, 0.1))
        swarm.processes = 2 if swarm.starts_within == 80 else 1
        swarm.is_latency_drawn = swarm.is_slow = True
        swarm.power_cuts = swarm.leaves = swarm.starts_within == 80
        swarm.runs, swarm.lasts_s = (2, 120.0) if swarm.starts_within == 80 else (1, 30.0)
    elif theme == "calm":
        tasks = {name: getattr(swarm, name) for name in ("fails", "hangs", "large", "narrow", "has_source")}
        swarm = Swarm(swarm.processes, swarm.runs, swarm.is_order_drawn, **tasks)
    elif theme == "clocks":
        swarm.skewed = swarm.jumpy = True
        swarm.fails, swarm.hangs, swarm.runs, swarm.lasts_s = 0.5, 0.0, 3, 120.0
    elif theme == "drains":
        swarm.drains, swarm.processes, swarm.fails = True, max(2, swarm.processes), 0.5
        swarm.is_draining_all, swarm.skewed, swarm.unequal = True, False, flag("unequal drains", one_in=2)
    elif theme == "jobs":
        swarm.jobs, swarm.answer_lost = True, rate("jobs unanswered", (0.3, 1.0))
        swarm.narrow, swarm.runs = flag("narrow jobs", one_in=2), max(2, swarm.runs)
        swarm.power_cuts, swarm.is_draining_all = flag("jobs cut", one_in=2), flag("jobs drained", one_in=2)
        swarm.pauses, swarm.cancels = flag("jobs paused", one_in=2), flag("cancels of jobs", one_in=2)
        swarm.aimed = swarm.pauses
        if flag("jobs stored well", one_in=2):
            swarm.refused = swarm.reply_lost = swarm.late = swarm.repeated = swarm.throttled = 0.0
            swarm.rate_limit, swarm.outages, swarm.is_latency_drawn = 0, False, False
            swarm.damaged, swarm.capacity = 0.0, 0
    elif theme == "strangers":
        swarm.has_source, swarm.event_lost = True, 0.0
        swarm.is_latency_drawn = swarm.is_slow = True
        swarm.answer_lost, swarm.duplicated, swarm.sweep_interval_s = 0.0, 1.0, 2.0
        swarm.power_cuts = swarm.leaves = True
        swarm.unequal = flag("unequal strangers", one_in=2)
        swarm.processes, swarm.runs, swarm.pauses, swarm.lasts_s = 2, 3, False, 120.0
    elif theme == "crowds":
        # More at once than the bucket can carry out.
        swarm.starts, swarm.runs, swarm.capacity, swarm.lasts_s = 10, 3, tape.pick("crowds meet", (3, 8)), 120.0
        swarm.starts_from, swarm.starts_within, swarm.processes = 8, 4, min(2, swarm.processes)
    swarm.worded = flag("worded")
    if not swarm.has_source:
        swarm.commands = flag("commands", one_in=2)
    if swarm.is_calm and not (swarm.event_lost and swarm.answer_lost):
        swarm.sweeps = not flag("no sweeps", one_in=2)
    return swarm
