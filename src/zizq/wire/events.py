"""What travels over `GET /events` of the admin API (protocol.md#10.1)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta

from zizq.job import JobRecord
from zizq.policy import Backoff, Retention


class ListName(StrEnum):
    """The lists of jobs that are told of."""

    IN_FLIGHT = "in_flight"
    READY = "ready"
    SCHEDULED = "scheduled"
    DEAD = "dead"


MAX_LIMIT = 2000
"""The most jobs of a window."""
DEFAULT_LIMIT = 200
"""The jobs of a window before a client has said how many it wants."""
MAX_TEXT = 65_536
"""Characters that a message of a client has at most."""
_Name = Annotated[str, Meta(max_length=1024)]
_Names = Annotated[list[_Name], Meta(max_length=100)]

# ── from the server ──


class AdminJob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job in a list; what follows `failed_at` is there only for those who asked for details."""

    id: str
    queue: str
    job_type: str
    priority: int
    ready_at: int
    attempts: int
    dequeued_at: int | None = None
    failed_at: int | None = None
    retry_limit: int | None = None
    backoff: Backoff | None = None
    retention: Retention | None = None
    unique_key: str | None = None
    unique_while: str | None = None
    payload: Any = UNSET


def admin_job(job: JobRecord, detail: bool) -> AdminJob:
    """How a job is shown."""
    shown = AdminJob(
        id=job.id,
        queue=job.queue,
        job_type=job.type,
        priority=job.priority,
        ready_at=job.ready_at,
        attempts=job.attempts,
        dequeued_at=job.dequeued_at,
        failed_at=job.failed_at,
    )
    if not detail:
        return shown
    return msgspec.structs.replace(
        shown,
        retry_limit=job.retry_limit,
        backoff=job.backoff,
        retention=job.retention,
        unique_key=job.unique_key,
        unique_while=job.unique_while,
    )


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What comes with each event; this server limits no subscription."""

    version: str
    uptime_ms: int
    tier: str
    total_ready: int
    total_in_flight: int
    total_scheduled: int
    subscription_limit: int | None = None


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="heartbeat"):
    """The server is there."""

    server: ServerFacts


class ShownWindow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of a list.

    Args:
        items: Its jobs.
        first_position: The position of the first.
        total: How many the list has.
        resolved_anchor: Where it was in fact begun, in the form of an anchor of `Subscribe`.
    """

    items: list[AdminJob]
    first_position: int
    total: int
    resolved_anchor: Anchor | None = None


class JobSnapshot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="job_snapshot"):
    """The windows as they are now; `dead` is there only for those who asked for it."""

    server: ServerFacts
    ready: ShownWindow
    in_flight: ShownWindow
    scheduled: ShownWindow
    dead: ShownWindow | None = None


class JobChanged(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="job_changed"):
    """A job came into a window or left it, or it ended."""

    server: ServerFacts
    id: str
    status: str
    job: AdminJob | None = None


class FindResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="find_result"):
    """What a search has found; it is incomplete where the server gave it up before its end."""

    server: ServerFacts
    list: ListName
    matched_position: int | None
    window: ShownWindow
    incomplete: bool = False


# ── from the client ──


class Around(msgspec.Struct, frozen=True, tag_field="kind", tag="around"):
    """The window with a job in the middle; what to do where it is not in the list."""

    id: _Name
    fallback: Literal["head", "tail", "nowhere"] = "nowhere"


class Offset(msgspec.Struct, frozen=True, tag_field="kind", tag="offset"):
    """The window from a position on."""

    offset: Annotated[int, Meta(ge=0)]


class Head(msgspec.Struct, frozen=True, tag_field="kind", tag="head"):
    """The first jobs."""


class Tail(msgspec.Struct, frozen=True, tag_field="kind", tag="tail"):
    """The last jobs."""


Anchor = Around | Offset | Head | Tail


class JobIdAnchor(msgspec.Struct, frozen=True, tag_field="kind", tag="job_id"):
    """The search begins beside this job."""

    id: _Name


class Start(msgspec.Struct, frozen=True, tag_field="kind", tag="start"):
    """The search begins at the head of the list."""


class End(msgspec.Struct, frozen=True, tag_field="kind", tag="end"):
    """The search begins at its end."""


class Query(msgspec.Struct, frozen=True):
    """Parts of names: any of the one and any of the other must be there; none lets all through."""

    queues: _Names = []
    types: _Names = []


class Subscribe(msgspec.Struct, frozen=True, tag_field="type", tag="subscribe"):
    """Have another window of a list."""

    list: ListName
    anchor: Anchor
    limit: Annotated[int, Meta(ge=0)]


class SetDetailLevel(msgspec.Struct, frozen=True, tag_field="type", tag="set_detail_level"):
    """Have more of each job, or no more."""

    detail: bool


class DeleteJob(msgspec.Struct, frozen=True, tag_field="type", tag="delete_job"):
    """Delete a job; the change comes back as an event."""

    id: _Name


class RetryJob(msgspec.Struct, frozen=True, tag_field="type", tag="retry_job"):
    """Bring a dead job back; the change comes back as an event."""

    id: _Name


class PauseQueue(msgspec.Struct, frozen=True, tag_field="type", tag="pause_queue"):
    """Hand out no job of a queue any more."""

    queue: _Name


class ResumeQueue(msgspec.Struct, frozen=True, tag_field="type", tag="resume_queue"):
    """Hand out jobs of a queue again."""

    queue: _Name


class Find(msgspec.Struct, frozen=True, tag_field="type", tag="find"):
    """Look for a job."""

    list: ListName
    anchor: JobIdAnchor | Start | End
    direction: Literal["forward", "backward", "locate"]
    limit: Annotated[int, Meta(ge=0)]
    query: Query = Query()


Deed = DeleteJob | RetryJob | PauseQueue | ResumeQueue
"""What changes something."""
Wish = Subscribe | SetDetailLevel | Find | Deed

_decoder = msgspec.json.Decoder(Wish)


def wish_in(text: str) -> Wish | None:
    """What a client wants; None where it cannot be understood, which is passed over."""
    if len(text) > MAX_TEXT:
        return None
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None
