"""Take streams: jobs as they come, for as long as the caller stays.

Leaving the block closes the connection, and that gives the jobs that were not answered back to the server.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from zizq.client.call import Response, TakeCall, raise_refusal
from zizq.client.job import Job, JobReader
from zizq.client.transport import Stream, SyncStream, SyncTransport, Transport
from zizq.errors import DecodeError, ZizqError
from zizq.wire.framing import Splitter, StreamFormat

if TYPE_CHECKING:
    from zizq.client.spans import Spans

_BAD_FRAMES = 3
"""Bad frames in a row that end a stream: one may be an odd job, three are another protocol."""

_NOT_OPEN = "the take stream is not open: use it inside its `with` block"

_log = logging.getLogger("zizq")


class _Reader:
    """Turns the bytes of a stream into jobs; the same for coroutines and threads."""

    def __init__(self, form: StreamFormat) -> None:
        self._splitter = Splitter(form)
        self._read = JobReader(form.body).one
        self._bad = 0

    def feed(self, data: bytes) -> list[Job]:
        """The jobs that the bytes complete.

        Raises:
            DecodeError: At the third bad frame in a row, or one that is too large.
        """
        frames = self._splitter.feed(data)
        try:
            jobs = [self._read(frame) for frame in frames]
        except DecodeError:
            return self._feed_one_by_one(frames)
        if frames:
            self._bad = 0
        return jobs

    def finish(self) -> None:
        """Say that no more comes.

        Raises:
            DecodeError: When the stream ended inside a frame.
        """
        self._splitter.finish()

    def _feed_one_by_one(self, frames: list[bytes]) -> list[Job]:
        jobs = []
        for frame in frames:
            try:
                jobs.append(self._read(frame))
                self._bad = 0
            except DecodeError as error:
                self._bad += 1
                _log.warning(
                    "take stream: a frame was skipped", extra={"fields": {"error": str(error), "size": len(frame)}}
                )
                if self._bad >= _BAD_FRAMES:
                    raise
        return jobs


class Take:
    """A take stream: a context manager, and inside the block an iterator over jobs.

    Entering opens the stream and raises what the server says against it. The iteration ends when the server ends the
    stream in good order, and raises TransportError when the connection breaks: nothing is retried here.
    """

    def __init__(self, transport: Transport, call: TakeCall, spans: Spans | None = None) -> None:
        self._transport = transport
        self._spans = spans
        self._call = call
        self._stream: Stream | None = None
        self._reader = _Reader(call.form)
        self._arrived: deque[Job] = deque()

    async def __aenter__(self) -> Take:
        stream = await self._transport.open_stream(self._call.request)
        if stream.status != 200:
            try:
                body = await _rest(stream)
            finally:
                await stream.close()
            raise_refusal(Response(stream.status, stream.content_type, body, stream.retry_after))
        self._stream = stream
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()

    async def next_batch(self) -> list[Job]:
        """The jobs of the next chunk that has any, together; empty when the stream has ended.

        Raises:
            TransportError: When the connection breaks.
            StreamIdleTimeout: When nothing came for longer than the client's `stream_idle_timeout`.
            DecodeError: When three frames in a row cannot be read.
        """
        jobs = await self._next()
        if self._spans is not None and jobs:
            self._spans.received(jobs)
        return jobs

    async def _next(self) -> list[Job]:
        if self._stream is None:
            raise ZizqError(_NOT_OPEN)
        while chunk := await self._stream.read():
            if jobs := self._reader.feed(chunk):
                return jobs
        self._reader.finish()
        return []

    async def batches(self) -> AsyncIterator[list[Job]]:
        """Iterate over what `next_batch` returns, to the end of the stream.

        This is for programs that keep jobs and hand them on, as `Worker` does: no span says that they were received.
        """
        while jobs := await self._next():
            yield jobs

    def __aiter__(self) -> Take:
        return self

    async def __anext__(self) -> Job:
        if not self._arrived:
            self._arrived.extend(await self._next())
        if not self._arrived:
            raise StopAsyncIteration
        job = self._arrived.popleft()
        if self._spans is not None:
            self._spans.received([job], single=True)
        return job


class SyncTake:
    """A take stream for threads: a context manager, and inside the block an iterator over jobs.

    It behaves as `Take` does.
    """

    def __init__(self, transport: SyncTransport, call: TakeCall, spans: Spans | None = None) -> None:
        self._transport = transport
        self._spans = spans
        self._call = call
        self._stream: SyncStream | None = None
        self._reader = _Reader(call.form)
        self._arrived: deque[Job] = deque()

    def __enter__(self) -> SyncTake:
        stream = self._transport.open_stream(self._call.request)
        if stream.status != 200:
            try:
                body = b"".join(iter(stream.read, b""))
            finally:
                stream.close()
            raise_refusal(Response(stream.status, stream.content_type, body, stream.retry_after))
        self._stream = stream
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def next_batch(self) -> list[Job]:
        """The jobs of the next chunk that has any, together; empty when the stream has ended.

        Raises:
            TransportError: When the connection breaks.
            StreamIdleTimeout: When nothing came for longer than the client's `stream_idle_timeout`.
            DecodeError: When three frames in a row cannot be read.
        """
        jobs = self._next()
        if self._spans is not None and jobs:
            self._spans.received(jobs)
        return jobs

    def _next(self) -> list[Job]:
        if self._stream is None:
            raise ZizqError(_NOT_OPEN)
        while chunk := self._stream.read():
            if jobs := self._reader.feed(chunk):
                return jobs
        self._reader.finish()
        return []

    def batches(self) -> Iterator[list[Job]]:
        """Iterate over what `next_batch` returns, to the end of the stream.

        This is for programs that keep jobs and hand them on, as `Worker` does: no span says that they were received.
        """
        while jobs := self._next():
            yield jobs

    def __iter__(self) -> SyncTake:
        return self

    def __next__(self) -> Job:
        if not self._arrived:
            self._arrived.extend(self._next())
        if not self._arrived:
            raise StopIteration
        job = self._arrived.popleft()
        if self._spans is not None:
            self._spans.received([job], single=True)
        return job


async def _rest(stream: Stream) -> bytes:
    chunks = []
    while chunk := await stream.read():
        chunks.append(chunk)
    return b"".join(chunks)
