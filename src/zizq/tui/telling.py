"""The panel of details: what of the model it tells; pure."""

from __future__ import annotations

from zizq.tui import details
from zizq.tui.heading import TITLES
from zizq.tui.lines import Line
from zizq.tui.model import Model


def detail_lines(model: Model, now_at: int, width: int) -> list[Line]:
    """The selected row in full.

    Args:
        model: What is known.
        now_at: The wall clock.
        width: How wide the panel is.
    """
    jobs = model.job_list
    if jobs is None:
        return model.shelves[str(model.tab.source)].lines(model.failures, now_at, width)
    job = model.detailed
    if job is None:
        return []
    gone_from = TITLES[jobs.name] if model.has_left else None
    seen = model.inspected if model.inspected is not None and model.inspected.id == job.id else None
    return details.job_lines(job, gone_from, model.failure_of(job), seen, now_at, width)
