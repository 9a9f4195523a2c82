"""`zizq doctor`, with a server and without one."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from integration.certificates import Certificates
from wire.grants import Grants
from zizq.cli.main import cli
from zizq.testing.server import running_server
from zizq.wire.operations import Scope

NOWHERE = ["--port", "1"]


def run(*args: str, **env: str) -> Result:
    return CliRunner(env=env).invoke(cli, ["doctor", *args])


def report(*args: str, status: int | None = None, **env: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings and the findings, by their names."""
    result = run(*args, "--json", **env)
    found = json.loads(result.stdout)
    problems = [one for one in found["findings"] if one["verdict"] == "problem"]
    assert result.exit_code == bool(problems)
    if status is not None:
        assert result.exit_code == status, problems
    return {one["name"]: one for one in found["settings"]}, {one["check"]: one for one in found["findings"]}


def test_settings_are_shown_with_where_they_come_from(tmp_path):
    settings, _ = report(
        "--root-dir", str(tmp_path), "--no-admin", *NOWHERE, "--heartbeat-interval", "2s",
        ZIZQ_DRAIN_TIMEOUT="5s", ZIZQ_SCHEDULER_BATCH_SIZE="7", ZIZQ_LOG_LEVEL="info",
    )  # fmt: skip
    assert {name: (one["value"], one["source"]) for name, one in settings.items() if one["source"] != "default"} == {
        "root_dir": (str(tmp_path), "flag"),
        "no_admin": ("on", "flag"),
        "port": ("1", "flag"),
        "heartbeat_interval": ("2s", "flag"),
        "drain_timeout": ("5s", "ZIZQ_DRAIN_TIMEOUT"),
        "scheduler_batch_size": ("7", "ZIZQ_SCHEDULER_BATCH_SIZE"),
        "log_level": ("info", "ZIZQ_LOG_LEVEL"),
    }
    assert settings["tls_cert"] == {"name": "tls_cert", "value": None, "source": "default"}


def test_a_folder_before_the_command_wins_over_the_variable(tmp_path):
    runner = CliRunner(env={"ZIZQ_ROOT_DIR": "/nonsense"})
    result = runner.invoke(cli, ["--root-dir", str(tmp_path), "doctor", "--json", *NOWHERE])
    first, *_ = json.loads(result.stdout)["settings"]
    assert first == {"name": "root_dir", "value": str(tmp_path), "source": "flag"}


def test_a_variable_that_is_no_port_is_told_of_and_ignored(tmp_path):
    result = run("--root-dir", str(tmp_path), "--json", ZIZQ_PORT="tcp://10.0.0.1:7890")
    assert "is not a port and is ignored" in result.stderr
    settings = {one["name"]: one for one in json.loads(result.stdout)["settings"]}
    assert settings["port"] == {"name": "port", "value": "7890", "source": "default"}


def test_people_are_told_the_same_and_what_to_do(tmp_path):
    result = run("--root-dir", str(tmp_path / "new"), "--host", "0.0.0.0", *NOWHERE)
    lines = result.stdout.splitlines()
    assert lines[0] == "Settings"
    assert f"  {'root_dir':<31}  {tmp_path}/new  (flag)" in lines
    place = next(number for number, line in enumerate(lines) if "http://0.0.0.0:1, to whoever reaches it" in line)
    assert lines[place].split()[:3] == ["note", "primary", "API"]
    assert lines[place + 1].strip().startswith("→ `zizq tls init`")
    assert lines[-1].startswith(("0 problems, ", "1 problem, "))


async def test_a_server_that_runs_is_asked_and_found_on_its_store(tmp_path):
    async with running_server(root_dir=tmp_path) as server:
        settings, found = await asyncio.to_thread(report, "--root-dir", str(tmp_path), "--url", server.url)
        assert settings["root_dir"]["source"] == "flag"
        assert {name: found[name]["verdict"] for name in ("answer", "version", "clocks", "store")} == dict.fromkeys(
            ("answer", "version", "clocks", "store"), "ok"
        )
        if sys.platform == "linux":
            assert found["server"]["says"] == f"process {os.getpid()} runs on this store"
            _, found = await asyncio.to_thread(report, "--root-dir", str(tmp_path), *NOWHERE, status=0)
            assert found["answer"]["says"] == "a server runs on this store, and none answers at http://127.0.0.1:1"
    before = contents(tmp_path)
    _, found = await asyncio.to_thread(report, "--root-dir", str(tmp_path), *NOWHERE)
    assert "server" not in found
    assert found["store"]["says"].startswith("format ")
    assert contents(tmp_path) == before


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_a_server_is_asked_over_tls_too(tmp_path):
    certificates = Certificates(tmp_path)
    pair, client = certificates.server(), certificates.client()
    options = {"tls_cert": pair.cert, "tls_key": pair.key, "tls_client_ca": certificates.ca}
    flags = ["--ca", str(certificates.ca), "--client-cert", str(client.cert), "--client-key", str(client.key)]
    async with running_server(**options) as server:
        port = server.url.rpartition(":")[2]
        own = [f"--{name.replace('_', '-')}={path}" for name, path in options.items()]
        # Without --url it is asked where these options would have it listen.
        _, found = await asyncio.to_thread(
            report, "--root-dir", str(tmp_path / "root"), "--port", port, "--no-admin", *own, *flags
        )
        assert found["answer"]["says"] == f"https://127.0.0.1:{port} is well"
        assert found["clocks"]["verdict"] == "ok"
        assert found["primary certificate"]["says"].startswith("valid for 1")
        _, found = await asyncio.to_thread(report, "--root-dir", str(tmp_path), "--port", port, *own, status=0)
        assert found["answer"]["verdict"] == "note"
        assert f"somebody listens at https://127.0.0.1:{port}, and cannot be asked" in found["answer"]["says"]
        assert "--ca" in found["answer"]["advice"]
        _, found = await asyncio.to_thread(report, "--url", server.url, *flags[:2], status=1)
        assert "certificate" in found["answer"]["says"].lower()


def test_a_server_that_should_be_there_and_is_not_is_a_problem(tmp_path):
    _, found = report("--root-dir", str(tmp_path), "--url", "http://127.0.0.1:1", status=1)
    assert found["answer"]["verdict"] == "problem"
    _, found = report("--root-dir", str(tmp_path), *NOWHERE)
    assert found["answer"]["says"] == "no server answers at http://127.0.0.1:1"


@pytest.mark.parametrize("kind", ["another's", "newer", "nonsense"])
def test_a_database_that_is_not_ours_is_a_problem(kind, tmp_path):
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "jobs.db"
    if kind == "nonsense":
        path.write_bytes(b"nonsense" * 1000)
    else:
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE t (a)")
            if kind == "newer":
                db.execute(f"PRAGMA application_id = {0x7A697A71}")
                db.execute("PRAGMA user_version = 999")
        db.close()
    before = path.read_bytes()
    _, found = report("--root-dir", str(tmp_path), *NOWHERE, status=1)
    reasons = {"another's": "a database of another program", "newer": "use a newer zizq", "nonsense": "not a database"}
    assert found["store"]["verdict"] == "problem"
    assert reasons[kind] in found["store"]["says"]
    assert path.read_bytes() == before


def test_tokens_are_looked_at_where_they_are_asked_for(tmp_path):
    grants, where = Grants(tmp_path), ["--root-dir", str(tmp_path), *NOWHERE]
    _, found = report(*where, "--auth", "tokens", status=0)
    assert found["tokens"]["says"] == f"{grants.path}: there are none: nobody may call"
    grants.token(Scope.READ)
    _, found = report(*where, "--auth", "tokens", status=0)
    assert found["tokens"]["says"] == f"{grants.path}: 1 good, 0 expired"
    grants.path.chmod(0o666)
    _, found = report(*where, "--auth", "tokens", status=1)
    assert "can be written to by others (mode 666): chmod 600" in found["tokens"]["says"]
    assert "tokens" not in report(*where, status=0)[1]


def test_options_that_contradict_each_other_end_it():
    result = run("--tls-cert", "a.pem")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: --tls-cert and --tls-key go together: give both or neither\n",
    )
