"""The five minutes of the page on TLS are followed to the letter."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from docs.pages import DOCS, blocks
from docs.reader import MOST_SECONDS, Reader


@pytest.mark.acceptance
def test_the_page_on_tls_works_to_the_letter(tmp_path: Path) -> None:
    with ExitStack() as processes:
        reader = Reader(tmp_path, processes)
        for block in blocks(DOCS / "guides" / "tls.md"):
            if block.language == "console":
                reader.follow(block)
        process, output = reader.running["zizq serve"]
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGINT)
        assert process.wait(MOST_SECONDS) == 0, output.read_text()
