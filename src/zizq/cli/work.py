"""`zizq work`: run a worker, or several."""

from __future__ import annotations

import asyncio
import importlib
import logging
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import click

from zizq import words
from zizq.cli.options import names, seconds, server_options, tls_of
from zizq.client.aio import Client
from zizq.errors import ZizqError
from zizq.worker.options import Summary
from zizq.worker.running import run_loop
from zizq.worker.shutdown import Signals
from zizq.worker.supervisor import KILL, Supervisor
from zizq.worker.worker import Worker


@dataclass(frozen=True)
class Order:
    """What was asked for on the command line; it travels to child processes."""

    target: str
    url: str | None
    concurrency: int
    prefetch: int | None
    queues: tuple[str, ...]
    shutdown_timeout: float
    job_timeout: float | None
    format: Literal["msgpack", "json"]
    ca: str | None
    client_cert: str | None
    client_key: str | None
    token: str | None = field(repr=False)
    worker_id: str | None
    tracing: bool
    log_level: str


@click.command()
@click.argument("target", metavar="MODULE:HANDLER")
@server_options
@click.option(
    "-c",
    "--concurrency",
    envvar="ZIZQ_CONCURRENCY",
    show_envvar=True,
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="The most handlers at once, in each process.",
)
@click.option(
    "-p",
    "--prefetch",
    envvar="ZIZQ_PREFETCH",
    show_envvar=True,
    type=click.IntRange(1),
    help="The most unreported jobs here, in each process. [default: the concurrency]",
)
@click.option(
    "-q",
    "--queues",
    envvar="ZIZQ_QUEUES",
    show_envvar=True,
    type=names,
    metavar="NAMES",
    multiple=True,
    help="Queues to take from, repeated or with commas. [default: all]",
)
@click.option(
    "--processes",
    envvar="ZIZQ_PROCESSES",
    show_envvar=True,
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Run so many workers, each in a process of its own.",
)
@click.option("--reload", is_flag=True, help="Start again when a source file changes; for development.")
@click.option(
    "--shutdown-timeout",
    envvar="ZIZQ_SHUTDOWN_TIMEOUT",
    show_envvar=True,
    type=seconds,
    metavar="DURATION",
    default="30s",
    show_default=True,
    help="How long to wait for running handlers at the end.",
)
@click.option(
    "--job-timeout",
    envvar="ZIZQ_JOB_TIMEOUT",
    show_envvar=True,
    type=seconds,
    metavar="DURATION",
    help="How long a job that sets no timeout may be held here before the server fails it. [default: no limit]",
)
@click.option("--worker-id", envvar="ZIZQ_WORKER_ID", show_envvar=True, help="A name for logs, ours and the server's.")
@click.option(
    "--tracing",
    envvar="ZIZQ_TRACING",
    show_envvar=True,
    is_flag=True,
    help="Make spans of OpenTelemetry, by the provider that MODULE or the environment sets up.",
)
@click.option(
    "--log-level",
    envvar="ZIZQ_LOG_LEVEL",
    show_envvar=True,
    default="info",
    show_default=True,
    type=click.Choice(list(words.LOG_LEVELS)),
    help="What to say on standard error.",
)
def work(
    target: str,
    queues: tuple[list[str], ...],
    processes: int,
    reload: bool,
    format_: Literal["msgpack", "json"],
    **options: Any,
) -> None:
    """Run the handlers of MODULE:HANDLER, such as myapp.jobs:router.

    SIGINT or SIGTERM shuts down gracefully: no new jobs, the running ones are finished and reported. A second one
    ends at once, with status 1.
    """
    order = Order(target=target, queues=tuple(name for group in queues for name in group), format=format_, **options)
    _log_to_stderr(order.log_level)
    if reload:
        _watch(order)
        return
    load(target)
    if processes == 1:
        _finish(*_run(order, Signals, None))
    elif not Supervisor(_child, order, processes).run():
        sys.exit(1)


def load(target: str) -> Any:
    """The handler that `module:name` names; the current folder is searched first.

    Raises:
        click.UsageError: When there is no such module or name.
    """
    module_name, _, name = target.partition(":")
    if not name:
        raise click.UsageError(f"{target!r} must be MODULE:HANDLER, such as myapp.jobs:router")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{module_name}.".startswith(f"{exc.name}."):
            raise
        raise click.UsageError(f"there is no module {exc.name!r} here or on the path") from exc
    except AttributeError as exc:
        raise click.UsageError(f"{target!r}: {exc}") from exc
    return found


# ── one worker ───────────────────────────────────────────────────────────────────────────────────────


def _run(order: Order, signals: Callable[[], Signals], control: Connection | None) -> tuple[Worker, Summary]:
    """Run a worker to its end, in the main thread."""
    handler = load(order.target)

    async def main() -> tuple[Worker, Summary]:
        tls = tls_of(order.ca, order.client_cert, order.client_key)
        async with Client(order.url, format=order.format, tls=tls, token=order.token, tracing=order.tracing) as client:
            worker = Worker(
                client,
                handler,
                concurrency=order.concurrency,
                prefetch=order.prefetch,
                queues=order.queues,
                shutdown_timeout=order.shutdown_timeout,
                job_timeout=order.job_timeout,
                worker_id=order.worker_id,
            )
            if control is not None:
                asyncio.get_running_loop().add_reader(control.fileno(), _heed, worker, control)
            return worker, await worker.run(signals())

    try:
        result: tuple[Worker, Summary] = run_loop(main())
    except ZizqError as exc:
        raise click.ClickException(str(exc)) from exc
    return result


def _heed(worker: Worker, control: Connection) -> None:
    """Do what the parent says; its death says stop."""
    try:
        word = control.recv_bytes()
    except (EOFError, OSError):
        asyncio.get_running_loop().remove_reader(control.fileno())
        worker.stop()
        return
    if word == KILL:
        worker.kill()
    else:
        worker.stop()


def _finish(worker: Worker, summary: Summary) -> None:
    click.echo(str(summary), err=True)
    sys.exit(1 if worker.killed else 0)


# ── child processes ──────────────────────────────────────────────────────────────────────────────────


def _patient() -> Signals:
    # The parent says when to kill. Signals reach a child too often: from the terminal and from the parent.
    return Signals(second_kills=False)


def _child(order: Order, control: Connection | None = None) -> None:
    _log_to_stderr(order.log_level)
    try:
        _finish(*_run(order, _patient, control))
    except click.ClickException as exc:
        if control is None:
            exc.show()
        else:
            control.send_bytes(exc.format_message().encode())
        sys.exit(exc.exit_code)


def _watch(order: Order) -> None:
    try:
        import watchfiles
    except ImportError:
        raise click.ClickException("--reload needs watchfiles: pip install 'zizq[reload]'") from None
    # A program that is started in the background may be told to ignore it, and then Ctrl-C would end nothing here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    watchfiles.run_process(
        Path.cwd(),
        target=_child,
        args=(order,),
        watch_filter=watchfiles.PythonFilter(),
        # It counts in whole seconds, and must leave the worker room to end by itself.
        sigint_timeout=int(order.shutdown_timeout) + 1,
    )


# ── logs ─────────────────────────────────────────────────────────────────────────────────────────────


class _Lines(logging.Formatter):
    """A line for people: the message, then its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; a message with arguments says by itself what its fields hold."""
        fields: dict[str, object] = {} if record.args else getattr(record, "fields", {})
        return " ".join([super().format(record), *(f"{name}={value}" for name, value in fields.items())])


def _log_to_stderr(level: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=words.LOG_LEVELS[level], handlers=[handler])
