"""`zizq token`: who may call a server that asks. It changes a file, which a running server then reads."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from zizq.cli.asking import ask
from zizq.cli.options import seconds
from zizq.cli.root import root_dir_option
from zizq.cli.table import Column, Table, terminal_width
from zizq.cli.texts import as_json
from zizq.clock import SystemClock
from zizq.server import tokens
from zizq.server.access import Grant, check_grant
from zizq.server.settings import Settings, variable_of
from zizq.wire.operations import Scope
from zizq.words import away, printable

_COLUMNS = (
    Column("ID"),
    Column("NAME", may_be_cut=True),
    Column("CERTIFICATE", may_be_cut=True),
    Column("SCOPES"),
    Column("QUEUES", may_be_cut=True),
    Column("CREATED"),
    Column("EXPIRES"),
)


LONGEST_S = 36_500 * 86_400.0
"""A hundred years: whoever means longer means for ever."""


def _lifetime(text: str) -> float:
    """Seconds from now to the end of a token.

    Raises:
        click.BadParameter: When it would end at once, or is not a duration that ends at all.
    """
    lasts = seconds(text)
    if not 0 < lasts <= LONGEST_S:
        raise click.BadParameter(
            f"{text!r} is not more than 0 and at most 36500d: leave it out for a token with no end"
        )
    return lasts


def _with_file(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say where the file of tokens is."""
    variable = variable_of("token_file")
    command = click.option(
        "--token-file",
        envvar=variable,
        show_envvar=True,
        type=click.Path(path_type=Path),
        help="File of tokens. [default: ROOT/tokens.json]",
    )(command)
    wrapped: Callable[..., None] = root_dir_option(command)
    return wrapped


def _path(root_dir: Path, token_file: Path | None) -> Path:
    return Settings(root_dir=root_dir, token_file=token_file).tokens_path


@click.group()
def token() -> None:
    """Create, list and revoke tokens.

    They count for servers that run with --auth tokens on the same file; a running one sees a change within a second.
    """


@token.command()
@_with_file
@click.option("--name", help="Whom it is for; lists and logs show it. [default: the certificate's]")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([scope.value for scope in Scope]),
    multiple=True,
    required=True,
    help="What they may do; may be repeated. admin is all of it.",
)
@click.option(
    "--queue",
    "queues",
    metavar="PATTERN",
    multiple=True,
    help="Only to these queues, as in mail or 'mail-*'; may be repeated. [default: all]",
)
@click.option("--expires", type=_lifetime, metavar="DURATION", help="When it ends, from now on. [default: never]")
@click.option("--certificate", metavar="NAME", help="Make no token: let clients with a certificate of this name in.")
def create(
    root_dir: Path,
    token_file: Path | None,
    name: str | None,
    scopes: tuple[str, ...],
    queues: tuple[str, ...],
    expires: float | None,
    certificate: str | None,
) -> None:
    """Create a token, and print it.

    Nobody can print it again: the file holds only a hash of it.
    """
    if name is None and certificate is None:
        raise click.UsageError("Say whom it is for: --name.")
    now, path = SystemClock().wall_ms(), _path(root_dir, token_file)
    with tokens.changing(path) as grants:
        grant_id = tokens.new_id(secrets.token_bytes)
        text, digest = tokens.new_token(grant_id, secrets.token_bytes)
        grant = Grant(
            id=grant_id,
            name=name or certificate or "",
            scopes=tuple(scope for scope in Scope if scope in scopes),
            queues=queues,
            created_at=now,
            expires_at=None if expires is None else now + round(expires * 1000),
            sha256=digest if certificate is None else None,
            certificate=certificate,
        )
        check_grant(grant)
        _check_new(grant, grants)
        grants.append(grant)
    if certificate is None:
        click.echo(text)
        click.echo(f"Keep it: it is not shown again. Its id is {grant_id}, and {path} has its hash.", err=True)
    else:
        click.echo(f"Let in certificate {printable(certificate)}; the id is {grant_id}.")


def _check_new(grant: Grant, others: list[Grant]) -> None:
    for other in others:
        if grant.certificate is not None and other.certificate == grant.certificate:
            raise click.ClickException(
                f"the certificate {printable(grant.certificate)} is known as {other.id}: revoke that first"
            )


@token.command("list")
@_with_file
@click.option("--json", "is_json", is_flag=True, help="A line of JSON for each.")
def list_tokens(root_dir: Path, token_file: Path | None, is_json: bool) -> None:
    """List who may do what; no secret is shown."""
    path = _path(root_dir, token_file)
    grants = _all(path)
    now = SystemClock().wall_ms()
    if is_json:
        click.echo("".join(f"{as_json(_shown(grant))}\n" for grant in grants), nl=False)
    elif grants:
        click.echo("\n".join(Table(_COLUMNS, terminal_width()).lines([_row(grant, now) for grant in grants])))
    else:
        click.echo(f"There are no tokens in {path}.", err=True)


def _shown(grant: Grant) -> Grant:
    return msgspec.structs.replace(grant, sha256=None)


def _row(grant: Grant, now: int) -> list[str]:
    expires = "never" if grant.expires_at is None else away(grant.expires_at, now)
    return [
        grant.id,
        printable(grant.name),
        printable(grant.certificate or ""),
        ",".join(grant.scopes),
        printable(",".join(grant.queues) or "*"),
        away(grant.created_at, now),
        "expired" if grant.expires_at is not None and now >= grant.expires_at else expires,
    ]


@token.command()
@_with_file
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def revoke(root_dir: Path, token_file: Path | None, ids: tuple[str, ...], yes: bool) -> None:
    """Revoke tokens or certificates by their ids.

    A running server refuses them within a second, and ends the take streams that are open with them.
    """
    path = _path(root_dir, token_file)
    known = {grant.id: grant for grant in _all(path)}
    for missing in sorted(set(ids) - known.keys()):
        raise click.ClickException(f"there is no token {printable(missing)} in {path}: zizq token list shows them")
    if not yes:
        names = ", ".join(f"{printable(known[one].name)} ({one})" for one in ids)
        ask(f"Revoke {names}?", "revoke tokens")
    with tokens.changing(path) as grants:
        grants[:] = [grant for grant in grants if grant.id not in ids]
    click.echo(f"Revoked {', '.join(ids)}.")


def _all(path: Path) -> tuple[Grant, ...]:
    try:
        return tokens.load(path)
    except FileNotFoundError:
        return ()
