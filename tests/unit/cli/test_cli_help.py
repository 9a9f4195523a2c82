"""What every command of `zizq` has: help that fits, lists for programs, and an answer to what is mistyped."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from zizq.cli.main import COMMANDS, cli


def commands() -> Iterator[tuple[str, ...]]:
    """The words of every command and every group."""
    context = click.Context(cli)
    for name in COMMANDS:
        yield (name,)
        command = cli.get_command(context, name)
        if isinstance(command, click.Group):
            yield from ((name, one) for one in command.commands)


ALL = list(commands())
LISTS = [words for words in ALL if words[-1] == "list"]


def told(*args: str, status: int = 0) -> str:
    result = CliRunner().invoke(cli, args)
    assert result.exit_code == status, result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_each_command_says_what_it_does(words):
    # Not `-h`: click remembers by which options it first told a command's help, and other tests ask without `zizq`.
    assert told(*words, "--help").startswith(f"Usage: cli {' '.join(words)} ")


@pytest.mark.parametrize("group", [(), *{words[:1] for words in ALL if len(words) > 1}], ids=" ".join)
def test_no_line_about_a_command_is_cut_short(group):
    assert "..." not in told(*group, "--help").partition("Commands:")[2]


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_each_list_is_there_for_programs_too(words):
    assert "--json" in told(*words, "--help")


def test_a_command_that_is_mistyped_is_told_which_may_be_meant():
    assert told("queue", status=2).endswith("Error: No such command 'queue'. Did you mean 'queues'?")
    assert told("xyzzy", status=2).endswith("Error: No such command 'xyzzy'.")
    assert "No such option" in told("--nothing", status=2)
