"""The application without a terminal: its screens at three sizes, and its keys."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from textual.events import Key
from textual.pilot import Pilot

from unit.tui.recorded import ID, URL, job, snapshot, told
from unit.tui.screens import FOLDER, SIZES, compare, screen, text_of, utc
from zizq.job import ErrorRecord
from zizq.tui.app import Top
from zizq.tui.heading import HELP
from zizq.tui.model import TABS, Model, Tab
from zizq.wire import events
from zizq.wire.events import ShownWindow
from zizq.wire.insight import JobInsight

pytestmark = pytest.mark.usefixtures("utc")
__all__ = ["utc"]

sizes = pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")


def model_of(pilot: Pilot[None]) -> Model:
    assert isinstance(pilot.app, Top)
    return pilot.app.model


@sizes
@pytest.mark.parametrize("tab", TABS, ids=lambda tab: tab.name.lower())
async def test_every_tab_fits_every_screen(tab: Tab, size: tuple[int, int]) -> None:
    async with screen(size) as pilot:
        await pilot.press(str(TABS.index(tab) + 1))
        compare(pilot, f"{tab.name.lower()}-{size[0]}x{size[1]}")


@sizes
async def test_details_of_a_dead_job(size: tuple[int, int]) -> None:
    async with screen(size) as pilot:
        await pilot.press("5", "d")
        payload = {"card": "4711", "amounts": [1, 2.5], "note": "vérifié [bold] \x1b[31m"}
        dead = job(0, failed_at=1_767_222_000_000, attempts=26, retry_limit=25, unique_key="k:1")
        model_of(pilot).hear(snapshot(dead=ShownWindow(items=[dead], first_position=0, total=1)))
        errors = [
            ErrorRecord(
                attempt=26, message="insufficient funds", error_type="CardError", backtrace="Traceback:\n  charge()",
                dequeued_at=1_767_221_999_000, failed_at=1_767_222_000_000,
            )
        ]  # fmt: skip
        seen = JobInsight(id=dead.id, payload=msgspec.Raw(msgspec.json.encode(payload)), payload_size=60, errors=errors)
        model_of(pilot).read(f"job?id={dead.id}", msgspec.json.encode(seen))
        assert isinstance(pilot.app, Top)
        pilot.app.draw()
        await pilot.pause()
        compare(pilot, f"details-dead-{size[0]}x{size[1]}")


@sizes
@pytest.mark.parametrize(("key", "name"), [("4", "queue"), ("6", "cron"), ("7", "budget"), ("8", "worker")])
async def test_details_of_all_else(key: str, name: str, size: tuple[int, int]) -> None:
    async with screen(size) as pilot:
        await pilot.press(key, "enter")
        await pilot.pause()
        compare(pilot, f"details-{name}-{size[0]}x{size[1]}")


@sizes
async def test_help_and_questions_fit_every_screen(size: tuple[int, int]) -> None:
    async with screen(size) as pilot:
        await pilot.press("question_mark")
        await pilot.pause()
        compare(pilot, f"help-{size[0]}x{size[1]}")
        await pilot.press("escape", "D")
        await pilot.pause()
        compare(pilot, f"delete-{size[0]}x{size[1]}")


async def test_before_the_server_answers_the_screen_says_what_is_missing() -> None:
    model = Model(URL, "0.7.0", -12.0)
    model.disconnected("connection refused", 0.0)
    async with screen((80, 24), model) as pilot:
        compare(pilot, "connecting-80x24")


async def test_a_break_of_the_connection_leaves_what_is_known() -> None:
    model = told()
    model.disconnected("the server closed the connection", -7.0)
    async with screen((80, 24), model) as pilot:
        text = text_of(pilot)
        assert "reconnecting for 7s the server closed the connection" in text
        assert ID.format(0) in text


@pytest.mark.parametrize("size", [(1, 1), (10, 5), (40, 10), (500, 200)])
async def test_no_size_is_too_small_or_too_large(size: tuple[int, int]) -> None:
    async with screen(size) as pilot:
        await pilot.press("d", "2", "d", "question_mark", "escape", "4", "d")
        await pilot.pause()


def test_the_guide_shows_a_true_screen_and_all_keys() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "guides" / "top.md").read_text(encoding="utf-8")
    assert f"```text\n{(FOLDER / 'queues-80x24.txt').read_text(encoding='utf-8')}```" in guide
    assert "\n".join(f"| {keys} | {text} |" for keys, text in HELP) in guide


async def test_a_job_is_deleted_only_after_a_yes() -> None:
    async with screen((80, 24)) as pilot:
        await pilot.press("D", "n", "D", "escape", "D", "enter")
        assert model_of(pilot).take_requests() == []
        await pilot.press("D", "y")
        assert model_of(pilot).take_requests() == [events.DeleteJob(ID.format(0))]


async def test_what_is_deleted_is_what_was_asked_about() -> None:
    async with screen((80, 24)) as pilot:
        await pilot.press("2", "D")
        model_of(pilot).hear(snapshot(first=0, ready=ShownWindow(items=[job(77)], first_position=0, total=1)))
        await pilot.press("y")
        assert events.DeleteJob(ID.format(0)) in model_of(pilot).take_requests()


async def test_only_a_dead_job_is_retried_after_a_yes() -> None:
    async with screen((80, 24)) as pilot:
        await pilot.press("r", "y", "5", "r", "n")
        assert not any(isinstance(one, events.RetryJob) for one in model_of(pilot).take_requests())
        await pilot.press("r", "y")
        assert events.RetryJob(ID.format(0)) in model_of(pilot).take_requests()


async def test_a_queue_is_paused_only_after_a_yes_and_only_where_queues_are_shown() -> None:
    async with screen((80, 24)) as pilot:
        await pilot.press("P", "y", "4", "P", "n", "P", "enter")
        assert not any(isinstance(one, events.PauseQueue) for one in model_of(pilot).take_requests())
        queue = model_of(pilot).queue
        assert queue is not None
        await pilot.press("P", "y")
        assert model_of(pilot).take_requests() == [events.PauseQueue(queue.queue)]


async def test_what_is_typed_after_a_slash_is_searched_for() -> None:
    async with screen((80, 24)) as pilot:
        await pilot.press("slash", *"queue", "colon", *"me q", "enter")
        [request] = [one for one in model_of(pilot).take_requests() if isinstance(one, events.Find)]
        assert request.query == events.Query(queues=["me"], types=["q"])
        assert pilot.app.is_running, "a q in a search does not quit"


async def test_a_text_that_comes_in_one_piece_with_its_slash_is_searched_for() -> None:
    async with screen((80, 24)) as pilot:
        for key in ("slash", "a", "5", "slash", "enter"):
            character = {"slash": "/", "enter": "\r"}.get(key, key)
            pilot.app.post_message(Key(key, character))
        await pilot.pause()
        [request] = [one for one in model_of(pilot).take_requests() if isinstance(one, events.Find)]
        assert (request.query.types, model_of(pilot).tab) == (["a5/"], Tab.IN_FLIGHT)


async def test_a_search_is_left_by_escape() -> None:
    async with screen((80, 24)) as pilot:
        await pilot.press("slash", "x", "escape", "2")
        assert model_of(pilot).tab is Tab.READY
        assert not any(isinstance(one, events.Find) for one in model_of(pilot).take_requests())


async def test_keys_move_through_tabs_and_rows() -> None:
    async with screen((80, 24)) as pilot:
        model = model_of(pilot)
        await pilot.press("right", "right", "left", "down", "j", "pagedown", "k")
        assert model.tab is Tab.READY
        assert model.cursor.row == 2 + 17 - 1
        await pilot.press("G")
        assert model.cursor.row == 199
        await pilot.press("g")
        assert model.cursor.row == 0


async def test_the_mouse_chooses_tabs_and_rows() -> None:
    async with screen((80, 24)) as pilot:
        model = model_of(pilot)
        await pilot.click("#tabbar", offset=(15, 0))
        assert model.tab is Tab.READY
        await pilot.click("#table", offset=(3, 5))
        assert model.cursor.row == 4


async def test_a_pause_is_told() -> None:
    async with screen((80, 24)) as pilot:
        await pilot.press("p")
        assert " PAUSED " in text_of(pilot)
        await pilot.press("p")
        assert " PAUSED " not in text_of(pilot)


async def test_what_has_not_changed_is_not_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with screen((80, 24)) as pilot:
        assert isinstance(pilot.app, Top)
        drawn = []
        for part in pilot.app._parts:
            monkeypatch.setattr(part, "refresh", lambda *args, **kwargs: drawn.append(args))
        pilot.app.draw()
        assert drawn == []
        model_of(pilot).notice = "new"
        pilot.app.draw()
        assert len(drawn) == 1
