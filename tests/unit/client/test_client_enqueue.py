"""What requests and kinds send of unique keys and batches, and which of them contradict each other."""

from dataclasses import dataclass, field

import msgspec
import pydantic
import pytest

from unit.client.fakes import JOB, SyncFakeTransport, answer
from zizq.client import SyncClient
from zizq.client.batch import Batch, RawBatch
from zizq.client.enqueue import Enqueue
from zizq.client.job import JobReader
from zizq.client.keys import Unique
from zizq.client.kinds import JobKind, job_kind, request_for
from zizq.errors import ConfigError
from zizq.wire.codec import Format, encode


@job_kind("mail", unique=Unique(only=[".to", ".template"], scope="active"))
@dataclass
class Mail:
    to: str
    template: str = "welcome"
    sent_by: str = ""


@job_kind("push", batch=Batch(".ids", limit=3, dedup=True))
@dataclass
class Push:
    platform: str
    ids: list[int]


class Report(JobKind):
    NAME = "report"

    def __init__(self, number):
        self.number = number

    def unique_key(self):
        return f"report:{self.number}"

    def to_payload(self):
        return {"id": self.number}

    @classmethod
    def from_payload(cls, payload):
        return cls(payload["id"])


class Digest(Report):
    NAME = "digest"
    UNIQUE = Unique(Report.unique_key, scope="exists")


class Visits(Report):
    unique_key = None
    BATCH = RawBatch(when="true", fold="$new", key="visits")


def sent(source, **options):
    """What is sent of a request, but for what every request has."""
    transport = SyncFakeTransport(answer(JOB))
    with SyncClient(format="json", transport=transport) as client:
        client.enqueue(source, **options)
    body = msgspec.json.decode(transport.sent[0].body)
    return {name: value for name, value in body.items() if name not in ("type", "queue", "payload")}


# ── unique ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_kind_sends_the_key_of_its_payload_and_its_scope():
    key = Unique().key_for("mail", {"to": "a", "template": "welcome"})
    assert sent(Mail("a", sent_by="x")) == {"unique_key": key, "unique_while": "active"}
    assert sent(Mail("b"))["unique_key"] != key


def test_a_request_shows_its_key_before_it_is_sent():
    assert Mail("a").with_().unique_key == Mail("a", sent_by="y").with_(queue="q").unique_key
    assert request_for(Mail("a")).with_(priority=1).unique_key == Mail("a").with_().unique_key


def test_an_enqueue_may_give_a_key_of_its_own():
    assert sent(Mail("a"), unique_key="k") == {"unique_key": "k", "unique_while": "active"}
    assert sent(Mail("a"), unique_key="k", unique_while="queued") == {"unique_key": "k", "unique_while": "queued"}
    assert sent(Mail("a").with_(), unique_while="exists")["unique_while"] == "exists"
    assert sent(Enqueue("t", 1, unique_key="")) == {"unique_key": ""}


def test_an_enqueue_may_do_without_the_key_of_its_kind():
    assert sent(Mail("a"), unique_key=None) == {}
    assert sent(Mail("a").with_(), unique_key=None) == {}


def test_a_function_gets_the_instance():
    @job_kind("made", unique=Unique(lambda made: made.key()))
    class Made(pydantic.BaseModel):
        number: int

        def key(self):
            return f"number {self.number}"

    assert sent(Made(number=7)) == {"unique_key": "number 7", "unique_while": "queued"}


def test_a_method_of_the_long_form_is_the_key():
    assert sent(Report(7)) == {"unique_key": "report:7", "unique_while": "queued"}
    assert sent(Digest(7)) == {"unique_key": "report:7", "unique_while": "exists"}


def test_the_payload_that_a_class_makes_is_what_is_hashed():
    class Made(Report):
        NAME = "made"
        unique_key = None
        UNIQUE = Unique(only=".id")

    assert sent(Made(7))["unique_key"] == Unique().key_for("made", {"id": 7})


def test_equal_instances_have_equal_keys_whatever_the_order_of_a_set():
    @job_kind("tagged", unique=Unique())
    @dataclass
    class Tagged:
        tags: set[str] = field(default_factory=set)

    letters = "abcdefgh"
    listed = Unique().key_for("tagged", {"tags": list(letters)})
    assert Tagged(set(letters)).with_().unique_key == listed


def test_two_ways_to_the_key_of_a_class_are_refused():
    class Both(Report):
        UNIQUE = Unique(only=".id")

    with pytest.raises(ConfigError, match="Both has both UNIQUE and a method unique_key"):
        request_for(Both(1))


# ── batches ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_kind_sends_the_batch_of_its_payload():
    batch = Batch(".ids", limit=3, dedup=True)
    key = batch.key_for("push", {"platform": "apple"})
    assert sent(Push("apple", [1])) == {"batch": {"key": key, "when": batch.when, "fold": batch.fold}}
    assert sent(Push("apple", [2, 3]))["batch"]["key"] == key
    assert sent(Push("google", [1]))["batch"]["key"] != key


def test_an_enqueue_may_batch_otherwise_or_not_at_all():
    raw = RawBatch(when="true", fold="$new", key="k")
    assert sent(Push("apple", [1]), batch=raw) == {"batch": {"key": "k", "when": "true", "fold": "$new"}}
    assert sent(Push("apple", [1]), batch=None) == {}
    assert sent(Enqueue("t", [1], batch=Batch(".", limit=2)))["batch"]["key"] == Unique().key_for("t", None)


def test_the_long_form_has_batches_too():
    assert sent(Visits(7)) == {"batch": {"key": "visits", "when": "true", "fold": "$new"}}


def test_a_batch_is_sent_with_the_options_beside_it():
    assert sent(Push("apple", [1]), priority=1).keys() == {"priority", "batch"}


# ── contradictions ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (Enqueue("t", 1), {"unique_while": "active"}, "unique_while='active' needs a unique_key"),
        (Push("a", []), {"unique_while": "active"}, "unique_while='active' needs a unique_key"),
        (Mail("a"), {"unique_while": "ever"}, "unique_while='ever' is no scope: choose from queued, active, exists"),
        (Mail("a"), {"unique_key": Unique()}, r"give the key itself; Unique\(...\).key_for\(type, payload\) makes one"),
        (Mail("a"), {"batch": Batch(".to", limit=1)}, "and batch exclude each other: set one of them to None"),
        (Push("a", []), {"unique_key": "k"}, "unique_key='k' and batch exclude each other: set one of them to None"),
        (Push("a", []), {"batch": {"key": "k"}}, "batch={'key': 'k'} is no batch: give a zizq.Batch or zizq.RawBatch"),
        (Mail("a"), {"unique": Unique()}, "unknown option 'unique': choose from .*, unique_key, unique_while, batch"),
    ],
)
def test_a_contradiction_is_refused_before_anything_is_sent(source, options, message):
    transport = SyncFakeTransport()
    with SyncClient(transport=transport) as client:
        with pytest.raises(ConfigError, match=message):
            client.enqueue(source, **options)
        with pytest.raises(ConfigError, match=message):
            client.enqueue_bulk([Enqueue("t", 1), request_for(source, **options)])
    assert transport.sent == []


def test_a_batch_in_place_of_a_key_is_none():
    assert sent(Mail("a"), unique_key=None, batch=RawBatch(when="true", fold="$new", key="k")).keys() == {"batch"}
    assert sent(Push("a", []), unique_key="k", batch=None) == {"unique_key": "k"}


def test_a_kind_that_is_both_is_refused_where_it_is_declared():
    with pytest.raises(ConfigError, match="'x' has both unique and batch, which exclude each other"):
        job_kind("x", unique=Unique(), batch=Batch(".a", limit=1))(dataclass(type("X", (), {})))


# ── what comes back ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", Format)
def test_a_job_shows_its_key_its_batch_and_what_became_of_its_enqueue(form):
    fields = {
        "unique_key": "k", "unique_while": "for a while", "duplicate": True, "folded": True,
        "batch": {"key": "b", "when": "w", "fold": "f", "since": 1},
    }  # fmt: skip
    job = JobReader(form).one(encode(JOB | fields, form))
    assert (job.unique_key, job.unique_while, job.duplicate, job.folded) == ("k", "for a while", True, True)
    assert (job.batch.key, job.batch.when, job.batch.fold) == ("b", "w", "f")
    plain = JobReader(form).one(encode(JOB, form))
    assert (plain.unique_key, plain.unique_while, plain.batch, plain.duplicate, plain.folded) == (None,) * 3 + (
        False,
    ) * 2


# ── metadata ─────────────────────────────────────────────────────────────────────────────────────────


def test_metadata_is_sent_where_there_is_some():
    @job_kind("marked", metadata={"a": "1"})
    @dataclass
    class Marked:
        n: int

    assert sent(Marked(1)) == {"metadata": {"a": "1"}}
    assert sent(Marked(1), metadata={"b": ""}) == {"metadata": {"b": ""}}
    assert sent(Marked(1), metadata={}) == sent(Marked(1), metadata=None) == {}
    assert sent(Enqueue("t", None).with_(metadata={"c": "3"})) == {"metadata": {"c": "3"}}


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ("a", "metadata='a' is no mapping"),
        ({"a": 1}, "metadata: 'a': 1 is not a name and a text"),
        ({1: "a"}, "1: 'a'"),
    ],
)
def test_metadata_that_is_no_mapping_of_texts_is_refused(metadata, said):
    with pytest.raises(ConfigError, match=said):
        sent(Enqueue("t", None, metadata=metadata))
    with pytest.raises(ConfigError, match=said):
        job_kind("marked", metadata=metadata)(dataclass(type("Marked", (), {})))
