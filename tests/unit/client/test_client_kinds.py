"""Kinds: classes whose instances are payloads."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest

from zizq.client.enqueue import Enqueue
from zizq.client.kinds import JobKind, job_kind, kind_of, request_for
from zizq.client.options import Backoff, Retention
from zizq.errors import ConfigError, EncodeError, PayloadDecodeError
from zizq.wire.codec import Format, encode, read_payload

WHEN = datetime(2030, 1, 1, tzinfo=UTC)


@job_kind("data", queue="q", priority=3, retry_limit=4, backoff=Backoff(1, 2, 3), retention=Retention(dead=5))
@dataclass
class Data:
    to: str
    at: datetime = WHEN
    raw: bytes = b"\xff"
    counts: dict[int, int] = field(default_factory=dict)


@job_kind("struct")
class Struct(msgspec.Struct):
    to: str
    id: UUID | None = None


@job_kind("model")
class Model(pydantic.BaseModel):
    to: str
    at: datetime = WHEN


@job_kind("attrs")
@attrs.define
class Attrs:
    to: str
    at: datetime = WHEN


class Long(JobKind):
    NAME = "long"
    QUEUE = "slow"
    PRIORITY = 9

    def __init__(self, to):
        self.to = to

    def __eq__(self, other):
        return self.to == other.to

    def to_payload(self):
        return {"address": self.to}

    @classmethod
    def from_payload(cls, payload):
        return cls(payload["address"])


@dataclass
class Short(JobKind):
    to: str


INSTANCES = [
    Data("a", counts={1: 2}),
    Struct("a", UUID(int=5)),
    Model(to="a"),
    Attrs("a"),
    Long("a"),
    Short("a"),
]


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize("instance", INSTANCES, ids=lambda instance: type(instance).__name__)
def test_an_instance_survives_the_journey(instance, form):
    kind = kind_of(instance)
    assert kind is kind_of(type(instance))
    assert kind.decode(kind.encode(instance, form), form) == instance


@pytest.mark.parametrize("instance", INSTANCES, ids=lambda instance: type(instance).__name__)
def test_the_payload_is_the_same_in_both_formats(instance):
    kind = kind_of(instance)
    values = [read_payload(kind.encode(instance, form), form) for form in Format]
    assert values[0] == values[1]


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize("cls", [Data, Struct, Model, Attrs, Long, Short])
@pytest.mark.parametrize(("payload", "field"), [({}, "to|address"), (None, ""), ([1], "")])
def test_a_payload_that_does_not_fit_is_refused(cls, payload, field, form):
    with pytest.raises(PayloadDecodeError, match=f"(?s)does not fit {cls.__name__}.*({field})"):
        kind_of(cls).decode(encode(payload, form), form)


@pytest.mark.parametrize("cls", [Data, Struct, Model, Attrs, Short])
def test_an_ill_typed_field_is_refused_and_named(cls):
    with pytest.raises(PayloadDecodeError, match="to"):
        kind_of(cls).decode(b'{"to":5}', Format.JSON)


@pytest.mark.parametrize("cls", [Data, Attrs, Short])
def test_an_unexpected_field_is_refused_and_named(cls):
    with pytest.raises(PayloadDecodeError, match="unexpected field `cc`"):
        kind_of(cls).decode(b'{"to":"a","cc":"b"}', Format.JSON)


def test_a_malformed_payload_is_refused():
    with pytest.raises(PayloadDecodeError, match="not valid"):
        kind_of(Data).decode(b"{", Format.JSON)


def test_a_kind_says_what_its_jobs_say_unless_overridden():
    assert request_for(Struct("a")) == Enqueue("struct", {"to": "a", "id": None})
    request = Data("a").with_(queue="other", delay=5)
    assert (request.type, request.queue, request.priority, request.retry_limit) == ("data", "other", 3, 4)
    assert (request.backoff, request.retention) == (Backoff(1, 2, 3), Retention(dead=5))
    assert request_for(request, priority=1).priority == 1
    assert (Long("a").with_().queue, Long("a").with_().priority) == ("slow", 9)


def test_a_kind_may_say_how_long_its_jobs_may_be_held():
    @job_kind("held", timeout=90)
    @dataclass
    class Held:
        pass

    class HeldToo(JobKind):
        NAME, TIMEOUT = "held", 30

        def to_payload(self):
            return None

        @classmethod
        def from_payload(cls, payload):
            return cls()

    assert (request_for(Held()).timeout, request_for(HeldToo()).timeout) == (90, 30)
    assert request_for(Held(), timeout=None).timeout is None
    with pytest.raises(ConfigError, match="timeout='long'"):
        job_kind("held", timeout="long")(Held)


def test_a_delay_replaces_an_instant_and_the_other_way_round():
    request = Enqueue("t", 1, ready_at=WHEN).with_(delay=5)
    assert (request.ready_at, request.delay) == (None, 5)
    assert request.with_(ready_at=WHEN).delay is None


def test_a_name_defaults_to_the_name_of_the_class():
    assert (kind_of(Short).name, kind_of(Short).queue) == ("Short", "default")

    @job_kind()
    @dataclass
    class Unnamed:
        a: int

    assert kind_of(Unnamed(1)).name == "Unnamed"


def test_a_subclass_of_a_decorated_class_is_no_kind_by_itself():
    @dataclass
    class More(Data):
        more: int = 0

    with pytest.raises(ConfigError, match="is no kind"):
        kind_of(More)


@pytest.mark.parametrize("source", [{"a": 1}, "send", None, 5])
def test_a_value_that_is_no_kind_is_refused(source):
    with pytest.raises(ConfigError, match="is no kind"):
        request_for(source)


def test_a_class_instead_of_an_instance_is_refused():
    with pytest.raises(ConfigError, match="enqueue an instance"):
        request_for(Data)


def test_a_class_that_cannot_be_a_payload_is_refused_where_it_is_declared():
    with pytest.raises(ConfigError, match="cannot be a payload"):
        job_kind("plain")(type("Plain", (), {}))


def test_an_unknown_option_is_refused():
    with pytest.raises(ConfigError, match="unknown option 'que'"):
        Data("a").with_(que="x")


def test_an_instance_that_cannot_travel_is_an_encode_error():
    with pytest.raises(EncodeError, match="Data cannot be sent"):
        Data(object()).with_()
