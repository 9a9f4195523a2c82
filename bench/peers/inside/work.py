"""A worker for systems that bring no command for it: `python -m bench.peers.inside.work SYSTEM`."""

from __future__ import annotations

import importlib
import inspect
import sys

import uvloop


def main() -> None:
    """Work until a signal comes."""
    system = importlib.import_module(f"bench.peers.systems.{sys.argv[1]}")
    if inspect.iscoroutinefunction(system.work):
        uvloop.run(system.work())
    else:
        system.work()


if __name__ == "__main__":
    main()
