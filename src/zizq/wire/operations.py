"""The table of all API calls: the server routes by it, the client calls by it, the docs are held to it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True)
class Operation:
    """One API call.

    Args:
        name: What the call does, in the words of the project.
        method: The HTTP method.
        path: The path; `{id}` and `{attempt}` stand for segments.
        success: The statuses that mean it was done.
    """

    name: str
    method: str
    path: str
    success: tuple[int, ...] = (200,)

    def at(self, *segments: object) -> str:
        """The path with its segments filled in, each percent-encoded."""
        path = self.path
        for segment in segments:
            head, _, tail = path.partition("{")
            path = head + quote(str(segment), safe="") + tail.partition("}")[2]
        return path


HEALTH = Operation("health", "GET", "/health")
VERSION = Operation("version", "GET", "/version")
QUEUES = Operation("queues", "GET", "/queues")
RESET = Operation("reset", "POST", "/reset", (204,))
ENQUEUE = Operation("enqueue", "POST", "/jobs", (200, 201))
ENQUEUE_BULK = Operation("enqueue_bulk", "POST", "/jobs/bulk", (200, 201))
TAKE = Operation("take", "GET", "/jobs/take")
SUCCEED_BULK = Operation("succeed_bulk", "POST", "/jobs/success", (204, 422))
GET_JOB = Operation("get_job", "GET", "/jobs/{id}")
DELETE_JOB = Operation("delete_job", "DELETE", "/jobs/{id}", (204,))
SUCCEED = Operation("succeed", "POST", "/jobs/{id}/success", (204,))
FAIL = Operation("fail", "POST", "/jobs/{id}/failure")
LIST_ERRORS = Operation("list_errors", "GET", "/jobs/{id}/errors")
GET_ERROR = Operation("get_error", "GET", "/jobs/{id}/errors/{attempt}")

OPERATIONS = (
    HEALTH, VERSION, QUEUES, RESET, ENQUEUE, ENQUEUE_BULK, TAKE, SUCCEED_BULK, GET_JOB, DELETE_JOB, SUCCEED, FAIL,
    LIST_ERRORS, GET_ERROR,
)  # fmt: skip
