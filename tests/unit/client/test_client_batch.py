"""Batches: what their expressions make of payloads, as jq runs them."""

import jq
import pytest

from zizq.client.batch import Batch, RawBatch
from zizq.errors import ConfigError, EncodeError


def run(expression, existing, new):
    return jq.compile(expression, args={"existing": existing, "new": new}).input_value(None).all()


def folded(batch, payloads):
    """The payloads of the jobs that remain when all these are enqueued and none is taken (protocol.md#6)."""
    jobs, waiting = [], {}
    for payload in payloads:
        # Each payload is tried on itself first, and must not fail.
        run(batch.when, payload, payload)
        assert len(run(batch.fold, payload, payload)) == 1
        key = batch.key_for("push", payload)
        place = waiting.get(key)
        if place is not None and run(batch.when, jobs[place], payload)[0]:
            [jobs[place]] = run(batch.fold, jobs[place], payload)
        else:
            waiting[key] = len(jobs)
            jobs.append(payload)
    return jobs


def push(*ids, **others):
    return {"platform": "apple", "ids": list(ids)} | others


# ── expressions ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "fold"),
    [
        ({}, "$existing | .ids += ($new | .ids)"),
        ({"dedup": True}, "$existing | .ids = ((.ids) + ($new | .ids) | unique)"),
        ({"sorted": True}, "$existing | .ids = ((.ids) + ($new | .ids) | sort)"),
        ({"dedup": True, "sorted": True}, "$existing | .ids = ((.ids) + ($new | .ids) | unique)"),
    ],
)
def test_the_expressions_are_those_of_the_other_clients(options, fold):
    batch = Batch(".ids", limit=100, **options)
    assert batch.when == "(($existing | .ids) + ($new | .ids)) | length <= 100"
    assert batch.fold == fold


def test_lists_are_joined_in_the_order_of_coming():
    assert folded(Batch(".ids", limit=9), [push(3), push(1, 2), push(3)]) == [push(3, 1, 2, 3)]


def test_a_joined_list_has_no_more_elements_than_the_limit():
    batch = Batch(".ids", limit=3)
    assert folded(batch, [push(1, 2), push(3), push(4), push(5), push(6)]) == [push(1, 2, 3), push(4, 5, 6)]
    assert folded(batch, [push(1, 2), push(3, 4), push(5)]) == [push(1, 2), push(3, 4, 5)]


def test_one_job_alone_may_be_over_the_limit_and_takes_no_other():
    assert folded(Batch(".ids", limit=2), [push(1, 2, 3), push(4)]) == [push(1, 2, 3), push(4)]


def test_dedup_keeps_each_element_once_and_sorts():
    assert folded(Batch(".ids", limit=9, dedup=True), [push(3, 1), push(2, 1)]) == [push(1, 2, 3)]


def test_the_limit_counts_what_dedup_would_drop():
    assert folded(Batch(".ids", limit=3, dedup=True), [push(1, 2), push(1, 2)]) == [push(1, 2), push(1, 2)]


def test_sorted_keeps_elements_that_are_there_twice():
    assert folded(Batch(".ids", limit=9, sorted=True), [push(3, 1), push(2, 1)]) == [push(1, 1, 2, 3)]


def test_jobs_that_differ_beside_the_list_are_not_folded():
    payloads = [push(1), push(2, platform="google"), push(3), push(4, platform="google")]
    assert folded(Batch(".ids", limit=9), payloads) == [push(1, 3), push(2, 4, platform="google")]


def test_keyed_by_names_what_must_be_equal_and_the_first_payload_stays():
    payloads = [push(1, at=1), push(2, at=2), push(3, platform="google", at=3)]
    expected = [push(1, 2, at=1), push(3, platform="google", at=3)]
    assert folded(Batch(".ids", limit=9, keyed_by=".platform"), payloads) == expected
    assert len(folded(Batch(".ids", limit=9, keyed_by=[".platform", ".at"]), payloads)) == 3


def test_a_key_of_its_own_is_the_whole_key():
    assert folded(Batch(".ids", limit=9, key="all"), [push(1), push(2, platform="x")]) == [push(1, 2)]


@pytest.mark.parametrize(
    ("path", "first", "second", "joined"),
    [
        (".", [1], [2], [1, 2]),
        (".a.b", {"a": {"b": [1], "c": 0}}, {"a": {"b": [2], "c": 0}}, {"a": {"b": [1, 2], "c": 0}}),
        (".[0]", [[1], "x"], [[2], "x"], [[1, 2], "x"]),
        (".a[1]", {"a": ["x", [1]]}, {"a": ["x", [2]]}, {"a": ["x", [1, 2]]}),
        ('.["the ids"]', {"the ids": [1]}, {"the ids": [2]}, {"the ids": [1, 2]}),
        (r'.["a\"\\(1+1) é"]', {'a"\\(1+1) é': [1]}, {'a"\\(1+1) é': [2]}, {'a"\\(1+1) é': [1, 2]}),
        (".end", {"end": [1]}, {"end": [2]}, {"end": [1, 2]}),
        (".if.and", {"if": {"and": [1]}}, {"if": {"and": [2]}}, {"if": {"and": [1, 2]}}),
    ],
)
@pytest.mark.parametrize("options", [{}, {"dedup": True}, {"sorted": True}])
def test_the_list_may_be_at_any_path(path, first, second, joined, options):
    assert folded(Batch(path, limit=2, **options), [first, second]) == [joined]


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_key_is_that_of_the_payload_without_the_list():
    payload = {"platform": "apple", "tenant_id": 42, "device_ids": [1]}
    key = "push:3fc8290ffc8354f406b5f52205070e4c9d225adcf728cee46f754b46a298c42c"
    other = "push:30ab02de4b858afa81f9d63cbc3895c134bd24a8fb4153c1a21432cecf75b149"
    assert Batch(".device_ids", limit=1).key_for("push", payload) == key
    assert Batch(".device_ids", limit=1, canonical="trailing").key_for("push", payload) == other
    assert payload["device_ids"] == [1]


def test_where_the_payload_is_the_list_all_jobs_of_a_type_share_a_batch():
    batch = Batch(".", limit=2)
    assert batch.key_for("a", [1]) == batch.key_for("a", [2, 3])
    assert batch.key_for("a", [1]) != batch.key_for("b", [1])


def test_keyed_by_is_computed_from_those_paths():
    keyed = Batch(".ids", limit=1, keyed_by=".user.id").key_for("t", {"user": {"id": 42, "name": "x"}})
    assert keyed == "t:eb955cf79b650ebcf1a47ed6617158e4fbf3a3c8378877af185148e1349239b2"
    assert RawBatch(when="true", fold="$new", keyed_by=".user.id").key_for("t", {"user": {"id": 42}}) == keyed


def test_a_payload_that_cannot_travel_has_no_key():
    with pytest.raises(EncodeError):
        Batch(".", limit=1).key_for("t", object())


# ── raw ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_raw_batch_folds_as_its_expressions_say():
    latest = RawBatch(when="$new.at >= $existing.at", fold="$new", key="latest")
    assert folded(latest, [{"at": 1}, {"at": 2}, {"at": 1}]) == [{"at": 2}, {"at": 1}]
    total = RawBatch(
        when="true", fold="$existing | .count += $new.count | .last = $new.last", keyed_by=".page",
    )  # fmt: skip
    views = [{"page": page, "count": 1, "last": last} for last, page in enumerate("aba")]
    assert folded(total, views) == [{"page": "a", "count": 2, "last": 2}, {"page": "b", "count": 1, "last": 1}]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Batch(".ids", limit=0), "limit=0 is no limit: give a whole number from 1"),
        (lambda: Batch(".ids", limit=True), "limit=True is no limit"),
        (lambda: Batch(".ids", limit="5"), "limit='5' is no limit"),
        (lambda: Batch("ids", limit=5), "path: 'ids' is no path"),
        (lambda: Batch("ids", limit=5, keyed_by=".a"), "path: 'ids' is no path"),
        (lambda: Batch(".ids", limit=5, keyed_by="a"), "keyed_by: 'a' is no path"),
        (lambda: Batch(".ids", limit=5, keyed_by=[]), r"keyed_by=\[\] names no path"),
        (lambda: Batch(".ids", limit=5, key="k", keyed_by=".a"), "key='k' is all of the key"),
        (lambda: Batch(".ids", limit=5, key="k", canonical="trailing"), "key='k' is all of the key"),
        (lambda: Batch(".ids", limit=5, key=5), "key=5 is not text"),
        (lambda: Batch(".ids", limit=5, canonical="x"), "canonical='x' is no canonical form"),
        (lambda: RawBatch(when="true", fold="$new"), "a RawBatch needs a key"),
        (lambda: RawBatch(when="true", fold="$new", key="k", keyed_by="."), "key='k' is all of the key"),
        (lambda: RawBatch(when=" ", fold="$new", key="k"), "when=' ' is no jq expression"),
        (lambda: RawBatch(when="true", fold=None, key="k"), "fold=None is no jq expression"),
    ],
)
def test_arguments_that_make_no_batch_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
