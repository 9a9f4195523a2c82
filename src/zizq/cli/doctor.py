"""`zizq doctor`: look at a machine and its settings, and say what to mend."""

from __future__ import annotations

import http.client
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from zizq.cli.connection import connection_to
from zizq.cli.options import server_options, tls_of
from zizq.cli.root import root_dir_before
from zizq.cli.serve import given_settings, setting_options
from zizq.cli.texts import as_json, count_of
from zizq.client.options import TLS
from zizq.client.sync import SyncClient
from zizq.clock import SystemClock
from zizq.errors import ZizqError
from zizq.server.checkup import Answer, Finding, Verdict, on_answer
from zizq.server.probes import examine
from zizq.server.settings import Settings, options, variable_of
from zizq.words import printable

_PATIENCE_S = 5.0
_COLOURS = {Verdict.OK: "green", Verdict.NOTE: "yellow", Verdict.PROBLEM: "red"}


class Shown(NamedTuple):
    """A setting that is in force: its name, its value as text, and where that came from."""

    name: str
    value: str | None
    source: str


@dataclass(frozen=True)
class Server:
    """A server to be asked: where it is, how to reach it, and whether it should be there."""

    url: str
    tls: TLS | None
    token: str | None = field(repr=False)
    expected: bool


@click.command()
@setting_options
@server_options
@click.option("--json", "is_json", is_flag=True, help="One line of JSON, with all settings and findings.")
@click.pass_context
def doctor(
    ctx: click.Context,
    /,
    url: str | None,
    format_: str,
    token: str | None,
    ca: str | None,
    client_cert: str | None,
    client_key: str | None,
    is_json: bool,
    **given: Any,
) -> None:
    """Look at this machine as the place of a server with these options, and at the server if it runs.

    Nothing is changed. The exit status is 1 when there is a problem.
    """
    settings = given_settings(ctx, given)
    server = Server(url or _own_url(settings), tls_of(ca, client_cert, client_key), token, expected=url is not None)
    shown = _settings(ctx, settings, given)
    findings = list(examine(settings, SystemClock()))
    findings += _asked(server, runs=any(finding.check == "server" for finding in findings))
    if is_json:
        click.echo(
            as_json({"settings": [one._asdict() for one in shown], "findings": [one._asdict() for one in findings]})
        )
    else:
        _print(shown, findings)
    if any(finding.verdict is Verdict.PROBLEM for finding in findings):
        sys.exit(1)


# ── settings ─────────────────────────────────────────────────────────────────────────────────────────


def _settings(ctx: click.Context, settings: Settings, given: dict[str, Any]) -> list[Shown]:
    shown = []
    for setting, option in options():
        value = getattr(settings, setting.name)
        text = None if value is None else option.show(value)
        if option.switch:
            text = "on" if value else "off"
        shown.append(Shown(setting.name, text, _source(ctx, setting.name, given.get(setting.name))))
    return shown


def _source(ctx: click.Context, name: str, given: object) -> str:
    source = ctx.get_parameter_source(name)
    if source is ParameterSource.COMMANDLINE or (name == "root_dir" and root_dir_before(ctx) is not None):
        return "flag"
    # A port that is none is ignored; variables without a flag are not known to click.
    if (source is ParameterSource.ENVIRONMENT and given is not None) or (
        source is None and variable_of(name) in os.environ
    ):
        return variable_of(name)
    return "default"


def _own_url(settings: Settings) -> str:
    """Where a server with these settings is reached from this machine."""
    address = settings.primary
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104 - names it, binds nothing
    return f"{address.scheme}://{f'[{host}]' if ':' in host else host}:{address.port or 7890}"


# ── the server ───────────────────────────────────────────────────────────────────────────────────────


def _asked(server: Server, *, runs: bool) -> list[Finding]:
    try:
        with SyncClient(
            server.url, tls=server.tls, token=server.token, connect_timeout=_PATIENCE_S, read_timeout=_PATIENCE_S
        ) as client:
            answer = Answer(None, client.version(), client.health(), _apart_ms(server))
    except ZizqError as error:
        # One that was named is said to be silent, whoever may be there.
        answer = Answer(" ".join(str(error).split()), is_taken=not server.expected and _is_taken(server.url))
    return list(on_answer(server.url, answer, version("zizq"), expected=server.expected, runs=runs))


def _is_taken(url: str) -> bool:
    """Whether somebody lets connections in, whoever that is; the address has its port."""
    place = urlsplit(url)
    try:
        socket.create_connection((place.hostname or "", place.port or 0), _PATIENCE_S).close()
    except (OSError, ValueError):
        return False
    return True


def _apart_ms(server: Server) -> int | None:
    """How far the server's clock is ahead of ours; None where it does not tell.

    Only the head of an answer has its time, and that the client does not hand out.
    """
    try:
        connection, clock = connection_to(server.url, server.tls, _PATIENCE_S), SystemClock()
        before = clock.wall_ms()
        connection.request("GET", "/health")
        date = connection.getresponse().headers["date"]
        ours = (before + clock.wall_ms()) // 2
        connection.close()
        # It is told in whole seconds: half a second more is right on average.
        return round(parsedate_to_datetime(date).replace(tzinfo=UTC).timestamp() * 1000) + 500 - ours
    except (OSError, TypeError, ValueError, http.client.HTTPException):
        return None


# ── for people ───────────────────────────────────────────────────────────────────────────────────────


def _print(shown: Sequence[Shown], findings: Sequence[Finding]) -> None:
    width = max(len(one.name) for one in shown)
    click.echo("Settings")
    for one in shown:
        source = "" if one.source == "default" else f"  ({one.source})"
        click.echo(f"  {one.name:<{width}}  {printable('-' if one.value is None else one.value)}{source}")
    click.echo("\nFindings")
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        mark = click.style(f"{finding.verdict.value:<7}", fg=_COLOURS[finding.verdict])
        click.echo(f"  {mark}  {finding.check:<{width}}  {printable(finding.says)}")
        if finding.advice is not None:
            click.echo(f"  {'':7}  {'':<{width}}  → {printable(finding.advice)}")
    numbers = [sum(finding.verdict is verdict for finding in findings) for verdict in (Verdict.PROBLEM, Verdict.NOTE)]
    click.echo(f"\n{count_of(numbers[0], 'problem')}, {count_of(numbers[1], 'note')}.")
