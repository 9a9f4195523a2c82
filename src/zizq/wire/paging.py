"""A page of jobs as bytes, piece by piece: a long page must not hold up whoever sends it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from zizq.job import JobRecord
from zizq.wire import codec
from zizq.wire.codec import Format
from zizq.wire.messages import Pages

PIECE_BYTES = 64 * 1024
"""Where a piece ends, after the job that reaches it: about a millisecond of work."""


def pieces(jobs: Sequence[JobRecord], pages: Pages, form: Format) -> Iterator[bytes]:
    """What `codec.encode` makes of a `JobPage`, in pieces.

    Args:
        jobs: The jobs with their payloads in the format of the response, fewer than 2**16.
        pages: The links of the page.
        form: The format of the response.
    """
    before, between, after, end = _punctuation(len(jobs), form)
    parts, size = [before], 0
    for number, job in enumerate(jobs):
        parts += (between if number else b"", codec.encode(job, form))
        size += len(parts[-1])
        if size >= PIECE_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    yield b"".join((*parts, after, codec.encode(pages, form), end))


def _punctuation(count: int, form: Format) -> tuple[bytes, bytes, bytes, bytes]:
    """What stands before the jobs, between them, after them, and after the links."""
    if form is Format.JSON:
        return b'{"jobs":[', b",", b'],"pages":', b"}"
    array = bytes((0x90 | count,)) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
    return b"\x82\xa4jobs" + array, b"", b"\xa5pages", b""
