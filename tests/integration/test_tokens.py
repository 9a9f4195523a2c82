"""Tokens and certificates with the clients, a worker and the command line, against a whole server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from integration.certificates import Certificates
from wire.grants import Grants
from zizq import TLS, Client, ConfigError, Forbidden, Router, SyncClient, Worker
from zizq.cli.main import cli
from zizq.testing.clock import ManualClock
from zizq.testing.server import RunningServer, running_server
from zizq.wire.operations import Scope


@asynccontextmanager
async def serving(folder: Path, **settings: Any) -> AsyncIterator[RunningServer]:
    options = {"auth": "tokens", "token_file": folder / "tokens.json", "heartbeat_interval": 20} | settings
    async with running_server(**options) as server:
        yield server


# ── clients ──


async def test_both_clients_show_their_token(tmp_path: Path) -> None:
    token = Grants(tmp_path).token(Scope.ENQUEUE, Scope.WORK)
    async with serving(tmp_path) as server:
        async with Client(server.url, token=token) as client:
            job = await client.enqueue_raw("t", 1)
            async with client.take() as jobs:
                assert (await anext(jobs)).id == job.id
            with pytest.raises(Forbidden, match=r"403: .* has not the scope `read`"):
                await client.get_job(job.id)
        with SyncClient(server.url, token=token) as client:
            await asyncio.to_thread(client.enqueue_raw, "t", 2)
        async with Client(server.url) as client:
            with pytest.raises(Forbidden, match="401: this server wants to know who calls"):
                await client.enqueue_raw("t", 1)
            with pytest.raises(Forbidden, match="401"):
                async with client.take():
                    pass


async def test_the_token_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = Grants(tmp_path).token(Scope.ENQUEUE)
    monkeypatch.setenv("ZIZQ_TOKEN", f"{token}\n")
    async with serving(tmp_path) as server, Client(server.url) as client:
        await client.enqueue_raw("t", 1)


@pytest.mark.parametrize("make", [Client, SyncClient])
def test_a_token_is_nowhere_to_be_seen(make: Any) -> None:
    client = make("http://h", token="zq_a_secret")
    network = getattr(client._transport, "_transport", client._transport)
    seen = [client, client.__dict__, network.__dict__, network._settings]
    assert "zq_a_secret" not in repr(seen)
    with pytest.raises(ConfigError, match="the token has blanks") as caught:
        make("http://h", token="zq_a sécret")
    assert "cret" not in str(caught.value)


async def test_a_certificate_takes_the_place_of_a_token(tmp_path: Path) -> None:
    files = Certificates(tmp_path)
    Grants(tmp_path).certificate("billing", Scope.ENQUEUE, queues=("mail",))
    own = files.server()
    async with serving(tmp_path, tls_cert=own.cert, tls_key=own.key, tls_client_ca=files.ca) as server:
        billing, other = files.client("billing"), files.client("other")
        async with Client(server.url, tls=TLS(files.ca, billing.cert, billing.key)) as client:
            await client.enqueue_raw("t", 1, queue="mail")
            with pytest.raises(Forbidden, match=r"403: the certificate 'app' .* `sms` is none of them"):
                await client.enqueue_raw("t", 1, queue="sms")
        async with Client(server.url, tls=TLS(files.ca, other.cert, other.key)) as client:
            with pytest.raises(Forbidden, match="401: the certificate 'other' is not known here"):
                await client.enqueue_raw("t", 1, queue="mail")


# ── a worker ──


async def test_a_worker_that_is_refused_ends_and_says_why(tmp_path: Path) -> None:
    token = Grants(tmp_path).token(Scope.ENQUEUE)
    async with serving(tmp_path) as server, Client(server.url, token=token) as client:
        with pytest.raises(Forbidden, match=r"403: .* has not the scope `work` that this needs"):
            await Worker(client, Router()).run()


async def test_a_worker_whose_token_is_revoked_ends_and_says_why(tmp_path: Path) -> None:
    grants, clock, took = Grants(tmp_path), ManualClock(), asyncio.Event()
    token = grants.token(Scope.ENQUEUE, Scope.WORK)

    async def handle(job: object) -> None:
        took.set()

    async with serving(tmp_path, clock=clock) as server, Client(server.url, token=token) as client:
        await client.enqueue_raw("t", 1)
        running = asyncio.create_task(Worker(client, handle).run())
        await took.wait()
        grants.revoke(token)
        clock.advance(1000)
        with pytest.raises(Forbidden, match="401: the token is not known here: it was revoked"):
            await running


# ── the command line ──


def run(*arguments: str, ok: bool = True, **variables: str) -> Result:
    result = CliRunner(env={"COLUMNS": "200", **variables}).invoke(cli, arguments)
    assert (result.exit_code == 0) is ok, result.output
    return result


def test_a_token_is_created_listed_and_revoked(tmp_path: Path) -> None:
    where = ("--root-dir", str(tmp_path))
    created = run("token", "create", *where, "--name", "mail", "--scope", "work", "--scope", "enqueue", "--queue", "m*")
    token = created.stdout.strip()
    _, token_id, secret = token.split("_", 2)
    assert token.startswith("zq_")
    assert f"it is not shown again. Its id is {token_id}, and {tmp_path / 'tokens.json'} has its hash" in created.stderr
    run("token", "create", *where, "--certificate", "ops.example", "--scope", "admin", "--expires", "90d")
    listed = run("token", "list", *where)
    titles, first, second = (line.split() for line in listed.stdout.splitlines())
    assert titles == ["ID", "NAME", "CERTIFICATE", "SCOPES", "QUEUES", "CREATED", "EXPIRES"]
    assert first == [token_id, "mail", "enqueue,work", "m*", "now", "never"]
    assert second[1:5] == ["ops.example", "ops.example", "admin", "*"]
    shown = [json.loads(line) for line in run("token", "list", *where, "--json").stdout.splitlines()]
    assert [sorted(one) for one in shown] == [
        ["created_at", "id", "name", "queues", "scopes"],
        ["certificate", "created_at", "expires_at", "id", "name", "scopes"],
    ]
    assert secret not in listed.output + (tmp_path / "tokens.json").read_text()
    assert run("token", "revoke", *where, "--yes", token_id).stdout == f"Revoked {token_id}.\n"
    assert token_id not in run("token", "list", *where).stdout


def test_an_expired_token_is_listed_as_such(tmp_path: Path) -> None:
    grants = Grants(tmp_path)
    grants.token(Scope.READ, expires_at=1)
    assert run("token", "list", "--token-file", str(grants.path)).stdout.splitlines()[1].endswith("expired")


def test_without_tokens_the_list_says_so_beside_the_output(tmp_path: Path) -> None:
    result = run("token", "list", ZIZQ_ROOT_DIR=str(tmp_path))
    assert (result.stdout, result.stderr) == ("", f"There are no tokens in {tmp_path / 'tokens.json'}.\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("create", "--scope", "work"), "Say whom it is for: --name."),
        (("create", "--name", "n"), "Missing option '--scope'"),
        (
            ("create", "--name", "n", "--scope", "all"),
            "'all' is not one of 'enqueue', 'work', 'read', 'manage', 'admin'",
        ),
        (("create", "--name", "n", "--scope", "read", "--expires", "0"), "'0' is not more than 0 and at most 36500d"),
        (("create", "--name", "n", "--scope", "read", "--expires", "9" * 400), "is not more than 0 and at most"),
        (("create", "--name", "n", "--scope", "admin", "--queue", "q"), "the scope admin is about the whole server"),
        (
            ("create", "--certificate", "cn", "--scope", "work"),
            "the certificate cn is known as 0000000001: revoke that",
        ),
        (("revoke", "zz", "--yes"), "there is no token zz in "),
        (("revoke", "0000000001"), "there is no terminal to ask at: say --yes to revoke tokens without asking"),
    ],
)
def test_what_is_asked_wrongly_is_refused(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    grants = Grants(tmp_path)
    grants.certificate("cn", Scope.READ)
    before = grants.path.read_bytes()
    result = run("token", arguments[0], "--token-file", str(grants.path), *arguments[1:], ok=False)
    assert message in " ".join(result.stderr.split())
    assert grants.path.read_bytes() == before


async def test_commands_show_their_token(tmp_path: Path) -> None:
    token = Grants(tmp_path).token(Scope.READ)
    async with serving(tmp_path) as server:
        where = ("jobs", "count", "--url", server.url)
        assert (await asyncio.to_thread(run, *where, "--token", token)).stdout == "0\n"
        assert (await asyncio.to_thread(run, *where, ZIZQ_TOKEN=token)).stdout == "0\n"
        refused = await asyncio.to_thread(run, *where, ok=False)
        assert refused.stderr.startswith("Error: 401: this server wants to know who calls")
