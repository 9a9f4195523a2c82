"""`python -m trust`: runs the trials, prints their figures, and fails when a promise was broken."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Any

from trust.verdict import Broken

TRIALS = ("crash", "power", "faults", "simulate", "backup", "overload", "fuzz")
"""Modules here, each with a `run`; docs/guides/trust.md says what they do."""


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m trust", description=__doc__)
    parser.add_argument("trial", nargs="?", default="all", choices=["all", *TRIALS])
    parser.add_argument("--size", type=float, default=1.0, help="share of the whole trial: 0.01 is a try [1]")
    parser.add_argument("--seed", type=int, help="repeat what a trial did under this seed alone")
    order = parser.parse_args()
    broken = 0
    for name in TRIALS if order.trial == "all" else [order.trial]:
        try:
            for line in _module(name).run(size=order.size, seed=order.seed):
                print(f"{name}: {line}", flush=True)
        except Broken as error:
            broken += 1
            print(f"{name}: BROKEN: {error}", flush=True)
    sys.exit(1 if broken else 0)


def _module(name: str) -> Any:
    return importlib.import_module(f"trust.{name}")


if __name__ == "__main__":
    main()
