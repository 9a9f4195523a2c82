"""What the peers need and zizq does not: their packages, in environments of their own, and their servers."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.programs import SCRATCH

HERE = Path(__file__).parent
REQUIREMENTS = {"main": HERE / "requirements.txt", "old-redis": HERE / "requirements-old-redis.txt"}
OBAN = "oban==0.7.0"
"""Asks for Python 3.12, of which it uses one statement; where we run on 3.11, that statement is written anew."""
PACKAGES = {
    "redis-server": "redis-server",
    "postgres": "postgresql",
    "beanstalkd": "beanstalkd",
    "nats-server": "nats-server",
}
"""Debian's package for each server."""
PLACES = ["/usr/sbin", "/usr/local/sbin"]


def environment(name: str) -> Path:
    """The folder of the programs of an environment, which is made when it is not there."""
    if name == "ours":
        return Path(sys.executable).parent
    wanted = REQUIREMENTS[name].read_bytes() + f"{OBAN} {sys.version} {sys.base_prefix}".encode()
    folder = SCRATCH / f"peers-{name}-{hashlib.sha256(wanted).hexdigest()[:8]}"
    done = folder / "installed"
    if not done.exists():
        print(f"installing the peers into {folder.name}", file=sys.stderr)
        SCRATCH.mkdir(exist_ok=True)
        (SCRATCH / ".gitignore").write_text("*\n")
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        _pip(folder, ["-r", REQUIREMENTS[name]])
        if name == "main":
            _pip(folder, ["--no-deps", "--ignore-requires-python", OBAN])
            _mend_oban(folder)
        done.touch()
    return folder / "bin"


def versions() -> dict[str, str]:
    """Of each package that is pinned."""
    texts = [*(file.read_text() for file in REQUIREMENTS.values()), OBAN]
    pins = re.findall(r"^([\w-]+)(?:\[[\w,]+\])?==([\w.]+)", "\n".join(texts), re.MULTILINE)
    return dict(sorted(dict(reversed(pins)).items()))  # what both have is told of the first


def server(program: str) -> Path:
    """Where a server's program is; it is installed when it is missing and we may.

    Raises:
        SystemExit: When it is missing and we may not.
    """
    if found := _find(program):
        return found
    package = PACKAGES[program]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SystemExit(f"the peers need {program}: install {package} with your package manager")
    print(f"installing {package}", file=sys.stderr)
    # At run level 1 Debian does not start a service that it installs: we start our own when we need it.
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=quiet)
    subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", package],
                   check=True, env=quiet, stdout=subprocess.DEVNULL)  # fmt: skip
    if found := _find(program):
        return found
    raise SystemExit(f"{package} was installed, but {program} is nowhere to be found")


def _find(program: str) -> Path | None:
    """On the path, and where Debian puts what users do not call themselves."""
    postgres = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = os.pathsep.join([*map(str, postgres), os.environ.get("PATH", os.defpath), *PLACES])
    found = shutil.which(program, path=path)
    return Path(found) if found else None


def _pip(folder: Path, words: Sequence[str | Path]) -> None:
    install = [folder / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*install, *words], check=True)


def _mend_oban(folder: Path) -> None:
    if sys.version_info >= (3, 12):
        return
    [source] = folder.glob("lib/python*/site-packages/oban/job.py")
    source.write_text(re.sub(r"^type Result\[T\] = ", "Result = ", source.read_text(), flags=re.MULTILINE))
