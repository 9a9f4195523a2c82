"""`zizq backup`, `zizq restore` and `zizq compact` with real servers."""

from __future__ import annotations

import resource
import shutil
import socket
import subprocess
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from acceptance.processes import ZIZQ, ServerProcess
from zizq import Enqueue, SyncClient, TimeBased, WhileInFlight
from zizq.store.sqlite.schema import MIGRATIONS

pytestmark = pytest.mark.acceptance


def zizq(*words: str, ok: bool = True) -> str:
    """What a command says on stderr."""
    ended = subprocess.run([*ZIZQ, *words], capture_output=True, text=True, timeout=60)
    assert (ended.returncode == 0) is ok, ended.stderr
    assert ended.stdout == ""
    return ended.stderr


def everything(client: SyncClient) -> dict[str, Any]:
    """All that a server holds."""
    jobs = [msgspec.structs.asdict(job) for job in client.jobs()]
    crons = [client.cron(name).get() for name in client.crons()]
    return {"jobs": jobs, "crons": crons, "budgets": client.budgets()}


def fill(client: SyncClient) -> None:
    """Something of everything."""
    client.define_budget("slots", WhileInFlight(5))
    client.define_budget("rate", TimeBased(10, per=60))
    client.enqueue_bulk(Enqueue("t", {"n": n}, queue=f"q{n % 3}", priority=n) for n in range(500))
    client.enqueue_raw("later", "x", delay=timedelta(hours=1), unique_key="one")
    client.enqueue_raw("bound", "x", queue="b", budgets=["slots", ("rate", 2)])
    with client.define_cron("nightly") as cron:
        cron.entry("report", "0 3 * * *", Enqueue("report", None))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of a store with a job."""
    folder = tmp_path_factory.mktemp("original")
    with ServerProcess(folder / "root", admin=True) as server, SyncClient(server.url) as client:
        client.enqueue_raw("t", "kept")
        zizq("backup", str(folder / "archive.tar.gz"), "--url", server.admin_url)
    return folder / "archive.tar.gz"


@pytest.fixture
def archive(tmp_path: Path, original: Path) -> Path:
    """The same, to be damaged."""
    return Path(shutil.copy(original, tmp_path))


def test_what_is_backed_up_is_there_again_after_a_restore(tmp_path: Path) -> None:
    path, new = tmp_path / "deep" / "backup.tar.gz", tmp_path / "new"
    with ServerProcess(tmp_path / "old", admin=True) as server, SyncClient(server.url) as client:
        fill(client)
        before = everything(client)
        told = zizq("backup", str(path), "--url", server.admin_url)
        client.enqueue_raw("t", "too late")
    assert told.startswith(f"Requesting backup from {server.admin_url}\nBackup saved to {path} (")
    assert [one.name for one in path.parent.iterdir()] == ["backup.tar.gz"]
    assert zizq("restore", str(path), "--root-dir", str(new)) == f"Restored {path} to {new}\n"
    assert [one.name for one in (new / "data").iterdir()] == ["jobs.db"]
    with ServerProcess(new) as server, SyncClient(server.url) as client:
        assert everything(client) == before


def test_a_folder_that_is_not_empty_is_left_alone_unless_forced(tmp_path: Path, archive: Path) -> None:
    root = tmp_path / "root"
    (root / "data").mkdir(parents=True)
    (root / "data" / "precious").write_text("x")
    told = zizq("restore", str(archive), "--root-dir", str(root), ok=False)
    assert told == f"Error: {root} is not empty: choose another --root-dir, or say --force to keep its data aside\n"
    assert [one.name for one in root.iterdir()] == ["data"]
    zizq("--root-dir", str(root), "restore", str(archive), "--force")
    [aside] = [one for one in root.iterdir() if one.name != "data"]
    assert aside.name.startswith("data-before-")
    assert (aside / "precious").read_text() == "x"
    with ServerProcess(root) as server, SyncClient(server.url) as client:
        assert [job.payload for job in client.jobs()] == ["kept"]


def test_the_store_of_a_server_that_runs_is_not_replaced(tmp_path: Path, archive: Path) -> None:
    with ServerProcess(tmp_path / "root") as server, SyncClient(server.url) as client:
        told = zizq("restore", str(archive), "--root-dir", str(tmp_path / "root"), "--force", ok=False)
        assert "in use by another server" in told
        client.enqueue_raw("t", "goes on")
    assert sorted(one.name for one in (tmp_path / "root").iterdir()) == ["data"]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_backup_that_is_cut_short_is_refused_and_nothing_is_left(tmp_path: Path, archive: Path, share: float) -> None:
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(len(whole) * share)])
    assert "damaged or cut short" in zizq("restore", str(archive), "--root-dir", str(tmp_path / "new"), ok=False)
    assert not list((tmp_path / "new").iterdir())


def repacked(tmp_path: Path, archive: Path, *statements: str) -> Path:
    """The backup with its database changed."""
    folder = tmp_path / "repacked"
    shutil.unpack_archive(archive, folder, "gztar", filter="data")
    with closing(apsw.Connection(str(folder / "zizq-root" / "data" / "jobs.db"))) as db:
        for statement in statements:
            db.execute(statement)
        db.pragma("journal_mode", "delete")
    return Path(shutil.make_archive(str(tmp_path / "changed"), "gztar", folder, "zizq-root"))


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("PRAGMA user_version = 999", f"has format 999, this zizq knows {len(MIGRATIONS)}: use a newer zizq"),
        ("PRAGMA application_id = 1", "of another program"),
        ("PRAGMA user_version = 0", "of another program"),
    ],
)
def test_a_backup_that_is_not_for_this_version_is_refused(
    tmp_path: Path, archive: Path, statement: str, reason: str
) -> None:
    changed = repacked(tmp_path, archive, statement)
    for more in ((), ("--skip-check",)):
        assert reason in zizq("restore", str(changed), "--root-dir", str(tmp_path / "new"), *more, ok=False)
    assert not list((tmp_path / "new").iterdir())


def test_a_backup_that_is_damaged_inside_is_refused_unless_it_is_wanted_so(tmp_path: Path, archive: Path) -> None:
    changed = repacked(tmp_path, archive, "UPDATE tally SET jobs = 7")
    new = tmp_path / "new"
    told = zizq("restore", str(changed), "--root-dir", str(new), ok=False)
    assert "7 jobs are counted, and there are 1" in told
    assert told.endswith(f"{changed} is damaged: 1 violation; take another backup, or say --skip-check\n")
    assert not list(new.iterdir())
    zizq("restore", str(changed), "--root-dir", str(new), "--skip-check")
    assert (new / "data" / "jobs.db").exists()


def test_what_is_no_backup_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "zizq-root" / "data").mkdir(parents=True)
    (tmp_path / "zizq-root" / "data" / "keyspace").write_bytes(b"x")
    other = shutil.make_archive(str(tmp_path / "other"), "gztar", tmp_path, "zizq-root")
    assert "no zizq-root/data/jobs.db in it" in zizq("restore", other, "--root-dir", str(tmp_path / "new"), ok=False)


def test_a_backup_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(10_000)
                head = b"HTTP/1.1 200 OK\r\ncontent-type: application/gzip\r\nconnection: close\r\n\r\n"
                connection.sendall(head + b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03")

        thread = threading.Thread(target=answer)
        thread.start()
        path = tmp_path / "backup.tar.gz"
        path.write_text("the one before")
        told = zizq("backup", str(path), "--url", f"http://127.0.0.1:{listener.getsockname()[1]}", ok=False)
        thread.join()
    assert "cut short" in told
    assert [one.name for one in tmp_path.iterdir()] == ["backup.tar.gz"]
    assert path.read_text() == "the one before"


def test_compacting_makes_the_files_smaller(tmp_path: Path) -> None:
    path = tmp_path / "data" / "jobs.db"
    with ServerProcess(tmp_path, admin=True) as server, SyncClient(server.url) as client:
        client.enqueue_bulk(Enqueue("t", "x" * 5000) for _ in range(900))
        assert client.jobs(type="t").delete() == 900
        zizq("compact", "--url", server.admin_url)
        assert path.stat().st_size + path.with_name("jobs.db-wal").stat().st_size < 500_000


def test_a_backup_for_which_the_disk_has_no_room_fails_and_the_server_goes_on(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "root", admin=True)
    with server, SyncClient(server.url) as client:
        client.enqueue_bulk(Enqueue("t", "x" * 5000) for _ in range(900))
        # After a stop in good order all of it is in the database, and the log is empty.
        server.stop()
        server.start()
        # What is not written is refused as by a disk that is full; the log stays below that.
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (2**21, resource.RLIM_INFINITY))
        told = zizq("backup", str(tmp_path / "b.tar.gz"), "--url", server.admin_url, ok=False)
        assert told.endswith("Error: 500: backup failed\n")
        assert not (tmp_path / "b.tar.gz").exists()
        assert not (tmp_path / "root" / "data" / "backup.tmp").exists()
        client.enqueue_raw("t", "goes on")
        assert client.health() == "ok"
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        zizq("backup", str(tmp_path / "b.tar.gz"), "--url", server.admin_url)


def test_refusals_and_servers_that_are_not_there_are_told_in_a_line(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        told = zizq("backup", str(tmp_path / "x" / "b.tar.gz"), "--url", server.url, ok=False)
        assert told.splitlines()[1].startswith("Error: 404: ")
        assert not (tmp_path / "x").exists()
        assert "Error: 404: " in zizq("compact", "--url", server.url, ok=False)
    assert "cannot connect" in zizq("compact", "--url", server.url, ok=False)


def test_an_admin_port_that_is_taken_is_named_with_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = ["serve", "--root-dir", str(tmp_path), "--port", "0", "--admin-port", port]
        ended = subprocess.run([*ZIZQ, *command], capture_output=True, text=True, timeout=30)
    assert ended.returncode == 1
    assert f"127.0.0.1:{port} for the admin API" in ended.stderr
    assert ended.stderr.endswith("choose another --admin-port, or --no-admin\n")
