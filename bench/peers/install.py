"""What the peers need and zizq does not: their packages, in an environment of their own, and a Redis server."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.programs import SCRATCH

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def environment() -> Path:
    """The folder of the programs of the peers' environment, which is made when it is not there."""
    folder = SCRATCH / f"peers-{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:8]}"
    done = folder / "installed"
    if not done.exists():
        print(f"installing the peers into {folder.name}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        install = [folder / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*install, "-r", REQUIREMENTS], check=True)
        done.touch()
    return folder / "bin"


def redis_server() -> str:
    """The Redis server, which is installed when it is missing and we may.

    Raises:
        SystemExit: When it is missing and we may not.
    """
    if found := shutil.which("redis-server"):
        return found
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SystemExit("the peers need redis-server: install it with your package manager")
    print("installing redis-server", file=sys.stderr)
    # At run level 1 Debian does not start a service that it installs: we start our own when we need it.
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=quiet)
    subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "redis-server"],
                   check=True, env=quiet, stdout=subprocess.DEVNULL)  # fmt: skip
    found = shutil.which("redis-server")
    if found is None:
        raise SystemExit("redis-server was installed, but is not on the path")
    return found
