"""How a worker is: the value that it tells, what follows from it, and the answers to those who ask over HTTP. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

MAX_HEAD = 8 * 1024
"""Bytes that the first line of a request and its headers may have."""
_METHODS = ("GET", "HEAD")
_VERSIONS = ("HTTP/1.0", "HTTP/1.1")


class WorkerHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker is, or several processes of one.

    Args:
        connected: Whether its take stream is open; of several, whether all are.
        stopping: Whether it was told to end.
        running: Handlers that run.
        concurrency: The most that may.
        processed: Jobs whose handler returned, in the processes that run now.
        failed: Jobs whose handler raised, or could not run, in those.
        last_error: Why the take stream was last lost, or could not be opened; None where it never was.
        processes: How many worker processes run.
    """

    connected: bool
    stopping: bool
    running: int
    concurrency: int
    processed: int
    failed: int
    last_error: str | None = None
    processes: int = 1


def combined(parts: Sequence[WorkerHealth]) -> WorkerHealth:
    """The health of several workers as that of one; of none it is that of one that is not connected."""
    return WorkerHealth(
        connected=bool(parts) and all(part.connected for part in parts),
        stopping=any(part.stopping for part in parts),
        running=sum(part.running for part in parts),
        concurrency=sum(part.concurrency for part in parts),
        processed=sum(part.processed for part in parts),
        failed=sum(part.failed for part in parts),
        last_error=next((part.last_error for part in parts if part.last_error is not None), None),
        processes=sum(part.processes for part in parts),
    )


def unready(health: WorkerHealth) -> str | None:
    """Why a worker takes no jobs just now; None when it does."""
    if health.stopping:
        return "the worker is stopping"
    if health.connected:
        return None
    return f"the worker has no take stream: {health.last_error or 'it is being opened'}"


# ── over HTTP ────────────────────────────────────────────────────────────────────────────────────────


def answer(head: bytes, health: Callable[[], WorkerHealth], ailing: Callable[[], str | None]) -> bytes:
    """The response to a request for `/livez` or `/readyz`.

    Args:
        head: The first line and the headers of the request.
        health: Says how the worker is.
        ailing: Says why it does not live; None when it does.
    """
    parts = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/"):
        return refusal(400, "this is no HTTP request")
    method, target, version = parts
    if version not in _VERSIONS:
        return refusal(505, "only HTTP/1.1 is spoken here")
    path = target.partition("?")[0]
    if path not in ("/livez", "/readyz"):
        return refusal(404, "ask for /livez or /readyz")
    if method not in _METHODS:
        return refusal(405, "GET and HEAD are the only methods", f"allow: {', '.join(_METHODS)}\r\n")
    status, body = _live(ailing()) if path == "/livez" else _ready(health())
    return _response(status, body, with_body=method == "GET")


def refusal(status: int, text: str, headers: str = "") -> bytes:
    """A response that says what is wrong with the request."""
    return _response(status, {"error": text}, headers)


def _live(reason: str | None) -> tuple[int, dict[str, Any]]:
    return (200, {"status": "ok"}) if reason is None else (503, {"error": reason})


def _ready(health: WorkerHealth) -> tuple[int, dict[str, Any]]:
    reason = unready(health)
    outcome = {"status": "ok"} if reason is None else {"error": reason}
    return (200 if reason is None else 503), outcome | msgspec.to_builtins(health)


def _response(status: int, body: dict[str, Any], headers: str = "", *, with_body: bool = True) -> bytes:
    content = msgspec.json.encode(body)
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\ncache-control: no-store\r\n{headers}connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (content if with_body else b"")
