"""The command `zizq`: parse, call, print. Each command is loaded when it is used."""

from __future__ import annotations

import importlib
from difflib import get_close_matches
from typing import Any

import click

from zizq.errors import ZizqError
from zizq.words import printable

COMMANDS = {
    "serve": ("zizq.cli.serve", "Run the server."),
    "work": ("zizq.cli.work", "Run a worker."),
    "health": ("zizq.cli.health", "Ask a server or a worker whether it is ready."),
    "jobs": ("zizq.cli.jobs", "List, count, show, patch, retry and delete jobs."),
    "queues": ("zizq.cli.queues", "List, show, pause, resume and purge queues."),
    "cron": ("zizq.cli.cron", "List, show, pause, resume and delete crons."),
    "budgets": ("zizq.cli.budgets", "List, show, set and delete budgets."),
    "backup": ("zizq.cli.upkeep", "Copy the store of a running server to a file."),
    "restore": ("zizq.cli.restore", "Put a backup into an empty folder."),
    "top": ("zizq.cli.top", "Watch a running server in the terminal."),
    "compact": ("zizq.cli.upkeep", "Give free space of a running server back to the disk."),
    "store": ("zizq.cli.store", "Copy a whole store to another."),
    "migrate": ("zizq.cli.migrate", "Bring a store on PostgreSQL to the form that this zizq knows."),
    "token": ("zizq.cli.token", "Create, list and revoke tokens."),
    "check": ("zizq.cli.check", "Prove that a store is whole."),
    "doctor": ("zizq.cli.doctor", "Look at this machine and its settings, and say what to mend."),
    "tls": ("zizq.cli.tls", "Make certificates for the server and its clients."),
}


class Commands(click.Group):
    """A group whose commands are imported when they are named; `serve` runs when none is."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an error of ours becomes one line and exit status 1."""
        try:
            return super().invoke(ctx)
        except ZizqError as error:
            # Texts of a server or proxy may have several lines, and characters that a terminal obeys.
            raise click.ClickException(printable(" ".join(str(error).split()))) from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is named; where there is none, say which may have been meant."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            meant = get_close_matches(args[0], COMMANDS, 1)
            hint = f" Did you mean {meant[0]!r}?" if meant else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name."""
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="zizq COMMAND --help says what a command does.",
)
@click.option("--root-dir", metavar="PATH", help="Folder of the store, for the commands that have one.")
@click.version_option(None, "-V", "--version", package_name="zizq", prog_name="zizq")
@click.pass_context
def cli(ctx: click.Context, root_dir: str | None) -> None:
    """A fast, durable job queue. Without a command it runs the server."""
    if root_dir is not None:
        ctx.default_map = {name: {"root_dir": root_dir} for name in ("serve", "check")}
    if ctx.invoked_subcommand is None:
        serve = Commands().get_command(ctx, "serve")
        if serve is not None:
            with serve.make_context("serve", [], parent=ctx) as child:
                serve.invoke(child)


def main() -> None:
    """Run the command line."""
    cli(prog_name="zizq", auto_envvar_prefix=None)
