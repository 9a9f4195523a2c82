"""What is sent about budgets, what the answers mean, and what is refused before anything is sent."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from unit.client.fakes import JOB, FakeTransport, SyncFakeTransport, answer
from zizq import (
    KEEP,
    Budget,
    Client,
    ConfigError,
    Conflict,
    Draw,
    Enqueue,
    JobKind,
    NotFound,
    Rebound,
    SyncClient,
    TimeBased,
    WhileInFlight,
    job_kind,
)
from zizq.client.budgets import draws_of

AT = 1_790_000_000_123
RATE = {
    "key": "mail", "allocation": 100, "strategy": {"type": "time_based", "duration_ms": 60_000, "burst": 5},
    "created_at": AT, "updated_at": AT + 1,
}  # fmt: skip
LIMIT = {**RATE, "key": "stripe", "allocation": 3, "strategy": {"type": "while_in_flight"}}
THERE = answer({"error": "budget 'stripe' already exists"}, 409)


def asked(*answers):
    return SyncClient(format="json", transport=SyncFakeTransport(*answers))


def sent(client):
    """The requests that were sent, as method, path and body."""
    requests = client._transport.sent
    return [(one.method, one.path, None if one.body is None else msgspec.json.decode(one.body)) for one in requests]


# ── budgets ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("policy", "body"),
    [
        (WhileInFlight(3), {"allocation": 3, "strategy": {"type": "while_in_flight"}}),
        (TimeBased(100, per=60), {"allocation": 100, "strategy": {"type": "time_based", "duration_ms": 60_000}}),
        (
            TimeBased(allocation=1_000_000, per=timedelta(milliseconds=1), burst=1),
            {"allocation": 1_000_000, "strategy": {"type": "time_based", "duration_ms": 1, "burst": 1}},
        ),
    ],
)
def test_a_policy_is_sent_as_the_protocol_writes_it(policy, body):
    client = asked(answer(LIMIT, 201), answer(LIMIT))
    client.define_budget("a/b", policy)
    client.define_budget("a/b", policy, replace=True)
    assert sent(client) == [("POST", "/budgets/a%2Fb", body), ("PUT", "/budgets/a%2Fb", body)]


@pytest.mark.parametrize(
    ("there", "policy"),
    [
        (LIMIT, WhileInFlight(3)),
        (RATE, TimeBased(100, per=60, burst=5)),
        (RATE, TimeBased(100, per=timedelta(minutes=1), burst=5)),
    ],
)
def test_to_define_a_budget_that_is_there_already_and_is_the_same_is_no_error(there, policy):
    client = asked(THERE, answer(there))
    assert client.define_budget("stripe", policy).key == there["key"]
    assert [request[:2] for request in sent(client)] == [("POST", "/budgets/stripe"), ("GET", "/budgets/stripe")]


@pytest.mark.parametrize(
    ("there", "policy"),
    [
        (LIMIT, WhileInFlight(4)),
        (LIMIT, TimeBased(3, per=60)),
        (RATE, TimeBased(100, per=60)),
        (RATE, TimeBased(100, per=61, burst=5)),
        ({**LIMIT, "strategy": {"type": "lunar"}}, WhileInFlight(3)),
    ],
)
def test_to_define_another_budget_of_that_key_is_a_conflict_that_names_the_remedy(there, policy):
    client = asked(THERE, answer(there))
    with pytest.raises(Conflict, match=r"'stripe' is there already, with .*: say replace=True") as caught:
        client.define_budget("stripe", policy)
    assert caught.value.status == 409


def test_budgets_are_read():
    client = asked(answer({"budgets": [RATE, LIMIT]}), answer(RATE))
    rate, limit = client.budgets()
    assert client.budget("mail") == rate
    assert rate.policy == TimeBased(100, timedelta(minutes=1), 5)
    assert (rate.key, rate.capacity, limit.policy, limit.capacity) == ("mail", 5, WhileInFlight(3), 3)
    assert rate.created_at == datetime.fromtimestamp(AT / 1000, UTC)
    assert rate.updated_at - rate.created_at == timedelta(milliseconds=1)
    assert sent(client) == [("GET", "/budgets", None), ("GET", "/budgets/mail", None)]


def test_a_strategy_that_is_not_known_yet_can_be_read():
    budget = asked(answer({**LIMIT, "strategy": {"type": "lunar", "phase": 3}})).budget("stripe")
    assert (budget.policy, budget.strategy.type, budget.capacity) == (None, "lunar", 3)


@pytest.mark.parametrize(
    ("changes", "body"),
    [
        ({}, {}),
        ({"allocation": KEEP, "per": KEEP, "burst": KEEP}, {}),
        ({"allocation": 5}, {"allocation": 5}),
        ({"per": timedelta(seconds=2)}, {"strategy": {"duration_ms": 2000}}),
        ({"burst": 7}, {"strategy": {"burst": 7}}),
        (
            {"allocation": 1, "per": 0.5, "burst": None},
            {"allocation": 1, "strategy": {"duration_ms": 500, "burst": None}},
        ),
    ],
)
def test_an_update_sends_what_changes(changes, body):
    client = asked(answer(RATE))
    assert isinstance(client.update_budget("mail", **changes), Budget)
    assert sent(client) == [("PATCH", "/budgets/mail", body)]


def test_a_budget_is_deleted():
    client = asked(answer(status=204), answer({"error": "budget 'x' not found"}, 404))
    client.delete_budget("mail")
    with pytest.raises(NotFound, match="'x' not found"):
        client.delete_budget("x")
    assert sent(client)[0] == ("DELETE", "/budgets/mail", None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WhileInFlight(0), "allocation=0 is out of range"),
        (lambda: WhileInFlight(True), "allocation=True"),
        (lambda: WhileInFlight(2.0), "whole number"),
        (lambda: TimeBased(1_000_001, per=1), "from 1 to 1000000"),
        (lambda: TimeBased(1, per=0), "per=0 is no period"),
        (lambda: TimeBased(1, per=-1), "negative"),
        (lambda: TimeBased(1, per="1m"), "not a duration"),
        (lambda: TimeBased(1, per=1, burst=0), "burst=0"),
        (lambda: asked().define_budget("a", {"allocation": 1}), "is no policy"),
        (lambda: asked().define_budget("a", 3, replace=True), "zizq.TimeBased or zizq.WhileInFlight"),
        (lambda: asked().define_budget("", WhileInFlight(1)), "'' is no id and no name"),
        (lambda: asked().budget(".."), "'..' is no id"),
        (lambda: asked().delete_budget(None), "give text"),
        (lambda: asked().update_budget("a", allocation=0), "allocation=0"),
        (lambda: asked().update_budget("a", allocation=None), "allocation=None"),
        (lambda: asked().update_budget("a", per=None), "not a duration"),
        (lambda: asked().update_budget("a", burst="many"), "burst='many'"),
    ],
)
def test_a_budget_that_cannot_be_is_refused_before_anything_is_sent(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


# ── draws ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("budgets", "expected"),
    [
        (None, None),
        ((), None),
        ([], None),
        ("a", [{"key": "a"}]),
        (("a", 2), [{"key": "a", "cost": 2}]),
        (("a", 1), [{"key": "a"}]),
        (("a", "b"), [{"key": "a"}, {"key": "b"}]),
        (["a", ("b", 2)], [{"key": "a"}, {"key": "b", "cost": 2}]),
        ((("a", 3), ("b", 2)), [{"key": "a", "cost": 3}, {"key": "b", "cost": 2}]),
        ({"a"}, [{"key": "a"}]),
        (Draw("a", cost=4), [{"key": "a", "cost": 4}]),
        (
            [Draw("a", create_with=WhileInFlight(3)), Draw("b", 2, TimeBased(100, per=60, burst=5))],
            [
                {"key": "a", "create_with": {"allocation": 3, "strategy": {"type": "while_in_flight"}}},
                {
                    "key": "b", "cost": 2,
                    "create_with": {"allocation": 100, "strategy": RATE["strategy"]},
                },
            ],
        ),
    ],
)  # fmt: skip
def test_an_enqueue_says_what_the_job_draws(budgets, expected):
    client = asked(answer(JOB, 201))
    client.enqueue_raw("send", None, budgets=budgets)
    assert sent(client)[0][2].get("budgets") == expected


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        (7, "7 is no budget"),
        ([7], "7 is no budget: give a key, a pair of key and cost, or a zizq.Draw"),
        ([None], "None is no budget"),
        ({"a": 2}, "is no budget"),
        (b"a", "is no budget"),
        ("", "key='' is no budget's key"),
        (["a", "a"], "'a' is named more than once"),
        (["a", ("a", 2)], "more than once"),
        (("a", 0), "cost=0 of budget 'a'"),
        (("a", None), "cost=None"),
        (("a", 1.5), "whole number from 1"),
        ((2, "a"), "2 is no budget"),
        (("a", True), "cost=True"),
    ],
)
def test_what_is_no_budget_is_refused_before_anything_is_sent(budgets, message):
    client = asked()
    with pytest.raises(ConfigError, match=message):
        client.enqueue_raw("send", None, budgets=budgets)
    assert sent(client) == []


def test_a_draw_is_held_to_its_rules_where_it_is_written():
    with pytest.raises(ConfigError, match="create_with=3 is no policy"):
        Draw("a", create_with=3)
    with pytest.raises(ConfigError, match="cost=4294967296"):
        Draw("a", 2**32)


def test_a_kind_draws_and_an_enqueue_may_draw_otherwise():
    @job_kind("charge", budgets=[("stripe", 2)])
    @dataclass
    class Charge:
        order: int

    class Report(JobKind):
        NAME = "report"
        BUDGETS = "reports"

        def to_payload(self):
            return None

        @classmethod
        def from_payload(cls, payload):
            return cls()

    client = asked(*[answer(JOB, 201)] * 4)
    client.enqueue(Charge(1))
    client.enqueue(Charge(1), budgets="other")
    client.enqueue(Charge(1), budgets=None)
    client.enqueue(Report())
    assert [body.get("budgets") for _, _, body in sent(client)] == [
        [{"key": "stripe", "cost": 2}], [{"key": "other"}], None, [{"key": "reports"}],
    ]  # fmt: skip


def test_a_kind_says_what_is_wrong_with_its_budgets_when_it_is_declared():
    with pytest.raises(ConfigError, match="cost=0"):

        @job_kind("charge", budgets=("stripe", 0))
        @dataclass
        class Charge:
            order: int


def test_a_job_says_what_it_draws_in_a_form_that_an_enqueue_takes():
    client = asked(answer(JOB | {"budgets": [{"key": "a", "cost": 1}, {"key": "b", "cost": 2}]}), answer(JOB))
    job = client.get_job("a")
    assert job.budgets == (Draw("a"), Draw("b", 2)) == draws_of(job.budgets)
    assert client.get_job("b").budgets == ()
    assert Enqueue("t", None, budgets=job.budgets).budgets == job.budgets


# ── changing what jobs draw ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("method", "args", "options", "expected"),
    [
        ("bind", ["a"], {}, ("POST", "/jobs/x/budgets/a", {})),
        ("bind", [("a/b", 2)], {}, ("POST", "/jobs/x/budgets/a%2Fb", {"cost": 2})),
        ("bind", [("a", 2)], {"replace": True}, ("PUT", "/jobs/x/budgets/a", {"cost": 2})),
        (
            "bind", [Draw("a", create_with=WhileInFlight(3))], {},
            (
                "POST", "/jobs/x/budgets/a",
                {"create_with": {"allocation": 3, "strategy": {"type": "while_in_flight"}}},
            ),
        ),
        ("rebind", ["a"], {}, ("PUT", "/jobs/x/budgets", {"budgets": [{"key": "a"}]})),
        ("rebind", [()], {}, ("PUT", "/jobs/x/budgets", {"budgets": []})),
        ("unbind", ["a"], {}, ("DELETE", "/jobs/x/budgets/a", None)),
        ("unbind", [], {}, ("DELETE", "/jobs/x/budgets", None)),
    ],
)  # fmt: skip
def test_what_one_job_draws_is_changed(method, args, options, expected):
    client = asked(answer(JOB))
    assert getattr(client, method)("x", *args, **options).id == JOB["id"]
    assert sent(client) == [expected]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda client: client.bind("x", ["a", "b"]), "is no budget"),
        (lambda client: client.bind("x", None), "None is no budget"),
        (lambda client: client.bind("", "a"), "'' is no id"),
        (lambda client: client.rebind("x", ["a", "a"]), "more than once"),
        (lambda client: client.unbind("x", None), "key=None is no budget's key"),
        (lambda client: client.unbind("x", ""), "key=''"),
        (lambda client: client.jobs(queue="q").unbind(None), "key=None"),
        (lambda client: client.jobs(queue="q").limit(5).unbind(""), "key=''"),
        (lambda client: client.jobs(queue="q").limit(5).bind(("a", 0)), "cost=0"),
        (lambda client: client.jobs().bind("a"), r"bind\(\) without a condition is about every job"),
        (lambda client: client.jobs().unbind(), r"say all=True"),
    ],
)
def test_a_change_that_cannot_be_meant_is_refused_before_anything_is_sent(call, message):
    client = asked()
    with pytest.raises(ConfigError, match=message):
        call(client)
    assert sent(client) == []


def test_what_many_jobs_draw_is_changed_in_one_request():
    client = asked(*[answer({"changed": 2, "blocked": 1})] * 5)
    jobs = client.jobs(queue="q")
    assert jobs.bind(("a/b", 2)) == Rebound(2, 1)
    jobs.bind("a", replace=True)
    jobs.unbind("a")
    jobs.unbind()
    client.jobs().unbind(all=True)
    assert sent(client) == [
        ("POST", "/jobs/budgets/a%2Fb?queue=q", {"cost": 2}),
        ("PUT", "/jobs/budgets/a?queue=q", {}),
        ("DELETE", "/jobs/budgets/a?queue=q", None),
        ("DELETE", "/jobs/budgets?queue=q", None),
        ("DELETE", "/jobs/budgets", None),
    ]


def test_a_limit_changes_page_by_page_and_adds_up():
    def page(*numbers, more):
        jobs = [JOB | {"id": f"{number:025}", "payload": None} for number in numbers]
        return answer({"jobs": jobs, "pages": {"self": "/", "next": "/next" if more else None, "prev": None}})

    client = asked(
        page(1, 2, more=True), answer({"changed": 2, "blocked": 0}), page(3, more=True),
        answer({"changed": 0, "blocked": 1}),
    )  # fmt: skip
    assert client.jobs(queue="q").limit(3).page_size(2).bind("a") == Rebound(changed=2, blocked=1)
    paths = [path for _, path, _ in sent(client)]
    assert paths[0] == "/jobs?order=asc&limit=2&status=in_flight,ready,scheduled&queue=q"
    assert paths[3].startswith("/jobs/budgets/a?")
    assert f"id={3:025}" in paths[3]


def test_an_empty_choice_changes_nothing_and_sends_nothing():
    client = asked()
    assert client.jobs(id=[]).bind("a") == client.jobs(queue="q").limit(0).unbind() == Rebound(0, 0)
    assert sent(client) == []


def test_jobs_are_found_by_the_budgets_that_they_draw_on():
    client = asked(*[answer({"count": 1})] * 2)
    client.jobs(budgets=["b/c", "a"]).count()
    client.jobs(budgets="a", queue="q").count()
    assert [path for _, path, _ in sent(client)] == [
        "/jobs/count?budgets.key=a,b%2Fc", "/jobs/count?queue=q&budgets.key=a",
    ]  # fmt: skip
    assert client.jobs(budgets=[]).count() == 0
    with pytest.raises(ConfigError, match="budgets: 'a,b' can name no job"):
        client.jobs(budgets="a,b")


async def test_the_asynchronous_client_sends_the_same():
    def answers():
        rebound = answer({"changed": 1, "blocked": 0})
        return [THERE, answer(LIMIT), answer(LIMIT), answer(LIMIT), answer({"budgets": []}), answer(LIMIT),
                answer(status=204), answer(JOB), answer(JOB), answer(JOB), rebound, rebound]  # fmt: skip

    def same(client):
        yield client.define_budget("stripe", WhileInFlight(3))
        yield client.define_budget("stripe", WhileInFlight(3), replace=True)
        yield client.budget("stripe")
        yield client.budgets()
        yield client.update_budget("stripe", allocation=4)
        yield client.delete_budget("stripe")
        yield client.bind("x", "a")
        yield client.rebind("x", ["a"])
        yield client.unbind("x")
        yield client.jobs(queue="q").bind("a")
        yield client.jobs(queue="q").unbind("a")

    async with Client(format="json", transport=FakeTransport(*answers())) as client:
        awaited = [await one for one in same(client)]
    blocking = asked(*answers())
    assert repr(awaited) == repr(list(same(blocking)))
    assert sent(client) == sent(blocking)
    assert len(sent(client)) == 12
