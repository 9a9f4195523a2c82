"""From where on takes look, who is told of what, and whose reports are late."""

from __future__ import annotations

from zizq.engine.transitions import Cause
from zizq.store.postgres import news
from zizq.store.postgres.floors import ALL, END, FIRST, Floors, Watched
from zizq.store.postgres.holdings import REMEMBERED, Holdings
from zizq.store.postgres.news import MOST_BYTES, News

Q, R = frozenset(["q"]), frozenset(["q", "r"])


def taken(floors: Floors, reached: dict[frozenset[str], tuple[int, str] | None]) -> None:
    floors.begin()
    floors.end(reached)


class TestFloors:
    def test_a_take_begins_at_the_head_and_the_next_one_behind_it(self) -> None:
        floors = Floors()
        assert floors.of(Q) == {"q": FIRST}
        taken(floors, {Q: (5, "b")})
        [floor] = floors.of(Q).values()
        assert (5, "b") < floor < (5, "c")

    def test_where_nothing_is_left_nothing_is_looked_at(self) -> None:
        floors = Floors()
        taken(floors, {frozenset(): None})
        assert floors.of(frozenset()) == {ALL: END}

    def test_what_becomes_ready_lowers_the_floor_of_its_queue_and_of_all(self) -> None:
        floors = Floors()
        taken(floors, {R: None, frozenset(): None})
        floors.lower({"q": (3, "a")})
        assert floors.of(R) == {"q": (3, "a"), "r": END}
        assert floors.of(frozenset()) == {ALL: (3, "a")}
        floors.lower({"q": (4, "a")})
        assert floors.of(Q) == {"q": (3, "a")}

    def test_what_becomes_ready_during_a_take_is_not_passed_over(self) -> None:
        floors = Floors()
        floors.begin()
        floors.lower({"q": (3, "a")})
        floors.end({Q: (7, "a"), frozenset(): None})
        assert floors.of(Q) == {"q": (3, "a")}
        assert floors.of(frozenset()) == {ALL: (3, "a")}

    def test_a_take_that_failed_moves_nothing(self) -> None:
        floors = Floors()
        taken(floors, {Q: (2, "a")})
        before = floors.of(Q)
        floors.begin()
        floors.end()
        assert floors.of(Q) == before

    def test_all_is_looked_at_anew_even_if_that_is_said_during_a_take(self) -> None:
        floors = Floors()
        floors.begin()
        floors.clear()
        floors.end({Q: None})
        assert floors.of(Q) == {"q": FIRST}


def test_queues_are_watched_while_a_stream_takes_of_them() -> None:
    watched = Watched()
    watched.add(1, Q)
    watched.add(2, frozenset())
    assert (watched.queues, watched.sees_all) == ({"q"}, True)
    watched.drop(2)
    watched.add(1, R)
    assert (watched.queues, watched.sees_all) == ({"q", "r"}, False)
    watched.drop(1)
    assert not watched.queues


class TestHoldings:
    def test_owners_are_rid_of_what_leaves(self) -> None:
        holdings = Holdings()
        holdings.add(["a", "b"], 1)
        holdings.add(["c"], 2)
        assert holdings.leave(["a", "c", "none"]) == {1: 1, 2: 1}
        assert holdings.others(["a", "b"]) == ["a"]
        holdings.add(["0"], 1)
        assert (holdings.of(1), holdings.of(2)) == (["b", "0"], [])
        assert len(holdings) == 2

    def test_reports_of_lost_jobs_are_told_from_others_until_they_are_taken_again(self) -> None:
        holdings = Holdings()
        holdings.add(["a", "b"], 1)
        assert holdings.lose() == {1: 2}
        assert holdings.not_lost(["a", "b", "c"]) == ["c"]
        holdings.add(["a"], 3)
        assert holdings.not_lost(["a", "b"]) == ["a"]

    def test_so_many_lost_jobs_are_remembered(self) -> None:
        holdings = Holdings()
        for turn in range(2):
            holdings.add([f"{turn}-{number}" for number in range(REMEMBERED)], 1)
            holdings.lose()
        assert holdings.not_lost(["0-0"]) == ["0-0"]
        assert holdings.not_lost([f"1-{REMEMBERED - 1}"]) == []


class TestNews:
    def test_a_bulletin_says_all_since_the_last_one(self) -> None:
        said = News()
        assert not said
        said.moved(Cause.SUCCEED)
        assert said
        assert not said.is_urgent
        said.ready({"q": (3, "b")})
        said.ready({"q": (2, "c"), "é": (9, "a")})
        said.freed([4])
        said.scheduled(9)
        said.scheduled(7)
        assert said.is_urgent
        heard = news.read(said.bulletin(5))
        assert heard is not None
        assert (heard.server, heard.freed, heard.due, heard.moved) == (5, [4], 7, [Cause.SUCCEED])
        assert heard.ready == {"q": (2, "c"), "é": (9, "a")}
        assert not said

    def test_a_bulletin_is_no_longer_than_a_notification_may_be(self) -> None:
        said = News()
        said.ready({f"queue-{number}-é": (1, "x" * 25) for number in range(2000)})
        text = said.bulletin(5)
        assert len(text.encode()) <= MOST_BYTES
        heard = news.read(text)
        assert heard is not None
        assert len(heard.ready) > 50

    def test_what_is_no_bulletin_is_passed_over(self) -> None:
        assert news.read("hello") is None
        assert news.read('{"s":"x"}') is None
