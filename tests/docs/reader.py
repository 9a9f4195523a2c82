"""Someone who follows a page to the letter: its files are written, its commands run, its output compared.

In expected output `...` stands for anything; in a command, a word that ends in `...` is an identifier that an earlier
command printed. What the page says of port 7890 happens on a free port.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from docs.pages import Block

ADDRESS = "127.0.0.1:7890"
ENDLESS = ("zizq serve", "zizq work")
MOST_SECONDS = 20


def pattern(expected: str, address: str) -> re.Pattern[str]:
    """What a line of expected output matches."""
    parts = expected.replace(ADDRESS, address).split("...")
    return re.compile(".*".join(re.escape(part) for part in parts))


class Reader:
    """Someone who does what the page says."""

    def __init__(self, folder: Path, processes: ExitStack) -> None:
        self._folder = folder
        self._processes = processes
        self.running: dict[str, tuple[subprocess.Popen[str], Path]] = {}
        self._ids: list[str] = []
        self._address = ADDRESS
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ZIZQ_")}
        self._environment = {**kept, "PATH": path, "ZIZQ_PORT": "0", "ZIZQ_ADMIN_PORT": "0", "PYTHONWARNINGS": "error"}

    def follow(self, block: Block) -> None:
        """Do what one block says."""
        if block.file:
            (self._folder / block.file).write_text(block.text, encoding="utf-8")
        for command in block.commands:
            if command.startswith("pip "):
                continue
            expected = [line for line in block.text.splitlines() if not line.startswith("$ ")]
            if command.startswith(ENDLESS):
                self._start(command, expected)
            else:
                self._run(command, expected)

    def _run(self, command: str, expected: list[str]) -> None:
        ids = iter(self._ids)
        command = command.replace(ADDRESS, self._address)
        words = [next(ids) if word.endswith("...") else word for word in shlex.split(command)]
        done = subprocess.run(
            words, cwd=self._folder, env=self._environment, text=True, capture_output=True, check=True
        )
        printed = done.stdout.splitlines()
        matches = [pattern(one, self._address).fullmatch(line) for one, line in zip(expected, printed, strict=True)]
        assert all(matches), done.stdout
        self._ids += [line.split()[0] for one, line in zip(expected, printed, strict=True) if one.startswith("... ")]

    def _start(self, command: str, expected: list[str]) -> None:
        output = self._folder / f"output-{len(self.running)}"
        with output.open("w") as out:
            process = subprocess.Popen(
                shlex.split(command), cwd=self._folder, env=self._environment, stdout=out, stderr=subprocess.STDOUT
            )
        self._processes.enter_context(ended(process))
        self.running[" ".join(command.split()[:2])] = process, output
        until = time.monotonic() + MOST_SECONDS
        # The worker's two jobs run at once, and so its lines come in any order.
        while missing := [one for one in expected if not self._seen(one, output)]:
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < until, (missing, output.read_text())
            time.sleep(0.01)

    def _seen(self, expected: str, output: Path) -> bool:
        text = output.read_text()
        if "addr=" in expected and (found := re.search(r"addr=(\S+)", text)):
            self._address = found[1]
            scheme = "https" if "scheme=https" in expected else "http"
            self._environment["ZIZQ_URL"] = f"{scheme}://{self._address}"
        return any(pattern(expected, self._address).fullmatch(line) for line in text.splitlines())


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()
        process.wait()
