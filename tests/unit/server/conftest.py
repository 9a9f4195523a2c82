"""What each test of the server begins with."""

from __future__ import annotations

import os
import sys

import pytest

from unit.server import processes


@pytest.fixture(autouse=True)
def _others_are_known() -> None:
    """Tell the processes of a test from those that were there before."""
    processes.others.clear()
    if sys.platform == "linux":
        processes.others.update(processes.children_of(os.getpid()))
