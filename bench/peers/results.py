"""What was measured, and where it is kept: bench/results/peers.json."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench import report

FOLDER = Path(__file__).parents[1] / "results"
FILE = FOLDER / "peers.json"
SYNCED = ", synced"


def key(name: str, synced: bool) -> str:
    """A system as it was set."""
    return name + (SYNCED if synced else "")


@dataclass
class Results:
    """The figures of one run, or of several that were put together.

    Args:
        commands: What was run, and on which machine, with the figures that stand of it, as `system: figure`; those of a
            run that was not merged are all of its samples, and not told.
        samples: Of each system, as it was set, of each figure: one number a round.
        failures: What could not be measured, and why.
    """

    commands: dict[str, list[str]] = field(default_factory=dict)
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, command: str) -> Results:
        """Of a run that begins."""
        return cls({f"`{command}` ({report.machine()})": []})

    @classmethod
    def load(cls, file: Path = FILE) -> Results:
        """Those of before; none if there are none."""
        return cls(**json.loads(file.read_text())) if file.exists() else cls()

    def add(self, system: str, figures: Mapping[str, float]) -> None:
        """Take in what a turn gave."""
        for figure, value in figures.items():
            self.samples.setdefault(system, {}).setdefault(figure, []).append(round(value, 9))

    def failed(self, system: str, shape: str, why: str) -> None:
        """Take in that it gave nothing."""
        self.failures[f"{system}, {shape}"] = why

    def merge(self, newer: Results) -> Results:
        """These, with those of a run in place of what it measured again; a command of which nothing is left goes."""
        samples = {system: dict(figures) for system, figures in self.samples.items()}
        for system, figures in newer.samples.items():
            samples.setdefault(system, {}).update(figures)
        measured = {f"{system}, " for system in newer.samples}
        kept = {name: why for name, why in self.failures.items() if not any(name.startswith(one) for one in measured)}
        again = [f"{system}: {figure}" for system, figures in newer.samples.items() for figure in figures]
        left = {command: [name for name in names if name not in again] for command, names in self.commands.items()}
        commands = {command: names for command, names in left.items() if names}
        return Results(commands | dict.fromkeys(newer.commands, again), samples, kept | newer.failures)

    def save(self, file: Path = FILE) -> None:
        """Keep them."""
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(asdict(self), indent=1) + "\n")

    def median(self, system: str, figure: str) -> float | None:
        """The figure of the middle round."""
        samples = self.samples.get(system, {}).get(figure)
        return statistics.median(samples) if samples else None

    def spread(self, system: str, figure: str) -> Sequence[float]:
        """The lowest and the highest; nothing where they are one."""
        samples = self.samples.get(system, {}).get(figure, [])
        return (min(samples), max(samples)) if len(samples) > 1 else ()
