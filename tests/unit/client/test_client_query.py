"""What queries send, and when; the same for both clients."""

import inspect
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from unit.client.fakes import JOB, FakeTransport, SyncFakeTransport, answer
from zizq import KEEP, Client, ConfigError, DecodeError, InvalidRequest, Query, SyncClient, SyncQuery
from zizq.wire.codec import Format

URL = "http://127.0.0.1:7890/prefix"


def job(number):
    return JOB | {"id": f"{number:025}", "payload": number}


def page(*numbers, more=False, form=Format.JSON, next_link="/jobs?from=x"):
    links = {"self": "/jobs", "next": next_link if more else None, "prev": None}
    return answer({"jobs": [job(number) for number in numbers], "pages": links}, form=form)


def errors(*attempts, more=False):
    records = [{"attempt": attempt, "message": "m", "dequeued_at": 1, "failed_at": 2} for attempt in attempts]
    return answer({"errors": records, "pages": {"self": "/", "next": "/next" if more else None, "prev": None}})


def client(*answers, form="json"):
    return SyncClient(URL, format=form, transport=SyncFakeTransport(*answers))


def sent(client):
    """The requests that were sent, as method, path and parameters."""
    requests = client._transport.sent
    parts = [(request.method, urlsplit(request.path)) for request in requests]
    return [(method, url.path, {k: v for k, [v] in parse_qs(url.query).items()}) for method, url in parts]


# ── pages ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", ["json", "msgpack"])
def test_iterating_asks_page_after_page_from_the_last_job_that_came(form):
    wire = Format.JSON if form == "json" else Format.MSGPACK
    asked = client(page(1, 2, more=True, form=wire), page(3, form=wire), form=form)
    assert [found.payload for found in asked.jobs(queue="q").page_size(2)] == [1, 2, 3]
    assert sent(asked) == [
        ("GET", "/jobs", {"order": "asc", "limit": "2", "queue": "q"}),
        ("GET", "/jobs", {"order": "asc", "limit": "2", "queue": "q", "from": f"{2:025}"}),
    ]


def test_nothing_is_sent_before_the_first_job_is_asked_for():
    asked = client(page(1))
    iterator = iter(asked.jobs().where(status="dead").order("desc").limit(5).page_size(3))
    assert sent(asked) == []
    assert next(iterator).payload == 1
    assert sent(asked) == [("GET", "/jobs", {"order": "desc", "limit": "3", "status": "dead"})]


def test_a_query_is_not_changed_by_what_is_made_of_it():
    asked = client(page(1), page(2))
    first = asked.jobs(queue="a")
    assert [found.payload for found in first.where(queue="b").limit(1).order("desc")] == [1]
    assert [found.payload for found in first] == [2]
    assert [parameters["queue"] for _, _, parameters in sent(asked)] == ["b", "a"]
    assert sent(asked)[1][2] == {"order": "asc", "limit": "500", "queue": "a"}


def test_each_use_of_a_query_asks_anew():
    asked = client(page(1), page(1, 2))
    query = asked.jobs()
    assert (len(list(query)), len(list(query))) == (1, 2)


def test_a_limit_counts_over_all_pages_and_shortens_the_last():
    asked = client(page(1, 2, more=True), page(3, more=True))
    assert [[found.payload for found in jobs] for jobs in asked.jobs().limit(3).page_size(2).pages()] == [[1, 2], [3]]
    assert [parameters["limit"] for _, _, parameters in sent(asked)] == ["2", "1"]


def test_jobs_beyond_the_limit_are_dropped_when_a_server_sends_them():
    assert [found.payload for found in client(page(1, 2, 3, more=True)).jobs().limit(2)] == [1, 2]


def test_a_page_that_the_server_cut_short_is_not_the_last():
    assert [found.payload for found in client(page(1, more=True), page(2)).jobs()] == [1, 2]


def test_an_empty_page_is_not_handed_out():
    assert list(client(page()).jobs().pages()) == []


def test_a_link_to_another_place_is_not_followed():
    asked = client(page(1, more=True, next_link="https://elsewhere.example/jobs?from=1"), page(2))
    assert [found.payload for found in asked.jobs(queue="q")] == [1, 2]
    assert sent(asked)[1] == ("GET", "/jobs", {"from": f"{1:025}", "order": "asc", "limit": "500", "queue": "q"})


@pytest.mark.parametrize(
    ("order", "pages"),
    [
        ("asc", [page(1, 2, more=True), page(2, more=True)]),
        ("asc", [page(1, 2, more=True), page(1, 2, more=True)]),
        ("desc", [page(2, 1, more=True), page(3, more=True)]),
        ("asc", [page(2, 1)]),
        ("desc", [page(1, 2)]),
    ],
)
def test_pages_that_do_not_lead_on_end_with_an_error(order, pages):
    with pytest.raises(DecodeError, match="out of order"):
        list(client(*pages).jobs().order(order))


def test_an_empty_page_with_more_behind_it_is_an_error():
    with pytest.raises(DecodeError, match="empty page"):
        list(client(page(more=True)).jobs())


def test_a_page_without_links_is_an_error():
    with pytest.raises(DecodeError, match="pages"):
        list(client(answer({"jobs": []})).jobs())


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────


def test_count_asks_the_server_and_is_no_more_than_the_limit():
    asked = client(answer({"count": 7}), answer({"count": 7}))
    assert (asked.jobs(status="dead").count(), asked.jobs().limit(3).count()) == (7, 3)
    assert sent(asked) == [("GET", "/jobs/count", {"status": "dead"}), ("GET", "/jobs/count", {})]


def test_first_and_exists_read_one_job():
    asked = client(page(9, more=True), page(), page(4), page())
    query = asked.jobs().order("desc")
    assert (query.first().payload, query.first(), query.exists(), query.exists()) == (9, None, True, False)
    assert {parameters["limit"] for _, _, parameters in sent(asked)} == {"1"}


@pytest.mark.parametrize("where", [{"queue": []}, {"id": set()}, {"status": (), "queue": "q"}])
def test_an_empty_collection_is_answered_without_a_request(where):
    asked = client()
    query = asked.jobs(**where)
    assert list(query) == list(query.pages()) == []
    assert (query.count(), query.first(), query.exists()) == (0, None, False)
    assert (query.update(queue="x"), query.retry(), query.delete(), query.limit(3).delete()) == (0, 0, 0, 0)
    assert sent(asked) == []


def test_a_limit_of_0_is_answered_without_a_request():
    asked = client()
    query = asked.jobs(queue="q").limit(0)
    assert (list(query), query.count(), query.first(), query.delete()) == ([], 0, None, 0)
    assert sent(asked) == []


# ── changing ─────────────────────────────────────────────────────────────────────────────────────────


def test_update_is_one_request_with_what_changes():
    asked = client(answer({"patched": 4}))
    assert asked.jobs(queue="old").update(queue="new", ready_at=None, retry_limit=KEEP) == 4
    assert sent(asked) == [("PATCH", "/jobs", {"queue": "old"})]
    assert msgspec.json.decode(asked._transport.sent[0].body) == {"queue": "new", "ready_at": None}


def test_delete_and_retry_are_one_request():
    asked = client(answer({"deleted": 2}), answer({"retried": 3}))
    assert (asked.jobs(status="dead").delete(), asked.jobs(type="t").retry()) == (2, 3)
    assert sent(asked) == [("DELETE", "/jobs", {"status": "dead"}), ("POST", "/jobs/retry", {"type": "t"})]


@pytest.mark.parametrize(("name", "options"), [("update", {"priority": 1}), ("retry", {}), ("delete", {})])
def test_every_job_is_changed_only_when_that_is_said(name, options):
    asked = client(answer({"patched": 1, "retried": 1, "deleted": 1}))
    for query in (asked.jobs(), asked.jobs().limit(5)):
        with pytest.raises(ConfigError, match=r"all=True"):
            getattr(query, name)(**options)
    assert sent(asked) == []
    assert getattr(asked.jobs(), name)(all=True, **options) == 1
    assert sent(asked)[0][2] == {}


def test_a_wrong_change_is_refused_before_anything_is_sent():
    asked = client()
    for query in (asked.jobs(queue="q"), asked.jobs(queue="q").limit(3), asked.jobs(queue=[])):
        with pytest.raises(ConfigError, match="every job has a queue"):
            query.update(queue=None)
    assert sent(asked) == []


def test_a_limited_delete_goes_page_by_page_and_names_the_jobs():
    asked = client(page(1, 2, more=True), answer({"deleted": 2}), page(3, more=True), answer({"deleted": 0}))
    assert asked.jobs(queue="q", filter=".x").limit(3).page_size(2).delete() == 2
    assert sent(asked) == [
        ("GET", "/jobs", {"order": "asc", "limit": "2", "queue": "q", "filter": ".x"}),
        ("DELETE", "/jobs", {"queue": "q", "id": f"{1:025},{2:025}"}),
        ("GET", "/jobs", {"from": f"{2:025}", "order": "asc", "limit": "1", "queue": "q", "filter": ".x"}),
        ("DELETE", "/jobs", {"queue": "q", "id": f"{3:025}"}),
    ]


def test_a_limit_counts_only_jobs_that_can_change():
    asked = client(page(1), answer({"retried": 1}), page(1), answer({"patched": 1}))
    assert asked.jobs(queue="q").limit(1).retry() == 1
    assert asked.jobs(queue="q").limit(1).update(priority=1) == 1
    statuses = [parameters["status"] for _, _, parameters in sent(asked)]
    assert statuses == ["dead", "dead", "in_flight,ready,scheduled", "in_flight,ready,scheduled"]


def test_a_limited_change_of_no_job_changes_nothing():
    asked = client(page())
    assert asked.jobs(queue="q").limit(5).delete() == 0
    assert [method for method, _, _ in sent(asked)] == ["GET"]


def test_a_limited_change_asks_for_no_more_jobs_than_a_request_can_name():
    asked = client(page())
    asked.jobs(queue="q").limit(5000).page_size(2000).delete()
    assert sent(asked)[0][2]["limit"] == "250"


def test_conditions_that_no_request_can_hold_are_refused():
    asked = client()
    with pytest.raises(ConfigError, match="name fewer jobs"):
        asked.jobs(id=[f"{number:025}" for number in range(2500)]).count()
    assert sent(asked) == []


def test_what_the_server_says_against_a_change_is_raised():
    with pytest.raises(InvalidRequest, match="completed"):
        client(answer({"error": "cannot patch jobs in completed status"}, 422)).jobs(status="completed").update()


@pytest.mark.parametrize("body", [{"count": "many"}, {}, {"deleted": 5}])
def test_a_count_that_cannot_be_read_is_an_error(body):
    with pytest.raises(DecodeError):
        client(answer(body)).jobs().count()


# ── single jobs ──────────────────────────────────────────────────────────────────────────────────────


def test_a_job_is_patched_by_what_is_named():
    asked = client(answer(JOB))
    when = datetime(2030, 1, 1, tzinfo=UTC)
    assert asked.patch_job("a", ready_at=when, backoff=None, queue=KEEP).id == JOB["id"]
    assert sent(asked) == [("PATCH", "/jobs/a", {})]
    assert msgspec.json.decode(asked._transport.sent[0].body) == {"ready_at": 1_893_456_000_000, "backoff": None}


def test_a_job_is_retried_without_a_body():
    asked = client(answer(JOB))
    assert asked.retry_job("a").status == "ready"
    assert sent(asked) == [("POST", "/jobs/a/retry", {})]
    assert asked._transport.sent[0].body is None


@pytest.mark.parametrize(("name", "changes"), [("patch_job", {"priority": None}), ("patch_job", {"color": "red"})])
def test_a_wrong_patch_of_a_job_is_refused(name, changes):
    asked = client()
    with pytest.raises(ConfigError):
        getattr(asked, name)("a", **changes)
    assert sent(asked) == []


def test_errors_of_a_job_are_read_page_by_page():
    asked = client(errors(1, 2, more=True), errors(3))
    assert [error.attempt for error in asked.job_errors("a/b")] == [1, 2, 3]
    assert sent(asked) == [
        ("GET", "/jobs/a%2Fb/errors", {"order": "asc", "limit": "500"}),
        ("GET", "/jobs/a%2Fb/errors", {"from": "2", "order": "asc", "limit": "500"}),
    ]


def test_the_last_errors_of_a_job_alone():
    asked = client(errors(9, 8, more=True))
    assert [error.attempt for error in asked.job_errors("a", order="desc", limit=2, after=10)] == [9, 8]
    assert sent(asked) == [("GET", "/jobs/a/errors", {"from": "10", "order": "desc", "limit": "2"})]


def test_errors_that_do_not_lead_on_end_with_an_error():
    with pytest.raises(DecodeError, match="out of order"):
        list(client(errors(1, more=True), errors(1, more=True)).job_errors("a"))


# ── builder ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("order", "up"),
        ("limit", -1),
        ("limit", True),
        ("limit", None),
        ("page_size", 0),
        ("page_size", 2001),
        ("page_size", "9"),
    ],
)
def test_a_wrong_refinement_is_refused(name, value):
    with pytest.raises(ConfigError, match=name):
        getattr(client().jobs(), name)(value)


def test_a_query_shows_what_it_is_about():
    asked = client()
    assert repr(asked.jobs()) == "<SyncQuery of all jobs order=asc limit=None>"
    shown = repr(asked.jobs(status="dead", priority=(1, None)).limit(3))
    assert shown == "<SyncQuery of status=dead priority=1.. order=asc limit=3>"


def test_both_queries_have_the_same_methods_with_the_same_arguments():
    def surface(query):
        methods = {name: member for name, member in vars(query).items() if not name.startswith("_")}
        return {name: list(inspect.signature(member).parameters.values()) for name, member in methods.items()}

    assert surface(Query) == surface(SyncQuery)


async def test_an_asynchronous_query_sends_what_a_synchronous_one_sends():
    def answers():
        changes = (answer({"patched": 1}), answer({"retried": 1}), answer({"deleted": 1}))
        return [page(1, more=True), page(2), page(3), answer({"count": 5}), page(4), page(5), *changes, errors(1)]

    transport = FakeTransport(*answers())
    async with Client(URL, format="json", transport=transport) as asynchronous:
        query = asynchronous.jobs(queue="q").limit(4)
        assert [found.payload async for found in query] == [1, 2]
        assert [[found.payload for found in jobs] async for jobs in query.pages()] == [[3]]
        assert (await query.count(), (await query.first()).payload, await query.exists()) == (4, 4, True)
        query = asynchronous.jobs(queue="q")
        assert (await query.update(priority=1), await query.retry(), await query.delete()) == (1, 1, 1)
        assert [error.attempt async for error in asynchronous.job_errors("a")] == [1]

    synchronous = client(*answers())
    query = synchronous.jobs(queue="q").limit(4)
    list(query), list(query.pages()), query.count(), query.first(), query.exists()
    query = synchronous.jobs(queue="q")
    query.update(priority=1), query.retry(), query.delete(), list(synchronous.job_errors("a"))
    assert transport.sent == synchronous._transport.sent
