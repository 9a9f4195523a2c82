"""The page for newcomers is followed to the letter."""

from __future__ import annotations

import itertools
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from docs.pages import DOCS, blocks
from docs.reader import MOST_SECONDS, Reader, pattern


@pytest.mark.acceptance
def test_the_page_for_newcomers_works_to_the_letter(tmp_path: Path) -> None:
    with ExitStack() as processes:
        reader = Reader(tmp_path, processes)
        for block in blocks(DOCS / "getting-started.md"):
            reader.follow(block)
        for name, last in (("zizq work", "1 processed, 1 failed"), ("zizq serve", "... INFO zizq::serve: stopped")):
            process, output = reader.running[name]
            process.send_signal(signal.SIGINT)
            assert process.wait(MOST_SECONDS) == 0, output.read_text()
            assert pattern(last, "").fullmatch(output.read_text().splitlines()[-1])


def test_the_page_shows_each_kind_of_step() -> None:
    steps = list(itertools.chain.from_iterable(block.commands for block in blocks(DOCS / "getting-started.md")))
    assert [step.split()[0] for step in steps] == ["pip", "zizq", "python", "zizq", "python"]
