"""`python -m bench peers`: every system takes its turn at every shape, round after round."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata

from bench.peers import catalogue, install, page
from bench.peers.bed import bed
from bench.peers.catalogue import System
from bench.peers.results import FILE, Results, key
from bench.peers.shapes import SHAPES, Figures
from bench.programs import ROOT
from bench.report import put

PAGE = ROOT / "docs" / "benchmarks.md"
IMAGES = ROOT / "docs" / "images"

Turn = tuple[str, bool, str]
"""A system, whether it is synced, and a shape."""


def run(command: str, *, rounds: int, size: float, systems: Sequence[str], shapes: Sequence[str]) -> Results:
    """Measure; what fails is told, and leaves its place empty."""
    for name in systems:
        install.environment(catalogue.ALL[name].environment)
    results = Results.of(command)
    for number in range(rounds):
        for turn in turns(systems, shapes, first=number == 0):
            _take(results, turn, size, f"round {number + 1}/{rounds}")
    if "kill" in shapes:
        _kill(results, systems)
    return results


def tell(measured: Results, *, write: bool) -> None:
    """Print the page's part; with `write`, together with what earlier runs measured, into the page."""
    results = Results.load().merge(measured) if write else measured
    text = page.page(results, versions())
    print(f"\n{text}\n", flush=True)
    if write:
        results.save(FILE)
        put(PAGE, "peers", text)
        for name, picture in page.pictures(results).items():
            (IMAGES / f"{name}.svg").write_text(picture)


def versions() -> dict[str, str]:
    """Of servers and packages."""
    kinds = {system.server.name: system.server for system in catalogue.ALL.values() if system.server.version}
    told = {}
    for kind in kinds.values():
        command = [install.server(kind.version[0]), *kind.version[1:]]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        told[kind.name] = next(iter(re.findall(r"v?(\d+\.\d[\w.]*)", said)), said.strip())
    return {"zizq": metadata.version("zizq"), **told, **install.versions()}


def turns(systems: Sequence[str], shapes: Sequence[str], *, first: bool) -> Iterator[Turn]:
    """What a round measures, in its order: shape by shape, so that a slow minute falls on all systems."""
    for shape in shapes:
        if shape == "kill" or (SHAPES[shape].once and not first):
            continue
        for name in systems:
            for synced in durabilities(catalogue.ALL[name]):
                if SHAPES[shape].synced or synced == durabilities(catalogue.ALL[name])[0]:
                    yield name, synced, shape


def durabilities(system: System) -> list[bool]:
    """How a system can be set: the first is how it comes, or nearest to that."""
    return [synced for synced, told in ((False, system.server.quick), (True, system.server.synced)) if told]


def _kill(results: Results, systems: Sequence[str]) -> None:
    with ThreadPoolExecutor(len(systems)) as pool:
        trials = [(name, durabilities(catalogue.ALL[name])[0], "kill") for name in systems]
        list(pool.map(lambda turn: _take(results, turn, 1.0, "beside each other"), trials))


def _take(results: Results, turn: Turn, size: float, where: str) -> None:
    name, synced, shape = turn
    system, began = catalogue.ALL[name], time.monotonic()
    try:
        with bed(system, synced=synced) as made:
            figures: Figures = SHAPES[shape].measure(made, size)
    except Exception as trouble:  # whatever it is, the others go on, and the page says so
        results.failed(key(name, synced), shape, str(trouble) or repr(trouble))
        print(f"{where}: {name}, {shape}: FAILED: {trouble}", file=sys.stderr)
        return
    results.add(key(name, synced), figures)
    said = ", ".join(f"{figure} {value:,.6g}" for figure, value in figures.items())
    print(f"{where}: {key(name, synced)}, {shape}: {said} ({time.monotonic() - began:.0f} s)", file=sys.stderr)
