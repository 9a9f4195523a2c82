"""Handlers that another process can import."""

import os
import time
from dataclasses import dataclass

from opentelemetry import trace

from zizq.client.kinds import job_kind
from zizq.errors import Cancel, ConfigError
from zizq.worker.route import Context, current_job


@job_kind("greet")
@dataclass
class Greet:
    name: str


def greet(job: Greet, ctx: Context):
    try:
        state = ctx.state
    except ConfigError as exc:
        state = type(exc).__name__
    raise ValueError(f"{job.name} {ctx.attempt} {current_job().type} {os.getpid() != os.getppid()} {state}")


def fine(job):
    return None


def die(job):
    os._exit(7)


def leave(job):
    raise SystemExit(4)


def give_up(job):
    raise Cancel("enough")


def hang(job):
    time.sleep(600)


def tell_span(job):
    span = trace.get_current_span().get_span_context()
    raise ValueError(f"{span.trace_id:032x} {span.span_id:016x}")
