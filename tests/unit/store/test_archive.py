"""Archives: what was packed is unpacked, and what is torn, damaged or malicious is refused."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from zizq.errors import ConfigError
from zizq.store.archive import Progress, pack, unpack

NOW = 1_790_000_000_000
CONTENT = bytes(range(256)) * 3000


def packed(tmp_path: Path, content: bytes = CONTENT) -> bytes:
    (tmp_path / "jobs.db").write_bytes(content)
    return b"".join(pack([tmp_path / "jobs.db"], NOW))


def made(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return whole.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
    return info


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("content", [b"", b"x", bytes(512), CONTENT])
def test_what_was_packed_is_unpacked(tmp_path: Path, target: Path, content: bytes) -> None:
    assert unpack(io.BytesIO(packed(tmp_path, content)), ["jobs.db"], target) == ["jobs.db"]
    assert (target / "jobs.db").read_bytes() == content


def test_any_tar_can_read_it(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(packed(tmp_path))) as tar:
        [info] = tar.getmembers()
        file = tar.extractfile(info)
        assert info.name == "zizq-root/data/jobs.db"
        assert info.mtime == NOW // 1000
        assert file is not None
        assert file.read() == CONTENT


@pytest.mark.parametrize("kept", [0, 1, 9, 10, 100, -1, -4, -8, -9, -20])
def test_one_that_is_cut_short_is_refused(tmp_path: Path, target: Path, kept: int) -> None:
    with pytest.raises(ConfigError, match="damaged or cut short"):
        unpack(io.BytesIO(packed(tmp_path)[:kept]), ["jobs.db"], target)


def test_damage_is_refused_wherever_it_changes_what_is_unpacked(tmp_path: Path, target: Path) -> None:
    content = CONTENT[:2000]
    whole, refused = packed(tmp_path, content), 0
    for place in range(len(whole)):
        broken = bytearray(whole)
        broken[place] ^= 0x10
        try:
            unpack(io.BytesIO(bytes(broken)), ["jobs.db"], target)
        except ConfigError:
            refused += 1
        else:
            assert (target / "jobs.db").read_bytes() == content
        (target / "jobs.db").unlink(missing_ok=True)
    assert refused > len(whole) * 0.9


@pytest.mark.parametrize(
    "name", ["/zizq-root/data/jobs.db", "zizq-root/../jobs.db", "zizq-root/data/../../x", "../jobs.db"]
)
def test_a_member_that_leads_out_of_the_folder_is_refused(tmp_path: Path, target: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="leads out"):
        unpack(io.BytesIO(made((member(name), b"x"))), ["jobs.db"], target)
    assert not list(target.iterdir())


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.BLKTYPE])
def test_what_is_no_file_is_refused(target: Path, kind: bytes) -> None:
    with pytest.raises(ConfigError, match="neither a file nor a folder"):
        unpack(io.BytesIO(made((member("zizq-root/data/jobs.db", kind), b""))), ["jobs.db"], target)
    assert not list(target.iterdir())


def test_what_is_elsewhere_is_ignored(target: Path) -> None:
    others = (
        "other/data/jobs.db",
        "zizq-root/tls/key.pem",
        "zizq-root/data/more",
        "zizq-root/data/deep/jobs.db",
        "jobs.db",
    )
    members = [(member(name), b"x") for name in others]
    archive = made((member("zizq-root/data", tarfile.DIRTYPE), b""), (member("else", tarfile.SYMTYPE), b""), *members)
    assert unpack(io.BytesIO(archive), ["jobs.db"], target) == []
    assert not list(target.iterdir())


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_name_or_a_comment_takes_no_memory_however_long_it_is(target: Path, kind: bytes) -> None:
    archive = made((member("comment", kind), bytes(16 * 2**20)), (member("zizq-root/data/jobs.db"), b"x"))
    tracemalloc.start()
    try:
        assert unpack(io.BytesIO(archive), ["jobs.db"], target) == ["jobs.db"]
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_damage_inside_a_member_is_not_taken_for_a_disk_that_fails(tmp_path: Path, target: Path) -> None:
    raw = gzip.decompress(packed(tmp_path))[:1000]
    with pytest.raises(ConfigError, match="damaged or cut short"):
        unpack(io.BytesIO(gzip.compress(raw) + b"rubbish after it"), ["jobs.db"], target)


def test_a_size_below_nothing_is_refused(target: Path) -> None:
    info = member("zizq-root/data/jobs.db")
    info.size = -512
    with pytest.raises(ConfigError, match="negative"):
        unpack(io.BytesIO(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))), ["jobs.db"], target)


def test_a_file_that_comes_twice_is_refused(target: Path) -> None:
    twice = [(member("zizq-root/data/jobs.db"), b"x")] * 2
    with pytest.raises(ConfigError, match="twice"):
        unpack(io.BytesIO(made(*twice)), ["jobs.db"], target)


def test_a_file_that_is_larger_than_the_disk_is_refused_before_it_is_written(target: Path) -> None:
    info = member("zizq-root/data/jobs.db")
    info.size = 2**50
    with pytest.raises(ConfigError, match="no room"):
        unpack(io.BytesIO(gzip.compress(info.tobuf(tarfile.GNU_FORMAT))), ["jobs.db"], target)
    assert not list(target.iterdir())


def test_a_reader_on_the_way_sees_how_far_it_is_and_whether_it_is_whole(tmp_path: Path) -> None:
    whole, progress = packed(tmp_path), Progress()
    for byte in whole[:-1]:
        progress.feed(bytes([byte]))
    assert progress.total == len(CONTENT)
    assert not progress.is_whole
    progress.feed(whole[-1:])
    assert progress.is_whole
    assert progress.done == len(gzip.decompress(whole))


@pytest.mark.parametrize("rubbish", [lambda: b"<html>", lambda: gzip.compress(bytes(range(1, 250)) * 9)])
def test_a_reader_on_the_way_refuses_what_is_no_archive(rubbish: Callable[[], bytes]) -> None:
    with pytest.raises(ConfigError, match="no backup"):
        Progress().feed(rubbish())
