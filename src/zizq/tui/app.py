"""The application: keys to the model, the model to the screen, its requests to the feed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import ClassVar

from textual import events
from textual.actions import ActionParseResult
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.dom import DOMNode
from textual.widgets import Input

from zizq.clock import Clock
from zizq.tui.cursor import Edge
from zizq.tui.dialogs import Help, Question
from zizq.tui.feed import Feed
from zizq.tui.model import TABS, Model
from zizq.tui.search import HINT
from zizq.tui.widgets import Detail, Header, Lines, Status, TabBar, Table
from zizq.wire.events import AdminJob, ListName
from zizq.wire.insight import QueueInsight
from zizq.words import count

SIDE_BY_SIDE = 140
"""From how many columns on the details stand beside the table, and not below it."""
LEAVING_S = 2.0
"""Seconds that the connection may take to close when the program ends."""


class Top(App[None]):
    """`zizq top`.

    Args:
        model: What is shown.
        feed: What tells the model of the server; None shows the model as it is.
        clock: The time.
        refresh_s: The shortest time between two changes of the screen that answer nothing the user did.
    """

    CSS_PATH = "top.tcss"
    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = None  # keys are for the application, but for while a search is typed
    # The application sees keys before anybody else: one after the other, so that what is typed after a slash, however
    # fast, is the text of a search. `check_action` says when they are for somebody else.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(keys, action, priority=True)
        for keys, action in (
            *((str(number), f"tab({number})") for number in range(1, len(TABS) + 1)),
            ("right", "next_tab(1)"),
            ("left", "next_tab(-1)"),
            ("down,j", "move(1)"),
            ("up,k", "move(-1)"),
            ("pagedown,ctrl+f", "page(1)"),
            ("pageup,ctrl+b", "page(-1)"),
            ("g,home", "go('head')"),
            ("G,end", "go('tail')"),
            ("J", "scroll(1)"),
            ("K", "scroll(-1)"),
            ("enter,d", "detail"),
            ("escape", "leave"),
            ("slash", "search"),
            ("n", "find(True)"),
            ("N", "find(False)"),
            ("p", "pause"),
            ("D", "delete"),
            ("r", "retry"),
            ("P", "pause_queue"),
            ("question_mark", "help"),
            ("q", "quit"),
            ("ctrl+c", "abandon"),
        )
    ]

    def __init__(self, model: Model, feed: Feed | None, clock: Clock, refresh_s: float) -> None:
        super().__init__(ansi_color=True)
        self.model = model
        self._feed = feed
        self._clock = clock
        self._refresh_s = refresh_s
        self._detail = Detail(model, clock, self.draw)
        kinds = Header, TabBar, Table, Status
        header, tabs, table, status = (kind(model, clock, self.draw) for kind in kinds)
        self._parts: tuple[Lines, ...] = header, tabs, table, self._detail, status
        self._line = Input(id="search", placeholder=HINT, compact=True)
        self._feeding: asyncio.Task[None] | None = None

    def compose(self) -> ComposeResult:
        """Header, tabs, the table with its details, and the last line, over which a search is typed."""
        header, tabs, table, detail, status = self._parts
        yield header
        yield tabs
        with Container(id="body"):
            yield table
            yield detail
        yield status
        yield self._line

    def on_mount(self) -> None:
        """Begin to listen, and to draw."""
        self._line.display = self._detail.display = False
        self.set_interval(self._refresh_s, self.draw)
        if self._feed is not None:
            self._feed.on_answer = self.draw
            self._feeding = asyncio.create_task(self._feed.run())

    async def on_unmount(self) -> None:
        """Cease to listen."""
        if self._feeding is not None:
            self._feeding.cancel()
            # What does not heed it in time is cancelled again when the event loop ends.
            await asyncio.wait([self._feeding], timeout=LEAVING_S)

    def on_resize(self, event: events.Resize) -> None:
        """The terminal has another size: the details go where there is more room."""
        self.set_class(event.size.width >= SIDE_BY_SIDE, "wide")

    async def run_action(
        self,
        action: str | ActionParseResult,
        default_namespace: DOMNode | None = None,
        namespaces: Mapping[str, DOMNode] | None = None,
    ) -> bool:
        """Whatever a key does is seen, and sent, at once."""
        is_done = await super().run_action(action, default_namespace, namespaces)
        self.draw()
        return is_done

    def draw(self) -> None:
        """Bring the screen up to date, and send what the model asks for."""
        self.model.tick(self._clock.mono_s())
        if self._feed is not None:
            self._feed.send(self.model.take_requests())
            self._feed.want(self.model.wanted())
        self._detail.display = self.model.is_detailed
        for part in self._parts:
            if part.display and part.is_mounted:
                part.update()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While a question is open, or a text is typed, keys are for that; but for the ones that end it."""
        if action == "abandon":
            return True
        is_asking, is_typing = len(self.screen_stack) > 1, self._line.display
        return not is_asking and (not is_typing or action == "leave")

    async def action_abandon(self) -> None:
        """Quit, whatever is open."""
        self.exit()

    # ── keys ─────────────────────────────────────────────────────────────────────────────────────────

    def action_tab(self, number: int) -> None:
        """Show a tab, counted from 1."""
        self.model.choose_tab(TABS[number - 1])

    def action_next_tab(self, by: int) -> None:
        """Show the tab so many to the right."""
        self.model.next_tab(by)

    def action_move(self, by: int) -> None:
        """Select the row so many below."""
        self.model.move(by)

    def action_page(self, by: int) -> None:
        """Go so many screens down."""
        self.model.move(by * max(self.model.cursor.height - 1, 1))

    def action_go(self, edge: str) -> None:
        """Go to the head or the tail."""
        self.model.go(Edge(edge))

    def action_scroll(self, by: int) -> None:
        """Scroll the details by half a panel."""
        self.model.scroll_detail(by * max(self._detail.size.height // 2, 1))

    def action_detail(self) -> None:
        """Open or close the details."""
        self.model.toggle_detail()

    def action_leave(self) -> None:
        """Close what is open: the search first, then the details."""
        if self._line.display:
            self._end_search()
        elif self.model.is_detailed:
            self.action_detail()

    def action_pause(self) -> None:
        """Let the screen stand still, or go on."""
        self.model.toggle_pause()

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(Help())

    # ── search ───────────────────────────────────────────────────────────────────────────────────────

    def action_search(self) -> None:
        """Type what to search for."""
        self._line.value, self._line.display = "", True
        self.screen.set_focus(self._line)

    def action_find(self, is_forward: bool) -> None:
        """Go to the next match, or the one before."""
        self.model.find_next(is_forward)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Search."""
        self.model.find(event.value)
        self._end_search()

    def _end_search(self) -> None:
        self._line.display = False
        self.screen.set_focus(None)
        self.draw()

    # ── changes ──────────────────────────────────────────────────────────────────────────────────────

    def action_delete(self) -> None:
        """Delete the job, once the user said yes."""
        job = self.model.target()
        if job is not None:
            self.push_screen(Question("Delete this job?", _about(job)), lambda yes: self._delete(job, yes))

    def action_retry(self) -> None:
        """Retry the dead job, once the user said yes."""
        job, jobs = self.model.target(), self.model.job_list
        if job is not None and jobs is not None and jobs.name is ListName.DEAD:
            self.push_screen(Question("Retry this job?", _about(job)), lambda yes: self._retry(job, yes))

    def action_pause_queue(self) -> None:
        """Pause the queue, or let it go on, once the user said yes."""
        queue = self.model.queue
        if queue is not None:
            text = "Resume this queue?" if queue.paused else "Pause this queue? No worker gets a job of it any more."
            about = [queue.queue, f"{count(queue.counts.ready)} ready", f"{count(queue.counts.in_flight)} in flight"]
            self.push_screen(Question(text, about), lambda yes: self._pause_queue(queue, yes))

    def _pause_queue(self, queue: QueueInsight, is_yes: bool | None) -> None:
        if is_yes:
            self.model.pause_queue(queue)
            self.draw()

    def _delete(self, job: AdminJob, is_yes: bool | None) -> None:
        if is_yes:
            self.model.delete(job)
            self.draw()

    def _retry(self, job: AdminJob, is_yes: bool | None) -> None:
        if is_yes:
            self.model.retry(job)
            self.draw()


def _about(job: AdminJob) -> list[str]:
    return [job.id, f"type {job.job_type}", f"queue {job.queue}"]
