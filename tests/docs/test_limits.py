"""The page of limits says what the code holds to."""

from __future__ import annotations

import pytest

from docs.pages import ROOT
from zizq import job
from zizq.engine import pauses
from zizq.engine.cron import grammar, rules, schedule
from zizq.server import inbox as server_inbox
from zizq.server import payload_process, payloads
from zizq.server.dashboard import boards, guard, jobs, live, present, sessions
from zizq.server.descriptors import ADMIN
from zizq.server.http import exchange, load, take
from zizq.server.http.admin import events as admin_events
from zizq.server.net import limits
from zizq.server.settings import flag_of, options
from zizq.store.base import PAGE_BYTES
from zizq.store.postgres import database, inbox, names
from zizq.wire import codec, events, framing
from zizq.wire.operations import MAX_LIMIT
from zizq.words import size
from zizq.worker import health, probes

PAGE = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("|")]
BOUNDING = [
    (setting.name, option.show(setting.default))
    for setting, option in options()
    if setting.name.startswith(("max_", "filter_", "global_"))
    # How often, and not how much.
    and setting.name != "max_worker_deaths"
]


@pytest.mark.parametrize(("name", "default"), BOUNDING)
def test_every_option_that_bounds_is_there_with_its_default(name: str, default: str) -> None:
    [row] = [row for row in ROWS if f"`{flag_of(name)}`" in row]
    assert default in row


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("First line and headers", size(limits.MAX_HEAD).replace("KiB", " KiB")),
        ("First line and headers", f"{limits.MAX_FIELDS} headers"),
        ("Time for them", f"{limits.HEAD_S:g} s; {limits.OPENING_S:g} s for the first byte"),
        ("Time for a body", f"{limits.PATIENCE_S:g} s of silence; {load.GRACE_S} s in all"),
        ("Time for a body", f"and then {load.PACE >> 10} KiB a second"),
        ("Bytes that an HTTP/2 client", f"{limits.WINDOW >> 20} MiB"),
        ("Clients of its events", f"{admin_events.MOST}, with {events.MAX_LIMIT} jobs"),
        ("Messages of such a client", f"{events.MAX_TEXT >> 10} KiB"),
        ("Connections to the admin port", str(ADMIN)),
        ("Idle connections", f"{limits.IDLE_S['primary']:g} s; {limits.IDLE_S['admin']:g} s"),
        ("Pages that show live figures", str(live.MOST)),
        ("Sessions", f"{sessions.MOST}, for {sessions.LASTS_S // 3600} h"),
        ("Form", f"{guard.MOST_FORM >> 10} KiB and {guard.MOST_FIELDS} fields"),
        ("Search by a filter", f"{jobs.PATIENCE_S:g} s"),
        ("Payload that is shown", f"{present.MOST_PAYLOAD >> 10} KiB"),
        ("Payload that is shown", f"{present.LARGEST_PAYLOAD >> 10} KiB"),
        ("Traceback that is shown", f"{present.MOST_TRACEBACK >> 10} KiB"),
        ("Rows of a table", f"{jobs.PAGE} jobs; {boards.MOST_ROWS} of all else; {boards.MOST_GROUPS} groups"),
        ("What waits in memory", f"{32 * exchange.PIECE >> 20} MiB"),
        ("Jobs of one take", f"{take.MOST}, and {take.TAKE_BYTES >> 20} MiB"),
        ("Jobs of one take", f"the first has {take.FIRST}"),
        ("Nesting", f"{codec.MAX_DEPTH} levels"),
        ("Values in a payload", f"{payload_process.MOST_VALUES:,}"),
        ("Values in a payload", f"{payloads.SMALL >> 10} KiB"),
        ("Reading such a payload", f"{payloads.TIMEOUT_MS / 1000:g} s"),
        ("Reading such a payload", f"{payloads.MEMORY >> 30} GiB"),
        ("Metadata of a job", f"{job.MAX_METADATA} entries, names of 1 to {job.MAX_METADATA_NAME} characters"),
        ("Metadata of a job", f"{job.MAX_METADATA_BYTES >> 10} KiB"),
        ("Jobs on a page", f"{MAX_LIMIT}, and {PAGE_BYTES >> 20} MiB"),
        ("Entries of a cron group", str(rules.MAX_ENTRIES)),
        ("Characters of a cron", str(grammar.MAX_LENGTH)),
        ("Paused queues", str(pauses.MAX_PAUSED)),
        ("Posts that are moved", f"{server_inbox.MOST}, and {inbox.MOST_BYTES >> 20} MiB"),
        ("Queue and type of a job", f"{names.MOST_BYTES} bytes"),
        ("Connections of a server", str(database.CONNECTIONS + 1)),
        ("A statement", f"{database.PATIENCE_S:g} s"),
        ("Years", f"{schedule.FIRST_YEAR} to {schedule.LAST_YEAR}"),
    ],
)  # fmt: skip
def test_every_other_limit_is_the_one_in_the_code(what: str, value: str) -> None:
    [row] = [row for row in ROWS if row.startswith(f"| {what}")]
    assert value in row


def test_limits_of_the_health_port_are_there_too() -> None:
    part = PAGE.partition("## The health port of a worker")[2]
    for value in (
        f"{health.MAX_HEAD >> 10} KiB | 431",
        f"{probes.PATIENCE_S:g} s |",
        f"| Connections | {probes.MOST} |",
    ):
        assert value in part


def test_frames_of_clients_are_there_too() -> None:
    assert f"frames of {framing.MAX_FRAME >> 20} MiB" in PAGE
