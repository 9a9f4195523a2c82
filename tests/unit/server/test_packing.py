"""Packing in a process of its own."""

from __future__ import annotations

import io
import os
from asyncio.subprocess import Process
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from zizq.errors import Unavailable
from zizq.server import packing
from zizq.server.packing import packed
from zizq.store.archive import unpack


async def test_what_the_process_packs_is_an_archive(tmp_path: Path) -> None:
    content = os.urandom(500_000)
    (tmp_path / "jobs.db").write_bytes(content)
    whole = b"".join([piece async for piece in packed([tmp_path / "jobs.db"], 0)])
    (tmp_path / "out").mkdir()
    assert unpack(io.BytesIO(whole), ["jobs.db"], tmp_path / "out") == ["jobs.db"]
    assert (tmp_path / "out" / "jobs.db").read_bytes() == content


async def test_a_process_that_fails_is_no_end_of_an_archive(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Unavailable, match="ended with status 1"):
        [piece async for piece in packed([tmp_path / "missing"], 0)]
    assert "FileNotFoundError" in capfd.readouterr().err


async def test_whoever_stops_reading_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    start = packing._start

    async def noted(*arguments: Any) -> Process:
        started.append(await start(*arguments))
        return started[0]

    monkeypatch.setattr(packing, "_start", noted)
    (tmp_path / "jobs.db").write_bytes(os.urandom(5_000_000))
    async with aclosing(packed([tmp_path / "jobs.db"], 0)) as pieces:
        await anext(pieces)
        assert started[0].returncode is None
    assert started[0].returncode is not None
