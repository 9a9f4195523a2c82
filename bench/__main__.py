"""`python -m bench`: runs the programs, prints their tables, and keeps them as JSON and in README.md if asked to."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

from bench import budgets, changes, folds, latency, peers, report, scale, throughput, traces, watching
from bench.programs import MODES

PROGRAMS = {
    "throughput": throughput.run,
    "latency": latency.run,
    "scale": scale.run,
    "changes": changes.run,
    "budgets": budgets.run,
    "folds": folds.run,
    "watching": watching.run,
    "traces": traces.run,
    "peers": peers.run,
}


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("program", nargs="?", default="all", choices=["all", *PROGRAMS])
    parser.add_argument("--rounds", type=int, default=5, help="times that each figure is taken [5]")
    parser.add_argument(
        "--size", type=float, default=1.0, help="share of the jobs to measure with: 0.02 is a trial [1]"
    )
    parser.add_argument("--modes", default="buffered,fsync", help=f"of {', '.join(MODES)} [buffered,fsync]")
    parser.add_argument("--json", type=Path, help="file for the tables and all single measurements")
    parser.add_argument("--write", action="store_true", help="put the tables into bench/README.md")
    order = parser.parse_args()
    modes = order.modes.split(",")
    if unknown := set(modes) - set(MODES):
        parser.error(f"no such mode: {', '.join(sorted(unknown))}")

    said = {"--rounds": order.rounds, "--size": order.size, "--modes": order.modes}
    options = [f"{flag} {value}" for flag, value in said.items() if str(value) != str(parser.get_default(flag[2:]))]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the processes of a measurement end with us
    print(report.machine(), file=sys.stderr)
    results = {"machine": report.machine(), "tables": []}
    for name in PROGRAMS if order.program == "all" else [order.program]:
        command = " ".join(["python -m bench", name, *options])
        table = PROGRAMS[name](command, rounds=order.rounds, size=order.size, modes=modes)
        print(f"\n{table}\n", flush=True)
        results["tables"].append(vars(table))
        if order.write:
            report.fill(table)
        if order.json:
            order.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
