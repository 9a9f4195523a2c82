"""Large files are removed a little at a time, and only those that nobody has any more."""

from __future__ import annotations

import os
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from zizq.store.removal import PIECE_BYTES, remove, replace
from zizq.testing.clock import ManualClock

SIZE = 3 * PIECE_BYTES + 5


class Cuts:
    """What is cut off files, on a clock on which each cut takes 2 ms, and the rests after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = ManualClock()
        self.sizes: list[int] = []
        self.rests: list[float] = []
        self._cut = os.ftruncate
        monkeypatch.setattr(os, "ftruncate", self._noted)

    def _noted(self, file: int, size: int) -> None:
        self._cut(file, size)
        self.sizes.append(size)
        self.clock.advance(2)

    def rest(self, seconds: float) -> None:
        self.rests.append(round(seconds, 6))


@pytest.fixture
def cuts(monkeypatch: pytest.MonkeyPatch) -> Cuts:
    return Cuts(monkeypatch)


def large(path: Path, text: bytes) -> Path:
    """A file that takes four pieces, and begins with a text."""
    path.write_bytes(text)
    os.truncate(path, SIZE)
    return path


def check_small_pieces(cuts: Cuts) -> None:
    assert [before - after for before, after in pairwise([SIZE, *cuts.sizes])] == [PIECE_BYTES] * 3 + [5]
    assert cuts.rests == [0.002] * 4


def test_a_file_is_removed_in_pieces_with_rests(tmp_path: Path, cuts: Cuts) -> None:
    path = large(tmp_path / "a", b"a")
    remove(path, cuts.clock, cuts.rest)
    check_small_pieces(cuts)
    assert not path.exists()


def test_to_remove_what_is_not_there_is_refused(tmp_path: Path, cuts: Cuts) -> None:
    with pytest.raises(FileNotFoundError):
        remove(tmp_path / "a", cuts.clock, cuts.rest)


@pytest.mark.skipif(sys.platform != "linux", reason="no other system tells who has a file open")
def test_what_is_replaced_is_removed_in_pieces_once_the_new_name_is_certain(
    tmp_path: Path, cuts: Cuts, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = large(tmp_path / "a", b"old")
    new = tmp_path / "a.part"
    new.write_bytes(b"new")
    cut_by_then: list[int] = []
    sync = os.fsync

    def noted(file: int) -> None:
        sync(file)
        assert os.fstat(file).st_ino == tmp_path.stat().st_ino
        assert old.read_bytes() == b"new"
        cut_by_then.append(len(cuts.sizes))

    monkeypatch.setattr(os, "fsync", noted)
    replace(new, old, cuts.clock, cuts.rest)
    assert cut_by_then == [0]
    check_small_pieces(cuts)
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_where_nothing_is_replaced_nothing_is_cut(tmp_path: Path, cuts: Cuts) -> None:
    new = large(tmp_path / "a.part", b"new")
    replace(new, tmp_path / "a", cuts.clock, cuts.rest)
    assert cuts.sizes == []
    assert (tmp_path / "a").read_bytes()[:3] == b"new"


@pytest.mark.parametrize("link", [Path.hardlink_to, Path.symlink_to])
def test_another_name_of_what_is_replaced_keeps_it(tmp_path: Path, cuts: Cuts, link: object) -> None:
    kept, old, new = large(tmp_path / "kept", b"old"), tmp_path / "a", tmp_path / "a.part"
    link(old, kept)  # type: ignore[operator]
    new.write_bytes(b"new")
    replace(new, old, cuts.clock, cuts.rest)
    assert old.read_bytes() == b"new"
    assert kept.stat().st_size == SIZE
    assert cuts.sizes == []


def test_who_still_reads_what_is_replaced_reads_all_of_it(tmp_path: Path, cuts: Cuts) -> None:
    old, new = large(tmp_path / "a", b"old"), tmp_path / "a.part"
    new.write_bytes(b"new")
    with old.open("rb") as reader:
        replace(new, old, cuts.clock, cuts.rest)
        assert len(reader.read()) == SIZE
    assert cuts.sizes == []
