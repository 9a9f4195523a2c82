"""The writer: one thread, one connection; many calls, one commit.

Calls are put in by the event loop and answered on it. While the thread commits, more calls gather; it then takes all
of them into the next transaction. So the busier the server, the more calls share a commit. Where several come in a turn
of the event loop they wait for as long as each turn brings more, up to 64; one alone waits for none.

Two rules make the answers safe to act on:

1. *Order.* Inside a transaction the steps run in the order of `Step`, not of arrival: all calls in it are concurrent,
   so any order is as true as another. Answers are delivered in that very order, commit after commit. So whoever
   hears an answer has heard of everything that was committed before it. The windows of ready jobs depend on that: a
   refill, which reads what has been committed, is heard after each insert that it may contain.
2. *Certainty.* What an answer changes in memory is done in `then`, or in `on_enqueued` for all enqueues of a commit
   at once, which the writer calls itself. The caller that waits may be gone by then: a client that hangs up must not
   leave a committed job unknown to the windows.

A call that comes alone would spend most of its time on waking the thread and being woken by it. So few jobs are
enqueued or settled on the event loop, where nothing is with the thread: by one statement that waits for no disk, or for
a quick one where there is nobody but the caller who enqueues one after the other. All else is left to the thread. Both
rules hold: the answer follows the commit, and no other is between.

A disk that refuses writes, or lies, is told of in docs/decisions/disk-faults.md.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby
from operator import attrgetter
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import apsw

from zizq.errors import Unavailable
from zizq.job import JobRecord
from zizq.store.meter import Meter
from zizq.store.sqlite.checkpoints import Checkpoints
from zizq.store.sqlite.mending import Lost
from zizq.store.sqlite.schema import BUSY_MS
from zizq.store.sqlite.statements import Statements, Step

log = logging.getLogger("zizq.store")

PROBE_S = 1.0
"""While writes are refused, one is tried after so much silence."""
FEW = 40
"""Jobs that are enqueued or settled on the event loop at most: half a millisecond, where they are light. So many join
a request of a client's, of which there are two at a time, each of which somebody waits for."""
MOST_BYTES = 64 * 1024
"""Bytes that their payloads have together, at most."""
SLOW_US = 10_000
"""A commit on the event loop that takes longer: the disk is busy, or the jobs are heavy."""
REST = 10
"""So many times as long all commits are then left to the thread."""
LONE = 8
"""After so many enqueues of one job in a row, with no other call beside them, there is one caller, who waits for each:
no other write does while the event loop waits for the disk."""
QUICK_US = 1000
"""What commits that wait for the disk take on average where the event loop may wait for it."""
GATHERED = 64
"""So many calls are handed over without waiting for more of them."""
MOST_JOBS = {Step.SETTLE: 1000, Step.ENQUEUE: 10_000}
"""After so many jobs that one commit settles or enqueues, the other calls of the kind wait for the next: while that is
made, the event loop goes on with the outcome of this one, answers it, and hands out as many jobs."""

_DISK = (
    apsw.FullError, apsw.IOError, apsw.ReadOnlyError, apsw.CantOpenError, apsw.CorruptError, apsw.NotADBError,
    apsw.BusyError, apsw.ProtocolError, apsw.NoMemError, Lost,
)  # fmt: skip
"""Errors that are nobody's but the machine's: they refuse all that shares a commit, and none of it is tried apart."""

_step_of = attrgetter("step")


class Call(NamedTuple):
    """One call that waits for its commit."""

    step: Step
    argument: Any
    durable: bool
    then: Callable[[Any], None] | None
    otherwise: Callable[[], None] | None
    answer: asyncio.Future[Any]


class Commit(NamedTuple):
    """What became of calls that shared a commit: their outcomes in their order, or the error that refused them all."""

    calls: Sequence[Call]
    outcomes: Sequence[Any]
    error: Exception | None = None


def _pin(call: Call) -> Commit:
    """Begin to read on the caller's connection: it sees this commit from now on, and no later one."""
    db: apsw.Connection = call.argument
    try:
        db.execute("BEGIN")
        db.execute("SELECT 1 FROM jobs LIMIT 1").fetchall()
    except apsw.Error as error:
        return Commit([call], [None], Unavailable(f"the store cannot read just now ({type(error).__name__}: {error})"))
    return Commit([call], [None])


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _refused(calls: Sequence[Call], error: Exception, text: str) -> Commit:
    refusal = Unavailable(text)
    refusal.__cause__ = error
    return Commit(calls, [None] * len(calls), refusal)


class Writer:
    """Runs calls on a connection of its own thread.

    Args:
        statements: The steps, on a connection that nobody else uses from `start` on.
        checkpoints: What looks after its log.
        batch: How many calls of a step share a commit at most.
        on_enqueued: Called on the event loop with the jobs that a commit has added, before their callers are answered.
    """

    def __init__(
        self,
        statements: Statements,
        checkpoints: Checkpoints,
        batch: dict[Step, int],
        on_enqueued: Callable[[Sequence[JobRecord]], None],
    ) -> None:
        self._db = statements.db
        self._checkpoints = checkpoints
        self._batch = batch
        self._on_enqueued = on_enqueued
        self._statements = statements
        self._inbox: SimpleQueue[list[Call] | None] = SimpleQueue()
        self._gathered: list[Call] = []
        # How many calls came since the last hand-over, and whether that was of a single one.
        self._in_turn = 0
        self._was_alone = False
        # How many had gathered a turn ago, where they wait for more.
        self._waited = 0
        # How many enqueues in a row came with nothing beside them, and what a commit takes that waits for the disk.
        self._lone = 0
        self._sync_us: float = QUICK_US
        self._left_over: list[Call] = []
        self._synchronous = ""
        self.meter = Meter()
        """How long the commits take."""
        self.trouble: str | None = None
        """Why the last write was refused; None when it was not."""
        # An empty hand-over, for the thread to look after itself.
        checkpoints.on_doubt = lambda: self._inbox.put([])
        # How many calls are with the thread, or were carried out there and not heard of here.
        self._away = 0
        self._rest_until_us = 0
        # Held by whoever uses the connection.
        self._using = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="zizq-writer", daemon=True)

    def start(self) -> None:
        """Begin to run calls; answers go to the event loop that is running now."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Run what was called so far, then close the connection."""
        if self._thread.is_alive():
            self._hand_over()
            self._inbox.put(None)
            await asyncio.to_thread(self._thread.join)

    def call(
        self,
        step: Step,
        argument: Any,
        *,
        durable: bool = False,
        then: Callable[[Any], None] | None = None,
        otherwise: Callable[[], None] | None = None,
    ) -> asyncio.Future[Any]:
        """Put in a call.

        Args:
            step: What to do.
            argument: With what.
            durable: Whether its commit must survive a power cut.
            then: Called with the outcome, on the event loop, whether or not anyone still waits.
            otherwise: Called instead when the call was refused.

        Returns:
            A future with the outcome, or with `Unavailable`.
        """
        answer: asyncio.Future[Any] = self._loop.create_future()
        call = Call(step, argument, durable, then, otherwise, answer)
        self._lone = self._lone + 1 if self._is_single(step, argument) else 0
        # One hand-over for the calls of a turn of the loop, or of several: waking a thread costs more than an insert.
        self._in_turn += 1
        if self._in_turn == 1:
            self._loop.call_soon(self._end_turn)
            # Where one came alone the last time, this one will, and needs no other turn to be answered.
            if self._was_alone and self._is_short(call) and self._run_here(call):
                return answer
        self._gathered.append(call)
        return answer

    def _is_single(self, step: Step, argument: Any) -> bool:
        """Whether one job is enqueued, and nothing else is asked for: so one does who waits for each."""
        return step is Step.ENQUEUE and len(argument) == 1 and not (self._in_turn or self._away)

    def _end_turn(self) -> None:
        """Hand over what has gathered, unless it waits for more: a commit costs as much as ten jobs in it."""
        before, self._waited = self._waited, len(self._gathered)
        if max(1, before) < self._waited < GATHERED:
            self._loop.call_soon(self._end_turn)
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        calls, self._gathered, self._waited = self._gathered, [], 0
        self._was_alone, self._in_turn = self._in_turn == 1, 0
        if calls and not (self._was_alone and self._is_short(calls[0]) and self._run_here(calls[0])):
            self._away += len(calls)
            self._inbox.put(calls)

    def _is_short(self, call: Call) -> bool:
        """Whether a call is sooner done than handed over, and keeps no other write waiting."""
        return (
            call.step in (Step.ENQUEUE, Step.SETTLE)
            and (not call.durable or self._is_lone())
            and len(call.argument) <= FEW
            and not self._away
            and self.trouble is None
            and self._checkpoints.is_calm
            and self._statements.is_one(call.step, [call.argument])
            and (call.step is Step.SETTLE or sum(len(job.payload or b"") for job in call.argument) <= MOST_BYTES)
        )

    def _is_lone(self) -> bool:
        """Whether an enqueue may wait for the disk on the event loop."""
        return self._lone > LONE and self._sync_us < QUICK_US and not self._checkpoints.is_copying

    def _run_here(self, call: Call) -> bool:
        """Run a call on the event loop, waiting for a quick disk at most; whether it is done. Else nothing happened."""
        began_us = self.meter.now_us()
        # The thread may look after itself just now.
        if began_us < self._rest_until_us or not self._using.acquire(blocking=False):
            return False
        try:
            # It does nothing about the log, and waits for no lock, as one has it who cuts the log.
            self._checkpoints.is_in_haste = True
            self._db.set_busy_timeout(0)
            self._set_durable(call.durable)
            # A statement alone, which is a transaction already.
            outcomes = self._statements.run(call.step, [call.argument])
        except Exception as error:
            # The thread tries again, and says what is wrong. It makes sure of what a failed sync leaves in doubt.
            self._checkpoints.note(error)
            self._rest_until_us = began_us + REST * SLOW_US
            return False
        finally:
            self._db.set_busy_timeout(BUSY_MS)
            self._checkpoints.is_in_haste = False
            self._using.release()
        took_us = self._time(began_us, 1, call.durable)
        if took_us > SLOW_US:
            self._rest_until_us = began_us + REST * took_us
        self._deliver([Commit([call], outcomes)])
        return True

    def _time(self, began_us: int, calls: int, durable: bool) -> int:
        """A commit is done; returns the microseconds that it took."""
        took_us = self.meter.note(began_us, calls, durable)
        if durable:
            self._sync_us += (took_us - self._sync_us) / 8
        return took_us

    # ── on the thread ──

    def _run(self) -> None:
        while (calls := self._collect()) is not None:
            writes = [call for call in calls if call.step is not Step.PIN]
            with self._using:
                if not writes and self._checkpoints.in_doubt:
                    # Reads alone may come so thick that the thread never waits, which is when it looks after itself.
                    self._probe()
                commits = self._commit(writes) if writes else []
                commits += [_pin(call) for call in calls if call.step is Step.PIN]
            self._loop.call_soon_threadsafe(self._hear, commits)
        self._checkpoints.close()

    def _collect(self) -> list[Call] | None:
        """Everything that waits, up to the limits; None when it is time to stop."""
        calls = self._left_over or self._wait()
        if calls is None:
            return None
        while not self._inbox.empty():
            more = self._inbox.get()
            if more is None:
                self._inbox.put(None)
                break
            calls += more
        room, jobs = dict(self._batch), dict.fromkeys(MOST_JOBS, 0)
        taken: list[Call] = []
        self._left_over = []
        for call in calls:
            room[call.step] -= 1
            (taken if room[call.step] >= 0 else self._left_over).append(call)
            if call.step in MOST_JOBS:
                jobs[call.step] += len(call.argument)
                if jobs[call.step] >= MOST_JOBS[call.step]:
                    room[call.step] = 0
        return taken

    def _wait(self) -> list[Call] | None:
        """The next calls; None when it is time to stop."""
        while True:
            ails = self.trouble is not None or self._checkpoints.in_doubt
            try:
                calls = self._inbox.get(timeout=PROBE_S if ails else None)
            except Empty:
                calls = []
            if calls is None or calls:
                return calls
            with self._using:
                self._probe()

    def _probe(self) -> None:
        """Write what is there already: so health tells when writes succeed again, although nobody asks for one."""
        commits = self._checkpoints.commits
        try:
            self._checkpoints.make_sure()
            self._set_durable(True)
            self._statements.run(Step.TOUCH, [None])
        except _DISK as error:
            self._note(error)
        else:
            self._recover(commits)

    def _commit(self, calls: Sequence[Call]) -> list[Commit]:
        """One transaction for all the calls; when it fails for any reason but the disk, one for each."""
        in_order = sorted(calls, key=_step_of)
        reads = [call for call in in_order if call.step is Step.REFILL]
        commits = self._checkpoints.commits
        began_us = self.meter.now_us()
        try:
            self._checkpoints.make_sure()
            outcomes = self._transact(in_order)
        except _DISK as error:
            if len(reads) == len(calls):
                return [_refused(in_order, error, f"the store cannot read just now ({_told(error)})")]
            self._note(error)
            refusal = f"the store cannot write just now ({self.trouble}); nothing was changed"
            # What only reads goes on.
            refused = _refused(in_order[: len(calls) - len(reads)], error, refusal)
            return [refused, *(self._commit(reads) if reads else [])]
        except Exception as error:
            if len(calls) > 1:
                return [commit for call in in_order for commit in self._commit([call])]
            log.exception("write failed", extra={"fields": {"step": calls[0].step.name}})
            return [Commit(in_order, [None], error)]
        if self._checkpoints.commits > commits:
            self._time(began_us, len(calls) - len(reads), self._synchronous == "FULL")
        self._recover(commits)
        return [Commit(in_order, outcomes)]

    def _note(self, error: Exception) -> None:
        """A write was refused."""
        self._checkpoints.note(error)
        if self.trouble != (told := _told(error)):
            log.warning("writes are refused", extra={"fields": {"error": told}})
        self.trouble = told

    def _recover(self, commits: int) -> None:
        """A transaction went well; what wrote nothing says nothing of the disk."""
        if self.trouble is not None and self._checkpoints.commits > commits:
            log.warning("writes succeed again", extra={"fields": {"after": self.trouble}})
            self.trouble = None

    def _transact(self, calls: Sequence[Call]) -> list[Any]:
        """The outcomes of calls that come in the order of their steps."""
        self._set_durable(any(call.durable for call in calls))
        arguments = {step: [call.argument for call in some] for step, some in groupby(calls, _step_of)}
        # A statement alone is a transaction already. Each statement more is one more wait for the interpreter's lock.
        known = self._statements.known()
        alone = len(arguments) == 1 and all(self._statements.is_one(step, some) for step, some in arguments.items())
        outcomes: list[Any] = []
        if not alone:
            self._db.execute("BEGIN IMMEDIATE")
        try:
            for step, some in arguments.items():
                outcomes += self._statements.run(step, some)
            if not alone:
                self._db.execute("COMMIT")
        except BaseException:
            self._statements.restore(known)
            if self._db.in_transaction:
                # A disk error may have rolled back already, or may refuse this as well.
                with suppress(apsw.Error):
                    self._db.execute("ROLLBACK")
            raise
        return outcomes

    def _set_durable(self, durable: bool) -> None:
        """Whether the next commit waits for the disk."""
        wanted = "FULL" if durable else "NORMAL"
        if wanted != self._synchronous:
            self._db.execute(f"PRAGMA synchronous = {wanted}")
            self._synchronous = wanted
            self._checkpoints.is_durable = durable

    # ── on the event loop ──

    def _hear(self, commits: Sequence[Commit]) -> None:
        """The thread has made commits."""
        self._away -= sum(len(commit.calls) for commit in commits)
        self._deliver(commits)

    def _deliver(self, commits: Sequence[Commit]) -> None:
        for calls, outcomes, error in commits:
            if error is None:
                # Enqueues come first, so no answer after them is heard too early.
                enqueued = [job for call in calls if call.step is Step.ENQUEUE for job in call.argument]
                if enqueued:
                    self._on_enqueued(enqueued)
            for call, outcome in zip(calls, outcomes, strict=True):
                self._answer(call, outcome, error)

    def _answer(self, call: Call, outcome: Any, error: Exception | None) -> None:
        try:
            if isinstance(outcome, Exception):
                # The step itself declines one call; the others of the commit are none the worse for it.
                error = outcome
            if error is None and call.then is not None:
                call.then(outcome)
            elif error is not None and call.otherwise is not None:
                call.otherwise()
        except Exception:
            # One defect must not leave the other callers without their answers.
            log.exception("answer not applied", extra={"fields": {"step": call.step.name}})
        if call.answer.done():
            return
        if error is None:
            call.answer.set_result(outcome)
        else:
            call.answer.set_exception(error)
            # Read once here: a caller that is gone must not make the loop complain of an unread error.
            call.answer.exception()
