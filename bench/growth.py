"""How the server's figures change as the backlog grows from ten thousand to ten million jobs, and a fleet from one
worker to a thousand. Where the design promises that something does not depend on size, its curve is to be flat.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import zizq
from bench import plot, report, trees
from bench.enqueuer import BULK_SIZE
from bench.programs import ROOT, Program, Server, enqueuing, scratch, serving, working
from bench.report import quantile
from bench.scale import start

BACKLOGS = (10_000, 100_000, 1_000_000, 10_000_000)
FLEETS = (1, 10, 100, 1_000)
PROBE = 100_000
"""Jobs of a measurement on top of a backlog, or by a fleet."""
PACE, PACED_S = 200, 5
"""Jobs a second for the latency of a fleet that is idle but for them, and for how many seconds."""
RESULTS = Path(__file__).parent / "results" / "growth.json"
PAGE = ROOT / "docs" / "benchmarks.md"
IMAGES = ROOT / "docs" / "images"

Figures = dict[str, float]
Samples = dict[str, dict[str, list[float]]]
"""Of each size, of each figure: one number a round."""

BY_BACKLOG = {
    "enqueue": ("enqueue in bulk on top of it, jobs/s", "{:,.0f}", 1.0),
    "drain": ("drain at its head, jobs/s", "{:,.0f}", 1.0),
    "server cpu": ("server CPU, µs a drained job", "{:,.1f}", 1e6),
    "memory": ("memory of the server, MiB", "{:,.1f}", 2.0**-20),
    "start": ("from start to the first job, s", "{:,.2f}", 1.0),
    "start memory": ("memory after the start, MiB", "{:,.1f}", 2.0**-20),
    "disk": ("bytes on disk a job", "{:,.0f}", 1.0),
}
BY_FLEET = {
    "drain": ("drain by all, jobs/s", "{:,.0f}", 1.0),
    "server cpu": ("server CPU, µs a job", "{:,.1f}", 1e6),
    "p50": ("start latency at 200/s, p50 ms", "{:,.2f}", 1e3),
    "p99": ("p99 ms", "{:,.2f}", 1e3),
    "memory": ("memory of the server, MiB", "{:,.1f}", 2.0**-20),
    "connect": ("all connected, s", "{:,.2f}", 1.0),
}
"""Each figure: its heading, how it is shown, and what it is multiplied with for that."""


def run(command: str, *, rounds: int, size: float) -> dict[str, object]:
    """Measure every size, round after round; the largest backlog in the first round alone, for it takes minutes."""
    samples: dict[str, Samples] = {"backlog": {}, "workers": {}}
    for number in range(rounds):
        backlogs = BACKLOGS if number == 0 else BACKLOGS[:-1]
        queued = sorted({max(1000, int(jobs * size)) for jobs in backlogs})
        for kind, sizes, measure in (("backlog", queued, backlog), ("workers", FLEETS, fleet)):
            for count in sizes:
                _note(samples[kind], str(count), measure(count, max(1000, int(PROBE * size))))
                print(f"round {number + 1}/{rounds}: {kind} {count:,}: done", file=sys.stderr)
    return {"command": f"`{command}` ({report.machine()})", **samples}


def tell(results: Mapping[str, object], *, write: bool) -> None:
    """Print the page's part, and put it into the page if asked to."""
    text = page(results)
    print(f"\n{text}\n", flush=True)
    if write:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        report.put(PAGE, "growth", text)
        for name, (_, picture) in pictures(results).items():
            (IMAGES / f"{name}.svg").write_text(picture)


def backlog(jobs: int, probe: int) -> Figures:
    """What a queue of so many jobs changes."""
    with scratch() as folder:
        store = folder / "store"
        with Server(store, "buffered") as server:
            _bulk(server, jobs)
            figures: Figures = {"enqueue": _bulk(server, probe), "memory": trees.memory(server.pid)}
        figures["disk"] = sum(file.stat().st_size for file in store.rglob("*") if file.is_file()) / (jobs + probe)
        server, figures["start"] = start(store)
        with server:
            figures["start memory"] = trees.memory(server.pid)
            before = server.cpu()
            with working(server, probe) as worker:
                done = worker.line()
            figures["server cpu"] = (server.cpu() - before) / probe
            figures["drain"] = probe / (done["ended"] - done["began"])
    return figures


def fleet(workers: int, probe: int) -> Figures:
    """What so many take streams change."""
    with serving("buffered") as server:
        command = [sys.executable, "-m", "bench.fleet", "--url", server.url, "--workers", str(workers)]
        began = time.monotonic()
        with Program(command) as program:
            program.line()
            figures: Figures = {"connect": time.monotonic() - began}
            with enqueuing(server, "paced", PACE * PACED_S, PACE) as enqueuer:
                enqueuer.line()
            program.ask(f"wait {PACE * PACED_S}")
            seconds = sorted(program.ask("stamps")["seconds"])
            figures |= {"p50": quantile(seconds, 0.5), "p99": quantile(seconds, 0.99)}
            figures["memory"] = trees.memory(server.pid)
            figures |= _drained(server, program, PACE * PACED_S, probe)
    return figures


def page(results: Mapping[str, object]) -> str:
    """The tables, and what they are of."""
    shown = pictures(results)
    parts = [
        report.caution(str(results["command"])),
        f"Made by {results['command']}",
        "\n".join(f"![{title}](images/{name}.svg)" for name, (title, _) in shown.items()),
        _table("queued jobs", results["backlog"], BY_BACKLOG),
        _table("workers", results["workers"], BY_FLEET),
    ]
    return "\n\n".join(part for part in parts if part)


def pictures(results: Mapping[str, object]) -> dict[str, tuple[str, str]]:
    """Of each picture its title and SVG."""
    queued, working_ = results["backlog"], results["workers"]
    wanted: list[tuple[str, str, object, Mapping[str, str], Callable[[float], float], str]] = [
        ("growth-rates", "Rates by backlog", queued, {"enqueue": "enqueue", "drain": "drain"}, float, "jobs/s"),
        ("growth-memory", "Memory of the server by backlog", queued, {"memory": "full", "start memory": "started"},
         lambda size: size / 2**20, "MiB"),
        ("growth-start", "From start to the first job by backlog", queued, {"start": "start"}, float, "s"),
        ("growth-fleet", "Drain by the number of workers", working_, {"drain": "drain"}, float, "jobs/s"),
        ("growth-cpu", "Server CPU for a job by the number of workers", working_, {"server cpu": "CPU"},
         lambda seconds: seconds * 1e6, "µs"),
    ]  # fmt: skip
    made = {}
    for name, title, samples, figures, turn, unit in wanted:
        series = {shown: [(float(size), turn(statistics.median(found[figure]))) for size, found in samples.items()]
                  for figure, shown in figures.items()}  # type: ignore[attr-defined]  # fmt: skip
        along = "workers" if samples is working_ else "queued jobs"
        made[name] = title, plot.curves(title, series, along, unit=unit)
    return made


def _table(size: str, samples: object, figures: Mapping[str, tuple[str, str, float]]) -> str:
    rows = [
        [f"{int(count):,}", *(_cell(found[figure], show, factor) for figure, (_, show, factor) in figures.items())]
        for count, found in samples.items()  # type: ignore[attr-defined]
    ]
    return report.markdown([size, *(heading for heading, _, _ in figures.values())], rows, 1)


def _cell(samples: Sequence[float], show: str, factor: float) -> str:
    middle = show.format(statistics.median(samples) * factor)
    if len(samples) == 1:
        return middle
    return f"{middle} ({show.format(min(samples) * factor)}-{show.format(max(samples) * factor)})"


def _note(samples: Samples, size: str, figures: Figures) -> None:
    for figure, value in figures.items():
        samples.setdefault(size, {}).setdefault(figure, []).append(round(value, 9))


def _bulk(server: Server, jobs: int) -> float:
    with enqueuing(server, "bulk", max(jobs, BULK_SIZE)) as enqueuer:
        told = enqueuer.line(timeout=3600)
    return jobs / (told["ended"] - told["began"])


def _drained(server: Server, program: Program, ran: int, probe: int) -> Figures:
    """Enqueue while the fleet works: from the first enqueue until all have run and been acknowledged."""
    before = server.cpu()
    with enqueuing(server, "bulk", probe) as enqueuer:
        told = enqueuer.line()
    program.ask(f"wait {ran + probe}")
    with zizq.SyncClient(server.url) as client:
        while client.jobs().count():
            time.sleep(0.002)
    ended = time.monotonic()
    return {"drain": probe / (ended - told["began"]), "server cpu": (server.cpu() - before) / probe}
