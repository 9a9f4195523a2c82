"""What a service manager is told, over a real socket."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from zizq.systemd import Manager, manager_of
from zizq.testing.clock import ManualClock


@contextmanager
def listener(name: str) -> Iterator[socket.socket]:
    """What a service manager listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(name)
        bound.settimeout(5)
        yield bound


def test_each_change_is_one_message(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with listener(address) as heard:
        clock = ManualClock(0)
        clock.advance(1500)
        manager = Manager(address, clock=clock)
        manager.status("opening the store")
        manager.ready("listening on\nport 1\r\n")
        manager.reloading()
        manager.alive()
        manager.stopping("x" * 5000)
        manager.status("still here")
        manager.alive()
        assert [heard.recv(9000) for _ in range(6)] == [
            b"STATUS=opening the store",
            b"READY=1\nSTATUS=listening on port 1",
            b"RELOADING=1\nMONOTONIC_USEC=%d" % int(clock.mono_s() * 1e6),
            b"WATCHDOG=1",
            b"STOPPING=1\nSTATUS=" + b"x" * 400,
            b"WATCHDOG=1",
        ]


@pytest.mark.skipif(not Path("/proc/net/unix").exists(), reason="abstract names are Linux's")
def test_an_abstract_name_is_reached_too() -> None:
    name = f"zizq-test-{os.getpid()}"
    with listener(f"\0{name}") as heard:
        Manager(f"@{name}").ready("here")
        assert heard.recv(100) == b"READY=1\nSTATUS=here"


def test_the_environment_names_the_manager_once() -> None:
    environment = {"NOTIFY_SOCKET": "/run/it", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7", "HOME": "/"}
    assert manager_of(environment, pid=7).alive_every_s == 1.5
    assert environment == {"HOME": "/"}
    assert manager_of(environment, pid=7).alive_every_s is None


@pytest.mark.parametrize(
    "odd",
    [{"WATCHDOG_PID": "8"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"NOTIFY_SOCKET": "vsock:2:1"}],
)
def test_who_is_not_watched_stays_silent(odd: dict[str, str]) -> None:
    environment = {"NOTIFY_SOCKET": "/run/it", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"} | odd
    assert manager_of(environment, pid=7).alive_every_s is None


async def test_it_is_told_again_and_again_that_the_loop_turns(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with listener(address) as heard:
        living = asyncio.create_task(Manager(address, 0.001).keep_alive())
        assert [await asyncio.to_thread(heard.recv, 100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        living.cancel()


def test_nobody_listens_and_it_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "zizq"):
        Manager(str(tmp_path / "nobody")).ready("here")
    [record] = caplog.records
    assert record.message == "the service manager was not told"
    Manager().ready("to nobody")
    assert len(caplog.records) == 1
