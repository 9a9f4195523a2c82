"""Fuzz: every parser, and the application as a whole, under coverage-guided bytes.

The extra `zizq[fuzz]` is what it takes; seeds are the examples in `trust.parsers`.
"""

from __future__ import annotations

import importlib.util
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from trust.application import SEEDS
from trust.parsers import PARSERS
from trust.verdict import Broken

FULL_S = 600.0
HANG_S = 10
MEMORY_MB = 1024
"""Beside what we have: a process that is started counts the most that its parent ever had as its own."""
TARGETS = {**{name: parser.seeds for name, parser in PARSERS.items()}, "application": SEEDS}


def is_possible() -> bool:
    """Whether atheris is here."""
    return importlib.util.find_spec("atheris") is not None


def run(*, size: float, seed: int | None) -> Iterator[str]:
    """Feed each for its part of ten minutes, or of a share of them."""
    if not is_possible():
        yield "left out: pip install 'zizq[fuzz]'"
        return
    for name in TARGETS:
        yield fuzz(name, max(1, round(FULL_S * size / len(TARGETS))), seed or 1)


def fuzz(name: str, seconds: int, seed: int) -> str:
    """Feed one for some seconds; returns what was tried.

    Raises:
        Broken: When it broke down, hung or took too much memory; the message has the bytes.
    """
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        for number, example in enumerate(TARGETS[name]):
            (corpus / str(number)).write_bytes(example)
        limit = MEMORY_MB + resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        options = [f"-max_total_time={seconds}", f"-timeout={HANG_S}", f"-rss_limit_mb={limit}", f"-seed={seed}"]
        command = [sys.executable, "-m", "trust.fuzzing", name, *options, f"-artifact_prefix={folder}/", str(corpus)]
        root = Path(__file__).parents[1]
        ended = subprocess.run(command, cwd=root, capture_output=True, text=True, errors="replace", check=False)
        found = [path.read_bytes() for path in Path(folder).iterdir() if path.is_file()]
        if ended.returncode or found:
            last = "\n".join(ended.stderr.splitlines()[-40:])
            raise Broken(f"{name} broke on {found} (seed {seed}):\n{last}")
        runs = re.findall(r"DONE +cov: (\d+).*?\n|Done (\d+) runs", ended.stderr)
        coverage = next((cov for cov, _ in runs if cov), "?")
        count = next((done for _, done in runs if done), "?")
        return f"{name}: {count} inputs in {seconds} s, {coverage} points of the code reached"
