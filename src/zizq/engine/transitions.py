"""The life of a job as one table: nothing else may move a job.

A row reads: a job in this status, met by this cause, goes to one of these statuses. None stands for "not there":
before the enqueue, and after the end. `decide` chooses among the targets of a row; every store's statements state
the `from` side of the rows they carry out; docs/lifecycle.md is drawn from here.
"""

from __future__ import annotations

from enum import StrEnum

from zizq.job import JobRecord, Status


class Cause(StrEnum):
    """What can happen to a job."""

    ENQUEUE = "enqueue"
    PROMOTE = "promote"
    TAKE = "take"
    SUCCEED = "succeed"
    FAIL = "fail"
    RELEASE = "release"
    PATCH = "patch"
    RETRY = "retry"
    DELETE = "delete"
    REAP = "reap"


Place = Status | None

_S, _R, _I, _C, _D = Status.SCHEDULED, Status.READY, Status.IN_FLIGHT, Status.COMPLETED, Status.DEAD

TABLE: dict[tuple[Place, Cause], tuple[Place, ...]] = {
    # A time in the future is waited for; any other job may run at once.
    (None, Cause.ENQUEUE): (_S, _R),
    (_S, Cause.PROMOTE): (_R,),
    (_R, Cause.TAKE): (_I,),
    # Kept only where a retention says so; gone otherwise.
    (_I, Cause.SUCCEED): (_C, None),
    # Reported by the worker; or it was held for too long, or too many workers died while they held it.
    (_I, Cause.FAIL): (_S, _D, None),
    # The connection that held it ended, the worker gave it back, or the server restarted. No attempt is counted.
    (_I, Cause.RELEASE): (_R,),
    # Its time was moved: into the future, or to now.
    (_S, Cause.PATCH): (_S, _R),
    (_R, Cause.PATCH): (_R, _S),
    (_I, Cause.PATCH): (_I,),
    (_D, Cause.RETRY): (_R,),
    (_S, Cause.DELETE): (None,),
    (_R, Cause.DELETE): (None,),
    (_I, Cause.DELETE): (None,),
    (_C, Cause.DELETE): (None,),
    (_D, Cause.DELETE): (None,),
    (_C, Cause.REAP): (None,),
    (_D, Cause.REAP): (None,),
}


def allows(before: Place, cause: Cause, after: Place) -> bool:
    """Whether the table has this move."""
    return after in TABLE.get((before, cause), ())


def move(job: JobRecord, cause: Cause, to: Status, **changes: object) -> JobRecord:
    """The job after a move, with whatever else changes along with its status.

    Raises:
        RuntimeError: When the table has no such move: a defect in the caller.
    """
    if not allows(job.status, cause, to):
        raise RuntimeError(f"job {job.id}: no move from {job.status} to {to} by {cause}")
    return job.with_(status=to, **changes)
