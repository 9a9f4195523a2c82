"""What it costs to watch: the server's processor time for each job that a worker drains, and how fast that goes.

Three kinds of server take turns: one that records nothing, one as it is, and one whose lists a client looks at over
`GET /events`. They differ by a few parts in a hundred, so the figures are medians of many rounds.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from statistics import median

from bench import throughput
from bench.programs import Program, Server, scratch, serve_command, working
from bench.report import Table

JOBS = 200_000
UNWATCHED = [sys.executable, "-m", "bench.unwatched"]


class Watched(Server):
    """A server with an admin API, or one that records nothing.

    Args:
        store: The folder of its store.
        mode: What a commit waits for.
        records: Whether it records what goes through.
    """

    def __init__(self, store: object, mode: str, *, records: bool) -> None:
        self.mode = mode
        command = [word for word in serve_command(store, mode) if word != "--no-admin"]  # type: ignore[arg-type]
        command = [*(command[:1] if records else UNWATCHED), *command[1:], "--admin-port", "0"]
        Program.__init__(self, command)
        found: dict[str, str] = {}
        while found.keys() != {"primary", "admin"}:
            fields = self.line()["fields"]
            if "api" in fields:
                found[fields["api"]] = fields["addr"]
        self.url, self.events = f"http://{found['primary']}", f"ws://{found['admin']}/events"


KINDS = {"nothing is recorded": (False, False), "as it is": (True, False), "a client of the events": (True, True)}
"""Whether the server records, and whether somebody looks."""


def drain(mode: str, jobs: int, *, records: bool, looks: bool) -> tuple[float, float]:
    """Drain a queue; returns the server's microseconds for each job, and jobs a second."""
    with scratch() as folder, Watched(folder / "store", mode, records=records) as server:
        throughput.bulk(server, jobs)
        with _looking(server.events) if looks else nullcontext():
            before = server.cpu()
            with working(server, jobs) as worker:
                done = worker.line()
            spent = server.cpu() - before
        throughput.check_done(server, done["ran"], jobs)
    return spent / jobs * 1e6, jobs / (done["ended"] - done["began"])


@contextmanager
def _looking(url: str) -> Iterator[None]:
    """A client that reads all it is told."""
    from websockets.sync.client import connect

    with connect(url, max_size=None) as socket:
        socket.recv()
        reader = threading.Thread(target=lambda: [None for _ in socket], daemon=True)
        reader.start()
        yield


def run(command: str, *, rounds: int, size: float, modes: Sequence[str]) -> Table:
    """Measure all kinds in turn."""
    samples: dict[str, list[float]] = {f"{kind}, {unit}": [] for kind in KINDS for unit in ("us", "jobs/s")}
    for number in range(rounds):
        # In turn forward and backward, so that none always comes after the same.
        for kind, (records, looks) in list(KINDS.items())[:: -1 if number % 2 else 1]:
            us, rate = drain(modes[0], max(100, int(JOBS * size)), records=records, looks=looks)
            samples[f"{kind}, us"].append(us)
            samples[f"{kind}, jobs/s"].append(rate)
            print(f"round {number + 1}/{rounds}: {kind}: {us:.2f} us, {rate:,.0f} jobs/s", file=sys.stderr)
    first = [median(samples[f"nothing is recorded, {unit}"]) for unit in ("us", "jobs/s")]
    rows = []
    for kind in KINDS:
        us, rate = (median(samples[f"{kind}, {unit}"]) for unit in ("us", "jobs/s"))
        rows.append([kind, f"{us:.2f}", f"{us / first[0] - 1:+.1%}", f"{rate:,.0f}", f"{rate / first[1] - 1:+.1%}"])
    columns = ["server", "us of CPU a job", "beside the first", "jobs/s", "beside the first"]
    return Table("watching", command, columns, rows, samples, labels=1)
