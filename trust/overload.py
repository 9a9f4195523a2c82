"""Overload: thousands of streams and clients, among them slow, broken and greedy ones; the others must be served.

A server in a process of its own meets a crowd in another, while one well-behaved client enqueues and takes the time.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from trust import rogue
from trust.verdict import Broken

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from acceptance.processes import ServerProcess

MOST_P99_MS = 100
BUSY_P99_MS = 20
"""Where an idle server is slower than that, other programs have the machine, and time says nothing."""
PER_CONNECTION = 64 * 2**10
"""Bytes of the server's memory that any connection may cost."""
PER_SLOTH = 3 * 2**20
"""The same for a take stream whose client does not read: a piece of a take, twice, and what the HTTP server holds."""
AT_LARGE = 192 * 2**20
"""The same for all that is not counted here: windows of ready jobs, caches, what floods have on their way."""
BLOCKING = [{"type": "t", "queue": "", "payload": "x" * 100_000}] * 60
"""Jobs that no buffer of the system takes in, so that a client that does not read them holds up the server."""
OWN_STATUSES = {
    "take": {200},
    "enqueue": {201, 429, 503},
    "flood": {201, 429, 503},
    "sloth": {200, 0},
    "half": {0, 400, 408},
}
"""What each kind may be answered; 0 where it was cut off."""


class Scale(NamedTuple):
    """How large a trial is: so many of each kind, and how many seconds each phase lasts."""

    streams: int = 10_000
    enqueuers: int = 2_000
    sloths: int = 200
    blocked: int = 10
    halves: int = 200
    floods: int = 50
    phase_s: float = 10.0
    cut_off_s: float = 5.0
    pause_s: float = 4.0
    """Between two requests of an enqueuer."""

    def times(self, size: float) -> Scale:
        """A smaller one; times stay, for a minute is what limits are about."""
        return self._replace(
            streams=max(100, int(self.streams * size)),
            enqueuers=max(20, int(self.enqueuers * size)),
            sloths=max(10, int(self.sloths * size)),
            blocked=max(2, int(self.blocked * size)),
            halves=max(8, int(self.halves * size)),
            floods=max(2, int(self.floods * size)),
        )


def run(*, size: float, seed: int | None) -> Iterator[str]:
    """Try it; nothing here is left to chance but the moment, so that a seed changes nothing."""
    yield from overload(Scale().times(size), timed=True)


def overload(scale: Scale, *, timed: bool) -> Iterator[str]:
    """The whole trial: the figures of each phase.

    Args:
        scale: How large it is.
        timed: Whether the time that the others wait counts; it does not on a machine that is busy with other things.

    Raises:
        Broken: When somebody was answered wrongly, memory grew too far, or, if `timed`, the others waited too long.
    """
    flags = ["--tcp-user-timeout", f"{scale.cut_off_s:g}s", "--global-in-flight-limit", "0"]
    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder), *flags) as server:
        host, _, port = server.url.partition("//")[2].partition(":")
        with crowd(host, port) as order, Enqueuer(host, int(port)) as others:
            yield from _Trial(scale, server, order, others).phases(timed)


@dataclass
class _Trial:
    scale: Scale
    server: ServerProcess
    order: Any
    others: Enqueuer
    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    waits: list[float] = field(default_factory=list)

    def phases(self, timed: bool) -> Iterator[str]:
        scale, order = self.scale, self.order
        yield self._phase("idle")
        quick = _part(self.waits, 0.99) <= BUSY_P99_MS
        idle = self.server.memory()
        opened = order("take", scale.streams)
        yield self._phase(f"{opened} take streams, opened at 1000 a second")
        opened += order("enqueue", scale.enqueuers, scale.pause_s)
        yield self._phase(f"{scale.enqueuers} connections that enqueue {scale.enqueuers / scale.pause_s:g} a second")
        opened += order("half", scale.halves)
        yield self._phase(f"{scale.halves} halves of requests")
        opened += order("sloth", scale.sloths)
        self._push()
        yield self._phase(f"{scale.sloths} slow readers, {scale.blocked} of them with 6 MB each to read")
        self._check_given_back()
        for worst in rogue.ROGUES:
            yield self._phase(f"HTTP/2, {worst.__name__}: {worst(self.others.address)}", lasting_s=0)
        opened += order("flood", scale.floods)
        yield self._phase(f"{scale.floods} connections that flood")
        yield self._phase("the same, later")
        yield from self._judge(idle, opened, timed and quick)

    def _phase(self, name: str, lasting_s: float | None = None) -> str:
        """Let time pass; returns what it was like for the others."""
        time.sleep(self.scale.phase_s if lasting_s is None else lasting_s)
        waits, bad = self.others.report()
        if bad:
            raise Broken(f"{name}: the others were answered {dict(bad)}, and not 201")
        self.waits += waits
        for kind, found in self.order("report").items():
            seen = {int(status): count for status, count in found["statuses"].items()}
            self.statuses.setdefault(kind, Counter()).update(seen)
        return f"{name}: {_quantiles(waits)}; memory {self.server.memory() >> 20} MiB"

    def _push(self) -> None:
        for number in range(self.scale.sloths):
            blocking = number < self.scale.blocked
            jobs = [{**one, "queue": f"sloth{number}"} for one in (BLOCKING if blocking else BLOCKING[:1])]
            self.others.ask("POST", "/jobs/bulk", json.dumps({"jobs": jobs}).encode())

    def _check_given_back(self) -> None:
        """Whoever did not read was cut off, and their jobs are ready again."""
        queues = ",".join(f"sloth{number}" for number in range(self.scale.blocked))
        deadline = time.monotonic() + 4 * self.scale.cut_off_s + 10
        while True:
            held = self.others.ask("GET", f"/jobs/count?queue={queues}&status=in_flight")["count"]
            if not held:
                return
            if time.monotonic() > deadline:
                raise Broken(f"{held} jobs are still held by clients that do not read")
            time.sleep(0.2)

    def _judge(self, idle: int, opened: int, timed: bool) -> Iterator[str]:
        for kind, seen in self.statuses.items():
            yield f"{kind}: answered {dict(sorted(seen.items()))}"
            if wrong := set(seen) - OWN_STATUSES[kind]:
                raise Broken(f"{kind} was answered {sorted(wrong)}")
        if self.statuses["take"][200] < self.scale.streams:
            raise Broken(f"only {self.statuses['take'][200]} take streams of {self.scale.streams} were opened")
        memory = self.server.memory()
        most = idle + PER_CONNECTION * opened + PER_SLOTH * self.scale.sloths + AT_LARGE
        yield f"memory: {memory >> 20} MiB, {(memory - idle) // opened >> 10} KiB for each of {opened} connections"
        if memory > most:
            raise Broken(f"the server takes {memory >> 20} MiB, and {most >> 20} MiB are its bound")
        yield f"the others in all: {_quantiles(self.waits)}"
        if not timed:
            yield "time was not judged"
        elif _part(self.waits, 0.99) > MOST_P99_MS:
            raise Broken(f"p99 of an enqueue is {_part(self.waits, 0.99)} ms, and {MOST_P99_MS} ms are promised")


class Enqueuer:
    """One well-behaved client: a request every few milliseconds, on one connection.

    Args:
        host: Where the server is.
        port: Its port.
    """

    PAUSE_S = 0.005
    JOB = b'{"type":"others","queue":"others","payload":1}'

    def __init__(self, host: str, port: int) -> None:
        self.address = (host, port)
        self._waits: list[float] = []
        self._bad: Counter[int | str] = Counter()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def report(self) -> tuple[list[float], Counter[int | str]]:
        """How long each request took since the last report, in milliseconds, and the statuses that were not 201."""
        waits, self._waits = self._waits, []
        return waits, self._bad

    def ask(self, method: str, target: str, body: bytes | None = None) -> Any:
        """One request aside; returns its answer."""
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        connection.request(method, target, body, {"content-type": "application/json"} if body else {})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if answer.status >= 400:
            raise Broken(f"{method} {target} was answered {answer.status}: {text[:200]!r}")
        return json.loads(text)

    def _run(self) -> None:
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        while not self._ended.wait(self.PAUSE_S):
            began = time.monotonic()
            try:
                connection.request("POST", "/jobs", self.JOB)
                answer = connection.getresponse()
                answer.read()
            except OSError as error:
                self._bad[repr(error)] += 1
                break
            self._waits.append(1000 * (time.monotonic() - began))
            if answer.status != 201:
                self._bad[answer.status] += 1
        connection.close()

    def __enter__(self) -> Enqueuer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


@contextmanager
def crowd(host: str, port: str) -> Iterator[Any]:
    """A crowd for as long as the block lasts: a function that gives it an order and returns the answer."""
    command = [sys.executable, "-m", "trust.crowd", host, port]
    root = Path(__file__).parents[1]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
    orders, answers = process.stdin, process.stdout
    assert orders is not None
    assert answers is not None

    def order(*words: Any) -> Any:
        orders.write(json.dumps(words) + "\n")
        orders.flush()
        return json.loads(answers.readline())

    try:
        yield order
    finally:
        orders.close()
        process.wait(30)
        answers.close()


def _part(waits: list[float], part: float) -> float:
    return round(sorted(waits)[int(part * (len(waits) - 1))], 1) if waits else 0.0


def _quantiles(waits: list[float]) -> str:
    p50, p99, most = (_part(waits, part) for part in (0.5, 0.99, 1.0))
    return f"{len(waits)} enqueues, p50 {p50} ms, p99 {p99} ms, most {most} ms"
