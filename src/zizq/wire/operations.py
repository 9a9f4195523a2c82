"""The table of all API calls: the server routes and reads queries by it, the client calls by it, the OpenAPI document
is made from it, and the docs are held to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin
from urllib.parse import quote

from msgspec import Meta

from zizq.budget import Budget
from zizq.cron import CronEntry, CronGroup
from zizq.job import ErrorRecord, JobRecord, Status
from zizq.wire import messages as body
from zizq.wire.codec import ORDINARY
from zizq.wire.framing import STREAMS

DEFAULT_LIMIT = 50
MAX_LIMIT = 2000
"""The most items on a page."""
DEFAULT_PREFETCH = 1
JOB_ID = "[0-9a-z]{25}"
"""The shape of an identifier, as a regular expression."""


class Parameter(NamedTuple):
    """A query parameter: its name, and what its text stands for, as a type."""

    name: str
    kind: Any

    @property
    def is_list(self) -> bool:
        """Whether it is a list with commas between."""
        return get_origin(get_args(self.kind)[0] if get_origin(self.kind) is Annotated else self.kind) is list


class Scope(StrEnum):
    """What a caller may be allowed to do, where the server asks who calls; `admin` is all of them."""

    ENQUEUE = "enqueue"
    WORK = "work"
    READ = "read"
    MANAGE = "manage"
    ADMIN = "admin"


@dataclass(frozen=True, eq=False)
class Operation:
    """One API call.

    Args:
        name: What the call does, in the words of the project.
        method: The HTTP method.
        path: The path; `{id}`, `{queue}`, `{key}` and others stand for segments.
        summary: What the call does, in a sentence.
        answers: The statuses that mean it was done, and the type of the body of each; None for no body.
        scope: What a caller must be allowed to do; None for a call that anybody may make.
        query: The query parameters; empty for a call that reads none.
        body: The type of the request body; None for a call that reads none.
        refusals: The statuses of refusals of its own; `wire.openapi` adds those that follow from the rest.
        formats: The content types of the answers.
    """

    name: str
    method: str
    path: str
    summary: str
    answers: Mapping[int, Any]
    _: KW_ONLY
    scope: Scope | None
    query: tuple[Parameter, ...] = ()
    body: type | None = None
    refusals: tuple[int, ...] = ()
    formats: Sequence[str] = tuple(ORDINARY)

    def at(self, *segments: object) -> str:
        """The path with its segments filled in, each percent-encoded."""
        path = self.path
        for segment in segments:
            head, _, tail = path.partition("{")
            path = head + quote(str(segment), safe="") + tail.partition("}")[2]
        return path


_SOME = Meta(min_length=1)
_Ids = Annotated[list[Annotated[str, Meta(pattern=f"^{JOB_ID}$")]], _SOME]
_Statuses = Annotated[list[Status], _SOME]
_Names = Annotated[list[Annotated[str, Meta(pattern="^[^,]+$")]], _SOME]
_Range = Annotated[
    str, Meta(pattern=r"^([0-9]+|[0-9]*\.\.[0-9]*)?$", description="Both ends included: `N`, `A..B`, `A..`, `..B`.")
]
_Filter = Annotated[str, Meta(min_length=1, description="A jq expression on the payload.")]
_States = Annotated[bool, Meta(description="With the states of these queues, and of paused ones that hold none.")]
_Limit = Annotated[int, Meta(ge=1, le=MAX_LIMIT, extra_json_schema={"default": DEFAULT_LIMIT})]
_Prefetch = Annotated[body.U32, Meta(extra_json_schema={"default": DEFAULT_PREFETCH})]
_Concurrency = Annotated[int, Meta(ge=1, le=body.MAX_U32, description="How many jobs the worker runs at once.")]
_StreamName = Annotated[str, Meta(min_length=1, description="What `POST /jobs/release` calls this stream.")]

FILTERS = (
    Parameter("id", _Ids),
    Parameter("status", _Statuses),
    Parameter("queue", _Names),
    Parameter("type", _Names),
    Parameter("priority", _Range),
    Parameter("ready_at", _Range),
    Parameter("attempts", _Range),
    Parameter("budgets.key", _Names),
    Parameter("filter", _Filter),
)
"""What selects jobs (protocol.md#2.6)."""
_PAGING = (Parameter("order", Literal["asc", "desc"]), Parameter("limit", _Limit))

# ── the server ──

HEALTH = Operation("health", "GET", "/health", "Says whether the server serves.", {200: body.Health}, scope=None)
LIVE = Operation("live", "GET", "/livez", "Says that the server answers.", {200: body.Ok}, scope=None)
READY = Operation(
    "ready", "GET", "/readyz", "Says whether the server does all that it is asked; 503 says why not.", {200: body.Ok},
    scope=None, refusals=(503,),
)  # fmt: skip
PROBES = (HEALTH, LIVE, READY)
"""Calls that are answered however much there is to do."""
VERSION = Operation("version", "GET", "/version", "Says the version of the server.", {200: body.Version}, scope=None)
OPENAPI = Operation("openapi", "GET", "/openapi.json", "Shows this document.", {200: dict[str, Any]}, scope=None)
RESET = Operation("reset", "POST", "/reset", "Deletes everything, for tests.", {204: None}, scope=Scope.ADMIN)

# ── queues ──

QUEUES = Operation(
    "queues", "GET", "/queues", "Lists the queues that hold jobs.", {200: body.Queues}, scope=Scope.READ,
    query=(Parameter("states", _States),),
)  # fmt: skip
GET_QUEUE = Operation(
    "get_queue", "GET", "/queues/{queue}", "Says whether a queue is paused, and counts its jobs by status.",
    {200: body.QueueState}, scope=Scope.READ,
)  # fmt: skip
PAUSE_QUEUE = Operation(
    "pause_queue", "PUT", "/queues/{queue}/pause", "Pauses a queue: its jobs are not taken any more.",
    {200: body.QueueState}, scope=Scope.MANAGE, refusals=(422,),
)  # fmt: skip
RESUME_QUEUE = Operation(
    "resume_queue", "DELETE", "/queues/{queue}/pause", "Resumes a queue, whether or not it was paused.",
    {200: body.QueueState}, scope=Scope.MANAGE,
)  # fmt: skip

# ── many jobs ──

ENQUEUE = Operation(
    "enqueue", "POST", "/jobs", "Enqueues a job.", {201: body.Enqueued, 200: body.Enqueued}, scope=Scope.ENQUEUE,
    body=body.Enqueue, refusals=(422,),
)  # fmt: skip
ENQUEUE_BULK = Operation(
    "enqueue_bulk", "POST", "/jobs/bulk", "Enqueues many jobs, all or none.",
    {201: body.EnqueuedBulk, 200: body.EnqueuedBulk}, scope=Scope.ENQUEUE, body=body.EnqueueBulk, refusals=(422,),
)  # fmt: skip
LIST_JOBS = Operation(
    "list_jobs", "GET", "/jobs", "Lists jobs with their payloads, page by page.", {200: body.JobPage}, scope=Scope.READ,
    query=(*FILTERS, Parameter("from", str), *_PAGING),
)  # fmt: skip
COUNT_JOBS = Operation(
    "count_jobs", "GET", "/jobs/count", "Counts jobs.", {200: body.Count}, scope=Scope.READ, query=FILTERS
)
PATCH_JOBS = Operation(
    "patch_jobs", "PATCH", "/jobs", "Patches many jobs at once.", {200: body.Patched}, scope=Scope.MANAGE,
    query=FILTERS, body=body.PatchBody, refusals=(422,),
)  # fmt: skip
DELETE_JOBS = Operation(
    "delete_jobs", "DELETE", "/jobs", "Deletes many jobs at once.", {200: body.Deleted}, scope=Scope.MANAGE,
    query=FILTERS,
)  # fmt: skip
RETRY_JOBS = Operation(
    "retry_jobs", "POST", "/jobs/retry", "Makes many dead jobs ready at once.", {200: body.Retried}, scope=Scope.MANAGE,
    query=FILTERS, refusals=(422,),
)  # fmt: skip
TAKE = Operation(
    "take", "GET", "/jobs/take", "Streams jobs to a worker; each frame is a JobRecord.", {200: None}, scope=Scope.WORK,
    query=(
        Parameter("prefetch", _Prefetch), Parameter("queue", _Names), Parameter("timeout_ms", body.Timeout),
        Parameter("concurrency", _Concurrency), Parameter("stream", _StreamName),
    ), formats=STREAMS,
)  # fmt: skip
SUCCEED_BULK = Operation(
    "succeed_bulk", "POST", "/jobs/success", "Completes many jobs in flight; 422 names those that are not.",
    {204: None, 422: body.NotFoundIds}, scope=Scope.WORK, body=body.SuccessBulk,
)  # fmt: skip

RELEASE = Operation(
    "release", "POST", "/jobs/release", "Gives back many jobs in flight; 422 names those that are not.",
    {204: None, 422: body.NotFoundIds}, scope=Scope.WORK, body=body.ReleaseBody,
)  # fmt: skip

# ── one job ──

GET_JOB = Operation(
    "get_job", "GET", "/jobs/{id}", "Shows a job with its payload.", {200: JobRecord}, scope=Scope.READ, refusals=(404,)
)
PATCH_JOB = Operation(
    "patch_job", "PATCH", "/jobs/{id}", "Patches a job.", {200: JobRecord}, scope=Scope.MANAGE,
    body=body.PatchBody, refusals=(404, 422),
)  # fmt: skip
DELETE_JOB = Operation(
    "delete_job", "DELETE", "/jobs/{id}", "Deletes a job.", {204: None}, scope=Scope.MANAGE, refusals=(404,)
)
RETRY_JOB = Operation(
    "retry_job", "POST", "/jobs/{id}/retry", "Makes a dead job ready.", {200: JobRecord}, scope=Scope.MANAGE,
    refusals=(404, 422),
)  # fmt: skip
SUCCEED = Operation(
    "succeed", "POST", "/jobs/{id}/success", "Completes a job in flight.", {204: None}, scope=Scope.WORK,
    refusals=(404,),
)  # fmt: skip
FAIL = Operation(
    "fail", "POST", "/jobs/{id}/failure", "Fails a job in flight.", {200: JobRecord}, scope=Scope.WORK,
    body=body.FailureBody, refusals=(404,),
)  # fmt: skip
LIST_ERRORS = Operation(
    "list_errors", "GET", "/jobs/{id}/errors", "Lists the errors of a job, page by page.", {200: body.ErrorPage},
    scope=Scope.READ, query=(Parameter("from", body.U32), *_PAGING), refusals=(404,),
)  # fmt: skip
GET_ERROR = Operation(
    "get_error", "GET", "/jobs/{id}/errors/{attempt}", "Shows an error of a job.", {200: ErrorRecord},
    scope=Scope.READ, refusals=(404,),
)  # fmt: skip

# ── budgets ──

LIST_BUDGETS = Operation(
    "list_budgets", "GET", "/budgets", "Lists all budgets.", {200: body.BudgetList}, scope=Scope.READ
)
GET_BUDGET = Operation(
    "get_budget", "GET", "/budgets/{key}", "Shows a budget.", {200: Budget}, scope=Scope.READ, refusals=(404,)
)
CREATE_BUDGET = Operation(
    "create_budget", "POST", "/budgets/{key}", "Creates a budget.", {201: Budget}, scope=Scope.MANAGE,
    body=body.BudgetBody, refusals=(409, 422),
)  # fmt: skip
REPLACE_BUDGET = Operation(
    "replace_budget", "PUT", "/budgets/{key}", "Creates or replaces a budget.", {200: Budget}, scope=Scope.MANAGE,
    body=body.BudgetBody, refusals=(422,),
)  # fmt: skip
PATCH_BUDGET = Operation(
    "patch_budget", "PATCH", "/budgets/{key}", "Patches a budget.", {200: Budget}, scope=Scope.MANAGE,
    body=body.BudgetPatchBody, refusals=(404, 422),
)  # fmt: skip
DELETE_BUDGET = Operation(
    "delete_budget", "DELETE", "/budgets/{key}", "Deletes a budget that no unfinished job draws on.", {204: None},
    scope=Scope.MANAGE, refusals=(404, 409),
)  # fmt: skip

# ── what jobs draw from budgets ──

REPLACE_BINDINGS = Operation(
    "replace_bindings", "PUT", "/jobs/{id}/budgets", "Replaces all that a queued job draws.", {200: JobRecord},
    scope=Scope.MANAGE, body=body.BindingsBody, refusals=(404, 422),
)  # fmt: skip
DELETE_BINDINGS = Operation(
    "delete_bindings", "DELETE", "/jobs/{id}/budgets", "Lets a queued job draw on nothing.", {200: JobRecord},
    scope=Scope.MANAGE, refusals=(404, 422),
)  # fmt: skip
ADD_BINDING = Operation(
    "add_binding", "POST", "/jobs/{id}/budgets/{key}", "Lets a queued job draw on one more budget.", {200: JobRecord},
    scope=Scope.MANAGE, body=body.BindingBody, refusals=(404, 409, 422),
)  # fmt: skip
PUT_BINDING = Operation(
    "put_binding", "PUT", "/jobs/{id}/budgets/{key}", "Adds or replaces what a queued job draws on a budget.",
    {200: JobRecord}, scope=Scope.MANAGE, body=body.BindingBody, refusals=(404, 422),
)  # fmt: skip
PATCH_BINDING = Operation(
    "patch_binding", "PATCH", "/jobs/{id}/budgets/{key}", "Changes how much a queued job draws.", {200: JobRecord},
    scope=Scope.MANAGE, body=body.CostBody, refusals=(404, 422),
)  # fmt: skip
DELETE_BINDING = Operation(
    "delete_binding", "DELETE", "/jobs/{id}/budgets/{key}", "Lets a queued job draw on a budget no more.",
    {200: JobRecord}, scope=Scope.MANAGE, refusals=(404, 422),
)  # fmt: skip
DELETE_BINDINGS_OF_JOBS = Operation(
    "delete_bindings_of_jobs", "DELETE", "/jobs/budgets", "Lets many queued jobs draw on nothing.", {200: body.Rebound},
    scope=Scope.MANAGE, query=FILTERS, refusals=(422,),
)  # fmt: skip
ADD_BINDING_TO_JOBS = Operation(
    "add_binding_to_jobs", "POST", "/jobs/budgets/{key}", "Lets many queued jobs draw on one more budget.",
    {200: body.Rebound}, scope=Scope.MANAGE, query=FILTERS, body=body.BindingBody, refusals=(422,),
)  # fmt: skip
PUT_BINDING_OF_JOBS = Operation(
    "put_binding_of_jobs", "PUT", "/jobs/budgets/{key}", "Adds or replaces what many queued jobs draw on a budget.",
    {200: body.Rebound}, scope=Scope.MANAGE, query=FILTERS, body=body.BindingBody, refusals=(422,),
)  # fmt: skip
PATCH_BINDING_OF_JOBS = Operation(
    "patch_binding_of_jobs", "PATCH", "/jobs/budgets/{key}", "Changes how much many queued jobs draw.",
    {200: body.Rebound}, scope=Scope.MANAGE, query=FILTERS, body=body.CostBody, refusals=(422,),
)  # fmt: skip
DELETE_BINDING_OF_JOBS = Operation(
    "delete_binding_of_jobs", "DELETE", "/jobs/budgets/{key}", "Lets many queued jobs draw on a budget no more.",
    {200: body.Rebound}, scope=Scope.MANAGE, query=FILTERS, refusals=(422,),
)  # fmt: skip

# ── crons ──

LIST_CRONS = Operation("list_crons", "GET", "/crons", "Lists the cron groups.", {200: body.Crons}, scope=Scope.READ)
DELETE_CRONS = Operation(
    "delete_crons", "DELETE", "/crons", "Deletes all cron groups.", {200: body.Deleted}, scope=Scope.MANAGE
)
GET_CRON = Operation(
    "get_cron", "GET", "/crons/{group}", "Shows a cron group.", {200: CronGroup}, scope=Scope.READ, refusals=(404,)
)
REPLACE_CRON = Operation(
    "replace_cron", "PUT", "/crons/{group}", "Creates or replaces a cron group with all its entries.", {200: CronGroup},
    scope=Scope.MANAGE, body=body.CronGroupBody,
)  # fmt: skip
PATCH_CRON = Operation(
    "patch_cron", "PATCH", "/crons/{group}", "Patches a cron group.", {200: CronGroup}, scope=Scope.MANAGE,
    body=body.CronGroupPatchBody, refusals=(404,),
)  # fmt: skip
DELETE_CRON = Operation(
    "delete_cron", "DELETE", "/crons/{group}", "Deletes a cron group.", {204: None}, scope=Scope.MANAGE, refusals=(404,)
)
CREATE_CRON_ENTRY = Operation(
    "create_cron_entry", "POST", "/crons/{group}/entries", "Adds an entry to a cron group.", {201: CronEntry},
    scope=Scope.MANAGE, body=body.CronEntryBody, refusals=(409,),
)  # fmt: skip
GET_CRON_ENTRY = Operation(
    "get_cron_entry", "GET", "/crons/{group}/entries/{entry}", "Shows an entry of a cron group.", {200: CronEntry},
    scope=Scope.READ, refusals=(404,),
)  # fmt: skip
REPLACE_CRON_ENTRY = Operation(
    "replace_cron_entry", "PUT", "/crons/{group}/entries/{entry}", "Creates or replaces an entry of a cron group.",
    {200: CronEntry}, scope=Scope.MANAGE, body=body.CronEntryBody,
)  # fmt: skip
PATCH_CRON_ENTRY = Operation(
    "patch_cron_entry", "PATCH", "/crons/{group}/entries/{entry}", "Pauses an entry of a cron group, or resumes it.",
    {200: CronEntry}, scope=Scope.MANAGE, body=body.CronEntryPatchBody, refusals=(404,),
)  # fmt: skip
DELETE_CRON_ENTRY = Operation(
    "delete_cron_entry", "DELETE", "/crons/{group}/entries/{entry}", "Deletes an entry of a cron group.", {204: None},
    scope=Scope.MANAGE, refusals=(404,),
)  # fmt: skip

OPERATIONS = (
    *PROBES, VERSION, OPENAPI, RESET, QUEUES, GET_QUEUE, PAUSE_QUEUE, RESUME_QUEUE,
    ENQUEUE, ENQUEUE_BULK, LIST_JOBS, COUNT_JOBS, PATCH_JOBS, DELETE_JOBS, RETRY_JOBS, TAKE, SUCCEED_BULK, RELEASE,
    GET_JOB, PATCH_JOB, DELETE_JOB, RETRY_JOB, SUCCEED, FAIL, LIST_ERRORS, GET_ERROR,
    LIST_CRONS, DELETE_CRONS, GET_CRON, REPLACE_CRON, PATCH_CRON, DELETE_CRON, CREATE_CRON_ENTRY, GET_CRON_ENTRY,
    REPLACE_CRON_ENTRY, PATCH_CRON_ENTRY, DELETE_CRON_ENTRY,
    LIST_BUDGETS, GET_BUDGET, CREATE_BUDGET, REPLACE_BUDGET, PATCH_BUDGET, DELETE_BUDGET,
    REPLACE_BINDINGS, DELETE_BINDINGS, ADD_BINDING, PUT_BINDING, PATCH_BINDING, DELETE_BINDING,
    DELETE_BINDINGS_OF_JOBS, ADD_BINDING_TO_JOBS, PUT_BINDING_OF_JOBS, PATCH_BINDING_OF_JOBS, DELETE_BINDING_OF_JOBS,
)  # fmt: skip
