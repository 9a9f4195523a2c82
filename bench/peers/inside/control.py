"""A process that asks the server: `python -m bench.peers.inside.control SYSTEM`.

It prepares a new server, says so, and then answers each line of its input. `left 0` waits until no more jobs than that
are left, and `there 1000` until there are so many; the answer has how many there are, and when that was so. A server
that does not answer is asked again: it may be about to start. One that answers, but has too few jobs, and no more of
them some seconds later, has lost them.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
import time
from collections.abc import Callable
from typing import Any

POLL_S = 0.004
LONGEST_S = 120
"""After so long the answer is what is there."""
LOST_S = 3.0


def left(count: Callable[[], int], most: int) -> dict[str, Any]:
    """Ask until no more are left than so many."""
    return _ask(count, lambda found, _: found <= most)


def there(count: Callable[[], int], least: int) -> dict[str, Any]:
    """Ask until so many are there, or until no more come."""
    return _ask(count, lambda found, still_s: found >= least or still_s > LOST_S)


def _ask(count: Callable[[], int], enough: Callable[[int, float], bool]) -> dict[str, Any]:
    began = since = time.monotonic()
    found, trouble = -1, ""
    while time.monotonic() < began + LONGEST_S:
        try:
            now = count()
        except Exception as error:  # whatever a client says of a server that is not there yet
            trouble = repr(error)
        else:
            since = since if now == found else time.monotonic()
            found = now
            if enough(found, time.monotonic() - since):
                break
        time.sleep(POLL_S)
    return {"left": found, "at": time.monotonic(), "trouble": trouble}


def main() -> None:
    """Prepare, then answer."""
    system = importlib.import_module(f"bench.peers.systems.{sys.argv[1]}")
    runner = asyncio.Runner()

    def call(function: Callable[[], Any]) -> Any:
        return runner.run(function()) if inspect.iscoroutinefunction(function) else function()

    if hasattr(system, "prepare") and sys.argv[2:] != ["prepared"]:
        call(system.prepare)
    print(json.dumps({"prepared": True}), flush=True)
    for line in sys.stdin:
        word, number = line.split()[0], int(line.split()[1])
        ask = {"left": left, "there": there}[word]
        print(json.dumps(ask(lambda: call(system.left), number)), flush=True)


if __name__ == "__main__":
    main()
