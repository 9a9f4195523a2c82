"""Random histories of three servers on one database: together they say what the oracle says."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from model.servers import ServersHistory
from model.test_histories import FEW, HISTORIES, PostgresHistories
from postgres import Databases


class ServerHistories(PostgresHistories):
    """The same steps, on servers."""

    kind = ServersHistory


@pytest.mark.timeout(600 + 60 * HISTORIES)
def test_servers_together_are_as_the_oracle(databases: Databases) -> None:
    ServerHistories.databases = databases
    few = settings(FEW, max_examples=HISTORIES or 4, stateful_step_count=30)
    run_state_machine_as_test(ServerHistories, settings=few)
