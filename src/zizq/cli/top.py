"""`zizq top`: a server in the terminal."""

from __future__ import annotations

from importlib.metadata import version

import click

from zizq.cli.admin import CONNECT_TIMEOUT_S, admin_options
from zizq.cli.options import tls_of
from zizq.client.settings import check_settings
from zizq.clock import SystemClock, SystemDice
from zizq.errors import ConfigError
from zizq.tui.model import Model

try:
    from zizq.tui.app import Top
    from zizq.tui.feed import POLL_S, Feed
except ModuleNotFoundError as error:
    raise ConfigError("zizq top needs Textual and websockets: pip install 'zizq[top]'") from error

ANSWER_TIMEOUT_S = 10.0


@click.command()
@admin_options
@click.option(
    "-r",
    "--refresh-rate",
    "refresh_ms",
    type=click.IntRange(50, 60_000),
    metavar="MILLISECONDS",
    default=500,
    show_default=True,
    help="The shortest time between two changes of the screen.",
)
def top(
    url: str,
    ca_cert: str | None,
    client_cert: str | None,
    client_key: str | None,
    token: str | None,
    refresh_ms: int,
) -> None:
    """Watch a server in the terminal: its jobs, queues, workers, crons and budgets.

    The key ? shows what the others do.
    """
    tls = tls_of(ca_cert, client_cert, client_key)
    settings = check_settings(url, tls, CONNECT_TIMEOUT_S, ANSWER_TIMEOUT_S, ANSWER_TIMEOUT_S, token)
    clock, refresh_s = SystemClock(), refresh_ms / 1000
    model = Model(settings.url, version("zizq"), clock.mono_s())
    feed = Feed(model, settings, clock, SystemDice(), max(POLL_S, refresh_s))
    app = Top(model, feed, clock, refresh_s)
    app.run()
    if app.return_code:
        raise click.exceptions.Exit(app.return_code)
