"""What conditions on jobs are sent as, and which are refused before anything is sent."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import parse_qs

import pytest

from zizq import ConfigError, EncodeError, JobKind, Status, job_kind
from zizq.client.changes import KEEP, to_wire
from zizq.client.conditions import Conditions
from zizq.client.options import Backoff, Retention

AT = datetime(2030, 1, 1, tzinfo=UTC)
AT_MS = "1893456000000"


@job_kind("send")
@dataclass
class Send:
    to: str
    after: datetime | None = None


class Report(JobKind):
    NAME = "report"

    def __init__(self, number: int) -> None:
        self.number = number

    def to_payload(self):
        return [self.number]

    @classmethod
    def from_payload(cls, payload):
        return cls(payload[0])


def sent(**where):
    """The parameters of conditions, decoded."""
    query = Conditions().with_(**where).parameters()
    return {name: value for name, [value] in parse_qs(query, strict_parsing=bool(query)).items()}


def test_no_conditions_are_no_parameters():
    assert Conditions().parameters() == ""
    assert Conditions().is_everything
    assert not Conditions().is_nothing


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"id": "a" * 25}, {"id": "a" * 25}),
        ({"status": Status.DEAD}, {"status": "dead"}),
        ({"status": ["ready", Status.DEAD]}, {"status": "dead,ready"}),
        ({"queue": {"b", "a"}}, {"queue": "a,b"}),
        ({"queue": ("a", "a")}, {"queue": "a"}),
        ({"queue": (name for name in "ab")}, {"queue": "a,b"}),
        ({"type": Send}, {"type": "send"}),
        ({"type": [Send, Report, "old"]}, {"type": "old,report,send"}),
        ({"priority": 7}, {"priority": "7"}),
        ({"priority": (0, 100)}, {"priority": "0..100"}),
        ({"priority": (5, 5)}, {"priority": "5"}),
        ({"priority": (None, 65_535)}, {"priority": "..65535"}),
        ({"attempts": (1, None)}, {"attempts": "1.."}),
        ({"ready_at": AT}, {"ready_at": AT_MS}),
        ({"ready_at": (None, AT)}, {"ready_at": f"..{AT_MS}"}),
        ({"ready_at": (AT.astimezone(timezone(timedelta(hours=2))), None)}, {"ready_at": f"{AT_MS}.."}),
    ],
)
def test_a_condition_is_sent_as_the_protocol_writes_it(where, expected):
    assert sent(**where) == expected


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"payload": {"b": 1, "a": [None, True]}}, '. == {"a":[null,true],"b":1}'),
        ({"payload": None}, ". == null"),
        ({"payload": Send("a@b.c", AT)}, '. == {"after":"2030-01-01T00:00:00Z","to":"a@b.c"}'),
        ({"payload": Report(3)}, ". == [3]"),
        ({"payload": 'ü"\\(1)'}, '. == "ü\\"\\\\(1)"'),
        ({"payload_contains": {"to": "a"}}, '. | contains({"to":"a"})'),
        ({"payload_contains": [1, "b"]}, '.[0:2] == [1,"b"]'),
        ({"payload_contains": ()}, ".[0:0] == []"),
        ({"payload_contains": 5}, ". == 5"),
        ({"payload_contains": Report(3)}, ".[0:1] == [3]"),
        ({"filter": ".to"}, ".to"),
        ({"filter": ".a, .b", "payload": 1}, "(. == 1) and (.a, .b)"),
        ({"filter": ".a # the first", "payload_contains": {}}, "(. | contains({})) and (.a # the first\n)"),
        (
            {"payload": 1, "payload_contains": 1, "filter": "true"},
            "(. == 1) and (. == 1) and (true)",
        ),
    ],
)
def test_conditions_on_the_payload_become_one_jq_expression(where, expected):
    assert sent(**where) == {"filter": expected}


def test_every_character_of_a_value_survives_the_query():
    names = ["a&b=c", "50% +ü", "#/?;"]
    assert sent(queue=names, filter='.x == "a&b+c, %20#"') == {
        "queue": ",".join(sorted(names)),
        "filter": '.x == "a&b+c, %20#"',
    }


def test_the_order_of_the_parameters_is_that_of_the_protocol():
    where = {"filter": "true", "attempts": 1, "id": "x", "status": "dead", "type": "t", "queue": "q", "priority": 1}
    names = [part.partition("=")[0] for part in Conditions().with_(**where).parameters().split("&")]
    assert names == ["status", "queue", "type", "id", "priority", "attempts", "filter"]


def test_a_keyword_that_is_given_again_replaces_and_the_original_stays():
    first = Conditions().with_(queue="a", status="dead")
    assert first.with_(queue="b").parameters() == "status=dead&queue=b"
    assert first.parameters() == "status=dead&queue=a"


@pytest.mark.parametrize("name", ["id", "status", "queue", "type"])
def test_an_empty_collection_fits_nothing_and_cannot_be_sent(name):
    conditions = Conditions().with_(**{name: []}, priority=1)
    assert conditions.is_nothing
    assert not conditions.is_everything
    with pytest.raises(ConfigError, match="fits no job"):
        conditions.parameters()


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"queue": "a,b"}, "has a comma; give several as a list"),
        ({"type": ["ok", "a,b"]}, "has a comma"),
        ({"id": ""}, "is empty"),
        ({"status": [""]}, "is empty"),
        ({"queue": None}, "queue=None is no condition: leave it out"),
        ({"filter": None}, "filter=None is no condition"),
        ({"queue": 5}, "neither text nor a collection"),
        ({"queue": [5]}, "5 is not text"),
        ({"queue": b"raw"}, "is not text"),
        ({"queue": Send}, "is not text"),
        ({"type": int}, "no kind"),
        ({"priority": range(10)}, r"leaves its end out: write \(0, 9\)"),
        ({"priority": (9, 0)}, "upside down"),
        ({"priority": (None, None)}, "no range"),
        ({"priority": (1, 2, 3)}, "no range"),
        ({"priority": [1, 2]}, "no whole number"),
        ({"priority": True}, "no whole number"),
        ({"priority": 65_536}, "from 0 to 65535"),
        ({"attempts": -1}, "from 0 to 4294967295"),
        ({"attempts": "3"}, "no whole number"),
        ({"ready_at": 5}, "aware datetime"),
        ({"ready_at": (None, AT.replace(tzinfo=None))}, "time zone"),
        ({"filter": " "}, "no jq expression"),
        ({"filter": 5}, "no jq expression"),
        ({"queues": "a"}, "unknown condition 'queues': choose from id, status"),
        ({"queue": "\ud800"}, "UTF-8"),
    ],
)
def test_a_value_that_is_no_condition_is_refused(where, message):
    with pytest.raises(ConfigError, match=message):
        Conditions().with_(**where).parameters()


@pytest.mark.parametrize("name", ["payload", "payload_contains"])
def test_a_payload_that_cannot_travel_is_refused(name):
    with pytest.raises(EncodeError):
        Conditions().with_(**{name: object()})


def test_some_of_the_jobs_are_named_beside_the_conditions_but_for_those_on_the_payload():
    conditions = Conditions().with_(status="dead", id="z", payload=1, payload_contains=1, filter="true")
    assert conditions.only(["b", "a"]).parameters() == "status=dead&id=a,b"


def test_a_default_condition_gives_way():
    assert Conditions().with_(status="ready").by_default(status="dead").parameters() == "status=ready"
    assert Conditions().with_(queue="q").by_default(status="dead").parameters() == "status=dead&queue=q"


# ── changes ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_patch_has_what_changes_null_for_what_is_cleared_and_nothing_that_stays():
    body = to_wire(
        {
            "queue": "q", "priority": 0, "ready_at": None, "retry_limit": None, "backoff": KEEP, "retention": KEEP,
            "timeout": None,
        }
    )  # fmt: skip
    assert body == {"queue": "q", "priority": 0, "ready_at": None, "retry_limit": None, "timeout_ms": None}


def test_values_of_a_patch_are_in_the_units_of_the_wire():
    body = to_wire({"ready_at": AT, "backoff": Backoff(1, 2, 3), "retention": Retention(dead=60), "timeout": 1.5})
    assert (body["ready_at"], body["timeout_ms"]) == (int(AT_MS), 1500)
    assert (body["backoff"].base_ms, body["backoff"].exponent, body["backoff"].jitter_ms) == (1000, 2.0, 3000)
    assert (body["retention"].completed_ms, body["retention"].dead_ms) == (None, 60_000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"queue": None}, "every job has a queue"),
        ({"priority": None}, "every job has a priority"),
        ({"timeout": 0}, "timeout=0 must be a millisecond or more"),
        ({"status": "dead"}, "unknown option 'status': choose from queue, priority"),
        ({"priority": "high"}, "no int"),
        ({"priority": True}, "no int"),
        ({"ready_at": 5}, "no datetime"),
        ({"ready_at": AT.replace(tzinfo=None)}, "time zone"),
        ({"backoff": {"base": 1}}, "no Backoff"),
    ],
)
def test_a_change_that_is_none_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        to_wire(changes)


def test_keep_shows_its_name():
    assert repr(KEEP) == "KEEP"
