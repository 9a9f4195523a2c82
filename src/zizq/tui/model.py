"""What `zizq top` knows and shows: fed with messages and keys, it says what to ask the server; pure.

The feed calls `connected`, `hear`, `read` and their like; the application calls the rest, draws what is here, and sends
what `take_requests` returns. Nothing here waits, reads a clock or knows a terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import msgspec

from zizq.tui import messages, tables
from zizq.tui.cursor import Cursor, Edge
from zizq.tui.grid import Column, Row
from zizq.tui.listing import PAGE, JobList
from zizq.tui.search import Search
from zizq.tui.shelf import Shelf, shelves
from zizq.wire import events
from zizq.wire.events import AdminJob, ListName, ServerFacts
from zizq.wire.insight import OTHERS, FailureInsight, JobInsight, Overview, QueueInsight

RESYNC_S = 1.0
"""Seconds between two requests for the same list, unless the user goes elsewhere in it."""
RELOOK_S = 5.0
"""Seconds after which a part that does not begin at the head is asked for again: the server says nothing of what goes
on before it, so that positions are true only for a while."""
ANSWER_S = 5.0
"""Seconds after which an answer is no longer waited for."""
MOST_SEARCHES = 16
"""Searches that wait for the one that is under way; who types more has lost their way."""
JOB = "job?id="
"""What the insight of one job is called, with its identifier after it."""


class Tab(Enum):
    """A tab: its title, and the list of jobs or the kind of insight that it shows."""

    IN_FLIGHT = "In-Flight", ListName.IN_FLIGHT
    READY = "Ready", ListName.READY
    SCHEDULED = "Scheduled", ListName.SCHEDULED
    QUEUES = "Queues", "queues"
    DEAD = "Dead", ListName.DEAD
    CRON = "Cron", "crons"
    BUDGETS = "Budgets", "budgets"
    WORKERS = "Workers", "workers"

    def __init__(self, title: str, source: ListName | str) -> None:
        self.title = title
        self.source = source


TABS = tuple(Tab)


@dataclass(frozen=True)
class Link:
    """The connection: whether it is there, since when on the monotonic clock, and why not."""

    is_up: bool
    since_s: float
    reason: str = ""


class Model:
    """Everything on the screen.

    Args:
        url: Where the admin API is.
        version: Of this program.
        now_s: The monotonic clock.
    """

    def __init__(self, url: str, version: str, now_s: float) -> None:
        self.url = url
        self.version = version
        self.link = Link(False, now_s)
        self.server: ServerFacts | None = None
        self.overview: Overview | None = None
        self.failures: list[FailureInsight] = []
        self.lists = {name: JobList(name) for name in ListName}
        self.shelves = shelves()
        self.refusals: dict[str, str] = {}
        self.tab = Tab.IN_FLIGHT
        self.is_paused = False
        self.is_detailed = False
        self.detail_top = 0
        self.detailed: AdminJob | None = None
        self.inspected: JobInsight | None = None
        self._inspected: tuple[str, int] | None = None
        self.has_answer = False
        """Whether what the user did was answered since this was last looked at: it is worth more than a tick."""
        self.notice = ""
        self._search: Search | None = None
        self._next_searches: list[bool] = []
        self._last_text = ""
        self._requests: list[events.Wish] = []
        self._asked_s: float | None = None
        self._last_asked_s = 0.0
        self._is_urgent = False

    # ── what is shown ────────────────────────────────────────────────────────────────────────────────

    @property
    def job_list(self) -> JobList | None:
        """The list of jobs of this tab; None where it shows something else."""
        return self.lists.get(self.tab.source) if isinstance(self.tab.source, ListName) else None

    @property
    def table(self) -> JobList | Shelf[object]:
        """What this tab shows."""
        return self.job_list or self.shelves[self.tab.source]

    @property
    def cursor(self) -> Cursor:
        """Where the user is in this tab."""
        return self.table.cursor

    @property
    def columns(self) -> Sequence[Column]:
        """The columns of this tab."""
        table = self.table
        return tables.JOB_COLUMNS[table.name] if isinstance(table, JobList) else table.columns

    def rows(self, now_at: int) -> list[Row]:
        """The rows of this tab that are on the screen."""
        table = self.table
        if not isinstance(table, JobList):
            return table.rows(now_at)
        top = table.cursor.top
        return tables.job_rows(table.name, table.jobs[top : top + table.cursor.height], self._errors(), now_at)

    def failure_of(self, job: AdminJob) -> FailureInsight | None:
        """Why a job failed last, where the server still knows."""
        return self._errors().get(job.id)

    @property
    def has_left(self) -> bool:
        """Whether the job that is told of in full is no longer in its list."""
        jobs = self.job_list
        return jobs is not None and self.detailed is not None and self.detailed.id not in jobs.keys

    def total(self, name: ListName) -> int | None:
        """How many jobs are in a list; None while nobody has said it."""
        if name is ListName.DEAD and self.overview is not None:
            return self.overview.counts.dead
        if self.server is not None and name is not ListName.DEAD:
            return messages.total(self.server, name)
        return self.lists[name].total if self.lists[name].is_known else None

    def _errors(self) -> Mapping[str, FailureInsight]:
        return {job_id: failure for failure in self.failures for job_id in failure.ids}

    # ── what the feed tells ──────────────────────────────────────────────────────────────────────────

    def connected(self, now_s: float) -> None:
        """The connection is there: tell the server anew what is wanted."""
        self.link = Link(True, now_s)
        self._requests.clear()
        self._forget_searches()
        if self.is_detailed:
            self._requests.append(events.SetDetailLevel(True))
        for name in ListName:
            self._subscribe(self.lists[name])
        self._asked_s = self._last_asked_s = now_s

    def disconnected(self, reason: str, now_s: float) -> None:
        """The connection is gone, or did not come about; what was told before stays on the screen."""
        since_s = now_s if self.link.is_up else self.link.since_s
        self.link = Link(False, since_s, reason)
        self._asked_s = None

    def hear(self, event: messages.Event) -> None:
        """A message of the server."""
        if self.is_paused and not self._is_awaited(event):
            return
        self.server = event.server
        if isinstance(event, events.JobSnapshot):
            self._load(event)
        elif isinstance(event, events.JobChanged):
            self._change(event)
        elif isinstance(event, events.FindResult):
            self._found(event)
        for name, jobs in self.lists.items():
            total = messages.total(event.server, name)
            jobs.total = jobs.total if total is None else max(total, jobs.first + len(jobs.jobs))
        self._follow()

    def wanted(self) -> list[str]:
        """Which insights this screen needs."""
        inspection = [JOB + self.detailed.id] if self.detailed is not None and self._is_job_wanted() else []
        if self.is_paused:
            return inspection
        source = self.tab.source
        found = [*inspection, "overview"] if isinstance(source, ListName) else ["overview", source]
        return [*found, "failures"] if self.tab is Tab.DEAD or self.is_detailed else found

    def read(self, name: str, body: bytes) -> None:
        """An insight that the server answered with.

        Raises:
            msgspec.DecodeError: When it is nothing of the kind.
        """
        if name.startswith(JOB):
            self.inspected = msgspec.json.decode(body, type=JobInsight)
            self._note_inspected(name)
            return
        if self.is_paused:
            return
        if name == "overview":
            self.overview = msgspec.json.decode(body, type=Overview)
        elif name == "failures":
            self.failures = msgspec.json.decode(body, type=list[FailureInsight])
        else:
            self.shelves[name].load(body)
        self.refusals.pop(name, None)

    def refused(self, name: str, reason: str) -> None:
        """An insight that the server did not answer with."""
        if name.startswith(JOB):
            self._note_inspected(name)
            return
        self.refusals[name] = reason

    def _is_job_wanted(self) -> bool:
        """Whether the job that is told of in full is not known in full, or has failed since."""
        job = self.detailed
        is_told = self.is_detailed and self.job_list is not None
        return is_told and job is not None and self._inspected != (job.id, job.attempts)

    def _note_inspected(self, name: str) -> None:
        job = self.detailed
        if job is not None and name == JOB + job.id:
            self._inspected, self.has_answer = (job.id, job.attempts), True

    def tick(self, now_s: float) -> None:
        """Time has passed: ask for what is missing, though not too often."""
        if self._asked_s is not None and now_s - self._asked_s < ANSWER_S:
            return
        jobs = self.job_list
        if not self.link.is_up or jobs is None:
            return
        waited_s = 0.0 if self.is_paused else now_s - self._last_asked_s
        is_lacking = waited_s >= RESYNC_S and (jobs.is_stale or jobs.is_short)
        if self._is_urgent or is_lacking or (waited_s >= RELOOK_S and jobs.first > 0):
            self._subscribe(jobs)
            self._asked_s = self._last_asked_s = now_s

    def take_requests(self) -> list[events.Wish]:
        """What to send to the server, in order; it is forgotten here."""
        requests, self._requests = self._requests, []
        return requests

    def _is_awaited(self, event: messages.Event) -> bool:
        """Whether an event answers what the user did, so that it is shown in a pause too."""
        if isinstance(event, events.JobSnapshot):
            return self._is_urgent or self._asked_s is not None
        return isinstance(event, events.FindResult)

    def _load(self, event: events.JobSnapshot) -> None:
        self.has_answer = self.has_answer or self._is_urgent
        self._asked_s, self._is_urgent = None, False
        for name, jobs in self.lists.items():
            window = messages.window(event, name)
            if window is not None:
                jobs.load(window)

    def _change(self, event: events.JobChanged) -> None:
        name = event.status.removesuffix("_removed")
        if name != event.status and name in self.lists:
            self.lists[ListName(name)].remove(event.id)
        elif event.status == "dead":
            # Told of every failure, whatever became of the job.
            self.lists[ListName.DEAD].is_stale = True
        elif name in self.lists and event.job is not None:
            self.lists[ListName(name)].put(event.job)
        elif name in self.lists:
            self.lists[ListName(name)].is_stale = True

    def _found(self, event: events.FindResult) -> None:
        search = self._search
        if search is None or search.list != event.list:
            return
        self._search, self.has_answer = None, True
        if event.matched_position is not None:
            self.lists[event.list].choose(event.window, event.matched_position)
            self.notice = f"/{search.text}" + (": begun anew at the other end" if search.is_around else "")
            self._pin()
        elif event.incomplete:
            self.notice = f"/{search.text}: too much to search, say the queue as well: queue:NAME"
            self._next_searches.clear()
        elif again := search.around():
            self._search = again
            self._requests.append(again.request(None))
        else:
            self.notice = f"/{search.text}: nothing matches in {self.tab.title}"
            self._next_searches.clear()
        if self._search is None and self._next_searches:
            self.find_next(self._next_searches.pop(0))

    # ── what the user does ───────────────────────────────────────────────────────────────────────────

    def choose_tab(self, tab: Tab) -> None:
        """Show a tab."""
        self.tab, self.notice = tab, ""
        self._forget_searches()
        jobs = self.job_list
        if jobs is not None:
            jobs.is_stale = True
            self._is_urgent = True
        self._pin()

    def next_tab(self, by: int) -> None:
        """Show the tab so many to the right; after the last comes the first."""
        self.choose_tab(TABS[(TABS.index(self.tab) + by) % len(TABS)])

    def resize(self, height: int) -> None:
        """So many rows of the table fit the screen."""
        every: list[JobList | Shelf[object]] = [*self.lists.values(), *self.shelves.values()]
        for table in every:
            if table.cursor.height != height:
                table.cursor.height = max(height, 1)
                table.cursor.settle(table.keys)

    def move(self, by: int) -> None:
        """Select the row so many below."""
        self.cursor.move(by, self.table.keys)
        self._moved()

    def select(self, row: int) -> None:
        """Select a row, counted from the first on the screen."""
        self.move(self.cursor.top + row - self.cursor.row)

    def go(self, edge: Edge) -> None:
        """Select the first or the last row, and stay there as others come."""
        self.cursor.go(edge, self.table.keys)
        if (jobs := self.job_list) is not None:
            at_edge = jobs.first == 0 if edge is Edge.HEAD else jobs.first + len(jobs.jobs) >= jobs.total
            self._is_urgent = self._is_urgent or not at_edge
        self._moved()

    def toggle_pause(self) -> None:
        """Let the screen stand still, or go on with what is true now."""
        self.is_paused = not self.is_paused
        self._is_urgent = self._is_urgent or not self.is_paused

    def toggle_detail(self) -> None:
        """Open or close the panel that tells of the selected row in full."""
        self.is_detailed, self.detail_top = not self.is_detailed, 0
        self._requests.append(events.SetDetailLevel(self.is_detailed))
        jobs = self.job_list
        if jobs is not None and jobs.selected is not None and self.is_detailed:
            # Whoever reads of one job wants it to stay the selected one.
            jobs.cursor.select(jobs.selected.id, jobs.keys)
        self._pin()

    def scroll_detail(self, by: int) -> None:
        """Show the panel from so many lines below."""
        self.detail_top = max(self.detail_top + by, 0)

    def find(self, text: str) -> None:
        """Select the next row that matches; an empty text repeats the last search."""
        if text.strip():
            self._last_text = text.strip()
            self._forget_searches()
        self.find_next(True)

    def find_next(self, is_forward: bool) -> None:
        """Select the next row that matches the last search, or the one before."""
        text = self._last_text
        if not text:
            self.notice = "nothing was searched for yet: type / and a text"
        elif self._search is not None:
            # From where this one leads to.
            self._next_searches = [*self._next_searches, is_forward][:MOST_SEARCHES]
        elif (jobs := self.job_list) is not None:
            self._search = Search(text, jobs.name, is_forward)
            selected = jobs.selected
            self.notice = f"/{text} …"
            self._requests.append(self._search.request(selected.id if selected else None))
        else:
            shelf = self.shelves[str(self.tab.source)]
            is_found = shelf.find(text, is_forward)
            self.notice = f"/{text}" + ("" if is_found else f": nothing matches in {self.tab.title}")
            self.detail_top = 0

    def _forget_searches(self) -> None:
        self._search = None
        self._next_searches.clear()

    def target(self) -> AdminJob | None:
        """The job that a key is about: the one that is told of in full, or else the selected one."""
        jobs = self.job_list
        if jobs is None:
            return None
        return self.detailed if self.is_detailed and self.detailed is not None else jobs.selected

    @property
    def queue(self) -> QueueInsight | None:
        """The selected queue; None in another tab, and where many queues share a row."""
        shelf: Shelf[QueueInsight] = self.shelves["queues"]
        chosen = shelf.values[shelf.cursor.row] if self.tab is Tab.QUEUES and shelf.values else None
        return None if chosen is None or chosen.queue == OTHERS else chosen

    def delete(self, job: AdminJob) -> None:
        """Delete a job."""
        self._do(events.DeleteJob(job.id), f"asked to delete {job.id}")

    def retry(self, job: AdminJob) -> None:
        """Make a dead job ready again."""
        self._do(events.RetryJob(job.id), f"asked to retry {job.id}")
        self.lists[ListName.DEAD].is_stale = True

    def pause_queue(self, queue: QueueInsight) -> None:
        """Pause a queue, or let a paused one go on."""
        if queue.paused:
            self._do(events.ResumeQueue(queue.queue), f"asked to resume {queue.queue}")
        else:
            self._do(events.PauseQueue(queue.queue), f"asked to pause {queue.queue}")

    def _do(self, request: events.Wish, notice: str) -> None:
        if self.link.is_up:
            self._requests.append(request)
            self.notice = notice
        else:
            self.notice = "not connected: nothing was asked"

    def _moved(self) -> None:
        self.notice = ""
        if (jobs := self.job_list) is not None and jobs.is_short:
            self._is_urgent = True
        self._pin()

    def _pin(self) -> None:
        """Tell of the selected job from now on, in this panel and from its top."""
        self.detail_top = 0
        self.detailed = self.job_list.selected if self.job_list is not None else None

    def _follow(self) -> None:
        """Tell of the same job as before, with what is new of it."""
        jobs = self.job_list
        if jobs is None:
            return
        if self.detailed is None or (jobs.cursor.edge is not None and not self._is_same(jobs.selected)):
            self.detailed = jobs.selected
            return
        is_here = self.detailed.id in jobs.keys
        new = jobs.jobs[jobs.keys.index(self.detailed.id)] if is_here else None
        # What a change tells of a job has no details: those that are known stay.
        if new is not None and not (new.payload is msgspec.UNSET and self.detailed.payload is not msgspec.UNSET):
            self.detailed = new

    def _is_same(self, job: AdminJob | None) -> bool:
        return job is not None and self.detailed is not None and job.id == self.detailed.id

    def _subscribe(self, jobs: JobList) -> None:
        limit = PAGE
        if self.server is not None and self.server.subscription_limit is not None:
            limit = min(limit, self.server.subscription_limit)
        self._requests.append(events.Subscribe(list=jobs.name, anchor=jobs.anchor, limit=limit))
