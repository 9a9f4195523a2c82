"""What is sent about crons, what the answers mean, and what is refused before anything is sent."""

import inspect
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from unit.client.fakes import FakeTransport, SyncFakeTransport, answer
from zizq import (
    Backoff,
    Batch,
    Client,
    ConfigError,
    CronEntryHandle,
    CronHandle,
    Draw,
    EncodeError,
    Enqueue,
    InvalidRequest,
    NotFound,
    RawBatch,
    Retention,
    SyncClient,
    SyncCronEntryHandle,
    SyncCronHandle,
    Unique,
    job_kind,
)
from zizq.wire.codec import Format

AT = 1_790_000_000_123
TEMPLATE = {"type": "report", "queue": "reports", "payload": {"id": 1}, "priority": 32_768}
ENTRY = {"name": "report", "expression": "0 3 * * *", "paused": False, "job": TEMPLATE, "next_enqueue_at": AT}
GROUP = {"name": "nightly", "paused": False, "entries": [ENTRY]}


@job_kind("report", queue="reports", unique=Unique(lambda report: f"report:{report.id}"))
@dataclass
class Report:
    id: int


def asked(*answers, form="json"):
    return SyncClient(format=form, transport=SyncFakeTransport(*answers))


def sent(client):
    """The requests that were sent, as method, path and body."""
    requests = client._transport.sent
    return [(one.method, one.path, None if one.body is None else msgspec.json.decode(one.body)) for one in requests]


# ── definitions ──────────────────────────────────────────────────────────────────────────────────────


def test_a_definition_replaces_the_whole_group_by_one_request():
    client = asked(answer(GROUP))
    with client.define_cron("my/app", timezone="Europe/London", paused=True) as cron:
        cron.entry("report", "0 3 * * *", Report(1), timezone="UTC", paused=False, priority=5)
        cron.entry("sweep, all", "@hourly", Enqueue("sweep", None))
        assert sent(client) == []
    assert sent(client) == [
        (
            "PUT",
            "/crons/my%2Fapp",
            {
                "timezone": "Europe/London",
                "paused": True,
                "entries": [
                    {
                        "name": "report",
                        "expression": "0 3 * * *",
                        "timezone": "UTC",
                        "paused": False,
                        "job": {
                            "type": "report", "queue": "reports", "payload": {"id": 1}, "priority": 5,
                            "unique_key": "report:1", "unique_while": "queued",
                        },
                    },
                    {
                        "name": "sweep, all",
                        "expression": "@hourly",
                        "job": {"type": "sweep", "queue": "default", "payload": None},
                    },
                ],
            },
        )
    ]  # fmt: skip


def test_a_definition_without_entries_empties_the_group():
    client = asked(answer(GROUP))
    with client.define_cron("nightly"):
        pass
    assert sent(client) == [("PUT", "/crons/nightly", {"entries": []})]


def test_a_block_that_raises_defines_nothing():
    client = asked()
    with pytest.raises(ConfigError), client.define_cron("nightly") as cron:
        cron.entry("", "0 3 * * *", Report(1))
    assert sent(client) == []


async def test_an_asynchronous_block_does_the_same():
    client = Client(format="json", transport=FakeTransport(answer(GROUP)))
    with pytest.raises(ConfigError):
        async with client.define_cron("nightly") as cron:
            cron.entry("", "0 3 * * *", Report(1))
    async with client.define_cron("nightly") as cron:
        cron.entry("report", "0 3 * * *", Report(1))
    [(method, path, body)] = sent(client)
    assert (method, path, [entry["name"] for entry in body["entries"]]) == ("PUT", "/crons/nightly", ["report"])


def test_what_the_server_says_against_a_definition_is_raised_by_the_block():
    client = asked(answer({"error": "invalid cron expression: no"}, 400))
    with pytest.raises(InvalidRequest, match="invalid cron expression"), client.define_cron("nightly") as cron:
        cron.entry("report", "no", Report(1))


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (lambda cron: cron.entry("report", "@daily", Report(2)), "'nightly' has an entry 'report' already"),
        (lambda cron: cron.entry("", "@daily", Report(2)), "name=''"),
        (lambda cron: cron.entry(None, "@daily", Report(2)), "name=None"),
        (lambda cron: cron.entry("a", " ", Report(2)), "expression=' '"),
        (lambda cron: cron.entry("a", 5, Report(2)), "expression=5"),
        (lambda cron: cron.entry("a", "@daily", Report(2), timezone=""), "timezone='' is no zone"),
        (lambda cron: cron.entry("a", "@daily", Report(2), timezone=UTC), "IANA name such as"),
        (lambda cron: cron.entry("a", "@daily", Report(2), paused="no"), "paused='no'"),
        (lambda cron: cron.entry("a", "@daily", Report(2), delay=5), "'a': its jobs run when it is due"),
        (lambda cron: cron.entry("a", "@daily", Report(2), ready_at=datetime(2030, 1, 1, tzinfo=UTC)), "ready_at"),
        (lambda cron: cron.entry("a", "@daily", Enqueue("t", 1, delay=5)), "leave out ready_at and delay"),
        (lambda cron: cron.entry("a", "@daily", Report), "is a class"),
        (lambda cron: cron.entry("a", "@daily", {"id": 1}), "dict is no kind"),
        (lambda cron: cron.entry("a", "@daily", Report(2), prority=5), "unknown option 'prority'"),
        (lambda cron: cron.entry("a", "@daily", Report(2), budgets=("b", 0)), "cost=0"),
        (lambda cron: cron.entry("a", "@daily", Report(2), batch=Batch(".", limit=5)), "exclude each other"),
    ],
)
def test_a_wrong_entry_is_refused_where_it_is_added(add, message):
    def define():
        with client.define_cron("nightly") as cron:
            cron.entry("report", "0 3 * * *", Report(1))
            add(cron)

    client = asked()
    with pytest.raises(ConfigError, match=message):
        define()
    assert sent(client) == []


def test_a_payload_that_cannot_travel_is_refused_where_it_is_added():
    with pytest.raises(EncodeError), asked().define_cron("nightly") as cron:
        cron.entry("a", "@daily", Enqueue("t", object()))


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        ([""], {}, "name=''"),
        ([7], {}, "name=7"),
        (["a"], {"timezone": 7}, "timezone=7"),
        (["a"], {"paused": 1}, "paused=1"),
        ([".."], {}, "is no id and no name"),
    ],
)
def test_a_wrong_group_is_refused_before_anything_is_sent(args, options, message):
    client = asked()
    with pytest.raises(ConfigError, match=message), client.define_cron(*args, **options):
        pass
    assert sent(client) == []


# ── handles ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("call", "back", "expected"),
    [
        (lambda client: client.crons(), {"crons": ["a"]}, ("GET", "/crons", None)),
        (lambda client: client.cron("a/b").get(), GROUP, ("GET", "/crons/a%2Fb", None)),
        (lambda client: client.cron("g").pause(), GROUP, ("PATCH", "/crons/g", {"paused": True})),
        (lambda client: client.cron("g").resume(), GROUP, ("PATCH", "/crons/g", {"paused": False})),
        (lambda client: client.cron("g").delete(), None, ("DELETE", "/crons/g", None)),
        (lambda client: client.cron("g").entry("a/b").get(), ENTRY, ("GET", "/crons/g/entries/a%2Fb", None)),
        (lambda client: client.cron("g").entry("e").pause(), ENTRY, ("PATCH", "/crons/g/entries/e", {"paused": True})),
        (lambda client: client.cron("g").entry("e").resume(), ENTRY,
            ("PATCH", "/crons/g/entries/e", {"paused": False})),
        (lambda client: client.cron("g").entry("e").delete(), None, ("DELETE", "/crons/g/entries/e", None)),
        (
            lambda client: client.cron("g").entry("e").put(
                "@daily", Enqueue("t", 1), timezone="UTC", paused=True, priority=1
            ),
            ENTRY,
            (
                "PUT", "/crons/g/entries/e",
                {
                    "name": "e", "expression": "@daily", "timezone": "UTC", "paused": True,
                    "job": {"type": "t", "queue": "default", "payload": 1, "priority": 1},
                },
            ),
        ),
    ],
)  # fmt: skip
async def test_a_handle_sends_what_both_clients_send(call, back, expected):
    status = 204 if back is None else 200
    blocking, coroutine = asked(answer(back, status)), FakeTransport(answer(back, status))
    value = call(blocking)
    async with Client(format="json", transport=coroutine) as client:
        assert await call(client) == value
        assert sent(client) == sent(blocking) == [expected]
    assert (value is None) is (back is None)


@pytest.mark.parametrize(
    ("handle", "twin"), [(CronHandle, SyncCronHandle), (CronEntryHandle, SyncCronEntryHandle)], ids=["group", "entry"]
)
def test_both_kinds_of_handle_have_the_same_methods_with_the_same_arguments(handle, twin):
    def surface(cls):
        methods = {name: member for name, member in vars(cls).items() if not name.startswith("_")}
        return {name: list(inspect.signature(member).parameters.values()) for name, member in methods.items()}

    assert surface(handle) == surface(twin)


def test_a_handle_is_no_question_whether_there_is_one():
    client = asked(answer({"error": "cron group 'g' not found"}, 404))
    handle = client.cron("g")
    entry = handle.entry("e")
    assert (repr(handle), repr(entry)) == ("<SyncCronHandle 'g'>", "<SyncCronEntryHandle 'g' 'e'>")
    assert sent(client) == []
    with pytest.raises(NotFound, match="'g' not found"):
        handle.get()


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.cron("").delete(),
        lambda client: client.cron(None).get(),
        lambda client: client.cron("g").entry(".").delete(),
        lambda client: client.cron("g").entry("e").put("@daily", Report(1), delay=1),
        lambda client: client.cron("g").entry("e").put("", Report(1)),
    ],
)
def test_a_handle_of_nothing_sends_nothing(call):
    client = asked()
    with pytest.raises(ConfigError):
        call(client)
    assert sent(client) == []


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", ["json", "msgpack"])
def test_a_group_is_read(form):
    stamps = {"paused_at": AT, "resumed_at": AT + 1000}
    group = {**GROUP, "timezone": "UTC", **stamps, "entries": [{**ENTRY, **stamps, "last_enqueue_at": AT - 1}, ENTRY]}
    wire = Format.JSON if form == "json" else Format.MSGPACK
    read = asked(answer(group, form=wire), form=form).cron("nightly").get()
    at = datetime.fromtimestamp(AT / 1000, UTC)
    assert (read.name, read.paused, read.timezone, read.paused_at) == ("nightly", False, "UTC", at)
    assert read.resumed_at == at + timedelta(seconds=1)
    first, second = read.entries
    assert (first.name, first.expression, first.timezone, first.paused) == ("report", "0 3 * * *", None, False)
    assert (first.next_enqueue_at, first.paused_at, first.resumed_at) == (at, at, at + timedelta(seconds=1))
    assert first.last_enqueue_at == at - timedelta(milliseconds=1)
    assert (second.last_enqueue_at, second.paused_at, second.resumed_at) == (None, None, None)
    assert msgspec.json.decode(msgspec.json.encode(read)) == group


def test_the_job_of_an_entry_is_a_request_that_can_be_sent_again():
    template = {
        **TEMPLATE, "retry_limit": 3, "backoff": {"exponent": 2.0, "base_ms": 1500, "jitter_ms": 0},
        "retention": {"completed_ms": 1000}, "batch": {"key": "k", "when": "true", "fold": "$new"},
        "budgets": [{"key": "a", "cost": 2}], "timeout_ms": 5000,
    }  # fmt: skip
    client = asked(answer({**ENTRY, "job": template}), answer(ENTRY))
    job = client.cron("g").entry("e").get().job
    assert job == Enqueue(
        "report", {"id": 1}, queue="reports", priority=32_768, retry_limit=3,
        backoff=Backoff(timedelta(seconds=1.5), 2.0, timedelta(0)), retention=Retention(timedelta(seconds=1)),
        batch=RawBatch(key="k", when="true", fold="$new"), budgets=(Draw("a", 2),),
        timeout=timedelta(seconds=5),
    )  # fmt: skip
    client.cron("g").entry("e").put("@daily", job)
    assert sent(client)[1][2]["job"] == template


def test_a_unique_job_of_an_entry_keeps_its_key():
    job = {**TEMPLATE, "unique_key": "k", "unique_while": "exists"}
    read = asked(answer({**ENTRY, "job": job})).cron("g").entry("e").get().job
    assert (read.unique_key, read.unique_while, read.batch, read.budgets) == ("k", "exists", None, None)


def test_an_entry_that_is_never_due_again_can_be_read():
    entry = {name: value for name, value in ENTRY.items() if name != "next_enqueue_at"}
    assert asked(answer(entry)).cron("g").entry("e").get().next_enqueue_at is None
