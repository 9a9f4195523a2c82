"""The API calls on budgets, and on what jobs draw from them."""

from __future__ import annotations

import msgspec

from zizq.client.budgets import (
    EVERY,
    Budget,
    Draw,
    Drawn,
    Draws,
    Every,
    Policy,
    Rebound,
    check_key,
    check_policy,
    draw_of,
    draws_of,
    patch_to_wire,
)
from zizq.client.call import Call, CallMaker, Response, read_job, read_nothing, reading
from zizq.client.changes import Keep
from zizq.client.conditions import Conditions
from zizq.client.job import Job
from zizq.client.options import Duration
from zizq.client.steps import Steps
from zizq.errors import Conflict
from zizq.wire import messages, operations


class BudgetCalls(CallMaker):
    """The calls on budgets in one format."""

    def list_budgets(self) -> Call[list[Budget]]:
        """Read all budgets, sorted by their keys."""
        return self._call(operations.LIST_BUDGETS, lambda answer: _read_budgets(answer).budgets)

    def get(self, key: str) -> Call[Budget]:
        """Read a budget."""
        return self._call(operations.GET_BUDGET, _read_budget, key)

    def create(self, key: str, policy: Policy) -> Call[Budget | None]:
        """Create a budget; the value is None where there is one already."""
        body = check_policy("policy", policy)
        call = self._call(operations.CREATE_BUDGET, _read_created, key, body=body)
        return msgspec.structs.replace(call, success=(*call.success, _THERE))

    def replace(self, key: str, policy: Policy) -> Call[Budget]:
        """Create a budget, or replace the one that is there."""
        return self._call(operations.REPLACE_BUDGET, _read_budget, key, body=check_policy("policy", policy))

    def define(self, key: str, policy: Policy, replace: bool) -> Steps[Budget]:
        """See to it that there is a budget like this.

        Raises:
            Conflict: When there is another, which is not to be replaced.
        """
        if replace:
            replaced: Budget = yield self.replace(key, policy)
            return replaced
        created: Budget | None = yield self.create(key, policy)
        if created is not None:
            return created
        there: Budget = yield self.get(key)
        if there.policy is None or there.policy.to_wire() != policy.to_wire():
            raise Conflict(
                _THERE, f"budget {key!r} is there already, with {there.policy or there.strategy}: say replace=True"
            )
        return there

    def update(self, key: str, allocation: int | Keep, per: Duration | Keep, burst: int | Keep | None) -> Call[Budget]:
        """Change a budget.

        Raises:
            ConfigError: When a value is wrong.
        """
        body = patch_to_wire(allocation, per, burst)
        return self._call(operations.PATCH_BUDGET, _read_budget, key, body=body)

    def delete(self, key: str) -> Call[None]:
        """Delete a budget."""
        return self._call(operations.DELETE_BUDGET, read_nothing, key)

    # ── what jobs draw ───────────────────────────────────────────────────────────────────────────────

    def bind(self, job_id: str, budget: Drawn, replace: bool) -> Call[Job]:
        """Let a job draw on a budget as well.

        Raises:
            ConfigError: When it is no budget.
        """
        draw = draw_of(budget)
        operation = operations.PUT_BINDING if replace else operations.ADD_BINDING
        return self._call(operation, read_job, job_id, draw.key, body=_binding(draw))

    def rebind(self, job_id: str, budgets: Draws | None) -> Call[Job]:
        """Let a job draw on these budgets and no others.

        Raises:
            ConfigError: When one is no budget, or is named twice.
        """
        body = messages.BindingsBody([draw.to_wire() for draw in draws_of(budgets)])
        return self._call(operations.REPLACE_BINDINGS, read_job, job_id, body=body)

    def unbind(self, job_id: str, key: str | Every) -> Call[Job]:
        """Let a job draw on a budget no more, or on none at all.

        Raises:
            ConfigError: When it is no key.
        """
        if key is EVERY:
            return self._call(operations.DELETE_BINDINGS, read_job, job_id)
        return self._call(operations.DELETE_BINDING, read_job, job_id, check_key(key))

    def bind_jobs(self, conditions: Conditions, budget: Drawn, replace: bool) -> Call[Rebound]:
        """Let the jobs that meet conditions draw on a budget as well.

        Raises:
            ConfigError: When it is no budget.
        """
        draw = draw_of(budget)
        operation = operations.PUT_BINDING_OF_JOBS if replace else operations.ADD_BINDING_TO_JOBS
        query = conditions.parameters()
        return self._call(operation, _read_rebound, draw.key, query=query, body=_binding(draw))

    def unbind_jobs(self, conditions: Conditions, key: str | Every) -> Call[Rebound]:
        """Let the jobs that meet conditions draw on a budget no more, or on none at all.

        Raises:
            ConfigError: When it is no key.
        """
        query = conditions.parameters()
        if key is EVERY:
            return self._call(operations.DELETE_BINDINGS_OF_JOBS, _read_rebound, query=query)
        return self._call(operations.DELETE_BINDING_OF_JOBS, _read_rebound, check_key(key), query=query)


def _binding(draw: Draw) -> messages.BindingBody:
    sent = draw.to_wire()
    return messages.BindingBody(sent.cost, sent.create_with)


_THERE = 409


class _Budgets(msgspec.Struct):
    budgets: list[Budget]


_read_budget = reading(Budget)
_read_budgets = reading(_Budgets)
_read_rebound = reading(Rebound)


def _read_created(answer: Response) -> Budget | None:
    return None if answer.status == _THERE else _read_budget(answer)
