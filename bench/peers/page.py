"""The part of docs/benchmarks.md on other systems: tables and pictures of results. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from bench import plot
from bench.peers.catalogue import ALL, System
from bench.peers.results import SYNCED, Results, key
from bench.report import caution, markdown

ENQUEUE = (
    """Jobs a second: one after the other by one caller, by 64 callers at once, and a hundred a request by sixteen."""
)
WORK = """Jobs a second that one worker has run and had acknowledged.
That is as it comes, as fast as we could set it, while jobs are enqueued, and with jobs that wait for 10 ms."""
LATENCY = """Milliseconds from just before the enqueue to the first line of the handler: median / p99.
Each is the median of the rounds.
A star says that not all jobs had run 10 s after the last was sent; what had run counts."""
SYNCED_TEXT = "Jobs a second with every write synced to the disk."
COST = """Processor time for each job of a drain at best settings, of all processes of server and worker.
Beside it is what a queue of a million costs, or of as many as were enqueued in 12 s: memory of the server and disk for
each job, and the time until a server that was stopped is back and knows of all."""
KILLS = """Fifty jobs are enqueued, a worker begins as many as it can, it is killed, and another is started at once.
All is at default settings, but for how many jobs run at once.
They are watched for 150 s."""
US, MS = 1_000_000.0, 1_000.0
Cell = Callable[[str, System], str]


def page(results: Results, versions: Mapping[str, str]) -> str:
    """All of it."""
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    parts = [
        caution(" ".join(results.commands)),
        "Made by\n\n" + "\n".join(f"- {command}" for command in results.commands),
        f"Versions: {told}",
        *(f"![{title}](images/{name}.svg)" for name, title, _ in _pictures(results)),
        "### Enqueue", *_enqueue(results),
        "### Work", *_work(results),
        "### Start latency", *_latency(results),
        "### Synced: nothing is lost at a power cut", *_synced(results),
        "### Cost", *_cost(results),
        "### A worker dies by kill -9", *_kills(results),
        *_failures(results),
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part)


def pictures(results: Results) -> dict[str, str]:
    """File names and SVG."""
    return {name: svg for name, _, svg in _pictures(results)}


def figure(results: Results, name: str, what: str, show: str = "{:,.0f}", factor: float = 1.0) -> str:
    """The median, and in brackets the lowest and the highest."""
    middle = results.median(name, what)
    if middle is None:
        return ""
    spread = [show.format(value * factor) for value in results.spread(name, what)]
    return show.format(middle * factor) + (f" ({'-'.join(spread)})" if len(set(spread)) > 1 else "")


def _rows(results: Results) -> Iterator[tuple[str, System]]:
    """Each system as it comes, or nearest to that."""
    for name, system in ALL.items():
        as_it_comes = key(name, not system.server.quick)
        if as_it_comes in results.samples:
            yield as_it_comes, system


def _table(rows: Iterator[tuple[str, System]], columns: Mapping[str, Cell], labels: int) -> str:
    cells = [[cell(name, system) for cell in columns.values()] for name, system in rows]
    return markdown(list(columns), cells, labels)


def _cell(results: Results, what: str, show: str = "{:,.0f}", factor: float = 1.0) -> Cell:
    return lambda name, _: figure(results, name, what, show, factor)


def _name(row: str, system: System) -> str:
    name = _shown(row, system)
    return f"**{name}**" if system.module == "zizq" else name


def _durability(name: str, system: System) -> str:
    return system.server.synced if name.endswith(SYNCED) else system.server.quick


WHO: Mapping[str, Cell] = {"system": _name, "durability": _durability}
"""What every table begins with."""


def _bulk(results: Results) -> Cell:
    return lambda name, system: figure(results, name, "bulk") if system.bulk else "no bulk"


def _enqueue(results: Results) -> Sequence[str]:
    return [ENQUEUE,
            _table(_rows(results), {
                **WHO, "one by one": _cell(results, "one"),
                "64 callers": _cell(results, "many"), "bulk of 100": _bulk(results),
            }, 2)]  # fmt: skip


def _work(results: Results) -> Sequence[str]:
    def worker(settings: str) -> Cell:
        return lambda _, system: system.workers[settings].label

    return [WORK,
            _table(_rows(results), {
                **WHO, "as it comes": worker("default"), "of jobs": _cell(results, "drain default jobs"),
                "drain": _cell(results, "drain default"), "at best": worker("best"),
                "of so many": _cell(results, "drain jobs"), "drain at best": _cell(results, "drain"),
            }, 2),
            _table(_rows(results), {
                **WHO, "at best": worker("best"), "enqueue and drain": _cell(results, "mixed"),
                "wide": worker("wide"), "10 ms jobs": _cell(results, "io"),
            }, 2)]  # fmt: skip


def _latency(results: Results) -> Sequence[str]:
    def pair(load: str) -> Cell:
        def cell(name: str, _: System) -> str:
            text = " / ".join(figure(results, name, f"{load} {which}", "{:,.2f}", MS) for which in ("p50", "p99"))
            return text + (" *" if results.median(name, f"{load} missed") else "")

        return cell

    return [LATENCY,
            _table(_rows(results), {**WHO, "10 a second": pair("idle"), "1,000 a second": pair("paced")},
                   1)]  # fmt: skip


def _synced(results: Results) -> Sequence[str]:
    rows = ((key(name, True), system) for name, system in ALL.items() if key(name, True) in results.samples)
    return [f"{SYNCED_TEXT}\n{_cannot()}".strip(),
            _table(rows, {
                **WHO, "one by one": _cell(results, "one"),
                "64 callers": _cell(results, "many"), "bulk of 100": _bulk(results),
                "drain at best": _cell(results, "drain"),
            }, 2)]  # fmt: skip


def _cannot() -> str:
    names = [system.name for system in ALL.values() if not system.server.synced]
    return f"Not here: {', '.join(names)}, which cannot in the version at hand." if names else ""


def _cost(results: Results) -> Sequence[str]:
    def start(name: str, system: System) -> str:
        if lost := results.median(name, "start lost"):
            return f"lost {lost:,.0f}"
        return (
            figure(results, name, "start", "{:,.2f}")
            if system.server.version or system.module == "zizq"
            else "no server"
        )

    return [COST,
            _table(_rows(results), {
                **WHO, "server µs": _cell(results, "server cpu", "{:,.1f}", US),
                "worker µs": _cell(results, "worker cpu", "{:,.1f}", US),
                "queued jobs": _cell(results, "backlog"), "bytes of memory a job": _cell(results, "memory"),
                "bytes on disk a job": _cell(results, "disk"), "start, s": start,
            }, 2)]  # fmt: skip


def _kills(results: Results) -> Sequence[str]:
    def again(name: str, _: System) -> str:
        count = results.median(name, "again")
        return f"{count:,.0f} within {figure(results, name, 'again s', '{:,.1f}')} s" if count else "none"

    rows = ((name, system) for name, system in _rows(results) if results.median(name, "in hand") is not None)
    return [KILLS,
            _table(rows, {
                **WHO, "had begun": _cell(results, "in hand"), "ran again": again,
                "still held by the server": _cell(results, "waiting"), "gone": _cell(results, "lost"),
                "what it says of that": lambda _, system: system.crash,
            }, 2)]  # fmt: skip


def _failures(results: Results) -> Sequence[str]:
    if not results.failures:
        return []
    return ["### Not measured", "\n".join(f"- {name}: {why}" for name, why in results.failures.items())]


def _pictures(results: Results) -> Iterator[tuple[str, str, str]]:
    for name, title, what in (
        ("bench-drain", "Drain by one worker at its best settings, jobs a second", "drain"),
        ("bench-enqueue", "Enqueue by 64 callers, jobs a second", "many"),
        ("bench-bulk", "Enqueue a hundred a request, jobs a second", "bulk"),
        ("bench-io", "Jobs that wait for 10 ms, a hundred at once, jobs a second", "io"),
    ):
        rows = [plot.Bar(_shown(row, system), middle, results.spread(row, what), system.module == "zizq")
                for row, system in _rows(results) if (middle := results.median(row, what)) is not None]  # fmt: skip
        if rows:
            yield name, title, plot.bars(title, sorted(rows, key=lambda bar: -bar.value))
    title = "Start latency at 1,000 jobs a second: median / p99 in ms"
    spans = [plot.Bar(_shown(row, system), p50 * MS, [p99 * MS], system.module == "zizq")
             for row, system in _rows(results)
             if (p50 := results.median(row, "paced p50")) and (p99 := results.median(row, "paced p99"))]  # fmt: skip
    if spans:
        yield "bench-latency", title, plot.ranges(title, sorted(spans, key=lambda bar: bar.value))


def _shown(row: str, system: System) -> str:
    return "zizq, fsync" if row.startswith("zizq-fsync") else system.name
