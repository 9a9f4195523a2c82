"""Where the dashboard comes from, if there is to be one and what it stands on is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zizq.clock import Clock
from zizq.errors import ConfigError
from zizq.server.auth import Auth
from zizq.server.catalog import Catalog
from zizq.server.crontab import Crontab
from zizq.server.dashboard.ports import Insights, Pauses
from zizq.server.settings import Settings

if TYPE_CHECKING:
    from zizq.server.dashboard.app import Dashboard


def make_dashboard(
    settings: Settings,
    insights: Insights,
    catalog: Catalog,
    crontab: Crontab,
    pauses: Pauses,
    auth: Auth,
    clock: Clock,
) -> Dashboard | None:
    """The dashboard that the settings ask for; None for none.

    Raises:
        ConfigError: When they ask for one in so many words, and the extra is not installed.
    """
    if settings.dashboard == "off" or settings.no_admin:
        return None
    try:
        from zizq.server.dashboard.app import Dashboard
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("jinja2", "starlette"):
            raise
        if settings.dashboard is None:
            return None
        raise ConfigError(
            f"--dashboard {settings.dashboard} needs the extra: pip install 'zizq[dashboard]', or leave it out"
        ) from error
    return Dashboard(
        insights,
        catalog,
        crontab,
        pauses,
        auth,
        clock,
        read_only=settings.dashboard == "read-only",
    )
