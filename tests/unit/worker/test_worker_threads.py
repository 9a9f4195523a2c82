"""Threads for handlers."""

import asyncio
import threading

import pytest

from zizq.worker.threads import Threads


@pytest.fixture
def threads():
    threads = Threads(2, "t")
    yield threads
    threads.close()


async def test_an_idle_thread_is_used_again_and_a_busy_one_joined_by_another(threads):
    go = threading.Event()
    name = lambda: threading.current_thread().name  # noqa: E731 - a call to make there
    assert [await threads.run(name) for _ in range(3)] == ["t-1"] * 3
    waiting = [threads.run(go.wait)]
    assert await threads.run(name) in ("t-1", "t-2")
    waiting.append(threads.run(go.wait))
    late = threads.run(name)
    go.set()
    assert await asyncio.gather(*waiting) == [True, True]
    assert await late in ("t-1", "t-2")


async def test_what_a_call_raises_is_raised(threads):
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 / 0)


async def test_a_call_that_was_cancelled_before_it_began_is_not_made(threads):
    go, made = threading.Event(), []
    busy = [threads.run(go.wait) for _ in range(2)]
    late = threads.run(lambda: made.append(1))
    late.cancel()
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*busy)
    assert await threads.run(lambda: made) == []


async def test_threads_do_not_keep_the_interpreter_alive(threads):
    assert await threads.run(lambda: threading.current_thread().daemon)
