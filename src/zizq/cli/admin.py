"""How commands reach the admin API of a server."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from zizq.cli.options import TOKEN, Command, Option, certificate_options, given, patience_option, tls_of
from zizq.client.settings import check_settings
from zizq.client.sockets import SyncNetworkTransport

DEFAULT_URL = "http://127.0.0.1:8901"
CONNECT_TIMEOUT_S = 10.0

_OPTIONS: tuple[Option, ...] = (
    click.option(
        "--url",
        envvar="ZIZQ_ADMIN_URL",
        show_envvar=True,
        default=DEFAULT_URL,
        show_default=True,
        help="The admin API of the server.",
    ),
    *certificate_options("--ca-cert", "ZIZQ_ADMIN_TLS", "ZIZQ_ADMIN_TLS_CA"),
    TOKEN,
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
    return given(command, _OPTIONS)


def with_admin(command: Callable[..., None]) -> Command:
    """Give a command the admin API as its first argument, and the options that say where it is."""

    @admin_options
    @patience_option("1h")
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
