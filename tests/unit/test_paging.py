"""A page of jobs in pieces, held to the page as one."""

from __future__ import annotations

import msgspec
import pytest

from zizq.engine import admit
from zizq.wire import codec, paging
from zizq.wire.codec import Format
from zizq.wire.messages import JobPage, Pages

PAGES = Pages("/jobs?order=asc&limit=50", None, "/jobs?from=ü")


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 2000])
@pytest.mark.parametrize("size", [0, 200])
def test_the_pieces_of_a_page_are_the_page(form: Format, count: int, size: int) -> None:
    payload = msgspec.Raw(msgspec.msgpack.encode({"b": "x" * size, "a": [1.5, None]}))
    jobs = [
        codec.job_to_send(admit.new_job(f"{n:025}", 1, type="t", queue="ü", payload=payload), form)
        for n in range(count)
    ]
    whole = codec.encode(JobPage(jobs, PAGES), form)
    pieces = list(paging.pieces(jobs, PAGES, form))
    assert b"".join(pieces) == whole
    assert max(map(len, pieces)) < paging.PIECE_BYTES + 1000
    assert len(pieces) >= len(whole) // (paging.PIECE_BYTES + 1000)


@pytest.mark.parametrize("form", Format)
def test_a_job_is_never_cut_and_no_piece_is_empty(form: Format) -> None:
    long = "x" * paging.PIECE_BYTES
    payload = msgspec.Raw(codec.encode(long, form))
    jobs = [admit.new_job(f"{n:025}", 1, type="t", queue="q", payload=payload) for n in range(3)]
    pieces = list(paging.pieces(jobs, PAGES, form))
    assert [long.encode() in piece for piece in pieces] == [True, True, True, False]
    assert all(pieces)
