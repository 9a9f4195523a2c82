"""One parser under libFuzzer, in a process of its own, for libFuzzer never returns.

`python -m trust.fuzzing NAME [libFuzzer's options] CORPUS`
"""

from __future__ import annotations

import sys
from functools import partial

import atheris

with atheris.instrument_imports(include=["zizq"]):
    from trust.application import Application, feed
    from trust.parsers import PARSERS


def main() -> None:
    """Feed the parser that the command line names, until the time is up or it breaks."""
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, partial(feed, Application()) if name == "application" else PARSERS[name].feed)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
