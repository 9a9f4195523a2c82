"""What a caller may do."""

from __future__ import annotations

from typing import Any

import pytest

from zizq.errors import ConfigError, NotPermitted
from zizq.server.access import Caller, Grant, Reach, check_grant, reach
from zizq.wire import operations as op
from zizq.wire.operations import OPERATIONS, Operation, Scope


def grant(*scopes: Scope, **fields: Any) -> Grant:
    given = {"id": "ab12", "name": "billing", "created_at": 0, "scopes": scopes, "sha256": "0" * 64}
    return Grant(**given | fields)


def caller(*queues: str, scopes: tuple[Scope, ...] = (Scope.WORK,)) -> Caller:
    return Caller(grant(*scopes, queues=queues))


def test_what_reads_needs_to_read_and_what_changes_needs_more() -> None:
    for operation in OPERATIONS:
        if operation.scope is not None and operation is not op.TAKE:
            assert (operation.scope is Scope.READ) is (operation.method == "GET"), operation.name


# docs/security.md#scopes says it in words; each call is thought of here.
SCOPES = {
    None: {*op.PROBES, op.VERSION, op.OPENAPI},
    Scope.ENQUEUE: {op.ENQUEUE, op.ENQUEUE_BULK},
    Scope.WORK: {op.TAKE, op.SUCCEED, op.FAIL, op.SUCCEED_BULK, op.RELEASE},
    Scope.READ: {
        op.LIST_JOBS, op.COUNT_JOBS, op.GET_JOB, op.LIST_ERRORS, op.GET_ERROR, op.QUEUES, op.GET_QUEUE, op.LIST_CRONS,
        op.GET_CRON, op.GET_CRON_ENTRY, op.LIST_BUDGETS, op.GET_BUDGET,
    },
    Scope.MANAGE: {
        op.PATCH_JOB, op.DELETE_JOB, op.RETRY_JOB, op.PATCH_JOBS, op.DELETE_JOBS, op.RETRY_JOBS, op.PAUSE_QUEUE,
        op.RESUME_QUEUE, op.REPLACE_BINDINGS, op.DELETE_BINDINGS, op.ADD_BINDING, op.PUT_BINDING, op.PATCH_BINDING,
        op.DELETE_BINDING, op.DELETE_BINDINGS_OF_JOBS, op.ADD_BINDING_TO_JOBS, op.PUT_BINDING_OF_JOBS,
        op.PATCH_BINDING_OF_JOBS, op.DELETE_BINDING_OF_JOBS, op.CREATE_BUDGET, op.REPLACE_BUDGET, op.PATCH_BUDGET,
        op.DELETE_BUDGET, op.DELETE_CRONS, op.REPLACE_CRON, op.PATCH_CRON, op.DELETE_CRON, op.CREATE_CRON_ENTRY,
        op.REPLACE_CRON_ENTRY, op.PATCH_CRON_ENTRY, op.DELETE_CRON_ENTRY,
    },
    Scope.ADMIN: {op.RESET},
}  # fmt: skip


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.name)
def test_every_call_has_the_scope_that_was_thought_of(operation: Operation) -> None:
    assert [scope for scope, calls in SCOPES.items() if operation in calls] == [operation.scope]


# What a call is about decides what patterns of queues let through; each call is thought of here.
REACHES = {
    Reach.NOTHING: {*op.PROBES, op.VERSION, op.OPENAPI},
    Reach.OWN: {op.ENQUEUE, op.ENQUEUE_BULK, op.SUCCEED_BULK, op.RELEASE, op.QUEUES},
    Reach.NAMED: {
        op.LIST_JOBS, op.COUNT_JOBS, op.PATCH_JOBS, op.DELETE_JOBS, op.RETRY_JOBS, op.TAKE, op.DELETE_BINDINGS_OF_JOBS,
        op.ADD_BINDING_TO_JOBS, op.PUT_BINDING_OF_JOBS, op.PATCH_BINDING_OF_JOBS, op.DELETE_BINDING_OF_JOBS,
    },
    Reach.PATH: {op.GET_QUEUE, op.PAUSE_QUEUE, op.RESUME_QUEUE},
    Reach.JOB: {
        op.GET_JOB, op.PATCH_JOB, op.DELETE_JOB, op.RETRY_JOB, op.SUCCEED, op.FAIL, op.LIST_ERRORS, op.GET_ERROR,
        op.REPLACE_BINDINGS, op.DELETE_BINDINGS, op.ADD_BINDING, op.PUT_BINDING, op.PATCH_BINDING, op.DELETE_BINDING,
    },
    Reach.SERVER: {
        op.RESET, op.LIST_CRONS, op.DELETE_CRONS, op.GET_CRON, op.REPLACE_CRON, op.PATCH_CRON, op.DELETE_CRON,
        op.CREATE_CRON_ENTRY, op.GET_CRON_ENTRY, op.REPLACE_CRON_ENTRY, op.PATCH_CRON_ENTRY, op.DELETE_CRON_ENTRY,
        op.LIST_BUDGETS, op.GET_BUDGET, op.CREATE_BUDGET, op.REPLACE_BUDGET, op.PATCH_BUDGET, op.DELETE_BUDGET,
    },
}  # fmt: skip


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.name)
def test_every_call_says_which_queues_it_is_about(operation: Operation) -> None:
    assert operation in REACHES[reach(operation)]


def test_a_call_that_nobody_has_thought_of_is_about_the_whole_server() -> None:
    new = Operation("new", "POST", "/new", "Does something.", {204: None}, scope=Scope.MANAGE)
    assert reach(new) is Reach.SERVER


# ── scopes ──


@pytest.mark.parametrize("has", Scope)
@pytest.mark.parametrize("needs", Scope)
def test_a_scope_allows_itself_and_admin_allows_all(has: Scope, needs: Scope) -> None:
    one = caller(scopes=(has,))
    if has in (needs, Scope.ADMIN):
        one.check_scope(needs)
    else:
        with pytest.raises(
            NotPermitted, match=f"'billing' .ab12. has not the scope `{needs}` .* only `{has}`"
        ) as caught:
            one.check_scope(needs)
        assert caught.value.reason == "scope"


# ── queues ──


@pytest.mark.parametrize(
    ("patterns", "queue", "may"),
    [
        ((), "any", True),
        (("*",), "any", True),
        (("mail", "*"), "any", True),
        (("mail",), "mail", True),
        (("mail",), "mails", False),
        (("mail",), "email", False),
        (("mail*",), "mail-out", True),
        (("*-out",), "mail-out", True),
        (("a", "b?"), "b1", True),
        (("a", "b?"), "b", False),
        (("a|b",), "a", False),
        (("m.il",), "mail", False),
        (("[ab]1",), "b1", True),
        (("mail*",), "mail\nx", True),
        (("mail",), "mail\n", False),
        (("Mail",), "mail", False),
    ],
)
def test_patterns_match_whole_names_of_queues(patterns: tuple[str, ...], queue: str, may: bool) -> None:
    assert caller(*patterns).may_use(queue) is may


def test_who_has_patterns_names_queues_and_only_their_own() -> None:
    caller("mail*").check_queues(["mail", "mail-out"])
    caller().check_queues(["any"])
    with pytest.raises(NotPermitted, match="name some of them in the parameter `queue`: it is for `mail\\*`"):
        caller("mail*").check_queues([])
    with pytest.raises(NotPermitted, match="`sms` is none of them") as caught:
        caller("mail*").check_queues(["mail", "sms"])
    assert caught.value.reason == "queue"


def test_who_has_patterns_does_nothing_to_the_whole_server() -> None:
    caller().check_whole("GET /crons")
    caller("*").check_whole("GET /crons")
    with pytest.raises(NotPermitted, match="GET /crons is about all queues: use a token without patterns"):
        caller("mail").check_whole("GET /crons")


def test_a_grant_ends_at_its_time() -> None:
    ends = Caller(grant(Scope.READ, expires_at=1000))
    assert [ends.has_expired(now) for now in (999, 1000)] == [False, True]
    assert not Caller(grant(Scope.READ)).has_expired(10**15)


# ── grants ──


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id": ""}, "an id is made of"),
        ({"id": "a_b"}, "an id is made of"),
        ({"name": ""}, "is empty"),
        ({"name": "a\nb"}, "cannot be printed"),
        ({"scopes": ()}, "has no scope: give it one of enqueue, work, read, manage, admin"),
        ({"sha256": None}, "either the hash of a secret or the name of a certificate"),
        ({"certificate": "x"}, "either the hash of a secret or the name of a certificate"),
        ({"sha256": "ABC"}, "is no SHA-256"),
        ({"queues": ("",)}, "is no pattern of queues"),
        ({"queues": ("a,b",)}, "is no pattern of queues"),
        ({"scopes": (Scope.ADMIN,), "queues": ("a",)}, "the scope admin is about the whole server"),
    ],
)
def test_a_grant_that_breaks_a_rule_is_refused(fields: dict[str, Any], message: str) -> None:
    check_grant(grant(Scope.READ))
    with pytest.raises(ConfigError, match=message):
        check_grant(grant(Scope.READ, **fields))
