"""What stands above the table and below it: header, depth bar, tabs and status line; pure."""

from __future__ import annotations

from typing import NamedTuple

from zizq import words
from zizq.tui.lines import Line, Span, Style, cells, fit
from zizq.tui.listing import JobList
from zizq.tui.model import TABS, Model, Tab
from zizq.tui.tables import age, rate
from zizq.wire.events import ListName
from zizq.words import printable

TITLES = {
    ListName.IN_FLIGHT: "in flight",
    ListName.READY: "ready",
    ListName.SCHEDULED: "scheduled",
    ListName.DEAD: "dead",
}
_FILLS = {ListName.IN_FLIGHT: "█", ListName.READY: "▓", ListName.SCHEDULED: "▒", ListName.DEAD: "░"}
"""What each list is drawn with in the bar: they differ without colours too."""
_STYLES: dict[ListName, Style] = {
    ListName.IN_FLIGHT: "in_flight",
    ListName.READY: "ready",
    ListName.SCHEDULED: "scheduled",
    ListName.DEAD: "dead",
}


def header(model: Model, width: int) -> list[Line]:
    """Who is connected to what; how many jobs there are and how many go through; and how that compares."""
    return [_who(model, width), _totals(model, width), _depths(model, width)]


def _who(model: Model, width: int) -> Line:
    left = Span(f" zizq top {model.version}", "strong"), Span(f"  {printable(model.url)}")
    if model.server is None:
        return fit(left, (), width)
    up = f"up {_uptime(model.server.uptime_ms)}"
    return fit(left, [Span(f"server {printable(model.server.version)}  {up} ")], width)


def _uptime(ms: int) -> str:
    return " ".join(words.duration(ms // 1000 * 1000).split()[:2])


def _totals(model: Model, width: int) -> Line:
    left: list[Span] = []
    for name, title in TITLES.items():
        total = model.total(name)
        text = "-" if total is None else words.count(total)
        left += [Span(f" {_FILLS[name]} ", _STYLES[name]), Span(text, "strong"), Span(f" {title} ")]
    return fit(left, (), width)


def _depths(model: Model, width: int) -> Line:
    flow = _flow(model)
    return depth_bar(model, width - sum(cells(span.text) for span in flow)) + flow


def _flow(model: Model) -> Line:
    if model.overview is None:
        return ()
    flow = model.overview.flow
    through = f" in {rate(flow.enqueued_per_s)}/s  done {rate(flow.completed_per_s)}/s  "
    return Span(through), Span(f"failed {rate(flow.failed_per_s)}/s ", "bad" if flow.failed_per_s else "")


def depth_bar(model: Model, width: int) -> Line:
    """The lists as parts of one bar; what is there at all has at least one cell."""
    totals = {name: model.total(name) or 0 for name in TITLES}
    room = max(width - 2, 0)
    filled = {name: total for name, total in totals.items() if total}
    if not filled or room < len(filled):
        return (Span(" " + "·" * room + " ", "faint"),)
    share = (room - len(filled)) / sum(filled.values())
    sizes = {name: 1 + int(total * share) for name, total in filled.items()}
    largest = max(filled, key=lambda name: filled[name])
    sizes[largest] += room - sum(sizes.values())
    return (Span(" "), *(Span(_FILLS[name] * size, _STYLES[name]) for name, size in sizes.items()), Span(" "))


class Place(NamedTuple):
    """Where the name of a tab stands."""

    tab: Tab
    start: int
    end: int


def tab_bar(model: Model, width: int) -> tuple[Line, list[Place]]:
    """The names of the tabs, and where each stands, for the mouse."""
    named = [f"{number} {tab.title}" for number, tab in enumerate(TABS, 1)]
    # On a screen of 80 columns there is room for one blank between.
    blank = 1 if sum(map(cells, named)) + 3 * len(named) > width else 3
    spans: list[Span] = []
    places: list[Place] = []
    at = 0
    for tab, name in zip(TABS, named, strict=True):
        is_shown = tab is model.tab
        spans += [
            Span(" " * (blank - blank // 2)),
            Span(name, "selected" if is_shown else ""),
            Span(" " * (blank // 2)),
        ]
        at += blank - blank // 2
        places.append(Place(tab, at, at + cells(name)))
        at += cells(name) + blank // 2
    return fit(spans, (), width), places


def status(model: Model, now_s: float, width: int) -> Line:
    """Whether the connection is there and for how long, where the user is, and what is to be said."""
    link = model.link
    since = age(round((now_s - link.since_s) * 1000))
    if link.is_up:
        left = [Span(f" connected for {since} ", "good")]
    elif model.server is None:
        left = [Span(f" connecting for {since} ", "bad"), Span(printable(link.reason))]
    else:
        left = [Span(f" reconnecting for {since} ", "bad"), Span(printable(link.reason))]
    if model.is_paused:
        left.append(Span(" PAUSED ", "selected"))
    if trouble := model.overview and model.overview.trouble:
        left.append(Span(f" writes refused: {printable(trouble)}", "bad"))
    left.append(Span(f" {printable(model.notice)}"))
    return fit(left, [Span(f"{_place(model)}  ? help  q quit ", "faint")], width)


def _place(model: Model) -> str:
    table = model.table
    if isinstance(table, JobList):
        return f"{words.count(table.position + 1)} of {words.count(table.total)}" if table.jobs else "0 of 0"
    return f"{table.cursor.row + 1} of {len(table.values)}" if table.values else "0 of 0"


def empty_text(model: Model) -> str:
    """What stands in the table when it has no rows: why."""
    table = model.table
    refusal = model.refusals.get(str(model.tab.source))
    if refusal:
        return refusal
    if not table.is_known and model.link.is_up and model.server is not None and model.tab is Tab.DEAD:
        return "This server does not list dead jobs."
    if not table.is_known:
        return "Not heard of yet."
    return "Nothing is here."


HELP = (
    ("1 to 8, left, right", "choose a tab"),
    ("up, down, k, j", "select a row"),
    ("PageUp, PageDown", "go a screen further"),
    ("g, Home", "go to the head, and stay there"),
    ("G, End", "go to the tail, and stay there"),
    ("/", "search: part of a type, or queue:NAME"),
    ("n, N", "next match, the one before"),
    ("Enter, d", "open or close the details"),
    ("J, K", "scroll the details"),
    ("p", "pause the display, and go on"),
    ("D", "delete the job, once you said yes"),
    ("r", "retry the dead job, once you said yes"),
    ("P", "pause or resume the queue, once you said yes"),
    ("?", "this page"),
    ("q", "quit"),
)
"""The keys, and what they do."""
