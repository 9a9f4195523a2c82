"""How commands reach the admin API of a server."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from zizq.cli.options import Command, seconds, tls_of
from zizq.client.settings import check_settings
from zizq.client.sockets import SyncNetworkTransport

DEFAULT_URL = "http://127.0.0.1:8901"
CONNECT_TIMEOUT_S = 10.0

_OPTIONS = (
    click.option(
        "--url",
        envvar="ZIZQ_ADMIN_URL",
        show_envvar=True,
        default=DEFAULT_URL,
        show_default=True,
        help="The admin API of the server.",
    ),
    click.option(
        "--ca-cert",
        envvar="ZIZQ_ADMIN_TLS_CA",
        show_envvar=True,
        type=click.Path(exists=True),
        help="PEM file of authorities to trust beside the system's.",
    ),
    click.option(
        "--client-cert",
        envvar="ZIZQ_ADMIN_TLS_CLIENT_CERT",
        show_envvar=True,
        type=click.Path(exists=True),
        help="PEM file of the certificate to show to the server.",
    ),
    click.option(
        "--client-key",
        envvar="ZIZQ_ADMIN_TLS_CLIENT_KEY",
        show_envvar=True,
        type=click.Path(exists=True),
        help="PEM file of the key to that certificate.",
    ),
    click.option("--token", envvar="ZIZQ_TOKEN", show_envvar=True, help="Token that tells the server who calls."),
)


class Admin:
    """The admin API of a server.

    Args:
        url: Where it is.
        transport: How it is reached.
    """

    def __init__(self, url: str, transport: SyncNetworkTransport) -> None:
        self.url = url
        self.transport = transport


def admin_options(command: Command) -> Command:
    """Give a command the options that say where the admin API is and how to reach it."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def with_admin(command: Callable[..., None]) -> Command:
    """Give a command the admin API as its first argument, and the options that say where it is."""

    @admin_options
    @click.option(
        "--timeout",
        type=seconds,
        metavar="DURATION",
        default="1h",
        show_default=True,
        help="How long to wait for an answer.",
    )
    @wraps(command)
    def run(
        url: str,
        ca_cert: str | None,
        client_cert: str | None,
        client_key: str | None,
        token: str | None,
        timeout: float,
        **options: Any,
    ) -> None:
        tls = tls_of(ca_cert, client_cert, client_key)
        settings = check_settings(url, tls, CONNECT_TIMEOUT_S, timeout, timeout, token)
        transport = SyncNetworkTransport(settings)
        try:
            command(Admin(settings.url, transport), **options)
        finally:
            transport.close()

    return run
