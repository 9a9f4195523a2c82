"""`python -m bench`: runs the programs, prints their tables, and keeps them as JSON and in pages if asked to.

Most programs give one table, in README.md. `peers` and `growth` give a part each of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

from bench import budgets, changes, folds, growth, idle, latency, report, scale, servers, throughput, traces, watching
from bench.peers import catalogue
from bench.peers import run as peers
from bench.peers.shapes import SHAPES
from bench.programs import MODES

PROGRAMS = {
    "throughput": throughput.run,
    "latency": latency.run,
    "scale": scale.run,
    "idle": idle.run,
    "changes": changes.run,
    "budgets": budgets.run,
    "folds": folds.run,
    "watching": watching.run,
    "traces": traces.run,
    "servers": servers.run,
}


def main() -> None:
    """Run what the command line names."""
    parser = _parser()
    order = parser.parse_args()
    modes, systems, shapes = (words.split(",") for words in (order.modes, order.systems, order.shapes))
    for said, known in ((modes, MODES), (systems, catalogue.ALL), (shapes, SHAPES)):
        if unknown := set(said) - set(known):
            parser.error(f"no such thing: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the processes of a measurement end with us
    print(report.machine(), file=sys.stderr)
    results = {"machine": report.machine(), "tables": []}
    for name in PROGRAMS if order.program == "all" else {order.program} & set(PROGRAMS):
        table = PROGRAMS[name](_command(parser, order, name), rounds=order.rounds, size=order.size, modes=modes)
        print(f"\n{table}\n", flush=True)
        results["tables"].append(vars(table))
        if order.write:
            report.fill(table)
        if order.json:
            order.json.write_text(json.dumps(results, indent=1))
    if order.program in ("all", "peers"):
        command = _command(parser, order, "peers")
        measured = peers.run(command, rounds=order.rounds, size=order.size, systems=systems, shapes=shapes)
        peers.tell(measured, write=order.write)
    if order.program in ("all", "growth"):
        grown = growth.run(_command(parser, order, "growth"), rounds=order.rounds, size=order.size)
        growth.tell(grown, write=order.write)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("program", nargs="?", default="all", choices=["all", *PROGRAMS, "peers", "growth"])
    parser.add_argument("--rounds", type=int, default=3, help="times that each figure is taken [3]")
    parser.add_argument(
        "--size", type=float, default=1.0, help="share of the jobs to measure with: 0.02 is a trial [1]"
    )
    parser.add_argument("--modes", default="buffered,fsync", help=f"of {', '.join(MODES)} [buffered,fsync]")
    parser.add_argument("--systems", default=",".join(catalogue.ALL), help="of the peers, and zizq [all]")
    parser.add_argument("--shapes", default=",".join(SHAPES), help="what to measure of the peers [all]")
    parser.add_argument("--json", type=Path, help="file for the tables and all single measurements")
    parser.add_argument(
        "--write", action="store_true", help="put the tables into bench/README.md or docs/benchmarks.md"
    )
    return parser


def _command(parser: argparse.ArgumentParser, order: argparse.Namespace, name: str) -> str:
    """What to type to have this program run so again."""
    flags = ["rounds", "size", *{"peers": ["systems", "shapes"], "growth": []}.get(name, ["modes"])]
    said = {flag: getattr(order, flag) for flag in flags}
    options = [f"--{flag} {value}" for flag, value in said.items() if str(value) != str(parser.get_default(flag))]
    return " ".join(["python -m bench", name, *options])


if __name__ == "__main__":
    main()
