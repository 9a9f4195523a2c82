"""A real PgBouncer in transaction mode, in front of a PostgreSQL of a test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from zizq.testing.postgres import SYSTEM_USER, Cluster

SETTINGS = """
[databases]
* = host=127.0.0.1 port={there}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {here}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 10
max_client_conn = 200
"""


def require_pooler() -> None:
    """Skip a test where there is no PgBouncer; fail it where there must be one."""
    if shutil.which("pgbouncer") is not None:
        return
    reason = "there is no PgBouncer: apt-get install pgbouncer, or let `make test` do that as root"
    if os.environ.get("ZIZQ_TEST_POSTGRES") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def pooled(cluster: Cluster) -> Iterator[str]:
    """The URL of the cluster's database behind a pooler, as servers are told it."""
    require_pooler()
    folder = Path(tempfile.mkdtemp(prefix="zizq-pgb-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "users").write_text('"zizq" ""\n')
    (folder / "settings").write_text(SETTINGS.format(there=cluster.port, here=port, folder=folder))
    # It refuses to be root.
    user: dict[str, Any] = {"user": SYSTEM_USER, "group": SYSTEM_USER, "extra_groups": []} if os.geteuid() == 0 else {}
    if user:
        shutil.chown(folder, SYSTEM_USER, SYSTEM_USER)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["pgbouncer", str(folder / "settings")], stderr=log, stdout=log, **user)
    try:
        yield f"postgresql://zizq@127.0.0.1:{port}/postgres?prepared=off"
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)
