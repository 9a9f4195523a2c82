"""The units of systemd: their commands and options exist, and systemd has nothing to say of them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import click
import pytest

from zizq.cli.main import cli
from zizq.cli.work import work
from zizq.server.settings import Settings, options, variable_of

ROOT = Path(__file__).parents[2]
UNITS = [ROOT / "deploy" / name for name in ("zizq.service", "zizq-worker@.service")]
Unit = dict[str, dict[str, list[str]]]


def ids(path: Path) -> str:
    return path.name


def read(path: Path) -> Unit:
    """The settings of a unit by section; each may be given more than once."""
    unit: Unit = {}
    section: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = unit.setdefault(match[1], defaultdict(list))
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            section[name].append(value)
    return unit


def only(unit: Unit, name: str) -> str:
    [value] = unit["Service"][name]
    return value


@pytest.mark.parametrize("path", UNITS, ids=ids)
def test_its_command_is_understood(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program, name, *arguments = shlex.split(only(read(path), "ExecStart"))
    assert Path(program).name == "zizq"
    with click.Context(cli) as context:
        command = cli.get_command(context, name)
        assert command is not None
        command.make_context(name, arguments)


@pytest.mark.parametrize("path", UNITS, ids=ids)
def test_the_variables_that_it_speaks_of_exist(path: Path) -> None:
    known = {variable_of(setting.name) for setting, _ in options()} | {
        str(one.envvar) for one in work.params if one.envvar
    }
    assert set(re.findall(r"\bZIZQ_\w+", path.read_text(encoding="utf-8"))) <= known


@pytest.mark.parametrize("path", UNITS, ids=ids)
def test_it_is_told_by_the_process_and_leaves_it_time_to_end(path: Path) -> None:
    unit = read(path)
    assert only(unit, "Type") == "notify"
    assert int(only(unit, "TimeoutStopSec")) * 1000 > Settings().drain_timeout
    assert int(only(unit, "WatchdogSec")) >= 60
    assert unit["Unit"]["StartLimitIntervalSec"] == ["0"]


def test_the_server_has_what_it_needs_and_no_more() -> None:
    unit = read(UNITS[0])
    [root] = [setting for setting, _ in options() if setting.name == "root_dir"]
    assert root
    assert f"--root-dir /var/lib/{only(unit, 'StateDirectory')}" in only(unit, "ExecStart")
    assert "-HUP $MAINPID" in only(unit, "ExecReload")
    assert int(only(unit, "LimitNOFILE")) > 2 * Settings().max_connections
    assert only(unit, "ProtectSystem") == "strict"
    assert only(unit, "User") not in ("root", "0")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("path", UNITS, ids=ids)
def test_systemd_finds_nothing_to_complain_of(path: Path, tmp_path: Path) -> None:
    installed = Path(sys.executable).with_name("zizq")
    unit = tmp_path / path.name
    unit.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={installed}", path.read_text(encoding="utf-8")))
    ran = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_server_is_exposed_to_little() -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(UNITS[0])]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout.splitlines()[-1]
