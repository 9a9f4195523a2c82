"""Tokens of a server that is a process of its own: made and revoked while it runs."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from acceptance.processes import ZIZQ, ServerProcess
from zizq import Forbidden, SyncClient

pytestmark = pytest.mark.acceptance

PATIENCE_S = 20


def zizq_token(root: Path, *arguments: str) -> str:
    command = [*ZIZQ, "token", arguments[0], "--root-dir", str(root), *arguments[1:]]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def until_allowed(client: SyncClient, allowed: bool) -> None:
    """Ask until the server has seen the change, or far too long."""
    given_up_at = time.monotonic() + PATIENCE_S
    while time.monotonic() < given_up_at:
        try:
            client.queues()
        except Forbidden as error:
            if error.status != 401:
                raise
            if not allowed:
                return
        else:
            if allowed:
                return
        time.sleep(0.05)
    raise AssertionError(f"the server has not seen within {PATIENCE_S} s that the token {allowed=}")


def test_a_running_server_sees_what_zizq_token_does(tmp_path: Path, store: tuple[str, ...]) -> None:
    with ServerProcess(tmp_path, "--auth", "tokens", *store) as server:
        token = zizq_token(tmp_path, "create", "--name", "reader", "--scope", "read")
        with SyncClient(server.url, token=token) as client:
            until_allowed(client, True)
            server.kill()
            server.start()
            until_allowed(client, True)
            zizq_token(tmp_path, "revoke", "--yes", token.split("_")[1])
            until_allowed(client, False)


def test_a_server_does_not_start_when_others_may_write_its_tokens(tmp_path: Path) -> None:
    zizq_token(tmp_path, "create", "--name", "reader", "--scope", "read")
    (tmp_path / "tokens.json").chmod(0o666)
    command = [*ZIZQ, "serve", "--root-dir", str(tmp_path), "--port", "0", "--no-admin", "--auth", "tokens"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE_S)
    assert ended.returncode == 1
    assert "tokens.json can be written to by others (mode 666): chmod 600" in ended.stderr
