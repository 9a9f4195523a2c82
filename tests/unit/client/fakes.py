"""A network that answers as it is told, and keeps what it was sent."""

from __future__ import annotations

from collections import deque

from zizq.client.call import Request, Response
from zizq.wire.codec import Format, encode

JOB = {
    "id": "0" * 25, "type": "send", "queue": "emails", "priority": 7, "status": "ready", "ready_at": 1_790_000_000_123,
    "attempts": 2,
}  # fmt: skip


def answer(body: object = None, status: int = 200, form: Format = Format.JSON) -> Response:
    """A response with a body in a format, or with none."""
    if body is None:
        return Response(status, None, b"")
    return Response(status, form.value, encode(body, form))


class FakeStream:
    """A stream that delivers the given chunks; an exception among them is raised."""

    def __init__(self, chunks: list[bytes | Exception], status: int = 200, content_type: str | None = None) -> None:
        self.status = status
        self.content_type = content_type
        self.retry_after: float | None = None
        self.closed = False
        self._chunks = deque(chunks)

    def take_chunk(self) -> bytes:
        chunk = self._chunks.popleft() if self._chunks else b""
        if isinstance(chunk, Exception):
            raise chunk
        return chunk

    async def read(self) -> bytes:
        return self.take_chunk()

    async def close(self) -> None:
        self.closed = True


class SyncFakeStream(FakeStream):
    """The same for threads."""

    def read(self) -> bytes:  # type: ignore[override]
        return self.take_chunk()

    def close(self) -> None:  # type: ignore[override]
        self.closed = True


class FakeTransport:
    """Sends nothing, and answers from a list."""

    def __init__(self, *answers: Response, stream: FakeStream | None = None) -> None:
        self.sent: list[Request] = []
        self.closed = False
        self._answers = deque(answers)
        self._stream = stream

    async def send(self, request: Request) -> Response:
        self.sent.append(request)
        return self._answers.popleft()

    async def open_stream(self, request: Request) -> FakeStream:
        self.sent.append(request)
        assert self._stream is not None
        return self._stream

    async def close(self) -> None:
        self.closed = True


class SyncFakeTransport(FakeTransport):
    """The same for threads."""

    def send(self, request: Request) -> Response:  # type: ignore[override]
        self.sent.append(request)
        return self._answers.popleft()

    def open_stream(self, request: Request) -> FakeStream:  # type: ignore[override]
        self.sent.append(request)
        assert self._stream is not None
        return self._stream

    def close(self) -> None:  # type: ignore[override]
        self.closed = True
