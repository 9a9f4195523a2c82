"""What travels over `GET /events`, as its client sees it (protocol.md#10.1).

It must not know what is done with it. Lists that only this server has, and jobs that went to dead, are told to
clients that ask for them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

import msgspec
from msgspec import UNSET


class ListName(StrEnum):
    """The lists of jobs that a server tells of."""

    IN_FLIGHT = "in_flight"
    READY = "ready"
    SCHEDULED = "scheduled"
    DEAD = "dead"


# ── from the server ──────────────────────────────────────────────────────────────────────────────────


class ServerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What every message says of the server."""

    version: str
    uptime_ms: int
    total_ready: int
    total_in_flight: int
    total_scheduled: int
    subscription_limit: int | None = None

    def total(self, name: ListName) -> int | None:
        """How many jobs are in a list; None where messages do not say it."""
        total: int | None = getattr(self, f"total_{name}", None)
        return total


class AdminJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job; the last fields come only when details were asked for."""

    id: str
    queue: str
    job_type: str
    priority: int
    ready_at: int
    attempts: int
    dequeued_at: int | None = None
    failed_at: int | None = None
    payload: Any = UNSET
    retry_limit: int | None = None
    backoff: Any = None
    retention: Any = None
    unique_key: str | None = None
    unique_while: str | None = None


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Neighbours in a list: the first one's position, and how many jobs the whole list has."""

    items: list[AdminJob]
    first_position: int
    total: int


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="heartbeat"):
    """Nothing happened."""

    server: ServerInfo


class JobSnapshot(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="job_snapshot"):
    """The lists as they are; `dead` comes only when it was asked for, and not from every server."""

    server: ServerInfo
    ready: Window
    in_flight: Window
    scheduled: Window
    dead: Window | None = None

    def window(self, name: ListName) -> Window | None:
        """The part of one list."""
        window: Window | None = getattr(self, name)
        return window


class JobChanged(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="job_changed"):
    """A job came into a list, or left one."""

    server: ServerInfo
    id: str
    status: str
    job: AdminJob | None = None


class FindResult(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="find_result"):
    """What a search found, and its neighbours; the position is None where nothing matched."""

    server: ServerInfo
    list: ListName
    matched_position: int | None = None
    window: Window


Event = Heartbeat | JobSnapshot | JobChanged | FindResult

_events: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Heartbeat | JobSnapshot | JobChanged | FindResult)


def read_event(text: str | bytes) -> Event | None:
    """A message of the server; None where it is of a kind that this version does not know."""
    try:
        return _events.decode(text)
    except msgspec.DecodeError:
        return None


# ── to the server ────────────────────────────────────────────────────────────────────────────────────


class Around(msgspec.Struct, frozen=True, tag_field="kind", tag="around"):
    """The neighbours of a job."""

    id: str
    fallback: Literal["head", "tail", "nowhere"] = "nowhere"


class Offset(msgspec.Struct, frozen=True, tag_field="kind", tag="offset"):
    """The jobs from a position."""

    offset: int


class Head(msgspec.Struct, frozen=True, tag_field="kind", tag="head"):
    """The first jobs."""


class Tail(msgspec.Struct, frozen=True, tag_field="kind", tag="tail"):
    """The last jobs."""


class FromJob(msgspec.Struct, frozen=True, tag_field="kind", tag="job_id"):
    """Search from a job."""

    id: str


class FromStart(msgspec.Struct, frozen=True, tag_field="kind", tag="start"):
    """Search from before the first job."""


class FromEnd(msgspec.Struct, frozen=True, tag_field="kind", tag="end"):
    """Search from after the last job."""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What jobs to find: one of these texts must be part of the queue's name, and one part of the type's."""

    queues: tuple[str, ...] = ()
    types: tuple[str, ...] = ()


class Subscribe(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="subscribe"):
    """Tell of this part of a list."""

    list: ListName
    anchor: Around | Offset | Head | Tail
    limit: int


class SetDetailLevel(msgspec.Struct, frozen=True, tag_field="type", tag="set_detail_level"):
    """Tell of jobs in full, or in short."""

    detail: bool


class DeleteJob(msgspec.Struct, frozen=True, tag_field="type", tag="delete_job"):
    """Delete a job."""

    id: str


class RetryJob(msgspec.Struct, frozen=True, tag_field="type", tag="retry_job"):
    """Make a dead job ready again; an extension of this server."""

    id: str


class Find(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="find"):
    """Search a list for the next job that matches."""

    list: ListName
    anchor: FromJob | FromStart | FromEnd
    direction: Literal["forward", "backward", "locate"]
    query: Query
    limit: int


Request = Subscribe | SetDetailLevel | DeleteJob | RetryJob | Find


def write_request(request: Request) -> str:
    """A message to the server."""
    return msgspec.json.encode(request).decode()
