"""Pages made of templates, and the values that all of them have."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from zizq.clock import Clock
from zizq.job import Status
from zizq.server.dashboard import present
from zizq.server.dashboard.guard import Visit

FOLDER = Path(__file__).parent
NAVIGATION = (
    ("overview", "/", "Overview"),
    ("queues", "/queues", "Queues"),
    ("jobs", "/jobs", "Jobs"),
    ("failures", "/failures", "Failures"),
    ("workers", "/workers", "Workers"),
    ("crons", "/crons", "Cron"),
    ("budgets", "/budgets", "Budgets"),
    ("storage", "/storage", "Storage"),
)
"""The pages that have a place of their own: their template, their path, their name."""


class Views:
    """Makes pages.

    Args:
        clock: The time that ages are reckoned from.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._environment = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        for name in ("count", "rate", "span", "size", "instant", "iso", "clip", "clip_start", "status"):
            self._environment.filters[name] = getattr(present, name)
        self._environment.globals |= {
            "NOTHING": present.NOTHING,
            "MOST_TRACEBACK": present.MOST_TRACEBACK,
            "navigation": NAVIGATION,
            "statuses": tuple(Status),
            "version": version("zizq"),
            "mark": _mark(),
        }
        self._environment.globals["parts"] = self._environment.get_template("parts.html").module

    def page(self, visit: Visit | None, name: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page.

        Args:
            visit: Who looks; None where that is not known.
            name: Of the template.
            status: Of the answer.
            values: What the template shows.
        """
        query = {} if visit is None else visit.request.query_params
        done = present.done(query.get("done", ""), query.get("n", ""))
        text = self._environment.get_template(f"{name}.html").render(
            page=name, visit=visit, done=done, now=self._clock.wall_ms(), **values
        )
        return HTMLResponse(text, status)


def _mark() -> str:
    """What tells these static files from those of another version."""
    files = sorted(FOLDER.joinpath("static").iterdir())
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
