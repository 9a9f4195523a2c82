"""Options that commands share: how to reach the server, and how values are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, Literal, TypeVar

import click

from zizq import words
from zizq.client.options import TLS
from zizq.client.sync import SyncClient

T = TypeVar("T")
Command = Callable[..., None]
Option = Callable[[Command], Command]


# ── values ───────────────────────────────────────────────────────────────────────────────────────────


def names(text: str) -> list[str]:
    """The names in one option, with commas between."""
    return [name.strip() for name in text.split(",") if name.strip()]


def seconds(text: str) -> float:
    """Seconds from a duration such as 30s or 1m; a bare number is seconds, as in the library.

    Raises:
        click.BadParameter: When it is none.
    """
    try:
        return float(text) if text.isdecimal() else words.parse_duration(text) / 1000
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc


def whole_number(text: str) -> int:
    """A number from 0.

    Raises:
        click.BadParameter: When it is none.
    """
    # Nothing in the protocol is longer, and Python refuses to read thousands of digits.
    if not (text.isascii() and text.isdecimal()) or len(text) > 20:
        raise click.BadParameter(f"{text!r} is no whole number from 0")
    return int(text)


def instant(text: str, now: datetime | None = None) -> datetime:
    """An instant: `now`, from now on as in `+2h` or `-30m`, or a date and time; without a time zone it is local.

    Raises:
        click.BadParameter: When it is none.
    """
    now = now or datetime.now(UTC)  # noqa: TID251 - the user's own now, which no test needs to set
    try:
        if text == "now":
            return now
        if text[:1] in ("+", "-"):
            away = timedelta(milliseconds=words.parse_duration(text[1:]))
            return now + away if text[0] == "+" else now - away
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as exc:
        wanted = "now, +2h, -30m, 2030-01-31 or 2030-01-31T12:00+01:00"
        raise click.BadParameter(f"{text!r} is no instant: write it as {wanted}") from exc


def span(text: str, read: Callable[[str], T]) -> T | tuple[T | None, T | None]:
    """One value, or a range of them as in `A..B`, `A..` or `..B`; both ends are included.

    Raises:
        click.BadParameter: When it is neither.
    """
    low, dots, high = text.partition("..")
    if not dots:
        return read(text)
    if not low and not high:
        raise click.BadParameter("'..' is no range: write it as A..B, A.. or ..B")
    return read(low) if low else None, read(high) if high else None


# ── the server ───────────────────────────────────────────────────────────────────────────────────────


def certificate_options(ca: str, variables: str, ca_variable: str) -> tuple[Option, ...]:
    """Options that name certificates.

    Args:
        ca: The option for authorities, as in `--ca`.
        variables: What the variables of the certificate and its key begin with.
        ca_variable: The variable for authorities.
    """
    return (
        _pem(ca, ca_variable, "authorities to trust beside the system's"),
        _pem("--client-cert", f"{variables}_CLIENT_CERT", "the certificate to show to the server"),
        _pem("--client-key", f"{variables}_CLIENT_KEY", "the key to that certificate"),
    )


def _pem(name: str, variable: str, what: str) -> Option:
    path = click.Path(exists=True)
    return click.option(name, envvar=variable, show_envvar=True, type=path, help=f"PEM file of {what}.")


def patience_option(default: str) -> Option:
    """The option that says how long to wait for an answer."""
    return click.option(
        "--timeout",
        type=seconds,
        metavar="DURATION",
        default=default,
        show_default=True,
        help="How long to wait for an answer.",
    )


TOKEN = click.option(
    "--token",
    envvar="ZIZQ_TOKEN",
    show_envvar=True,
    help="Token that tells the server who calls; safer in the variable.",
)
_TLS = certificate_options("--ca", "ZIZQ", "ZIZQ_CA")
_SERVER = (
    click.option("--url", envvar="ZIZQ_URL", show_envvar=True, help="The server. [default: http://127.0.0.1:7890]"),
    click.option(
        "--format",
        "format_",
        envvar="ZIZQ_FORMAT",
        show_envvar=True,
        type=click.Choice(["msgpack", "json"]),
        default="msgpack",
        show_default=True,
        help="How to speak to the server.",
    ),
    TOKEN,
)


def server_options(command: Command) -> Command:
    """Give a command the options that say where the server is and how to reach it."""
    return given(command, (*_SERVER, *_TLS))


def tls_options(command: Command) -> Command:
    """Give a command the options that name certificates."""
    return given(command, _TLS)


def given(command: Command, options: Sequence[Option]) -> Command:
    """Give a command options, in their order."""
    for option in reversed(options):
        command = option(command)
    return command


def tls_of(ca: str | None, client_cert: str | None, client_key: str | None) -> TLS | None:
    """The certificates that these options name; None where they name none.

    Raises:
        ConfigError: When a certificate comes without its key or a key without its certificate.
    """
    return TLS(ca, client_cert, client_key) if ca or client_cert or client_key else None


def with_client(command: Command) -> Command:
    """Give a command a client as its first argument, and the options that make it."""

    @server_options
    @patience_option("5m")
    @wraps(command)
    def run(
        url: str | None,
        format_: Literal["msgpack", "json"],
        ca: str | None,
        client_cert: str | None,
        client_key: str | None,
        token: str | None,
        timeout: float,
        **options: Any,
    ) -> None:
        tls = tls_of(ca, client_cert, client_key)
        with SyncClient(url, format=format_, tls=tls, token=token, read_timeout=timeout) as client:
            command(client, **options)

    return run
