"""`zizq cron next`, which asks no server."""

import json
from itertools import pairwise

import pytest
from click.testing import CliRunner

from zizq.cli.main import cli

AFTER = ("--after", "2030-03-29T12:00Z")


def run(*args, **environment):
    return CliRunner(env=environment).invoke(cli, ["cron", "next", *args])


def test_times_are_shown_in_their_zone_also_where_its_clocks_change():
    result = run("30 0 * * *", "--tz", "Europe/London", "-n", "3", *AFTER)
    assert [line.partition("  ")[0] for line in result.stdout.splitlines()] == [
        "Sat 2030-03-30 00:30:00 +0000",
        "Sun 2030-03-31 00:30:00 +0000",
        "Mon 2030-04-01 00:30:00 +0100",
    ]
    assert all("  in " in line or line.endswith(" ago") for line in result.stdout.splitlines())


def test_programs_get_instants():
    result = run("@daily", "--tz", "Asia/Tokyo", "-n", "1", "--json", *AFTER)
    assert json.loads(result.stdout) == {"at": 1_901_026_800_000, "local": "2030-03-30T00:00:00+09:00"}


def test_without_a_zone_it_is_that_of_the_machine():
    result = run("0 3 * * *", "-n", "1", "--json", *AFTER, TZ="America/New_York")
    assert json.loads(result.stdout)["local"] == "2030-03-30T03:00:00-04:00"


def test_ten_times_are_shown_from_now_on_unless_it_is_said_otherwise():
    result = run("* * * * *", "--json")
    times = [json.loads(line)["at"] for line in result.stdout.splitlines()]
    assert [later - earlier for earlier, later in pairwise(times)] == [60_000] * 9


def test_the_last_times_are_fewer():
    assert len(run("0 0 0 1 1 * 2031-2032", *AFTER).stdout.splitlines()) == 2


def test_an_expression_that_is_never_due_says_so_beside_the_output():
    result = run("0 0 31 2 *")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "It is never due.\n")


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ([], "Missing argument 'EXPRESSION'"),
        (["61 * * * *"], 'minute "61" is not allowed'),
        (["@daily", "--tz", "Mars"], 'invalid timezone: "Mars"; write an IANA name'),
        (["@daily", "-n", "0"], "1<=x<=10000"),
        (["@daily", "--after", "soon"], "no instant"),
    ],
)
def test_what_cannot_be_read_is_a_usage_error(args, text):
    result = run(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert text in " ".join(result.stderr.split())
