"""Who is woken: no socket, no store, only the bookkeeping of streams."""

from __future__ import annotations

import pytest

from zizq.server.consumers import Consumer, Consumers, Terms


def woken(consumer: Consumer) -> bool:
    """Whether a wake has come, which is taken back."""
    was, consumer._woken = consumer._woken, False
    return was


def hungry(consumers: Consumers, owner: int, queues: tuple[str, ...] = (), prefetch: int = 2) -> Consumer:
    consumer = Consumer(owner, queues, prefetch)
    consumers.add(consumer)
    consumers.starve(consumer)
    return consumer


def take(consumers: Consumers, consumer: Consumer, found: int) -> int:
    """What the broker does around a take."""
    room = consumers.room(consumer)
    consumers.reserve(consumer, room)
    taken = min(room, found)
    consumers.handed(consumer, room, taken)
    return taken


def test_one_event_wakes_the_consumer_that_waits_longest() -> None:
    consumers = Consumers(0)
    first, second = hungry(consumers, 1), hungry(consumers, 2)
    consumers.available(["q"])
    assert (woken(first), woken(second)) == (True, False)
    consumers.available(["q"])
    assert (woken(first), woken(second)) == (False, True)


def test_a_consumer_hears_only_of_its_queues() -> None:
    consumers = Consumers(0)
    a, b = hungry(consumers, 1, ("a",)), hungry(consumers, 2, ("b", "c"))
    consumers.available(["c"])
    assert (woken(a), woken(b)) == (False, True)


def test_who_takes_all_it_may_passes_the_wake_on() -> None:
    consumers = Consumers(0)
    first, named, other = hungry(consumers, 1), hungry(consumers, 2, ("q",)), hungry(consumers, 3)
    consumers.available(["q"])
    assert woken(named)
    take(consumers, named, found=99)
    assert woken(first)
    take(consumers, first, found=99)
    assert woken(other)


def test_who_takes_less_than_it_may_lets_the_others_sleep() -> None:
    consumers = Consumers(0)
    first, second = hungry(consumers, 1), hungry(consumers, 2)
    consumers.available(["q"])
    assert woken(first)
    take(consumers, first, found=1)
    assert not woken(second)


def test_a_wake_outlives_the_consumer_it_came_to() -> None:
    consumers = Consumers(0)
    first, second = hungry(consumers, 1), hungry(consumers, 2)
    consumers.available(["q"])
    assert woken(first)
    consumers.remove(first)
    assert woken(second)


def test_a_full_consumer_waits_for_its_own_jobs() -> None:
    consumers = Consumers(0)
    consumer = hungry(consumers, 1)
    take(consumers, consumer, found=2)
    consumers.starve(consumer)
    consumers.available(["q"])
    assert not woken(consumer)
    consumers.freed(1, 1)
    assert woken(consumer)
    assert consumers.room(consumer) == 1


def test_the_limit_is_shared_by_all() -> None:
    consumers = Consumers(3)
    first, second = hungry(consumers, 1), hungry(consumers, 2)
    assert take(consumers, first, found=9) == 2
    assert take(consumers, second, found=9) == 1
    assert consumers.room(second) == 0
    consumers.starve(second)
    consumers.freed(1, 1)
    assert woken(second)


def test_a_limit_that_holds_back_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    consumers = Consumers(2)
    take(consumers, hungry(consumers, 1), found=9)
    for owner in (2, 3):
        hungry(consumers, owner)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "--global-in-flight-limit" in caplog.text


def test_room_that_one_has_no_use_for_goes_to_the_next_that_is_blocked() -> None:
    consumers = Consumers(1)
    holder = hungry(consumers, 1, prefetch=1)
    take(consumers, holder, found=1)
    first, second = hungry(consumers, 2, ("empty",)), hungry(consumers, 3, ("full",))
    consumers.freed(1, 1)
    woken(holder)
    assert (woken(first), woken(second)) == (True, False)
    take(consumers, first, found=0)
    consumers.starve(first)
    assert woken(second)


def test_without_prefetch_a_consumer_takes_one_at_a_time_for_ever() -> None:
    consumers = Consumers(0)
    consumer = hungry(consumers, 1, prefetch=0)
    for _ in range(5):
        assert take(consumers, consumer, found=9) == 1


def test_a_stop_ends_open_streams_and_those_to_come() -> None:
    consumers = Consumers(0)
    early = hungry(consumers, 1)
    consumers.close()
    late = hungry(consumers, 2)
    assert early.closed
    assert late.closed


async def test_a_wake_before_the_wait_is_not_lost() -> None:
    consumer = Consumer(1, (), 1)
    consumer.wake()
    assert await consumer.wait(60)
    assert not await consumer.wait(0)


def test_a_consumer_that_is_busy_with_its_client_leaves_wakes_to_others() -> None:
    consumers = Consumers(0)
    busy, other = hungry(consumers, 1, ("q",)), hungry(consumers, 2, ("q",))
    consumers.rest(busy)
    consumers.available(["q"])
    assert (woken(busy), woken(other)) == (False, True)


def named(owner: int, name: str, prefetch: int = 1) -> Consumer:
    return Consumer(owner, (), prefetch, Terms(name=name))


def test_a_retired_consumer_has_no_room_and_is_done_once_it_holds_nothing() -> None:
    consumers = Consumers(0)
    retired = named(1, "a", prefetch=3)
    consumers.add(retired)
    consumers.reserve(retired, 1)
    consumers.retire("a")
    assert (retired.room, retired.is_done) == (0, False)
    assert woken(retired)
    consumers.freed(1, 1)
    assert retired.is_done
    assert woken(retired)


def test_a_retired_consumer_passes_its_wake_on() -> None:
    consumers = Consumers(0)
    retired, other = named(1, "a"), named(2, "b")
    for consumer in (retired, other):
        consumers.add(consumer)
        consumers.starve(consumer)
    consumers.available(["q"])
    consumers.retire("a")
    assert woken(other)


def test_all_consumers_of_a_name_retire_and_a_name_that_is_gone_is_no_matter() -> None:
    consumers = Consumers(0)
    first, second, third = named(1, "a"), named(2, "a"), named(3, "b")
    for consumer in (first, second, third):
        consumers.add(consumer)
    consumers.remove(first)
    assert consumers.retire("a") == [2]
    assert consumers.retire("none") == []
    assert [consumer.retired for consumer in (first, second, third)] == [False, True, False]
    consumers.remove(second)
    assert consumers._named.keys() == {"b"}
