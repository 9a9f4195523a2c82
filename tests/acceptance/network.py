"""A network namespace of its own, with a cable to ours that can be cut."""

from __future__ import annotations

import os
import shutil
import subprocess
from types import TracebackType

import pytest

from acceptance.processes import ZIZQ


def require_network() -> None:
    """Skip a test where there can be no namespace; fail it where CI says that there must be."""
    if os.geteuid() == 0 and shutil.which("ip") is not None and _can_have_one():
        return
    reason = "a network namespace needs root and iproute2, where the system lets root make one"
    if os.environ.get("ZIZQ_TEST_POSTGRES") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


def _can_have_one() -> bool:
    name = f"zizq-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    if made:
        _ip("netns", "delete", name)
    return made


class Elsewhere:
    """A namespace with an address of its own, for as long as a block lasts.

    Packets between its address and ours pass one cable; when that is cut, they are lost without a word.
    """

    def __init__(self) -> None:
        self._name = f"zizq-{os.getpid()}"
        self._near, self._far = f"zq{os.getpid()}a", f"zq{os.getpid()}b"
        network = f"10.213.{os.getpid() % 250}"
        self.near, self.far = f"{network}.1", f"{network}.2"
        """Our address on the cable, and the one there."""
        self.program = ["ip", "netns", "exec", self._name, *ZIZQ]
        """What runs `zizq` there."""

    def cut(self) -> None:
        """Cut the cable."""
        _ip("link", "set", self._near, "down")

    def heal(self) -> None:
        """Mend the cable."""
        _ip("link", "set", self._near, "up")

    def __enter__(self) -> Elsewhere:
        _ip("netns", "add", self._name)
        _ip("link", "add", self._near, "type", "veth", "peer", "name", self._far, "netns", self._name)
        _ip("address", "add", f"{self.near}/24", "dev", self._near)
        _ip("link", "set", self._near, "up")
        _ip("-n", self._name, "link", "set", "lo", "up")
        _ip("-n", self._name, "address", "add", f"{self.far}/24", "dev", self._far)
        _ip("-n", self._name, "link", "set", self._far, "up")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # The cable goes with it.
        _ip("netns", "delete", self._name)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
