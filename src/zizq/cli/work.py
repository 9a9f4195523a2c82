"""`zizq work`: run a worker, or several."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import signal
import sys
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import click

from zizq import words
from zizq.cli.options import names, seconds, server_options, tls_of
from zizq.client.aio import Client
from zizq.errors import ZizqError
from zizq.systemd import Manager, manager_of
from zizq.worker.hooks import Hooks
from zizq.worker.options import Summary
from zizq.worker.probes import Address, Subject, probed, probed_apart
from zizq.worker.running import run_loop
from zizq.worker.shutdown import Signals
from zizq.worker.supervisor import ASK, KILL, Note, Supervisor
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
    health_host: str
    health_port: int | None
    log_level: str

    @property
    def health_address(self) -> Address | None:
        """Where to answer health checks; None for nowhere."""
        return None if self.health_port is None else Address(self.health_host, self.health_port)


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
    "--health-port",
    envvar="ZIZQ_HEALTH_PORT",
    show_envvar=True,
    type=click.IntRange(0, 65_535),
    help="Answer GET /livez and /readyz on this port; 0 lets the system choose one. [default: no port]",
)
@click.option(
    "--health-host",
    envvar="ZIZQ_HEALTH_HOST",
    show_envvar=True,
    default="127.0.0.1",
    show_default=True,
    help="The address of that port.",
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
    manager = manager_of(os.environ, os.getpid())
    if processes == 1:
        _finish(*_run(order, Signals(), None, manager))
    supervisor = Supervisor(_child, order, processes, asks=order.health_port is not None, manager=manager)
    with probed_apart(order.health_address, Subject(supervisor.health, supervisor.ailing)):
        is_graceful = supervisor.run()
    if not is_graceful:
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


def _run(order: Order, signals: Signals, control: Connection | None, manager: Manager) -> tuple[Worker, Summary]:
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
                hooks=_hooks(manager),
            )
            if control is not None:
                asyncio.get_running_loop().add_reader(control.fileno(), _heed, worker, control)
            async with probed(None if control else order.health_address, Subject(worker.health)):
                return worker, await _told(worker, signals, manager)

    try:
        result: tuple[Worker, Summary] = run_loop(main())
    except ZizqError as exc:
        raise click.ClickException(str(exc)) from exc
    return result


async def _told(worker: Worker, signals: Signals, manager: Manager) -> Summary:
    """Run a worker, and tell the service manager of it.

    It is ready before it has a take stream: a server that is away keeps no unit from starting, and ends none.
    """

    async def wait_for_end() -> None:
        await signals
        manager.stopping("stopping: running handlers may finish")

    manager.ready("waiting for the server")
    tasks = [asyncio.create_task(manager.keep_alive()), asyncio.create_task(wait_for_end())]
    try:
        return await worker.run(signals)
    finally:
        for task in tasks:
            task.cancel()


def _hooks(manager: Manager) -> Hooks:
    return Hooks(
        on_connect=lambda event: manager.status("taking jobs"),
        on_disconnect=lambda event: manager.status(f"waiting for the server: {event.error or 'it closed the stream'}"),
    )


def _heed(worker: Worker, control: Connection) -> None:
    """Do what the parent says; its death says stop."""
    try:
        word = control.recv_bytes()
    except (EOFError, OSError):
        asyncio.get_running_loop().remove_reader(control.fileno())
        worker.stop()
        return
    if word == ASK:
        with contextlib.suppress(OSError):  # the next read says that the parent is gone
            control.send_bytes(Note(health=worker.health()).encode())
    elif word == KILL:
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
        _finish(*_run(order, _patient(), control, Manager()))
    except click.ClickException as exc:
        if control is None:
            exc.show()
        else:
            control.send_bytes(Note(error=exc.format_message()).encode())
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
