"""`zizq store copy` between real stores."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from zizq.cli.main import cli
from zizq.clock import SystemDice
from zizq.store.opening import StoreOptions, check_store, make_store
from zizq.testing.bench import NOW, Bench, Recorder
from zizq.testing.clock import LoadedDice
from zizq.testing.copy_conformance import fill


@pytest.fixture
def run() -> Any:
    def run(*arguments: object) -> Result:
        return CliRunner().invoke(cli, ["store", "copy", *map(str, arguments)])

    return run


async def filled(place: Path) -> None:
    store = make_store(place, StoreOptions(), SystemDice())
    await store.open(Recorder())
    await fill(Bench(store, Recorder(), LoadedDice()))
    await store.close()


def test_a_whole_store_is_copied_and_counted(run: Any, tmp_path: Path) -> None:
    asyncio.run(filled(tmp_path / "a"))
    copied = run(tmp_path / "a", tmp_path / "b")
    assert copied.exit_code == 0, copied.output
    lines = copied.stdout.splitlines()
    assert lines[0].split() == ["QUEUE", "TYPE", "STATUS", "JOBS"]
    assert ["b", "t", "ready", "2"] in [line.split() for line in lines]
    assert (
        f"Copied {tmp_path / 'a'} to {tmp_path / 'b'}: 10 jobs, 2 budgets, 1 cron group, 1 paused queue."
        in copied.stderr
    )
    assert "Both hold the same" in copied.stderr
    assert check_store(tmp_path / "b", NOW).violations == check_store(tmp_path / "a", NOW).violations == []


def test_programs_are_told_in_json(run: Any, tmp_path: Path) -> None:
    asyncio.run(filled(tmp_path / "a"))
    first, second = (json.loads(run(tmp_path / one, tmp_path / other, "--json").stdout) for one, other in ("ab", "bc"))
    assert first == second
    assert (sum(one["jobs"] for one in first["jobs"]), first["budgets"], first["crons"]) == (10, 2, 1)


def test_what_cannot_be_copied_is_said_in_a_line(run: Any, tmp_path: Path) -> None:
    asyncio.run(filled(tmp_path / "a"))
    for source, target, says in (
        (tmp_path / "nowhere", tmp_path / "b", "there is no store in"),
        (tmp_path / "a", tmp_path / "a", "are the same"),
        (tmp_path / "a", "postgresql://u:s3cr3t@h:port/d", "has a host or port that is none"),
        (tmp_path / "a", "mysql://h/d", "postgresql://"),
    ):
        refused = run(source, target)
        assert refused.exit_code != 0
        assert says in " ".join(refused.output.split())
        assert "s3cr3t" not in refused.output
    run(tmp_path / "a", tmp_path / "b")
    assert "is not empty" in run(tmp_path / "a", tmp_path / "b").output
