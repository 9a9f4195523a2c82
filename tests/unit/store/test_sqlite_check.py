"""A check of a store sees each kind of damage, and says in one line what it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import apsw
import msgspec
import pytest

from zizq.budget import Budget, Draw, Strategy, StrategyType
from zizq.clock import Dice
from zizq.cron import CronEntry, CronGroup, CronJob
from zizq.engine.changes import Delete, Retry
from zizq.errors import ConfigError
from zizq.job import Batch
from zizq.policy import Defaults, Retention
from zizq.store.base import Store
from zizq.store.findings import SHOWN, Checked
from zizq.store.opening import StoreOptions, check_store, make_store
from zizq.store.sqlite.schema import PAGE_SIZE
from zizq.testing.bench import DAY, NOW, PAYLOAD, Suite

A, B, C, D, E, F, G, H = (f"03gwrj487tb5hvwrsjumvnsg{letter}" for letter in "abcdefgh")
"""Jobs: a plain one, one with a unique key, one with a batch key, one that draws, one for later, one completed, one
dead, and one that failed twice and waits for its retry."""
DRAWS = (Draw("slots", 2), Draw("rate", 1))


def budget(key: str, allocation: int) -> Budget:
    return Budget(key, allocation, Strategy(StrategyType.WHILE_IN_FLIGHT), created_at=NOW, updated_at=NOW)


def group(name: str = "nightly", entry: str = "report") -> CronGroup:
    job = CronJob(type="t", queue="q", payload=msgspec.Raw(PAYLOAD), priority=5, budgets=(Draw("slots", 1),))
    one = CronEntry(name=entry, expression="0 3 * * *", paused=False, job=job, next_enqueue_at=NOW + DAY)
    return CronGroup(name=name, paused=False, entries=(one,))


class Making(Suite):
    def make(self, place: Path, defaults: Defaults, dice: Dice) -> Store:
        return make_store(place, StoreOptions(defaults), dice)


async def fill(place: Path) -> None:
    """A store with something of everything."""
    async with Making().bench(place) as bench:
        store = bench.store
        for one in (budget("slots", 3), budget("rate", 1)):
            await store.save_budget(one.key, None, one, NOW)
        ids = iter((A, B, C, D, E, F, G, H))
        bench.next_id = lambda: next(ids)
        await bench.enqueue(
            bench.job(),
            bench.job(unique_key="k", unique_while="active"),
            bench.job(batch=Batch("k", "true", "$new")),
            bench.job(budgets=DRAWS),
            bench.job(ready_at=NOW + DAY),
            bench.job("work", retention=Retention(completed_ms=DAY)),
            bench.job("work", retry_limit=0, budgets=DRAWS[1:]),
            bench.job("work", retry_limit=2),
        )
        await bench.take(queues=["work"])
        await store.succeed([F], NOW)
        for job_id in (G, H):
            await bench.fail(job_id)
        await store.promote(NOW + DAY // 2, 1)
        await bench.take(queues=["work"])
        await bench.fail(H)
        await store.save_cron("nightly", None, group(), NOW)
        await store.pause_queue("rest", NOW)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import asyncio

    place = tmp_path_factory.mktemp("whole")
    asyncio.run(fill(place))
    return place


def damaged(whole: Path, place: Path, *sql: str, triggers: bool = False) -> Checked:
    """What a check says of a copy of the store after some SQL."""
    shutil.copytree(whole / "data", place / "data", dirs_exist_ok=True)
    db = apsw.Connection(str(place / "data" / "jobs.db"))
    db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, triggers)
    for text in sql:
        db.execute(text)
    db.close()
    return check_store(place, NOW)


def test_a_whole_store_has_no_violations(whole: Path) -> None:
    checked = check_store(whole, NOW)
    assert checked.violations == []
    assert checked.jobs == {"scheduled": 2, "ready": 4, "completed": 1, "dead": 1}
    assert (checked.found, checked.unfinished) == (0, 0)
    assert checked.size > 8192


def blob(value: object) -> str:
    return f"x'{msgspec.msgpack.encode(value).hex()}'"


MALFORMED = "MessagePack data is malformed: invalid opcode '\\xc1' (byte 0)"


CASES = {
    "a job too many in the counts": (
        [f"DELETE FROM jobs WHERE id = '{A}'"],
        ["tally: queue 'q', type 't', status ready: 4 jobs are counted, and there are 3"],
    ),
    "a count of jobs that are not there": (
        ["INSERT INTO tally VALUES ('x', 't', 3, 2), ('x', 't', 2, 0)"],
        ["tally: queue 'x', type 't', status dead: 2 jobs are counted, and there are 0"],
    ),
    "jobs that are not counted": (
        ["DELETE FROM tally WHERE status = 3"],
        ["tally: queue 'work', type 't', status dead: 0 jobs are counted, and there are 1"],
    ),
    "a status that is none": (
        [f"UPDATE jobs SET status = 7 WHERE id = '{A}'", "UPDATE tally SET jobs = 3 WHERE queue = 'q' AND status = 1",
         "INSERT INTO tally VALUES ('q', 't', 7, 1)"],
        [f"job {A}: status is 7, which is none"],
    ),
    "options that are none": (
        [f"UPDATE jobs SET options = x'c1' WHERE id = '{A}'"],
        [f"job {A}: its options cannot be read: {MALFORMED}"],
    ),
    "a payload that is none": (
        [f"UPDATE jobs SET payload = x'91' WHERE id = '{A}'"],
        [f"job {A}: its payload cannot be read: Input data was truncated"],
    ),
    "an identifier that is none": (
        [f"UPDATE jobs SET id = '{A[:-1]}' WHERE id = '{A}'"],
        [f"job {A[:-1]}: its id is not 25 characters of [0-9a-z]"],
    ),
    "a queue that is no name": (
        [f"UPDATE jobs SET queue = 'a,b' WHERE id = '{E}'", "INSERT INTO tally VALUES ('a,b', 't', 0, 1)",
         "DELETE FROM tally WHERE queue = 'q' AND status = 0"],
        [f"job {E}: queue must not contain ','"],
    ),
    "a value that is of another type": (
        [f"UPDATE jobs SET queue = x'71' WHERE id = '{E}'", "DELETE FROM tally WHERE status = 0 AND queue = 'q'",
         "INSERT INTO tally VALUES (x'71', 't', 0, 1)"],
        [f"job {E}: a value is of the wrong type (a bytes-like object is required, not 'str')"],
    ),
    "a text that is none": (
        ["UPDATE cron_draws SET budget = CAST(x'ff' AS TEXT)"],
        ["crons: cannot be read to the end (UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 0: "
         "invalid start byte)"],
    ),
    "a trigger that is gone": (
        ["DROP TRIGGER job_added"],
        ["schema: trigger 'job_added' is missing, unknown, or not as it is to be"],
    ),
    "an index that is gone": (
        ["DROP INDEX purge"],
        ["schema: index 'purge' is missing, unknown, or not as it is to be"],
    ),
    "a priority out of range": (
        [f"UPDATE jobs SET priority = 65536 WHERE id = '{A}'"],
        [f"job {A}: priority is 65536, not from 0 to 65535"],
    ),
    "a key of a job without one": (
        [f"UPDATE jobs SET key = 'qx' WHERE id = '{A}'"],
        [f"job {A}: key is 'qx', and its options make it None"],
    ),
    "a unique key that nobody finds": (
        [f"UPDATE jobs SET key = NULL WHERE id = '{B}'"],
        [f"job {B}: key is None, and its options make it 'ak'"],
    ),
    "a batch key that is another": (
        [f"UPDATE jobs SET key = 'bx' WHERE id = '{C}'"],
        [f"job {C}: key is 'bx', and its options make it 'bk'"],
    ),
    "a scope that is none": (
        [f"UPDATE jobs SET options = x'97c0c0c0a16ba178c0c0' WHERE id = '{B}'"],
        [f"job {B}: unique_while is 'x' beside the unique key 'k'"],
    ),
    "budgets that are others": (
        [f"UPDATE jobs SET budgets = 'slots' WHERE id = '{D}'"],
        [f"job {D}: budgets is 'slots', and its options make it 'rate,slots'",
         f"draw of job {D} on 'rate': the job does not draw on it"],
    ),
    "a draw that is missing": (
        [f"DELETE FROM draws WHERE budget = 'slots' AND id = '{D}'"],
        [f"job {D}: its draw on 'slots' is cost 2, finished 0, and nothing is noted"],
    ),
    "a draw that is too much": (
        [f"UPDATE draws SET cost = 3 WHERE budget = 'slots' AND id = '{D}'"],
        [f"job {D}: its draw on 'slots' is cost 2, finished 0, and cost 3, finished 0 is noted"],
    ),
    "a draw that holds its budget back for ever": (
        [f"UPDATE draws SET finished = 0 WHERE id = '{G}'"],
        [f"job {G}: its draw on 'rate' is cost 1, finished 1, and cost 1, finished 0 is noted"],
    ),
    "a draw of a job that is not there": (
        [f"INSERT INTO draws VALUES ('rate', '{A[:-1]}0', 1, 1)"],
        [f"draw of job {A[:-1]}0 on 'rate': there is no such job"],
    ),
    "a budget that is not there": (
        ["DELETE FROM budgets WHERE key = 'slots'"],
        ["budget 'slots': it is not there, and 1 unfinished jobs draw on it",
         "budget 'slots': it is not there, and jobs of cron entry nightly/report draw on it"],
    ),
    "a budget that is too small": (
        ["UPDATE budgets SET budget = CAST(replace(budget, 'allocation' || x'03', 'allocation' || x'01') AS BLOB) "
         "WHERE key = 'slots'"],
        ["budget 'slots': it holds at most 1, and 1 unfinished jobs draw up to 2"],
    ),
    "a budget that cannot be read": (
        ["UPDATE budgets SET state = x'c1' WHERE key = 'rate'"],
        [f"budget 'rate': it cannot be read: {MALFORMED}"],
    ),
    "a budget of another name": (
        ["UPDATE budgets SET budget = (SELECT budget FROM budgets WHERE key = 'slots') WHERE key = 'rate'"],
        ["budget 'rate': it calls itself 'slots'"],
    ),
    "errors of a job that is not there": (
        [f"INSERT INTO errors VALUES ('{A[:-1]}0', 1, 'm', NULL, NULL, 0, 0)"],
        [f"job {A[:-1]}0: it has errors, and is not there"],
    ),
    "errors of a job that never failed": (
        [f"INSERT INTO errors VALUES ('{A}', 1, 'm', NULL, NULL, 0, 0)"],
        [f"job {A}: it has errors, and no attempts"],
    ),
    "an attempt without its error": (
        [f"DELETE FROM errors WHERE job_id = '{H}' AND attempt = 1"],
        [f"job {H}: it has 2 attempts, and 1 errors of attempts 2 to 2"],
    ),
    "a failure that was not counted": (
        [f"UPDATE jobs SET attempts = 1 WHERE id = '{H}'"],
        [f"job {H}: it has 1 attempts, and 2 errors of attempts 1 to 2"],
    ),
    "a dead job that is never purged": (
        [f"UPDATE jobs SET purge_at = NULL WHERE id = '{G}'"],
        [f"job {G}: purge_at is None though it is dead"],
    ),
    "a waiting job that is purged": (
        [f"UPDATE jobs SET purge_at = 5 WHERE id = '{A}'"],
        [f"job {A}: purge_at is 5 though it is ready"],
    ),
    "a job that was not completed": (
        [f"UPDATE jobs SET completed_at = NULL WHERE id = '{F}'"],
        [f"job {F}: completed_at is None though it is completed"],
    ),
    "a failure at no time": (
        [f"UPDATE jobs SET failed_at = NULL WHERE id = '{H}'"],
        [f"job {H}: failed_at is None though it is scheduled after 2 attempts"],
    ),
    "a death without an attempt": (
        [f"UPDATE jobs SET attempts = 0 WHERE id = '{G}'", f"DELETE FROM errors WHERE job_id = '{G}'"],
        [f"job {G}: attempts is 0 though it is dead"],
    ),
    "two jobs with one unique key": (
        [f"UPDATE jobs SET key = 'ak', options = (SELECT options FROM jobs WHERE id = '{B}') WHERE id = '{A}'"],
        [f"unique key 'k': 2 jobs have it and never finished, among them {A} and {B}"],
    ),
    "two jobs with one unique key and different scopes": (
        [f"UPDATE jobs SET key = 'ek', options = CAST(replace((SELECT options FROM jobs WHERE id = '{B}'), "
         f"'active', 'exists') AS BLOB) WHERE id = '{A}'"],
        [f"unique key 'k': the jobs {B} and {A} have it and never finished"],
    ),
    "two jobs with one unique key while they exist": (
        [f"UPDATE jobs SET key = 'ek', options = CAST(replace((SELECT options FROM jobs WHERE id = '{B}'), "
         f"'active', 'exists') AS BLOB) WHERE id IN ('{A}', '{B}', '{F}')"],
        [f"unique key 'k': 3 jobs have it and exist, among them {A} and {F}"],
    ),
    "two jobs that wait under one batch key": (
        [f"UPDATE jobs SET key = 'bk', options = (SELECT options FROM jobs WHERE id = '{C}') WHERE id = '{A}'"],
        [f"batch key 'k': 2 jobs wait under it, among them {A} and {C}"],
    ),
    "a cron entry that is due at another time": (
        ["UPDATE cron_entries SET next_at = 5"],
        [f"cron entry nightly/report: next_at is 5, and in the entry {NOW + DAY}"],
    ),
    "a cron entry of another name": (
        ["UPDATE cron_entries SET name = 'other'", "UPDATE cron_draws SET name = 'other'"],
        ["cron entry nightly/other: it calls itself 'report'"],
    ),
    "a cron entry without a group": (
        ["DELETE FROM crons"],
        ["cron entry nightly/report: its group is not there"],
    ),
    "a cron entry that cannot be read": (
        ["UPDATE cron_entries SET entry = x'91'"],
        ["cron entry nightly/report: it cannot be read: Expected `object`, got `array`"],
    ),
    "a cron expression that is none": (
        ["UPDATE cron_entries SET entry = CAST(replace(entry, '0 3', '0 Z') AS BLOB)"],
        ['cron entry nightly/report: invalid cron expression: hour "Z" is not allowed '
         "(use *, */n, a, a-b, a-b/n or a list of them, from 0 to 23)"],
    ),
    "draws of a cron entry that are missing": (
        ["DELETE FROM cron_draws"],
        ["cron entry nightly/report: its job draws {'slots': 1}, and {} is noted"],
    ),
    "draws of a cron entry that is not there": (
        ["INSERT INTO cron_draws VALUES ('nightly', 'gone', 'rate', 1)"],
        ["cron entry nightly/gone: there is no such entry, and draws of it are noted"],
    ),
    "a cron group of another name": (
        ["UPDATE crons SET settings = CAST(replace(settings, 'nightly', 'mightly') AS BLOB)"],
        ["cron 'nightly': it calls itself 'mightly' and has 0 entries within"],
    ),
    "a cron group that cannot be read": (
        ["UPDATE crons SET settings = x''"],
        ["cron 'nightly': it cannot be read: Input data was truncated"],
    ),
    "paused queues that cannot be": (
        ["INSERT INTO paused_queues VALUES ('a,b', -1), (x'00', 'yesterday')"],
        ["paused queue 'a,b': queue must not contain ','",
         "paused queue 'a,b': it is paused since -1, which is no time",
         "paused queue b'\\x00': queue must not be empty",
         "paused queue b'\\x00': it is paused since 'yesterday', which is no time"],
    ),
    "two changes of many jobs": (
        [f"INSERT INTO bulk VALUES ({blob(Retry())}, 0), (x'c1', 0)"],
        ["bulk: 2 changes of many jobs are certain, and there is one at most",
         f"bulk: the change of many jobs cannot be read: {MALFORMED}"],
    ),
    "a change of a job that is none": (
        ["INSERT INTO pending VALUES ('x')"],
        ["pending: 'x' is not 25 characters of [0-9a-z]"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_damage_is_seen_and_told(whole: Path, tmp_path: Path, case: str) -> None:
    sql, expected = CASES[case]
    assert damaged(whole, tmp_path, *sql).violations == expected


def test_pages_that_are_overwritten_are_seen(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "data", tmp_path / "data")
    path = tmp_path / "data" / "jobs.db"
    db = apsw.Connection(str(path))
    page = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'place'").get
    db.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE_SIZE)
        file.write(b"\xff" * PAGE_SIZE)
    checked = check_store(tmp_path, NOW)
    assert any(line.startswith("file: ") for line in checked.violations)
    assert any(line.startswith("counts: cannot be read to the end (CorruptError") for line in checked.violations)


def test_a_first_page_that_is_overwritten_is_refused(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "data", tmp_path / "data")
    with (tmp_path / "data" / "jobs.db").open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * (PAGE_SIZE - 100))
    with pytest.raises(ConfigError, match=r"cannot read the store .*: database disk image is malformed"):
        check_store(tmp_path, NOW)


def test_an_index_that_lacks_a_row_is_seen(whole: Path, tmp_path: Path) -> None:
    lie = "UPDATE sqlite_schema SET sql = replace(sql, 'status = 0', 'status = 2') WHERE name = 'due'"
    checked = damaged(whole, tmp_path, "PRAGMA writable_schema = ON", lie)
    assert checked.violations == [
        "file: row 6 missing from index due",
        "schema: index 'due' is missing, unknown, or not as it is to be",
    ]


def test_of_each_kind_only_the_first_are_told(whole: Path, tmp_path: Path) -> None:
    numbers = "WITH n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 1234) SELECT"
    checked = damaged(
        whole,
        tmp_path,
        f"INSERT INTO errors {numbers} printf('%025d', i), 1, 'm', NULL, NULL, 0, 0 FROM n",
        "DELETE FROM cron_draws",
    )
    assert checked.found == 1235
    assert len(checked.violations) == SHOWN + 2
    assert checked.violations[SHOWN] == "errors: 1,214 more of this kind, 1,234 in all"


# ── what looks wrong and is not ──


async def test_what_a_killed_server_leaves_is_read_and_not_changed(tmp_path: Path) -> None:
    async with Making().bench(tmp_path / "live") as bench:
        await bench.enqueue(bench.job(), bench.job(unique_key="k"))
        (tmp_path / "data").mkdir()
        for name in ("jobs.db", "jobs.db-wal"):
            shutil.copy(tmp_path / "live" / "data" / name, tmp_path / "data" / name)
    before = {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()}
    checked = check_store(tmp_path, NOW)
    assert (checked.violations, checked.jobs["ready"]) == ([], 2)
    assert before == {name: (tmp_path / "data" / name).read_bytes() for name in before}
    async with Making().bench(tmp_path) as bench:
        assert await bench.count() == 2


async def test_a_change_that_is_half_carried_out_is_no_damage(whole: Path, tmp_path: Path) -> None:
    change = f"INSERT INTO bulk VALUES ({blob(Delete())}, {NOW})"
    again = f"UPDATE jobs SET key = 'ak', options = (SELECT options FROM jobs WHERE id = '{B}') WHERE id = '{A}'"
    pending = f"INSERT INTO pending VALUES ('{B}'), ('{A[:-1]}0')"
    checked = damaged(whole, tmp_path, pending, change, again)
    assert (checked.violations, checked.unfinished) == ([], 2)


async def test_what_was_only_noted_for_a_change_is_no_damage(whole: Path, tmp_path: Path) -> None:
    checked = damaged(whole, tmp_path, f"INSERT INTO pending VALUES ('{B}')")
    assert (checked.violations, checked.unfinished) == ([], 0)


async def test_dead_jobs_that_came_back_share_keys_and_draw_on_budgets_that_are_gone(tmp_path: Path) -> None:
    async with Making().bench(tmp_path) as bench:
        await bench.store.save_budget("gone", None, budget("gone", 1), NOW)
        dying = bench.job(unique_key="k", unique_while="active", retry_limit=0, budgets=(Draw("gone", 1),))
        await bench.enqueue(dying)
        await bench.take()
        await bench.fail(dying.id)
        await bench.store.save_budget("gone", budget("gone", 1), None, NOW)
        await bench.enqueue(bench.job(unique_key="k", unique_while="active"))
        assert (await bench.change(Retry(), ids=[dying.id])).jobs == 1
    checked = check_store(tmp_path, NOW)
    assert (checked.violations, checked.jobs["ready"]) == ([], 2)


async def test_an_expired_job_shares_its_key(tmp_path: Path) -> None:
    async with Making().bench(tmp_path) as bench:
        kept = Retention(completed_ms=5)
        first = bench.job(unique_key="k", unique_while="exists", retention=kept)
        await bench.enqueue(first)
        await bench.take()
        await bench.store.succeed([first.id], NOW)
        await bench.store.enqueue([bench.job(unique_key="k", unique_while="exists")], NOW + 5)
    assert check_store(tmp_path, NOW + 5).violations == []
    assert len(check_store(tmp_path, NOW).violations) == 1


async def test_a_store_that_was_never_used_is_whole(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "jobs.db").touch()
    assert check_store(tmp_path, NOW).violations == []


# ── what cannot be checked ──


def test_a_folder_without_a_store_is_not_made_into_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no store in .*none: name its folder with --root-dir"):
        check_store(tmp_path / "none", NOW)
    assert list(tmp_path.iterdir()) == []


async def test_a_store_in_use_is_left_alone(tmp_path: Path) -> None:
    async with Making().bench(tmp_path):
        with pytest.raises(ConfigError, match="in use by another server"):
            check_store(tmp_path, NOW)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("PRAGMA user_version = 99", "has format 99, this zizq knows 1: use a newer zizq"),
        ("PRAGMA user_version = 0", "has format 0, this zizq reads 1: start its server once"),
        ("PRAGMA application_id = 5", "is a database of another program"),
    ],
)
def test_a_store_of_another_version_is_refused(whole: Path, tmp_path: Path, sql: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        damaged(whole, tmp_path, sql)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "jobs.db").write_bytes(b"x" * 8192)
    with pytest.raises(ConfigError, match="cannot read the store"):
        check_store(tmp_path, NOW)
