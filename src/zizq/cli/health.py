"""`zizq health`: ask a server or a worker whether it is well."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

import click
import msgspec

from zizq.cli.connection import connection_to
from zizq.cli.options import seconds, tls_of, tls_options
from zizq.client.options import TLS
from zizq.client.settings import DEFAULT_URL, check_url
from zizq.errors import ZizqError
from zizq.words import printable

_MOST_BYTES = 64 * 1024


class _Answer(msgspec.Struct):
    error: str = ""


@click.command()
@click.option(
    "--url",
    envvar="ZIZQ_URL",
    show_envvar=True,
    default=DEFAULT_URL,
    show_default=True,
    help="The server, or the health port of a worker.",
)
@tls_options
@click.option("--live", is_flag=True, help="Ask only whether it lives.")
@click.option(
    "--timeout", type=seconds, metavar="DURATION", default="5s", show_default=True, help="How long to wait for it."
)
def health(
    url: str, ca: str | None, client_cert: str | None, client_key: str | None, live: bool, timeout: float
) -> None:
    """Ask a server, or a worker that has a --health-port, whether it is ready.

    It is a health check for containers: the exit status is 1 when it is not, and standard error says why.
    """
    tls = tls_of(ca, client_cert, client_key)
    status, text = _ask(check_url(url), "/livez" if live else "/readyz", tls, timeout)
    if status != 200:
        raise click.ClickException(printable(f"{url} answers {status}: {text}"))
    click.echo("ok")


def _ask(url: str, path: str, tls: TLS | None, timeout_s: float) -> tuple[int, str]:
    try:
        connection = connection_to(url, tls, timeout_s)
        try:
            connection.request("GET", urlsplit(url).path.rstrip("/") + path, headers={"accept": "application/json"})
            response = connection.getresponse()
            return response.status, _reason(response.read(_MOST_BYTES)) or response.reason
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        raise ZizqError(f"{url} does not answer: {error or type(error).__name__}") from error


def _reason(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Answer).error
    except msgspec.DecodeError:
        return ""
