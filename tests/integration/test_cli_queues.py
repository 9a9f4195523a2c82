"""`zizq queues` against a whole server."""

import pytest
from click.testing import CliRunner

from integration.shell import shell
from zizq import Enqueue
from zizq.cli import asking
from zizq.cli.main import cli


async def fill(client, queue, number):
    await client.enqueue_bulk([Enqueue("t", n, queue=queue) for n in range(number)])


async def test_queues_are_listed_with_their_counts_and_pauses():
    async with shell("queues") as sh:
        await fill(sh.client, "mail\x1b", 2)
        await sh.client.enqueue_raw("t", None, queue="mail\x1b", delay=60)
        await sh.client.pause_queue("empty")
        lines = (await sh.out("list")).splitlines()
        assert [line.split() for line in lines] == [
            ["QUEUE", "SCHEDULED", "READY", "IN_FLIGHT", "COMPLETED", "DEAD", "PAUSED"],
            ["empty", "0", "0", "0", "0", "0", "now"],
            ["mail\\x1b", "1", "2", "0", "0", "0"],
        ]
        empty, mail = await sh.lines("list")
        assert (empty["queue"], empty["paused"], empty["paused_at"] > 0) == ("empty", True, True)
        counts = {"scheduled": 1, "ready": 2, "in_flight": 0, "completed": 0, "dead": 0}
        assert mail == {"queue": "mail\x1b", "paused": False, "counts": counts}


async def test_a_list_of_nothing_says_so_beside_the_output():
    async with shell("queues") as sh:
        result = await sh.run("list")
        assert (result.stdout, result.stderr) == ("", "There are no queues: none holds a job, and none is paused.\n")
        assert await sh.out("list", "--json") == ""


async def test_a_queue_is_shown_whether_or_not_it_holds_jobs():
    async with shell("queues") as sh:
        await fill(sh.client, "mail", 2)
        await sh.client.pause_queue("mail")
        shown = [line.split() for line in (await sh.out("show", "mail")).splitlines()]
        assert [row[:2] for row in shown[:2]] == [["queue", "mail"], ["paused", "true"]]
        assert (shown[2][0], shown[2][-1]) == ("paused_at", "(now)")
        assert shown[3:5] == [["scheduled", "0"], ["ready", "2"]]
        [fields] = await sh.lines("show", "new")
        assert (fields["queue"], fields["paused"], fields["counts"]["ready"]) == ("new", False, 0)


async def test_queues_are_paused_and_resumed():
    async with shell("queues") as sh:
        await fill(sh.client, "mail", 1)
        assert await sh.out("pause", "mail", "mial", "mail") == (
            "Paused queue mail: it has 1 ready job, and 0 in flight.\nPaused queue mial: it has no jobs.\n"
        )
        assert (await sh.client.queue("mail")).paused
        assert await sh.out("resume", "mail", "mial") == (
            "Resumed queue mail: it has 1 ready job, and 0 in flight.\nResumed queue mial: it has no jobs.\n"
        )
        assert not (await sh.client.queue("mail")).paused


async def test_a_queue_is_purged_and_no_other():
    async with shell("queues") as sh:
        await fill(sh.client, "mail", 3)
        await fill(sh.client, "other", 1)
        await sh.client.pause_queue("mail")
        refused = await sh.run("purge", "mail", ok=False)
        assert refused.stderr == "Error: there is no terminal to ask at: say --yes to purge a queue without asking\n"
        assert await sh.out("purge", "mail", "--yes") == "Deleted 3 jobs of queue mail.\n"
        assert await sh.out("purge", "mail", "-y") == "Deleted 0 jobs of queue mail.\n"
        assert await sh.client.queues() == ["other"]
        assert (await sh.client.queue("mail")).paused


async def test_a_purge_counts_first_and_asks(monkeypatch):
    monkeypatch.setattr(asking, "check_terminal", lambda action: None)
    monkeypatch.setattr("zizq.cli.queues.check_terminal", lambda action: None)
    async with shell("queues") as sh:
        await fill(sh.client, "mail", 3)
        async with sh.client.take(queues="mail") as stream:
            await anext(aiter(stream))
            result = await sh.run("purge", "mail", ok=False, given="n\n")
        assert (result.stdout, result.exit_code) == ("", 1)
        assert result.stderr.startswith("Delete 3 jobs of queue mail (1 in flight)? [y/N]: ")
        assert (await sh.client.queue("mail")).counts.total == 3
        result = await sh.run("purge", "mail", given="y\n")
        assert result.stdout == "Deleted 3 jobs of queue mail.\n"
        result = await sh.run("purge", "mail")
        assert (result.stdout, result.stderr) == ("", "There are no jobs in queue mail.\n")


@pytest.mark.parametrize("verb", [["show"], ["pause"], ["resume"], ["purge", "--yes"]])
@pytest.mark.parametrize("name", ["", "a,b", "a*"])
async def test_a_name_that_is_none_is_one_line_and_touches_nothing(verb, name):
    async with shell("queues") as sh:
        for queue in ("a", "b", "ab"):
            await fill(sh.client, queue, 1)
        result = await sh.run(*verb, name, ok=verb[0] == "purge" and name == "a*")
        if result.exit_code:
            assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
        states = await sh.client.queue_states()
        assert [(state.paused, state.counts.ready) for state in states] == [(False, 1)] * 3


def test_a_command_without_its_queue_is_a_usage_error():
    for verb in ("show", "pause", "resume", "purge"):
        result = CliRunner().invoke(cli, ["queues", verb])
        assert (result.exit_code, result.stdout) == (2, "")
        assert "Missing argument 'QUEUE" in result.stderr
