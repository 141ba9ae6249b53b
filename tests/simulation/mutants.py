"""
Mutants: proof that the simulation can fail.

Each is one small change of the engine's source that breaks a promise, and must be found. Nearly every defect that was
mended adds the one that brings it back. A mutant that no longer fits the source is an error: it has to be written anew.

Nothing here imports the engine: a mutant is installed before that happens, in a Python process of its own.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple

SEEDS_MAX = 10_000
"""A mutant must be killed within so many seeds. Nearly all are within 2,000."""


class Mutant(NamedTuple):
    """One change of the engine."""

    name: str
    module: str
    old: str
    """Text that stands there exactly once."""
    new: str
    seed: int = 0
    """One that kills it, or from which it is killed soon."""
    is_rare: bool = False
    """It is looked for from `seed` on, not from the seed that all others begin with."""


class DoesNotFitError(Exception):
    """The source is not what the mutant was made for."""


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._mutant.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Loader(fullname, spec.origin, self._mutant)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, fullname: str, path: str, mutant: Mutant) -> None:
        super().__init__(fullname, path)
        self._mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        return compile(changed(self._mutant, Path(self.path).read_text()), self.path, "exec", dont_inherit=True)


def changed(mutant: Mutant, source: str) -> str:
    """Return the source of the module with the change. Raises: DoesNotFitError."""
    count = source.count(mutant.old)
    if count != 1:
        raise DoesNotFitError(
            f"mutant {mutant.name!r}: its text stands {count} times in {mutant.module}; write it anew"
        )
    return source.replace(mutant.old, mutant.new)


def install(mutant: Mutant) -> None:
    """Let the engine be imported with the change."""
    imported = sorted(name for name in sys.modules if name.partition(".")[0] == "aiorch")
    assert not imported, f"imported already: {imported}"
    sys.meta_path.insert(0, _Finder(mutant))


MUTANTS = (
    # -- commits -------------------------------------------------------------------------------------------------
    Mutant(
        "effects of a first fold reused after a conflict",
        "aiorch.engine.committer",
        "        changes = await self._fold(batch, notes)\n        if changes.is_stale and not was_read:",
        "        first = globals().setdefault('_FIRST', {})\n"
        "        changes = first[id(batch)][0] if id(batch) in first else await self._fold(batch, notes)\n"
        "        first[id(batch)] = changes, batch\n"
        "        if changes.is_stale and not was_read:",
        seed=100000,
    ),
    Mutant(
        "batch dropped on a conflict",
        "aiorch.engine.committer",
        "            self._executor.observer.conflicted()\n            return 0.01",
        "            self._executor.observer.conflicted()\n"
        "            self._settle(batch, None)\n"
        "            batch.clear()\n"
        "            return 0.01",
        seed=100015,
    ),
    Mutant(
        "outcomes dropped when the store does not answer",
        "aiorch.engine.committer",
        "            self._executor.on_store_away()\n",
        "            self._executor.on_store_away()\n            self._settle(batch, error)\n            batch.clear()\n",
        seed=100023,
    ),
    Mutant(
        "acknowledged before the commit",
        "aiorch.engine.committer",
        "                batch = self._gather()\n                await self._commit(batch)",
        "                batch = self._gather()\n"
        "                self._settle(batch, None)\n"
        "                batch = [(event, None) for event, _ in batch]\n"
        "                await self._commit(batch)",
        seed=100000,
    ),
    Mutant(
        "launched before the commit",
        "aiorch.engine.committer",
        "        self._is_unsure = True\n        loop = asyncio",
        "        self.run.apply(changes, encoded, len(document))\n"
        "        self._executor.pursue(self, changes.nodes, changes.nodes)\n"
        "        self._is_unsure = True\n"
        "        loop = asyncio",
        seed=100000,
    ),
    Mutant(
        "stale body with a refreshed generation",
        "aiorch.engine.committer",
        "        assert stored is not None\n        self._take(stored, begun_at)",
        "        assert stored is not None\n"
        "        if self.run is None:\n"
        "            self._take(stored, begun_at)\n"
        "        self.generation, self.is_current = stored.generation, True",
        seed=100000,
    ),
    Mutant(
        "copy kept after a conflict",
        "aiorch.engine.committer",
        '        """Read again before the next fold."""\n        self.is_current = False',
        '        """Read again before the next fold."""\n        self.is_current = self._new is None',
        seed=100008,
    ),
    Mutant(
        "launches from the difference of a fold only",
        "aiorch.engine.committer",
        "            touched = dict.fromkeys((*self.in_flight, *changes.nodes, *self.run.active, *self.run.due))\n",
        "            touched = changes.nodes\n",
        seed=100006,
    ),
    Mutant(
        "takeover without the record",
        "aiorch.engine.committer",
        "            await self._ensure_records(written)\n",
        "            pass\n",
        seed=100022,
    ),
    Mutant(
        "the record of a launch written again with each reason",
        "aiorch.engine.committer",
        "    return before is None or launch != (before.attempt, before.launches, before.by)\n",
        "    return True\n",
        seed=100190,
    ),
    Mutant(
        "stale copy taken for the truth",
        "aiorch.engine.committer",
        "        if changes.is_stale and not was_read:",
        "        if False:",
        seed=101327,
    ),
    Mutant(
        "forgotten while executions are in flight",
        "aiorch.engine.executor",
        "            committer.is_idle\n            and not self.owns(committer)",
        "            committer._working is None",
        seed=100000,
    ),
    Mutant(
        "a second committer for one run",
        "aiorch.engine.committer",
        "        registered = self._executor.committers.setdefault(self.run_id, self)\n",
        "        registered = self\n",
        seed=100004,
    ),
    # -- documents -----------------------------------------------------------------------------------------------
    Mutant(
        "unconditional write",
        "aiorch.documents.runs",
        "        return await self.store.write(\n            name,\n            document,\n"
        "            if_generation_match=if_generation_match,",
        "        stored = await self.store.read(name)\n"
        "        return await self.store.write(\n            name,\n            document,\n"
        "            if_generation_match=stored.generation if stored else 0,",
        seed=100000,
    ),
    Mutant(
        "launched before its record",
        "aiorch.documents.runs",
        "            create=[named(each) for each in executions],",
        "            create=(),",
        seed=100000,
    ),
    Mutant(
        "marker removed before the end",
        "aiorch.engine.executor",
        "        if run.status.is_terminal:\n            self._timers",
        '        if run.status != "Running":\n            self._timers',
        seed=100007,
    ),
    Mutant(
        "starts that share a flag",
        "aiorch.engine.executor",
        "            committer.starting -= 1\n            self.release(committer)\n            raise",
        "            committer.starting = 0\n            self.release(committer)\n            raise",
        seed=100393,
    ),
    Mutant(
        "document before its marker",
        "aiorch.engine.markers",
        "        marker = await self._runs.open_run(command)\n",
        "        marker = None\n",
        seed=100000,
    ),
    Mutant(
        "an unknown status taken for a broken document",
        "aiorch.model.run_document",
        '        _refuse_unknown_status(raw, source)\n        raise DocumentError(f"{source}: entry',
        '        raise DocumentError(f"{source}: entry',
        seed=102382,
    ),
    Mutant(
        "commits as fast as they come",
        "aiorch.engine.committer",
        "                if self._executor.commit_interval_s:\n",
        "                if False:\n",
        seed=100012,
    ),
    Mutant(
        "fields of a newer version dropped",
        "aiorch.model.run_document",
        '    if extra:\n        changes["extra"] = extra\n',
        "",
        seed=100002,
    ),
    # -- launches ------------------------------------------------------------------------------------------------
    Mutant(
        "another execution key at a takeover",
        "aiorch.engine.outcomes",
        '        execution_id=state.execution_id or "",',
        '        execution_id=(state.execution_id or "")[:: 1 if state.launches < 2 else -1],',
        seed=100003,
    ),
    Mutant(
        "sent forgotten at the answer",
        "aiorch.engine.outcomes",
        "        sent.has_ended = True\n        committer.post(event)",
        "        sent.has_ended = True\n        committer.in_flight.pop(task.name, None)\n        committer.post(event)",
        seed=100000,
    ),
    Mutant(
        "no look before sending after a silence",
        "aiorch.engine.outcomes",
        "            self._liveness.is_silent(process) or committer.known_at",
        "            False and committer.known_at",
        seed=100000,
    ),
    Mutant(
        "a silence that is over forgotten",
        "aiorch.engine.outcomes",
        " or committer.known_at < self._liveness.heard_since(process)\n",
        "\n",
        seed=100168,
    ),
    Mutant(
        "silent while it looked",
        "aiorch.engine.outcomes",
        "            is_known = await self._look_again(execution)\n",
        "            is_known = await self._look_again(execution)\n            break\n",
        seed=100086,
    ),
    Mutant(
        "given up although its former owner may have launched it",
        "aiorch.engine.launches",
        " or may_be_launched_before(committer.run.nodes[at.name])):\n",
        "):\n",
        seed=100766,
    ),
    Mutant(
        "a retry that was due too early forgotten",
        "aiorch.engine.timers",
        "            self._arm(CHECK_S, self._check_retry, committer.run_id, name, state)\n",
        "            if self._slots.is_limited(committer.dag.all_tasks[name].target_type):\n"
        "                self._arm(CHECK_S, self._check_retry, committer.run_id, name, state)\n",
        seed=100404,
    ),
    Mutant(
        "a stop not tried again",
        "aiorch.engine.outcomes",
        "            if self._is_closing():\n                return False\n            await asyncio.sleep(pause_s",
        "            if True:\n                return False\n            await asyncio.sleep(pause_s",
        seed=100033,
    ),
    Mutant(
        "jobs wait for jobs when their process was full",
        "aiorch.engine.launches",
        "        if was_full:  # executions of all kinds may have waited for their turn\n",
        "        if False:\n",
        seed=100027,
    ),
    Mutant(
        "a job that was not seen taken for one that never was",
        "aiorch.engine.outcomes",
        "            sent.is_out = kind.is_found_again\n",
        "            sent.is_out = False\n",
        seed=100275,
    ),
    Mutant(
        "taken over and not awaited",
        "aiorch.engine.executor",
        "                    self._launches.await_end(committer, at)",
        "                    pass",
        seed=100012,
    ),
    # -- rest ----------------------------------------------------------------------------------------------------
    Mutant(
        "no owner asked after while nothing is written",
        "aiorch.engine.sweeper",
        " and not await self._dead_others():\n",
        ":\n",
        seed=100048,
    ),
    # -- slots ---------------------------------------------------------------------------------------------------
    Mutant(
        "no slot offered to a task at its commit",
        "aiorch.engine.slots",
        "        for kind in kinds:\n            self.start_waiting(kind)\n",
        "",
        seed=100027,
    ),
    Mutant(
        "a slot that was given back not offered",
        "aiorch.engine.slots",
        "        self._limits[kind].taken -= 1\n        self.start_waiting(kind)\n",
        "        self._limits[kind].taken -= 1\n",
        seed=100083,
    ),
    Mutant(
        "a slot that was offered in vain not offered to the next task",
        "aiorch.engine.slots",
        "            self._queue(limit, entry)\n        self.start_waiting(kind)\n",
        "            self._queue(limit, entry)\n",
        seed=107802,
        is_rare=True,
    ),
    Mutant(
        "a task that was offered a slot in vain waits no longer",
        "aiorch.engine.slots",
        "        if error is None:\n            self._queue(limit, entry)\n",
        "",
        seed=103287,
    ),
    Mutant(
        "a retry that waits for a slot dropped",
        "aiorch.engine.slots",
        "        if state.by not in (None, self._process_id) or not",
        "        if state.by is not None or not",
        seed=100012,
    ),
    Mutant(
        "the tasks of a run that was read do not wait for a slot",
        "aiorch.engine.committer",
        "            touched = dict.fromkeys((*self.in_flight, *changes.nodes, *self.run.active, *self.run.due))\n",
        "            claimed = [name for name in self.run.active if self.run.nodes[name].by]\n"
        "            touched = dict.fromkeys((*self.in_flight, *changes.nodes, *claimed, *self.run.due))\n",
        seed=100027,
    ),
    Mutant(
        "a slot stays offered for ever",
        "aiorch.engine.slots",
        "        limit.offered -= 1\n",
        "",
        seed=100021,
    ),
    # -- stops ---------------------------------------------------------------------------------------------------
    Mutant(
        "stopped without telling the target",
        "aiorch.engine.outcomes",
        "                await self._targets[task.target_type].stop(task, context, job_id)\n",
        "                pass\n",
        seed=100004,
    ),
    Mutant(
        "not stopped at its timeout",
        "aiorch.engine.outcomes",
        "        return not sent.is_at_target or await self._until_stopped(execution)\n",
        "        return True\n",
        seed=100004,
    ),
    Mutant(
        "timeout that must not run twice taken for a failure",
        "aiorch.engine.outcomes",
        "    if task.on_lost is OnLost.FAIL and sent.is_out and not sent.is_at_target:\n",
        "    if False:\n",
        seed=100046,
    ),
    # -- events --------------------------------------------------------------------------------------------------
    Mutant(
        "completion accepted of whatever function",
        "aiorch.engine.answers",
        "        record.task_name in event.names\n        and is_at",
        "        is_at",
        seed=100207,
    ),
    Mutant(
        "acknowledged although the store is away",
        "aiorch.intake.intake",
        "            if isinstance(error, StoreError):\n                self._pause()",
        "            if isinstance(error, StoreError):\n                self._pause()\n"
        "                return Outcome.DROPPED",
        seed=100000,
    ),
    Mutant(
        "a job launched without looking for it",
        "aiorch.targets.dataflow.target",
        "        if found is not None:\n            return found\n",
        "",
        seed=100190,
    ),
    Mutant(
        "a job launched on the proof of an old listing",
        "aiorch.targets.dataflow.target",
        "        if asyncio.get_running_loop().time() - listed_at > LISTING_S:",
        "        if False:",
        seed=100062,
    ),
    Mutant(
        "a failed job taken for a success",
        "aiorch.targets.dataflow.api",
        '_FINE_BY_ITSELF = frozenset({"JOB_STATE_DONE", "JOB_STATE_DRAINED"})',
        '_FINE_BY_ITSELF = frozenset({"JOB_STATE_DONE", "JOB_STATE_DRAINED", "JOB_STATE_FAILED"})',
        seed=100014,
    ),
    # -- the fold ------------------------------------------------------------------------------------------------
    Mutant(
        "join tested on the state before the fold",
        "aiorch.core.draft",
        "(self.base.pending[at.name] if left is None else left) - 1",
        "self.base.pending[at.name] - 1",
        seed=100012,
    ),
    Mutant(
        "nested join forgotten after a failure",
        "aiorch.nodes.parallel",
        "        elif not draft.count_down(at):\n",
        "        elif failure is not None and node.parent_dag.parent_node is not None:\n            return\n        elif not draft.count_down(at):\n",
        seed=100089,
    ),
    Mutant(
        "a halted node of a fold skipped around what the fold has decided",
        "aiorch.nodes.parallel",
        "if _begins(state, committed) and any(each.status in _DECIDED or each.skipped for each in inner):",
        "if False:",
        seed=100492,
    ),
    Mutant(
        "a value that goes on without its result",
        "aiorch.nodes.pass_",
        "draft.complete(at, result=at.node.encoded_result)",
        "draft.complete(at)",
        seed=100012,
    ),
    Mutant(
        "a failure of the definition that lets its chain go on",
        "aiorch.nodes.fail",
        "draft.fail(at, replace(Failure.of(at.node.error, message), at=draft.now))",
        "draft.complete(at)",
        seed=100012,
    ),
    Mutant(
        "an end counted twice",
        "aiorch.nodes.parallel",
        "    elif draft.pending_of(at) < len(branches):\n",
        "    elif False:\n",
        seed=100033,
    ),
    Mutant(
        "run ended while a stop is owed",
        "aiorch.core.draft",
        "            if self.live or self.header.status.is_terminal or not self._end_run():\n",
        "            is_waiting = any(self.state(name).is_live and not self.state(name).stop for name in self.base.active)\n"
        "            if is_waiting or self.header.status.is_terminal or not self._end_run():\n",
        seed=100007,
    ),
    Mutant(
        "stopped by a process that does not own it",
        "aiorch.core.owed",
        "    if state.by != process_id:\n        return None\n",
        "    if state.by != process_id and not state.stop:\n        return None\n",
        seed=100304,
    ),
    Mutant(
        "running said by whoever wants to",
        "aiorch.nodes.task",
        "    if state is None or not is_its_own or not state.is_live or event.launch not in (0, state.launches):\n",
        "    if state is None or not state.is_live:\n",
        seed=100089,
    ),
    Mutant(
        "given up by a process that does not own it",
        "aiorch.nodes.task",
        "    if state is not None and state.is_live and state.by == draft.process.id:\n        attempts.interrupt(",
        "    if state is not None and state.is_live:\n        attempts.interrupt(",
        seed=100541,
    ),
    Mutant(
        "timed out by a process that does not own it",
        "aiorch.engine.outcomes",
        "        if not await self._is_still_owed(execution):\n            return False\n",
        "",
        seed=104222,
    ),
    Mutant(
        "a timeout of what another one has taken over believed",
        "aiorch.nodes.task",
        " or event.launch not in (0, state.launches):\n        return\n    if event.is_given_up and (state.by != draft.process.id or attempts.stop_waiting(draft, at)):\n",
        ":\n        return\n    if event.is_given_up and attempts.stop_waiting(draft, at):\n",
        seed=104197,
    ),
    Mutant(
        "lost by a process that does not own it",
        "aiorch.nodes.task",
        "    if state is None or not is_its_own or event.launch not in (0, state.launches):\n        return\n    if not attempts",
        "    if state is None or not state.is_live:\n        return\n    if not attempts",
        seed=100870,
    ),
    Mutant(
        "a failure tells the start of the run as its own",
        "aiorch.core.attempts",
        '"started_at": state.started_at, ',
        '"started_at": draft.header.created_at, ',
        seed=100000,
    ),
    Mutant(
        "a cancel leaves retries",
        "aiorch.nodes.task",
        "committed.status is TaskStatus.NEW or state.status is TaskStatus.RETRYING:",
        "committed.status is TaskStatus.NEW:",
        seed=100119,
    ),
    Mutant(
        "what a fold had begun goes on after its cancel",
        "aiorch.nodes.task",
        "        if committed is None or committed.status is TaskStatus.NEW or",
        "        if committed is not None and committed.status is TaskStatus.NEW and state.status is not TaskStatus.NEW:\n            draft.set(at.name, replace(state, stop=True))\n        elif committed is None or committed.status is TaskStatus.NEW or",
        seed=100025,
    ),
    Mutant(
        "retry before it is due",
        "aiorch.nodes.task",
        "    if state.retry_at is None or state.retry_at <= draft.now:\n",
        "    if True:\n",
        seed=100100,
    ),
    Mutant(
        "lost attempts counted as failures",
        "aiorch.nodes.task",
        "state.attempt - state.lost - state.interrupted)",
        "state.attempt)",
        seed=100062,
    ),
    Mutant(
        "one retry too many",
        "aiorch.core.attempts",
        "tries >= policy.max_attempts",
        "tries > policy.max_attempts",
        seed=100004,
    ),
    Mutant(
        "lost without an end",
        "aiorch.core.attempts",
        " or state.lost >= LOST_ATTEMPTS_MAX:",
        ":",
        seed=100213,
    ),
    Mutant(
        "sent again although it must not be",
        "aiorch.core.attempts",
        "    elif not at.node.execution.is_found_again and at.node.on_lost is OnLost.FAIL:",
        "    elif False:",
        seed=100062,
    ),
    Mutant(
        "success of an attempt that was given up ignored",
        "aiorch.nodes.task",
        "    if state is not None and not state.status.is_terminal and not _has_refused_result(state):\n",
        "    if state is not None and state.is_live:\n",
        seed=100277,
    ),
    Mutant(
        "batch folded in the order of its arrival",
        "aiorch.core.fold",
        "        events = sorted(events, key=_order)",
        "        events = list(events)",
        seed=100020,
    ),
    Mutant(
        "resume keeps what has failed",
        "aiorch.core.resume",
        "            if state.ended_well and node not in around:",
        "            if (state.ended_well or state.status is TaskStatus.FAILED) and node not in around:",
        seed=100033,
    ),
    # -- the language --------------------------------------------------------------------------------------------
    Mutant(
        "the last true option of a choice taken",
        "aiorch.nodes.choice",
        "for option in node.options if draft",
        "for option in reversed(node.options) if draft",
        seed=100013,
    ),
    Mutant(
        "a way that was lost not counted",
        "aiorch.core.draft",
        "len(node.previous_nodes) > 1 and self._left_before(before, place.name) > 0\n",
        "len(node.previous_nodes) > 1\n",
        seed=100268,
    ),
    Mutant(
        "a step skipped with the first way that is lost",
        "aiorch.core.draft",
        "            is_joined = len(node.previous_nodes) > 1 and self._left_before(before, place.name) > 0\n",
        "            is_joined = False\n",
        seed=100010,
    ),
    Mutant(
        "the ways to a step not counted in a further try",
        "aiorch.core.draft",
        "            self.joins[name] = len(before)\n",
        "            pass\n",
        seed=259,
    ),
    Mutant(
        "two starts that count a way twice",
        "aiorch.core.fold",
        "draft.base.due or draft.nodes or draft",
        "draft.base.due or draft",
        seed=4467,
    ),
    Mutant(
        "a condition ignored in a further try",
        "aiorch.core.draft",
        "if at.node.when is not None and not self",
        "if at.node.when is not None and at.name == at.node.name and not self",
        seed=100232,
    ),
    Mutant(
        "half of the time waited",
        "aiorch.nodes.wait",
        "    return now + timedelta(seconds=value)",
        "    return now + timedelta(seconds=value / 2)",
        seed=100002,
    ),
    Mutant(
        "timers of a run that was read not armed",
        "aiorch.engine.committer",
        "*changes.nodes, *self.run.active, *self.run.due))\n",
        "*changes.nodes, *self.run.active))\n",
        seed=7,
    ),
    Mutant(
        "a timer armed by the process alone that committed it",
        "aiorch.engine.executor",
        "            if state.due_at is not None and carries_out:\n",
        "            if state.due_at is not None and name in own:\n",
        seed=4,
    ),
    Mutant(
        "a timer dropped when its event was folded, although the clock had gone back",
        "aiorch.engine.timers",
        "            error is None and run is not None and run.due.get(name) != due_at\n",
        "            error is None\n",
        seed=76902517,
    ),
    Mutant(
        "a try that ends by the timer of an earlier one",
        "aiorch.nodes.parallel",
        "    if state.due_at is None or state.due_at > draft.now:\n",
        "    if state.due_at is None:\n",
        seed=137,
    ),
    Mutant(
        "finally begins while a task is live",
        "aiorch.core.draft",
        "            if self.live or self",
        "            if (self.live and (self.dag.final is None or self.header.final is not None)) or self",
        seed=16,
    ),
    Mutant(
        "a cancel that counts after finally has begun",
        "aiorch.core.fold",
        "    elif draft.header.final is None:\n",
        "    else:\n",
        seed=2461,
    ),
    Mutant(
        "a failure of finally that nobody hears of",
        "aiorch.core.draft",
        "        if failure is not None and self.header.status is RunStatus.RUNNING:\n",
        "        if False:\n",
        seed=100010,
    ),
    Mutant(
        "the first handler taken for every failure",
        "aiorch.core.draft",
        "for each in at.node.catch if covers(each.on, failure)",
        "for each in at.node.catch",
        seed=100002,
    ),
    Mutant(
        "a handler begins while executions inside go on",
        "aiorch.nodes.parallel",
        "        if live:\n",
        "        if False:\n",
        seed=100125,
    ),
    Mutant(
        "retries counted together by several policies",
        "aiorch.core.attempts",
        "        tries, retried = counts[number], tuple(counts)\n",
        "        retried = tuple(counts)\n",
        seed=2034,
    ),
    Mutant(
        "a step of a graph begins before its last need",
        "aiorch.core.draft",
        "                elif not left:\n",
        "                elif left < 2:\n",
        seed=100002,
    ),
    Mutant(
        "only the next step skipped after a failed need",
        "aiorch.core.draft",
        "                    self._skip_all(self._with_inner(place))\n                    ended.append(place)\n",
        "                    self._skip_all(self._with_inner(place))\n",
        seed=100073,
    ),
    Mutant(
        "a value written after the document that names it",
        "aiorch.engine.committer",
        "        if changes.values:\n"
        "            await self._executor.runs.save_values(changes.values)\n"
        "        self._is_unsure = True\n"
        "        loop = asyncio.get_running_loop()\n"
        "        begun_at = loop.time()\n"
        "        self.generation = await self._executor.runs.save_run(\n"
        "            changes.header, document, [*launches.values()], if_generation_match=self.generation\n"
        "        )\n",
        "        self._is_unsure = True\n"
        "        loop = asyncio.get_running_loop()\n"
        "        begun_at = loop.time()\n"
        "        self.generation = await self._executor.runs.save_run(\n"
        "            changes.header, document, [*launches.values()], if_generation_match=self.generation\n"
        "        )\n"
        "        if changes.values:\n"
        "            await self._executor.runs.save_values(changes.values)\n",
        seed=100001,
    ),
    Mutant(
        "a value asked for that no object holds yet",
        "aiorch.core.values",
        "self._loaded.get(name, self._fresh.get(state.result_in))",
        "self._loaded.get(name)",
        seed=100310,
    ),
    # -- who is alive --------------------------------------------------------------------------------------------
    Mutant(
        "called dead at first sight",
        "aiorch.stores.heartbeats",
        "        if generation and begun_at - since >= self._dead_after_s:",
        "        if generation:",
        seed=100001,
    ),
    Mutant(
        "what the dead have left looked at once",
        "aiorch.core.fold",
        "    for _ in range(2):  # an attempt",
        "    for _ in range(1):  # an attempt",
        seed=101066,
    ),
    Mutant(
        "what nobody has claimed left to others without a word",
        "aiorch.engine.committer",
        "            elif state.by is None and state.is_active:",
        "            elif False:",
        seed=100021,
    ),
    Mutant(
        "what prepares a launch taken for the launch",
        "aiorch.engine.in_flight",
        "        self.is_out = not self.is_preparing",
        "        self.is_out = True",
        seed=100018,
    ),
    Mutant(
        "what was not sent failed by a process that has lost it",
        "aiorch.engine.outcomes",
        "is_given_up = sent.is_given_up or (",
        "is_given_up = (",
        seed=104197,
    ),
    Mutant(
        "work of the dead left alone",
        "aiorch.engine.executor",
        "            events.append(ProcessesDied(dead, asked_at))\n",
        "            pass\n",
        seed=100003,
    ),
    Mutant(
        "a new owner that nobody knows of",
        "aiorch.engine.committer",
        "            self._offers |= not self.is_announced\n",
        "",
        seed=100048,
    ),
    Mutant(
        "announced for as long as the run is in memory",
        "aiorch.engine.committer",
        "        self.is_announced = self.is_announced and self._executor.owns(self)\n",
        "",
        seed=100544,
    ),
    Mutant(
        "marker without a document left alone",
        "aiorch.engine.sweeper",
        "            committer = await self._begin(run_id)\n",
        "            return\n",
        seed=100251,
    ),
    Mutant(
        "a takeover of what was committed after its owner was called dead",
        "aiorch.engine.committer",
        "            if isinstance(event, ProcessesDied) and event.asked_at < self.known_at:\n",
        "            if False and isinstance(event, ProcessesDied):\n",
        seed=100640,
    ),
    Mutant(
        "a standstill counted against timeouts",
        "aiorch.engine.standstill",
        "            self._total_s += gap_s - self.tick_s\n",
        "            pass\n",
        seed=100046,
    ),
    Mutant(
        "a late timeout that leaves no time to read",
        "aiorch.engine.standstill",
        "            due_at = max(due_at, now + self._reading_s)\n",
        "            pass\n",
        seed=102385,
    ),
    Mutant(
        "called dead by an observer that stood still",
        "aiorch.stores.heartbeats",
        "        since = max(since, self._went_on_at)\n",
        "",
        seed=103004,
    ),
    Mutant(
        "heartbeats removed by a newcomer that stood still",
        "aiorch.stores.heartbeats",
        "                if self._went_on_at <= looked_at:\n",
        "                if True:\n",
        seed=100045,
    ),
    Mutant(
        "a success without its result accepted",
        "aiorch.nodes.task",
        "event.ran and at.node.on_no_result is OnNoResult.ACCEPT:\n",
        "event.ran:\n",
        seed=100015,
    ),
    Mutant(
        "one event that lets a call be sent again twice",
        "aiorch.nodes.task",
        "    if event.event_id in known.events:\n",
        "    if False:\n",
        seed=100089,
    ),
    Mutant(
        "a call sent again while its caller waits for the answer",
        "aiorch.model.run_document",
        "        if self.unanswered is None or not self.unanswered.answer_lost:\n",
        "        if self.unanswered is None:\n",
        seed=100053,
    ),
    Mutant(
        "an event that a call never ran left alone",
        "aiorch.nodes.task",
        "    if event.ran or (known.answer_lost and not known.was_refused and state.launches == 1):\n",
        "    if event.ran:\n",
        seed=200488,
        is_rare=True,
    ),
    Mutant(
        "a call that is to be sent again taken for one under way",
        "aiorch.engine.executor",
        "    is_called_again = state.calls_again and sent.launch != state.launches\n",
        "    is_called_again = False\n",
        seed=100958,
    ),
    Mutant(
        "a defect after a request was sent taken for a failure",
        "aiorch.engine.outcomes",
        "                    if not kind.outlives_process:\n                        raise\n",
        "                    raise\n",
        seed=100107,
    ),
    # -- damaged reads, and a bucket that is slow ----------------------------------------------------------------
    Mutant(
        "a message parked at its first damaged read",
        "aiorch.intake.intake",
        "                return attempt >= UNREADABLE_DELIVERIES if attempt is not None else self._age_s(delivery) > UNREADABLE_S\n",
        "                return True\n",
        seed=100071,
    ),
    Mutant(
        "a damaged value taken for the value",
        "aiorch.documents.results",
        "                if data is not None and not is_content_of(place, data):\n",
        "                if data is not None and not data:\n",
        seed=297,
        is_rare=True,
    ),
    Mutant(
        "acknowledged although its document could not be read",
        "aiorch.intake.intake",
        "    ((NewerSchemaError, UnknownDAGError), Outcome.RETURNED),",
        "    ((DocumentError,), Outcome.DROPPED),\n    ((NewerSchemaError, UnknownDAGError), Outcome.RETURNED),",
        seed=100071,
    ),
    Mutant(
        "outcomes dropped when their run cannot be read",
        "aiorch.engine.committer",
        "        batch[:] = [(event, settle) for event, settle in batch if event is not None and settle is None]\n",
        "        batch.clear()\n",
        seed=100079,
    ),
    Mutant(
        "a marker written back as it was read",
        "aiorch.documents.runs",
        "        with suppress(NewerSchemaError):  # it is only passed on\n            decode_start_command(stored.data, name)\n",
        "",
        seed=100079,
    ),
    Mutant(
        "a run that cannot be read left alone for an hour",
        "aiorch.engine.sweeper",
        "not isinstance(error, StoreError | DocumentError)\n",
        "not isinstance(error, StoreError)\n",
        seed=101839,
    ),
    Mutant(
        "as many requests at once whether they are answered or not",
        "aiorch.stores.concurrency",
        "            self._value = max(self._least, min(self._value, under_way) * DECREASE)\n",
        "",
        seed=100031,
    ),
    Mutant(
        "a place lost with each request that waited for one",
        "aiorch.stores.concurrency",
        "            if not place.cancelled():\n                self.under_way += 1\n",
        "            if not place.cancelled():\n                self.under_way += 2\n",
        seed=100007,
    ),
    Mutant(
        "a reason to wait that stays when the task has ended",
        "aiorch.core.draft",
        "                due_at=None,\n                waits_because=None,\n",
        "                due_at=None,\n",
        seed=100012,
    ),
    Mutant(
        "a command that carries out all runs of its store",
        "aiorch.engine.executor",
        "        return self.own_runs is None or run_id in self.own_runs\n",
        "        return True\n",
        seed=100118,
    ),
)
"""All of them."""
