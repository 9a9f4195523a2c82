"""`zizq check`: what it prints, and how it ends."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest
from click.testing import CliRunner, Result

from zizq.cli.main import cli
from zizq.clock import Dice
from zizq.policy import Defaults
from zizq.store.base import Store
from zizq.store.opening import StoreOptions, make_store
from zizq.testing.bench import Suite


class Making(Suite):
    def make(self, place: Path, defaults: Defaults, dice: Dice) -> Store:
        return make_store(place, StoreOptions(defaults), dice)


async def fill(place: Path) -> None:
    async with Making().bench(place) as bench:
        await bench.enqueue(*[bench.job() for _ in range(1200)], bench.job(retry_limit=0, priority=0))
        [job] = await bench.take(1)
        await bench.fail(job.id)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(one) for one in arguments], prog_name="zizq")


async def test_a_whole_store_is_summed_up(tmp_path: Path) -> None:
    await fill(tmp_path)
    result = run("check", "--root-dir", tmp_path)
    assert (result.exit_code, result.stderr) == (0, "")
    told = "1,201 jobs (0 scheduled, 1,200 ready, 0 completed, 1 dead)"
    assert result.stdout.startswith(f"The store in {tmp_path} is whole: {told}, ")
    assert run("--root-dir", tmp_path, "check").stdout == result.stdout


async def test_the_variable_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIZQ_ROOT_DIR", str(tmp_path / "none"))
    result = run("check")
    assert result.exit_code == 1
    assert result.stderr == f"Error: there is no store in {tmp_path / 'none'}: name its folder with --root-dir\n"


async def test_each_violation_is_a_line_and_the_status_is_1(tmp_path: Path) -> None:
    await fill(tmp_path)
    db = apsw.Connection(str(tmp_path / "data" / "jobs.db"))
    db.execute("UPDATE tally SET jobs = 5, queue = char(27) || 'q' WHERE status = 3; DELETE FROM errors")
    db.close()
    result = run("check", "--root-dir", tmp_path)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == "tally: queue 'q', type 't', status dead: 0 jobs are counted, and there are 1"
    assert lines[1] == "tally: queue '\\x1bq', type 't', status dead: 5 jobs are counted, and there are 0"
    assert lines[2].endswith(": it has 1 attempts, and 0 errors of attempts 1 to 0")
    assert result.stderr == f"Error: the store in {tmp_path} is damaged: 3 violations\n"


async def test_a_change_that_is_not_carried_out_to_its_end_is_told(tmp_path: Path) -> None:
    await fill(tmp_path)
    db = apsw.Connection(str(tmp_path / "data" / "jobs.db"))
    db.execute("INSERT INTO pending SELECT id FROM jobs; INSERT INTO bulk VALUES (x'81a474797065a664656c657465', 0)")
    db.close()
    result = run("check", "--root-dir", tmp_path)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1] == "A change has still to reach 1,201 jobs: the server goes on with it."
