"""`zizq cron` against a whole server: what it prints, what it does, and what it refuses."""

import pytest
from click.testing import CliRunner

from integration.shell import shell
from zizq import Enqueue, NotFound
from zizq.cli.main import cli


async def define(client, name="nightly", **options):
    async with client.define_cron(name, **options) as cron:
        cron.entry("report", "0 3 1 1 *", Enqueue("report", {"id": 7}, queue="reports"), timezone="Europe/London")
        cron.entry("never", "0 0 3 1 1 * 1999", Enqueue("never", None), paused=False)


async def test_groups_are_listed():
    async with shell("cron") as sh:
        await define(sh.client)
        await define(sh.client, "a group", timezone="UTC", paused=True)
        head, *rows = (await sh.out("list")).splitlines()
        assert head.split() == ["GROUP", "ENTRIES", "TIMEZONE", "NEXT"]
        assert [row.split()[:-1] for row in rows] == [["a", "group", "2", "UTC"], ["nightly", "2", "in"]]
        assert rows[0].endswith("paused")
        assert [group["name"] for group in await sh.lines("list")] == ["a group", "nightly"]


async def test_a_list_of_nothing_says_so_beside_the_output():
    async with shell("cron") as sh:
        result = await sh.run("list")
        assert (result.stdout, result.stderr) == ("", "There are no cron groups.\n")
        assert await sh.out("list", "--json") == ""


async def test_a_group_is_shown_with_its_entries():
    async with shell("cron") as sh:
        await define(sh.client, timezone="UTC")
        await sh.client.cron("nightly").entry("report").pause()
        shown = (await sh.out("show", "nightly")).splitlines()
        assert [line.split() for line in shown[:3]] == [["name", "nightly"], ["paused", "false"], ["timezone", "UTC"]]
        assert shown[4].split() == ["ENTRY", "EXPRESSION", "TIMEZONE", "QUEUE", "TYPE", "LAST", "NEXT"]
        assert shown[5].split() == ["never", "0", "0", "3", "1", "1", "*", "1999", "default", "never", "never", "never"]
        assert shown[6].split()[-4:] == ["reports", "report", "never", "paused"]
        [group] = await sh.lines("show", "nightly")
        assert [entry["job"]["payload"] for entry in group["entries"]] == [None, {"id": 7}]


async def test_an_entry_is_shown_with_its_job():
    async with shell("cron") as sh:
        await define(sh.client)
        shown = (await sh.out("show", "nightly", "report")).splitlines()
        assert shown[0].split() == ["name", "report"]
        assert shown[2].split() == ["timezone", "Europe/London"]
        [due] = [line for line in shown if line.startswith("next_enqueue_at")]
        assert "(in " in due
        assert shown[shown.index("job") + 1 :][:2] == ["  {", '    "type": "report",']
        [entry] = await sh.lines("show", "nightly", "report")
        assert (entry["name"], entry["job"]["queue"]) == ("report", "reports")


async def test_a_name_cannot_command_the_terminal():
    async with shell("cron") as sh:
        await define(sh.client, "a\x1bb")
        assert "a\\x1bb" in await sh.out("list")
        assert await sh.out("pause", "a\x1bb") == "Paused cron group a\\x1bb.\n"


async def test_groups_and_entries_are_paused_resumed_and_deleted():
    async with shell("cron") as sh:
        await define(sh.client)
        handle = sh.client.cron("nightly")
        assert await sh.out("pause", "nightly") == "Paused cron group nightly.\n"
        assert await sh.out("pause", "nightly", "report") == "Paused entry report of cron group nightly.\n"
        group = await handle.get()
        assert (group.paused, [entry.paused for entry in group.entries]) == (True, [False, True])
        assert await sh.out("resume", "nightly") == "Resumed cron group nightly.\n"
        assert await sh.out("resume", "nightly", "report") == "Resumed entry report of cron group nightly.\n"
        group = await handle.get()
        assert (group.paused, [entry.paused for entry in group.entries]) == (False, [False, False])
        assert await sh.out("delete", "nightly", "report", "-y") == "Deleted entry report of cron group nightly.\n"
        assert [entry.name for entry in (await handle.get()).entries] == ["never"]
        assert await sh.out("delete", "nightly", "--yes") == "Deleted cron group nightly.\n"
        with pytest.raises(NotFound):
            await handle.get()


@pytest.mark.parametrize("args", [["nightly"], ["nightly", "report"]])
async def test_nothing_is_deleted_without_a_word(args):
    async with shell("cron") as sh:
        await define(sh.client)
        result = await sh.run("delete", *args, ok=False)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == "Error: there is no terminal to ask at: say --yes to delete a cron without asking\n"
        assert len((await sh.client.cron("nightly").get()).entries) == 2


@pytest.mark.parametrize("verb", [["show"], ["pause"], ["resume"], ["delete", "-y"]])
async def test_a_cron_that_is_not_there_is_one_line_and_status_1(verb):
    async with shell("cron") as sh:
        await define(sh.client)
        result = await sh.run(*verb, "x", ok=False)
        assert (result.exit_code, result.stdout, result.stderr) == (1, "", "Error: there is no cron group x\n")
        result = await sh.run(*verb, "nightly", "x", ok=False)
        assert result.stderr == "Error: there is no entry x of cron group nightly\n"


@pytest.mark.parametrize("command", ["list", "show", "pause", "resume", "delete", "next"])
def test_every_command_explains_itself(command):
    result = CliRunner().invoke(cli, ["cron", command, "--help"])
    assert (result.exit_code, "Usage: " in result.stdout) == (0, True)
