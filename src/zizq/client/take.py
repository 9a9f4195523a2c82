"""Take streams: jobs as they come, for as long as the caller stays.

Leaving the block closes the connection, and that gives the jobs that were not answered back to the server.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from types import TracebackType

from zizq.client.calls import Response, TakeCall, raise_refusal
from zizq.client.job import Job, JobReader
from zizq.client.transport import Stream, SyncStream, SyncTransport, Transport
from zizq.errors import DecodeError, ZizqError
from zizq.wire.framing import Splitter, StreamFormat

_BAD_FRAMES = 3
"""Bad frames in a row that end a stream: one may be an odd job, three are another protocol."""

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
                _log.warning("take stream: a frame was skipped", extra={"error": str(error), "size": len(frame)})
                if self._bad >= _BAD_FRAMES:
                    raise
        return jobs


class Take:
    """A take stream: a context manager, and inside the block an iterator over jobs.

    Entering opens the stream and raises what the server says against it. The iteration ends when the server ends the
    stream in good order, and raises TransportError when the connection breaks: nothing is retried here.
    """

    def __init__(self, transport: Transport, call: TakeCall) -> None:
        self._transport = transport
        self._call = call
        self._stream: Stream | None = None

    async def __aenter__(self) -> Take:
        stream = await self._transport.open_stream(self._call.request)
        if stream.status != 200:
            try:
                body = [chunk async for chunk in _chunks(stream)]
            finally:
                await stream.close()
            raise_refusal(Response(stream.status, stream.content_type, b"".join(body)))
        self._stream = stream
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()

    async def batches(self) -> AsyncIterator[list[Job]]:
        """The jobs of each chunk that arrives, together; never an empty list.

        Raises:
            TransportError: When the connection breaks.
            StreamIdleTimeout: When nothing came for longer than the client's `stream_idle_timeout`.
            DecodeError: When three frames in a row cannot be read.
        """
        reader = _Reader(self._call.form)
        async for chunk in _chunks(_opened(self._stream)):
            if jobs := reader.feed(chunk):
                yield jobs
        reader.finish()

    async def __aiter__(self) -> AsyncIterator[Job]:
        async for jobs in self.batches():
            for job in jobs:
                yield job


class SyncTake:
    """A take stream for threads: a context manager, and inside the block an iterator over jobs.

    It behaves as `Take` does. A signal, Ctrl-C too, is seen when the next bytes arrive: at the next heartbeat.
    """

    def __init__(self, transport: SyncTransport, call: TakeCall) -> None:
        self._transport = transport
        self._call = call
        self._stream: SyncStream | None = None

    def __enter__(self) -> SyncTake:
        stream = self._transport.open_stream(self._call.request)
        if stream.status != 200:
            try:
                body = b"".join(iter(stream.read, b""))
            finally:
                stream.close()
            raise_refusal(Response(stream.status, stream.content_type, body))
        self._stream = stream
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def batches(self) -> Iterator[list[Job]]:
        """The jobs of each chunk that arrives, together; never an empty list.

        Raises:
            TransportError: When the connection breaks.
            StreamIdleTimeout: When nothing came for longer than the client's `stream_idle_timeout`.
            DecodeError: When three frames in a row cannot be read.
        """
        reader = _Reader(self._call.form)
        for chunk in iter(_opened(self._stream).read, b""):
            if jobs := reader.feed(chunk):
                yield jobs
        reader.finish()

    def __iter__(self) -> Iterator[Job]:
        for jobs in self.batches():
            yield from jobs


async def _chunks(stream: Stream) -> AsyncIterator[bytes]:
    while chunk := await stream.read():
        yield chunk


def _opened(stream: Stream | SyncStream | None):  # type: ignore[no-untyped-def]
    if stream is None:
        raise ZizqError("the take stream is not open: use it inside its `with` block")
    return stream
