"""Request and response bodies, as msgspec structs.

Fields stand in the order in which they are sent. On requests None means "not given", for a null and an absent
field are the same there (protocol.md#1.4).
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from zizq.budget import MAX_TOKENS, Budget
from zizq.job import DEFAULT_PRIORITY, MAX_METADATA, MAX_METADATA_NAME, Batch, ErrorRecord, JobRecord
from zizq.wire.insight import Counts

MAX_U32 = 2**32 - 1
MAX_U64 = 2**64 - 1
U16 = Annotated[int, Meta(ge=0, le=2**16 - 1)]
U32 = Annotated[int, Meta(ge=0, le=MAX_U32)]
_BEYOND_F32 = 2.0**128 - 2.0**103
"""The least number that 32 bits can only round to infinity."""
# msgspec compares with numbers of 63 bits at most, and no text is read by the rule for names: what is only in the
# schema of these three is checked where a body is turned into a job, a budget or a patch.
U64 = Annotated[int, Meta(ge=0, extra_json_schema={"maximum": MAX_U64})]
F32 = Annotated[float, Meta(extra_json_schema={"exclusiveMinimum": -_BEYOND_F32, "exclusiveMaximum": _BEYOND_F32})]
Name = Annotated[str, Meta(extra_json_schema={"minLength": 1, "pattern": r"^[^\x00,*?\[\]{}\\]*$"})]
Tokens = Annotated[U32, Meta(description=f"From 1 to {MAX_TOKENS}, else 422.")]
Cost = Annotated[U32, Meta(description="At least 1, else 422.")]
Timeout = Annotated[int, Meta(ge=1, extra_json_schema={"maximum": MAX_U64})]
MetadataName = Annotated[str, Meta(min_length=1, max_length=MAX_METADATA_NAME)]
Metadata = Annotated[dict[MetadataName, str], Meta(max_length=MAX_METADATA)]
Period = Annotated[U64, Meta(description="At least 1, else 422.")]


class BackoffBody(msgspec.Struct, frozen=True):
    """A backoff as it is sent: all three members are required."""

    exponent: F32
    base_ms: U32
    jitter_ms: U32


class RetentionBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """A retention as it is sent."""

    completed_ms: U64 | None = None
    dead_ms: U64 | None = None


class StrategyBody(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A strategy as it is sent."""

    type: str
    duration_ms: Period | None = None
    burst: Tokens | None = None


class BudgetBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A budget as it is sent (protocol.md#8.2), without its key."""

    # A misspelt limit would be no limit: in bodies of budgets, and only there, unknown members are refused.
    allocation: Tokens
    strategy: StrategyBody


class StrategyPatchBody(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Changes to a strategy: null clears a member, one that is absent stays. `type` cannot be null."""

    type: str | UnsetType | None = UNSET
    duration_ms: Period | UnsetType | None = UNSET
    burst: Tokens | UnsetType | None = UNSET


class BudgetPatchBody(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Changes to a budget: what is absent stays. Its members cannot be null."""

    allocation: Tokens | UnsetType | None = UNSET
    strategy: StrategyPatchBody | UnsetType | None = UNSET


class DrawBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a job is to draw from one budget, as it is sent (protocol.md#8.3); `bucket` is reserved, and refused."""

    key: Name
    cost: Cost | None = None
    create_with: BudgetBody | None = None
    bucket: Any = None


class BindingsBody(msgspec.Struct):
    """All that a job is to draw from budgets (protocol.md#8.4)."""

    budgets: list[DrawBody]


class BindingBody(msgspec.Struct, omit_defaults=True):
    """What a job is to draw from the budget in the path."""

    cost: Cost | None = None
    create_with: BudgetBody | None = None


class CostBody(msgspec.Struct):
    """What a job is to draw from a budget that it draws on already."""

    cost: Cost


class Rebound(msgspec.Struct):
    """How many jobs draw otherwise now, and how many could not be changed."""

    changed: int
    blocked: int


class Enqueue(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """One job to enqueue (protocol.md#2.2)."""

    type: Name
    queue: Name
    payload: msgspec.Raw
    """As it came. A client writes plain values, which are encoded with all the rest."""
    priority: U16 | None = DEFAULT_PRIORITY
    ready_at: U64 | None = None
    retry_limit: U32 | None = None
    backoff: BackoffBody | None = None
    retention: RetentionBody | None = None
    unique_key: str | None = None
    unique_while: str | None = None
    batch: Batch | None = None
    budgets: list[DrawBody] | None = None
    timeout_ms: Timeout | None = None
    metadata: Metadata | None = None


class EnqueueBulk(msgspec.Struct):
    """Many jobs to enqueue, all or none."""

    jobs: list[Enqueue]


class Enqueued(JobRecord, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The answer to an enqueue: the job without its payload, and whether it is a new one."""

    # Both flags are always sent, so they have no default (protocol.md#2.2).
    duplicate: bool
    folded: bool


class EnqueuedBulk(msgspec.Struct):
    """The answers to a bulk enqueue, in the order of the request."""

    jobs: list[Enqueued]


class RetentionPatchBody(msgspec.Struct, omit_defaults=True):
    """Changes to a retention: null clears a member, one that is absent stays."""

    completed_ms: U64 | UnsetType | None = UNSET
    dead_ms: U64 | UnsetType | None = UNSET


class PatchBody(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Changes to jobs (protocol.md#2.9): null clears, what is absent stays. `queue` and `priority` cannot be null."""

    queue: Name | UnsetType | None = UNSET
    priority: U16 | UnsetType | None = UNSET
    ready_at: U64 | UnsetType | None = UNSET
    retry_limit: U32 | UnsetType | None = UNSET
    backoff: BackoffBody | UnsetType | None = UNSET
    retention: RetentionPatchBody | UnsetType | None = UNSET
    timeout_ms: Timeout | UnsetType | None = UNSET


class SuccessBulk(msgspec.Struct):
    """Identifiers of jobs that succeeded."""

    ids: Annotated[list[str], Meta(extra_json_schema={"minItems": 1})]


class ReleaseBody(msgspec.Struct):
    """Identifiers of jobs to give back, and the name of a take stream that is to get no more (protocol.md#14.3)."""

    ids: list[str]
    stream: str | None = None


class NotFoundIds(msgspec.Struct):
    """Which of the jobs were not in flight; the rest are completed (protocol.md#4.7), or given back."""

    not_found: list[str]


class FailureBody(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a worker says of a failed job (protocol.md#4.8)."""

    message: str
    error_type: str | None = None
    backtrace: str | None = None
    retry_at: U64 | None = None
    kill: bool | None = None


class Pages(msgspec.Struct, rename={"self_": "self"}):
    """Links around a page; `next` and `prev` are sent as null where there is none."""

    self_: str
    next: str | None
    prev: str | None


class JobPage(msgspec.Struct):
    """A page of jobs, with their payloads."""

    jobs: list[JobRecord]
    pages: Pages


class ErrorPage(msgspec.Struct):
    """A page of the errors of a job."""

    errors: list[ErrorRecord]
    pages: Pages


class Count(msgspec.Struct):
    """How many jobs there are."""

    count: int


class Patched(msgspec.Struct):
    """How many jobs were patched."""

    patched: int


class Retried(msgspec.Struct):
    """How many jobs were retried."""

    retried: int


class Deleted(msgspec.Struct):
    """How many jobs were deleted."""

    deleted: int


class QueueState(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Whether a queue hands out jobs, and how many it has by status."""

    queue: str
    paused: bool
    paused_at: int | None = None
    counts: Counts


class Queues(msgspec.Struct, omit_defaults=True):
    """Names of the queues that hold jobs; and, where it was asked for, the state of these and of paused ones."""

    queues: list[str]
    states: list[QueueState] | None = None


class BudgetList(msgspec.Struct):
    """All budgets, sorted by their keys."""

    budgets: list[Budget]


class CronEntryBody(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An entry of a cron group to set (protocol.md#7.2); `job` has no `ready_at`."""

    name: Name
    expression: str
    timezone: str | None = None
    paused: bool | None = None
    job: Enqueue


class CronGroupBody(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A cron group to set, with all its entries; those that are not in it are deleted."""

    timezone: str | None = None
    paused: bool | None = None
    entries: list[CronEntryBody]


class CronGroupPatchBody(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Changes to a cron group: what is absent stays; a `timezone` of null is cleared."""

    timezone: str | UnsetType | None = UNSET
    paused: bool | None = None


class CronEntryPatchBody(msgspec.Struct):
    """Whether an entry of a cron group is paused."""

    paused: bool


class Crons(msgspec.Struct):
    """Names of cron groups."""

    crons: list[str]


class Health(msgspec.Struct, omit_defaults=True):
    """That the server serves; and why it refuses writes, while it does."""

    status: str
    writes_refused: str | None = None


class Ok(msgspec.Struct):
    """That all is well."""

    status: str = msgspec.field(default="ok")


class Version(msgspec.Struct):
    """The version of the server."""

    version: str


class ErrorBody(msgspec.Struct, omit_defaults=True):
    """The body of every refusal."""

    error: str
    supported: list[str] | None = None
