"""A server that worker tests hold in their hands: they say what comes, and see what is reported."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from contextlib import asynccontextmanager
from types import SimpleNamespace

import msgspec

from zizq.client.job import JobReader
from zizq.job import JobRecord, Status
from zizq.wire.codec import Format

_read = JobReader(Format.MSGPACK).one
_numbers = itertools.count(1)


async def settle():
    """Let everything happen that can happen without news from outside."""
    for _ in range(30):
        await asyncio.sleep(0)


def record(job_type="greet", payload=None, *, job_id=None, attempts=0, **more):
    return JobRecord(
        id=job_id or f"{next(_numbers):025}",
        type=job_type,
        queue="default",
        priority=1,
        status=Status.IN_FLIGHT,
        payload=msgspec.Raw(msgspec.msgpack.encode(payload)),
        attempts=attempts,
        **{"ready_at": 0} | more,
    )


def job(job_type="greet", payload=None, **more):
    return _read(msgspec.msgpack.encode(record(job_type, payload, **more)))


class FakeStream:
    def __init__(self):
        self._chunks = asyncio.Queue()
        self._held = set()
        self._retired = False

    def push(self, *jobs):
        self._held |= {job.id for job in jobs}
        self._chunks.put_nowait(list(jobs))

    def retire(self):
        self._retired = True
        self.left()

    def left(self, *ids):
        self._held -= set(ids)
        if self._retired and not self._held:
            self.end()

    def end(self, error=None):
        self._chunks.put_nowait(error)

    async def batches(self):
        while isinstance(chunk := await self._chunks.get(), list):
            yield chunk
        if chunk is not None:
            raise chunk


class FakeClient:
    """Speaks what a worker needs of a client."""

    spans = None

    def __init__(self):
        self.log = []
        self.acked = []
        self.failed = []
        self.ack_requests = []
        self.released = []
        self.take_answers = deque()
        self.release_answers = deque()
        self.ack_answers = deque()
        self.nack_answers = deque()
        self.ack_gate = _open_gate()
        self.nack_gate = _open_gate()
        self.streams = []
        self._changed = asyncio.Condition()

    @property
    def stream(self):
        return self.streams[-1]

    @asynccontextmanager
    async def take(self, **asked):
        self.asked = SimpleNamespace(**asked)
        if self.take_answers and (error := self.take_answers.popleft()) is not None:
            await self._note("refused")
            raise error
        self.streams.append(FakeStream())
        await self._note("opened")
        try:
            yield self.stream
        finally:
            self.log.append("closed")

    async def release(self, ids, *, stream):
        assert stream == self.asked.stream
        answer = self.release_answers.popleft() if self.release_answers else []
        if isinstance(answer, Exception):
            raise answer
        self.released += ids
        self._left(*ids)
        self.stream.retire()
        await self._note("released")
        return answer

    async def report_success_bulk(self, ids):
        self.ack_requests.append(list(ids))
        await self._note("ack asked")
        await self.ack_gate.wait()
        answer = self.ack_answers.popleft() if self.ack_answers else []
        if isinstance(answer, Exception):
            raise answer
        self.acked += [one for one in ids if one not in answer]
        self._left(*ids)
        await self._note("acked")
        return answer

    async def report_failure(self, job_id, message, **details):
        await self._note("nack asked")
        await self.nack_gate.wait()
        answer = self.nack_answers.popleft() if self.nack_answers else None
        if answer is not None:
            raise answer
        self.failed.append(SimpleNamespace(id=job_id, message=message, **details))
        self._left(job_id)
        await self._note("failed")

    def _left(self, *ids):
        for stream in self.streams:
            stream.left(*ids)

    async def until(self, condition):
        async with self._changed:
            await self._changed.wait_for(condition)

    async def opened(self, count=1):
        await self.until(lambda: len(self.streams) >= count)
        return self.stream

    async def _note(self, what):
        self.log.append(what)
        async with self._changed:
            self._changed.notify_all()


def _open_gate():
    gate = asyncio.Event()
    gate.set()
    return gate
