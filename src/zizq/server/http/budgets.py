"""Handlers of budgets: they parse, call the service of budgets once, and answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from zizq.server.budgets import Budgets
from zizq.server.http import bodies
from zizq.server.http.exchange import NO_CONTENT, Request, Response
from zizq.wire import operations as op
from zizq.wire.codec import Body
from zizq.wire.messages import BudgetBody, BudgetList, BudgetPatchBody

_BUDGET = Body(BudgetBody)
_PATCH = Body(BudgetPatchBody)


class BudgetHandlers:
    """The calls on budgets (protocol.md#8.2)."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets

    @property
    def routes(self) -> dict[op.Operation, Callable[..., Awaitable[Response]]]:
        """Which of them does what."""
        return {
            op.LIST_BUDGETS: self.list_budgets,
            op.GET_BUDGET: self.get,
            op.CREATE_BUDGET: self.create,
            op.REPLACE_BUDGET: self.replace,
            op.PATCH_BUDGET: self.patch,
            op.DELETE_BUDGET: self.delete,
        }

    async def list_budgets(self, request: Request) -> Response:
        """GET /budgets."""
        return request.answer(200, BudgetList(await self._budgets.all()))

    async def get(self, request: Request, key: str) -> Response:
        """GET /budgets/{key}."""
        return request.answer(200, await self._budgets.get(key))

    async def create(self, request: Request, key: str) -> Response:
        """POST /budgets/{key}."""
        wanted = bodies.policy(await request.read(_BUDGET))
        return request.answer(201, await self._budgets.create(key, wanted.allocation, wanted.strategy))

    async def replace(self, request: Request, key: str) -> Response:
        """PUT /budgets/{key}."""
        wanted = bodies.policy(await request.read(_BUDGET))
        return request.answer(200, await self._budgets.replace(key, wanted.allocation, wanted.strategy))

    async def patch(self, request: Request, key: str) -> Response:
        """PATCH /budgets/{key}."""
        patch = bodies.budget_patch(await request.read(_PATCH))
        return request.answer(200, await self._budgets.patch(key, patch))

    async def delete(self, request: Request, key: str) -> Response:
        """DELETE /budgets/{key}."""
        await self._budgets.delete(key)
        return NO_CONTENT
