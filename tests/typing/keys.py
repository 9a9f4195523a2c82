"""Unique and batched jobs as typed code sees them; never run, only checked by `make check`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_type

import zizq


@zizq.job_kind("send_email", unique=zizq.Unique(only=[".to"], exclude=None, scope="active", canonical="trailing"))
@dataclass
class SendEmail(zizq.JobKind):
    to: str


@zizq.job_kind("push", batch=zizq.Batch(".device_ids", limit=100, dedup=True, keyed_by={".platform"}))
@dataclass
class Push:
    platform: str
    device_ids: list[int]


class Report(zizq.JobKind):
    NAME = "report"
    BATCH = None

    def unique_key(self) -> str:
        return "report"

    UNIQUE = zizq.Unique(unique_key, scope="exists")


zizq.Unique("k", scope="never")  # type: ignore[arg-type]
zizq.Unique(key=lambda job: 5)  # type: ignore[arg-type, return-value]
zizq.Batch(".ids")  # type: ignore[call-arg]
zizq.RawBatch(key="k", when="true")  # type: ignore[call-arg]


def use(client: zizq.SyncClient) -> None:
    assert_type(SendEmail("a").with_(unique_key=None).unique_key, str | None)
    assert_type(zizq.Unique().key_for("t", 1), str)
    raw = zizq.RawBatch(key="k", when="true", fold="$new")
    assert_type(raw.key_for("t", 1), str)
    assert_type((raw.when, zizq.Batch(".", limit=1).fold), tuple[str, str])
    job = client.enqueue(Push("apple", [1]), batch=raw)
    if job.batch is not None:
        assert_type((job.batch.key, job.batch.when, job.batch.fold), tuple[str, str, str])
    assert_type((job.unique_key, job.unique_while), tuple[str | None, str | None])
    assert_type((job.duplicate, job.folded), tuple[bool, bool])
    client.enqueue_raw("t", 1, unique_key="k", unique_while="queued")
    client.enqueue_raw("t", 1, unique_key="k", unique_while="ever")  # type: ignore[arg-type]
    client.enqueue_raw("t", 1, unique_key=zizq.Unique())  # type: ignore[arg-type]
