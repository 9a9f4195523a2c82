"""What `zizq top` hears and says over `GET /events`; the messages themselves are in `wire.events`."""

from __future__ import annotations

import msgspec

from zizq.wire.events import (
    FindResult,
    Heartbeat,
    JobChanged,
    JobSnapshot,
    ListName,
    ServerFacts,
    ShownWindow,
    Wish,
)

Event = Heartbeat | JobSnapshot | JobChanged | FindResult

_events: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Heartbeat | JobSnapshot | JobChanged | FindResult)


def read_event(text: str | bytes) -> Event | None:
    """A message of the server; None where it is of a kind that this version does not know."""
    try:
        return _events.decode(text)
    except msgspec.DecodeError:
        return None


def write_request(request: Wish) -> str:
    """A message to the server."""
    return msgspec.json.encode(request).decode()


def total(server: ServerFacts, name: ListName) -> int | None:
    """How many jobs are in a list; None where messages do not say it."""
    found: int | None = getattr(server, f"total_{name}", None)
    return found


def window(event: JobSnapshot, name: ListName) -> ShownWindow | None:
    """The part of one list that a snapshot has."""
    found: ShownWindow | None = getattr(event, name)
    return found
