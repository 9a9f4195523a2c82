"""Handlers that another process can import."""

import os
import time
from dataclasses import dataclass

from zizq.client.kinds import job_kind
from zizq.errors import Cancel
from zizq.worker.context import Context, current_job


@job_kind("greet")
@dataclass
class Greet:
    name: str


def greet(job: Greet, ctx: Context):
    raise ValueError(f"{job.name} {ctx.attempt} {current_job().type} {os.getpid() != os.getppid()} {ctx.state}")


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
