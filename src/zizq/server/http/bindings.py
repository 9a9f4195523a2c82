"""Handlers of bindings: what jobs draw from budgets, for one job and for many (protocol.md#8.4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from zizq.budget import Budget
from zizq.clock import Clock
from zizq.engine.changes import Rebind
from zizq.server.bindings import Bindings
from zizq.server.http import bodies
from zizq.server.http.exchange import Request, Response
from zizq.server.http.gate import check_draws
from zizq.server.http.query import change_filter
from zizq.wire import operations as op
from zizq.wire.codec import Body
from zizq.wire.messages import BindingBody, BindingsBody, CostBody, DrawBody, Rebound

_ALL = Body(BindingsBody)
_ONE = Body(BindingBody)
_COST = Body(CostBody)


class BindingHandlers:
    """The calls on what jobs draw from budgets."""

    def __init__(self, bindings: Bindings, clock: Clock) -> None:
        self._bindings = bindings
        self._clock = clock

    @property
    def routes(self) -> dict[op.Operation, Callable[..., Awaitable[Response]]]:
        """Which of them does what."""
        return {
            op.REPLACE_BINDINGS: self.replace_all,
            op.DELETE_BINDINGS: self.delete_all,
            op.ADD_BINDING: self.add,
            op.PUT_BINDING: self.put,
            op.PATCH_BINDING: self.patch,
            op.DELETE_BINDING: self.delete,
            op.DELETE_BINDINGS_OF_JOBS: self.delete_all_of_jobs,
            op.ADD_BINDING_TO_JOBS: self.add_to_jobs,
            op.PUT_BINDING_OF_JOBS: self.put_of_jobs,
            op.PATCH_BINDING_OF_JOBS: self.patch_of_jobs,
            op.DELETE_BINDING_OF_JOBS: self.delete_of_jobs,
        }

    # ── one job ──

    async def replace_all(self, request: Request, job_id: str) -> Response:
        """PUT /jobs/{id}/budgets."""
        asked = (await request.read(_ALL)).budgets
        return await self._change(request, job_id, Rebind(all=bodies.draws(asked)), asked)

    async def delete_all(self, request: Request, job_id: str) -> Response:
        """DELETE /jobs/{id}/budgets."""
        return await self._change(request, job_id, Rebind(all=()))

    async def add(self, request: Request, job_id: str, key: str) -> Response:
        """POST /jobs/{id}/budgets/{key}."""
        asked = _named(key, await request.read(_ONE))
        return await self._change(request, job_id, Rebind(put=bodies.draws(asked)[0], only="new"), asked)

    async def put(self, request: Request, job_id: str, key: str) -> Response:
        """PUT /jobs/{id}/budgets/{key}."""
        asked = _named(key, await request.read(_ONE))
        return await self._change(request, job_id, Rebind(put=bodies.draws(asked)[0]), asked)

    async def patch(self, request: Request, job_id: str, key: str) -> Response:
        """PATCH /jobs/{id}/budgets/{key}."""
        return await self._change(request, job_id, await _repriced(request, key))

    async def delete(self, request: Request, job_id: str, key: str) -> Response:
        """DELETE /jobs/{id}/budgets/{key}."""
        return await self._change(request, job_id, Rebind(drop=key))

    # ── many jobs ──

    async def delete_all_of_jobs(self, request: Request) -> Response:
        """DELETE /jobs/budgets."""
        return await self._change_all(request, op.DELETE_BINDINGS_OF_JOBS, Rebind(all=()))

    async def add_to_jobs(self, request: Request, key: str) -> Response:
        """POST /jobs/budgets/{key}."""
        asked = _named(key, await request.read(_ONE))
        rebind = Rebind(put=bodies.draws(asked)[0], only="new")
        return await self._change_all(request, op.ADD_BINDING_TO_JOBS, rebind, asked)

    async def put_of_jobs(self, request: Request, key: str) -> Response:
        """PUT /jobs/budgets/{key}."""
        asked = _named(key, await request.read(_ONE))
        return await self._change_all(request, op.PUT_BINDING_OF_JOBS, Rebind(put=bodies.draws(asked)[0]), asked)

    async def patch_of_jobs(self, request: Request, key: str) -> Response:
        """PATCH /jobs/budgets/{key}."""
        return await self._change_all(request, op.PATCH_BINDING_OF_JOBS, await _repriced(request, key))

    async def delete_of_jobs(self, request: Request, key: str) -> Response:
        """DELETE /jobs/budgets/{key}."""
        return await self._change_all(request, op.DELETE_BINDING_OF_JOBS, Rebind(drop=key))

    async def _change(self, request: Request, job_id: str, rebind: Rebind, asked: Sequence[DrawBody] = ()) -> Response:
        create = self._creations(request, asked)
        return request.answer(200, await self._bindings.change(job_id, rebind, create))

    async def _change_all(
        self, request: Request, operation: op.Operation, rebind: Rebind, asked: Sequence[DrawBody] = ()
    ) -> Response:
        chosen = change_filter(request.query(operation))
        create = self._creations(request, asked)
        return request.answer(200, Rebound(*await self._bindings.change_all(*chosen, rebind, create)))

    def _creations(self, request: Request, asked: Sequence[DrawBody]) -> dict[str, Budget]:
        """The budgets that draws bring along."""
        if request.limits is not None:
            check_draws(request.limits, asked)
        return bodies.creations(asked, self._clock.wall_ms())


def _named(key: str, body: BindingBody) -> list[DrawBody]:
    """What a body says of the budget in the path."""
    return [DrawBody(key, body.cost, body.create_with)]


async def _repriced(request: Request, key: str) -> Rebind:
    cost = (await request.read(_COST)).cost
    return Rebind(put=bodies.draws([DrawBody(key, cost)])[0], only="old")
