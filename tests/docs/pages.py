"""The pages of the documentation, cut into pieces that can be run and checked.

What the pages say to the tests stands in HTML comments, which readers do not see:

    <!-- test: prelude -->      the Python block that follows goes before every other one of its page
    <!-- test: before           Python, run when the block that follows is imported, before its functions are called
    <!-- test: after            Python, run after the functions of the block above; it may use `printed` and `returned`
    <!-- test: only emails -->  the block that follows is done when this queue is empty, whatever the others hold
    <!-- test: endless -->      the block that follows loops for as long as its take stream lasts
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(page for page in DOCS.rglob("*.md") if "decisions" not in page.parts)]
OURS = [page for page in PAGES if page.name != "protocol.md"]
"""The protocol is for authors of clients, and has tests of its own."""

_PIECE = re.compile(
    r"^<!-- test: (?P<word>\w+)\s*(?P<note>.*?)-->$|^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)


@dataclass
class Block:
    """A fenced block, with what the comments around it say."""

    page: Path
    line: int
    language: str
    text: str
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The page and line, as an identifier."""
        return f"{self.page.stem.lower().replace('-', '_')}_{self.line}"

    @property
    def file(self) -> str | None:
        """The file that the page asks the reader to write it to."""
        match = re.match(r"# (\w+\.py)\n", self.text)
        return match[1] if match else None

    @property
    def commands(self) -> list[str]:
        """The commands that a reader would type."""
        lines = self.text.splitlines()
        if self.language == "console":
            return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        if self.language == "sh":
            return [line for line in lines if line.strip()]
        if self.language == "ini":
            return [line.removeprefix("ExecStart=") for line in lines if line.startswith("ExecStart=")]
        return []


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    notes: dict[str, str] = {}
    for match in _PIECE.finditer(text):
        if match["word"] == "after":
            found[-1].notes["after"] = match["note"]
        elif match["word"]:
            notes[match["word"]] = match["note"].strip()
        else:
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(page, line, match["language"], match["text"], notes))
            notes = {}
    return found


def prose(page: Path) -> str:
    """A page without its blocks and comments."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
