"""`zizq top` in a real terminal, watching a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from acceptance.processes import ZIZQ, ServerProcess
from acceptance.terminal import Terminal, needs_tmux
from zizq import NotFound, SyncClient

pytestmark = [pytest.mark.acceptance, needs_tmux]


def dead_job(client: SyncClient) -> str:
    """A job that has died."""
    job_id = client.enqueue_raw("charge_card", {"card": 4711}, queue="billing").id
    with client.take(queues=["billing"]) as jobs:
        client.report_failure(next(iter(jobs)).id, "insufficient funds", error_type="CardError", kill=True)
    return job_id


def test_a_server_is_watched_in_a_terminal(tmp_path: Path, store: tuple[str, ...]) -> None:
    with ServerProcess(tmp_path / "root", *store, admin=True) as server, SyncClient(server.url) as client:
        died = dead_job(client)
        ids = [client.enqueue_raw(f"type_{number % 50}", number, queue="emails").id for number in range(300)]
        command = [*ZIZQ, "top", "--url", server.admin_url, "--refresh-rate", "100"]
        with Terminal(tmp_path, command) as terminal:
            terminal.until("connected for", "300 ready", "1 dead")
            rows_stay_and_go(terminal, client, ids)
            terminal.type("5")
            terminal.until(died, "CardError")
            terminal.type("r")
            terminal.until("Retry this job?", died)
            terminal.type("y")
            terminal.until("Nothing is here.", "0 dead")
            assert client.get_job(died).status == "ready"
            a_restart_is_survived(terminal, server)
            terminal.resize(160, 40)
            terminal.until("4 Queues   5 Dead", "WAIT P95")
            terminal.type("q")
            assert terminal.status() == 0


def rows_stay_and_go(terminal: Terminal, client: SyncClient, ids: list[str]) -> None:
    """Search, details, the tail, and a deletion."""
    terminal.type("2", "/", *"type_49", "Enter")
    terminal.until("50 of 300", ids[49])
    terminal.type("n", "n")
    terminal.until("150 of 300", ids[149])
    terminal.type("d")
    terminal.until(f"id        {ids[149]}", "queue     emails", "payload", " 149")
    terminal.type("D")
    terminal.until("Delete this job?", ids[149])
    terminal.type("y")
    terminal.until("299 ready", "is no longer ready")
    with pytest.raises(NotFound):
        client.get_job(ids[149])
    terminal.type("d", "G")
    terminal.until("299 of 299", ids[299])


def a_restart_is_survived(terminal: Terminal, server: ServerProcess) -> None:
    """The server dies and comes back."""
    terminal.type("4")
    terminal.until("QUEUE", "emails", "billing")
    server.kill()
    terminal.until("reconnecting for", "connection refused", "emails")
    server.start()
    terminal.until(" connected for", "emails")
