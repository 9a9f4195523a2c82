"""`zizq budgets`, and budgets as filters of `zizq jobs`, against a whole server."""

from datetime import timedelta

import pytest
from click.testing import CliRunner

from integration.shell import Shell, shell
from zizq import Enqueue, NotFound, TimeBased, WhileInFlight
from zizq.cli.main import cli


async def test_budgets_are_set_and_replaced():
    async with shell("budgets") as sh:
        assert await sh.out("set", "stripe", "--allocation", "3", "--while-in-flight") == "Set budget stripe.\n"
        assert (await sh.client.budget("stripe")).policy == WhileInFlight(3)
        await sh.out("set", "stripe", "--allocation", "100", "--per", "1m", "--burst", "5")
        assert (await sh.client.budget("stripe")).policy == TimeBased(100, timedelta(minutes=1), 5)
        await sh.out("set", "stripe", "--allocation", "2", "--per", "30")
        assert (await sh.client.budget("stripe")).policy == TimeBased(2, timedelta(seconds=30))


async def test_budgets_are_listed():
    async with shell("budgets") as sh:
        await sh.client.define_budget("stripe", WhileInFlight(3))
        await sh.client.define_budget("a\x1b", TimeBased(1000, per=90, burst=5))
        lines = (await sh.out("list")).splitlines()
        assert [line.split() for line in lines] == [
            ["KEY", "STRATEGY", "ALLOCATION", "PER", "CAPACITY", "CHANGED"],
            ["a\\x1b", "time_based", "1,000", "1m", "30s", "5", "now"],
            ["stripe", "while_in_flight", "3", "3", "now"],
        ]
        [_, stripe] = await sh.lines("list")
        assert (stripe["key"], stripe["allocation"], stripe["strategy"]) == ("stripe", 3, {"type": "while_in_flight"})


async def test_a_list_of_nothing_says_so_beside_the_output():
    async with shell("budgets") as sh:
        result = await sh.run("list")
        assert (result.stdout, result.stderr) == ("", "There are no budgets.\n")
        assert await sh.out("list", "--json") == ""


async def test_a_budget_is_shown_with_the_jobs_that_draw_on_it():
    async with shell("budgets") as sh:
        await sh.client.define_budget("stripe", WhileInFlight(3))
        await sh.client.enqueue_bulk([Enqueue("t", n, budgets="stripe") for n in range(2)])
        await sh.client.enqueue_raw("t", None)
        shown = [line.split() for line in (await sh.out("show", "stripe")).splitlines()]
        assert shown[:3] == [["key", "stripe"], ["allocation", "3"], ["strategy", '{"type":"while_in_flight"}']]
        assert shown[-1] == ["unfinished_jobs", "2"]
        [fields] = await sh.lines("show", "stripe")
        assert (fields["key"], fields["unfinished_jobs"]) == ("stripe", 2)


async def test_a_budget_is_deleted():
    async with shell("budgets") as sh:
        await sh.client.define_budget("stripe", WhileInFlight(3))
        refused = await sh.run("delete", "stripe", ok=False)
        assert refused.stderr == "Error: there is no terminal to ask at: say --yes to delete a budget without asking\n"
        job = await sh.client.enqueue_raw("t", None, budgets="stripe")
        refused = await sh.run("delete", "stripe", "--yes", ok=False)
        assert "1 unfinished job" in refused.stderr
        await sh.client.delete_job(job.id)
        assert await sh.out("delete", "stripe", "-y") == "Deleted budget stripe.\n"
        with pytest.raises(NotFound):
            await sh.client.budget("stripe")


@pytest.mark.parametrize("verb", [["show"], ["delete", "-y"]])
async def test_a_budget_that_is_not_there_is_one_line_and_status_1(verb):
    async with shell("budgets") as sh:
        result = await sh.run(*verb, "x", ok=False)
        assert (result.exit_code, result.stdout, result.stderr) == (1, "", "Error: there is no budget x\n")


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ([], "Missing option '--allocation'"),
        (["--allocation", "3"], "--per with a period, or --while-in-flight"),
        (["--allocation", "3", "--per", "1m", "--while-in-flight"], "--per with a period, or --while-in-flight"),
        (["--allocation", "3", "--while-in-flight", "--burst", "5"], "--burst goes with --per"),
        (["--allocation", "0", "--while-in-flight"], "1<=x<=1000000"),
        (["--allocation", "3", "--per", "soon"], "is not a duration"),
    ],
)
def test_a_wrong_option_is_a_usage_error(args, text):
    result = CliRunner().invoke(cli, ["budgets", "set", "stripe", *args])
    assert (result.exit_code, result.stdout) == (2, "")
    assert text in " ".join(result.stderr.split())


def test_a_period_of_nothing_is_one_line():
    result = CliRunner().invoke(cli, ["budgets", "set", "stripe", "--allocation", "3", "--per", "0"])
    assert (result.exit_code, result.stderr) == (1, "Error: per=0.0 is no period: give at least a millisecond\n")


async def test_jobs_are_chosen_by_the_budgets_that_they_draw_on():
    async with shell("budgets") as sh:
        for key in ("a", "b"):
            await sh.client.define_budget(key, WhileInFlight(3))
        await sh.client.enqueue_bulk([Enqueue("t", n, budgets=budgets) for n, budgets in enumerate(["a", "b", ()])])
        jobs = Shell("jobs", sh.client)
        assert [job["payload"] for job in await jobs.lines("list", "--budget", "a")] == [0]
        assert await jobs.out("count", "--budget", "a,c", "--budget", "b") == "2\n"
        assert (await jobs.run("delete", "--budget", "", "-y", ok=False)).exit_code == 2
        assert await jobs.out("delete", "--budget", "b", "-y") == "Deleted 1 job.\n"
