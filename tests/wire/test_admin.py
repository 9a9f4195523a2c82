"""The admin API, byte by byte."""

import asyncio
import io
import logging
import tarfile
from contextlib import asynccontextmanager

import pytest

from wire.stores import running_server
from wire.talk import Http1, request

backed_up = pytest.mark.embedded_only(
    "a database is backed up by its own means, and the call says so: test_postgres.py"
)


@asynccontextmanager
async def admin(**settings):
    async with running_server(no_admin=False, **{"dashboard": "off"} | settings) as server:
        host, _, port = server.admin_url.partition("//")[2].partition(":")
        connections = []

        async def connect():
            connection = Http1(*await asyncio.open_connection(host, int(port)))
            connections.append(connection)
            return connection

        yield server, connect
        for connection in connections:
            connection.hang_up()


@pytest.mark.parametrize(("method", "path"), [("POST", "/backup"), ("POST", "/compact"), ("GET", "/insight/overview")])
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "10.0.0.1"])
async def test_a_name_that_is_not_this_machines_is_refused_whatever_it_asks_for(method, path, host):
    # A site whose name leads to 127.0.0.1 could have a browser on this machine fetch all jobs for it.
    async with admin() as (_, connect):
        connection = await connect()
        await connection.send(request(method, path).replace(b"host: localhost", b"host: " + host.encode(), 1))
        reply = await connection.reply()
        assert (reply.status, b"for its own machine" in reply.body) == (421, True)


async def test_who_asks_for_tokens_is_called_by_any_name(tmp_path):
    async with admin(root_dir=tmp_path, auth="tokens", token_file=tmp_path / "tokens.json") as (_, connect):
        connection = await connect()
        await connection.send(request("POST", "/backup").replace(b"host: localhost", b"host: jobs.example", 1))
        assert (await connection.reply()).status == 401


async def backup(connection):
    """A backup by hand, whose body comes in chunks."""
    await connection.send(request("POST", "/backup"))
    reply = await connection.head()
    if "content-length" in reply.headers:
        reply.body = await connection.reader.readexactly(int(reply.headers["content-length"]))
        return reply
    while size := int(await connection.reader.readline(), 16):
        reply.body += (await connection.reader.readexactly(size + 2))[:-2]
    await connection.reader.readline()
    return reply


@backed_up
async def test_a_backup_is_a_compressed_tar_of_the_data_folder(tmp_path):
    async with admin(root_dir=tmp_path) as (_, connect):
        reply = await backup(await connect())
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/gzip"
    assert reply.headers["content-disposition"] == 'attachment; filename="backup.tar.gz"'
    with tarfile.open(fileobj=io.BytesIO(reply.body)) as tar:
        assert tar.getnames() == ["zizq-root/data/jobs.db"]


@backed_up
async def test_backups_follow_one_another_on_a_connection_and_leave_nothing(tmp_path):
    async with admin(root_dir=tmp_path) as (_, connect):
        connection = await connect()
        for _ in range(3):
            assert (await backup(connection)).status == 200
        assert not (tmp_path / "data" / "backup.tmp").exists()


@backed_up
async def test_a_second_backup_at_a_time_is_refused(tmp_path):
    async with admin(root_dir=tmp_path) as (server, connect), server.app.upkeep.backup():
        reply = await backup(await connect())
    assert (reply.status, reply.body) == (409, b"a backup is being made already: wait for it to end")
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"


@backed_up
async def test_a_backup_that_fails_says_so_logs_why_and_the_server_goes_on(tmp_path, caplog):
    caplog.set_level(logging.INFO, "zizq")
    async with admin(root_dir=tmp_path) as (_, connect):
        blocker = tmp_path / "data" / "backup.tmp"
        blocker.write_bytes(b"")
        connection = await connect()
        reply = await backup(connection)
        assert (reply.status, reply.body) == (500, b"backup failed")
        [record] = [record for record in caplog.records if record.levelname == "ERROR"]
        assert "backup.tmp" in record.fields["reason"]
        blocker.unlink()
        assert (await backup(connection)).status == 200


async def test_a_store_in_memory_cannot_be_backed_up():
    async with admin() as (_, connect):
        connection = await connect()
        assert (await backup(connection)).status == 501
        assert (await connection.ask("POST", "/compact")).status == 204


async def test_compacting_has_no_answer_but_that_it_is_done(tmp_path):
    async with admin(root_dir=tmp_path) as (_, connect):
        reply = await (await connect()).ask("POST", "/compact")
    assert (reply.status, reply.body) == (204, b"")
    assert "content-length" not in reply.headers


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("GET", "/backup"), ("POST", "/backup/"), ("POST", "/jobs"), ("PUT", "/compact")]
)
async def test_what_it_does_not_know_is_an_empty_404(method, path):
    async with admin() as (_, connect):
        reply = await (await connect()).ask(method, path)
    assert (reply.status, reply.body) == (404, b"")


async def test_the_primary_api_has_none_of_it():
    async with admin() as (server, _):
        host, _, port = server.url.partition("//")[2].partition(":")
        connection = Http1(*await asyncio.open_connection(host, int(port)))
        assert (await backup(connection)).status == 404
        connection.hang_up()


@backed_up
async def test_a_client_that_leaves_ends_its_backup(tmp_path, caplog):
    caplog.set_level(logging.INFO, "zizq")
    async with running_server(root_dir=tmp_path) as server:
        begun = asyncio.Event()

        async def send(message):
            begun.set()
            await asyncio.Event().wait()

        async def receive():
            await begun.wait()
            return {"type": "http.disconnect"}

        scope = {"type": "http", "http_version": "2", "method": "POST", "path": "/backup", "query_string": b""}
        await server.app.admin(scope | {"client": None, "headers": [(b"host", b"localhost")]}, receive, send)
        assert not (tmp_path / "data" / "backup.tmp").exists()
        async with server.app.upkeep.backup():
            pass
    [record] = [record for record in caplog.records if record.name == "zizq.api.admin"]
    assert record.fields["status"] == 499


async def test_requests_are_logged_with_their_target_but_for_those_that_only_look(caplog):
    caplog.set_level(logging.INFO, "zizq")
    async with admin() as (_, connect):
        await (await connect()).ask("GET", "/insight/overview")
        await (await connect()).ask("POST", "/nothing?a=1")
    [record] = [record for record in caplog.records if record.name == "zizq.api.admin"]
    assert record.message == "request"
    assert record.fields["status"] == 404
    assert (record.fields["method"], record.fields["path"]) == ("POST", "/nothing?a=1")


async def test_nobody_writes_a_line_of_their_own_into_the_log(caplog):
    caplog.set_level(logging.DEBUG, "zizq")
    async with admin() as (server, connect):
        await (await connect()).ask("POST", "/x%0aINFO%1b[2J" + "y" * 1000)
        host, _, port = server.url.partition("//")[2].partition(":")
        connection = Http1(*await asyncio.open_connection(host, int(port)))
        await connection.ask("GET", "/health%0aINFO")
        connection.hang_up()
    shown = [record.fields["path"] for record in caplog.records if record.name.startswith("zizq.api")]
    assert all(path.isprintable() and len(path) <= 200 for path in shown)
    assert [path[:11] for path in shown] == ["/x%0aINFO%1", "/health%0aI"]
