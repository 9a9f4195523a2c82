"""What it costs to watch: the server's processor time for each job that a worker drains, and how fast that goes.

Four kinds of server take turns: one that records nothing, one as it is, one whose lists a client looks at over
`GET /events`, and one that is looked at as a page of the dashboard and `zizq top` do. They differ by a few parts in a
hundred, so the figures are medians of many rounds.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from statistics import median
from urllib.request import urlopen

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
        self.url, self.admin = f"http://{found['primary']}", found["admin"]


LOOKS = {"events": "events", "page": "live", "top": "insight/overview"}
"""What somebody looks at: the lists over events, the feed of a page, and what `zizq top` asks for each second."""
KINDS: dict[str, tuple[bool, tuple[str, ...]]] = {
    "nothing is recorded": (False, ()),
    "as it is": (True, ()),
    "a client of the events": (True, ("events",)),
    "a dashboard and top": (True, ("events", "page", "top")),
}
"""Whether the server records, and what somebody looks at."""


def drain(mode: str, jobs: int, *, records: bool, looks: Sequence[str]) -> tuple[float, float]:
    """Drain a queue; returns the server's microseconds for each job, and jobs a second."""
    with scratch() as folder, Watched(folder / "store", mode, records=records) as server:
        throughput.bulk(server, jobs)
        with looking(server.admin, looks):
            before = server.cpu()
            with working(server, jobs) as worker:
                done = worker.line()
            spent = server.cpu() - before
        throughput.check_done(server, done["ran"], jobs)
    return spent / jobs * 1e6, jobs / (done["ended"] - done["began"])


@contextmanager
def looking(admin: str, looks: Sequence[str]) -> Iterator[None]:
    """Have somebody look at these, who reads all that comes."""
    from websockets.sync.client import connect

    with ExitStack() as stack:
        if "events" in looks:
            socket = stack.enter_context(connect(f"ws://{admin}/{LOOKS['events']}", max_size=None))
            socket.recv()
            threading.Thread(target=lambda: [None for _ in socket], daemon=True).start()
        if "page" in looks:
            threading.Thread(target=_read_on, args=(f"http://{admin}/{LOOKS['page']}",), daemon=True).start()
        if "top" in looks:
            is_over = threading.Event()
            stack.callback(is_over.set)
            threading.Thread(target=_ask_on, args=(f"http://{admin}/{LOOKS['top']}", is_over), daemon=True).start()
        yield


def _read_on(url: str) -> None:
    """Read a stream for as long as there is one."""
    with suppress(OSError), urlopen(url) as stream:
        for _ in stream:
            pass


def _ask_on(url: str, is_over: threading.Event) -> None:
    """Ask each second."""
    with suppress(OSError):
        while not is_over.wait(1.0):
            with urlopen(url) as answer:
                answer.read()


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
