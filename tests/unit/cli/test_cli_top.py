"""`zizq top`, up to the moment when it takes the terminal."""

from __future__ import annotations

import subprocess
import sys

from click.testing import CliRunner

from zizq.cli.main import cli

WITHOUT_TEXTUAL = """
import sys
sys.modules["textual"] = None
from zizq.cli.main import main
main()
"""


def test_without_the_extra_the_error_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_TEXTUAL, "top"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "Error: zizq top needs Textual and websockets: pip install 'zizq[top]'\n",
    )


def test_no_other_command_needs_the_extra() -> None:
    script = "import sys, zizq.cli.jobs, zizq.cli.work, zizq.cli.serve; print('textual' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_wrong_options_are_refused_before_the_screen_changes() -> None:
    for arguments, text in (
        (["--url", "nowhere"], "is not a server's URL"),
        (["--refresh-rate", "5"], "is not in the range"),
        (["--client-cert", __file__], "belong together"),
        (["--token", "two words"], "the token has blanks"),
    ):
        done = CliRunner().invoke(cli, ["top", *arguments])
        assert done.exit_code != 0
        assert text in done.output
