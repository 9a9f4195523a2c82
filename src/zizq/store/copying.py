"""A copy of all that one store holds to another, checked at the end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from zizq.errors import DecodeError
from zizq.store.base import Silence, Store
from zizq.store.contents import Lot, Sum


async def copy(source: Store, target: Store, progress: Callable[[str, Sum], None]) -> Sum:
    """Copy a store to one that is empty; neither is open, and nobody else may use them. Returns what was copied.

    It is there as a whole or not at all, also where this is interrupted or fails.

    Args:
        source: The store to copy; it is not changed.
        target: The store that it goes to.
        progress: Hears what is done, and what was done so far of it.

    Raises:
        ConfigError: When one of them cannot be used, or the target is not empty.
        DecodeError: When what is there in the end is not what was read; the target is empty again.
    """
    sent, arrived = Sum(), Sum()

    async def lots() -> AsyncGenerator[Lot, None]:
        async with aclosing(source.export()) as exported:
            async for lot in exported:
                sent.add(lot)
                progress("copying", sent)
                yield lot

    async with aclosing(lots()) as sending:
        await target.load(sending)
    async with aclosing(target.export()) as there:
        async for lot in there:
            arrived.add(lot)
            progress("checking", arrived)
    if arrived != sent:
        await target.open(Silence())
        await target.reset()
        await target.close()
        raise DecodeError("what arrived is not what was sent, and was removed: " + "; ".join(sent.differences(arrived)))
    return sent
