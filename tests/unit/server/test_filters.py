"""jq filters in processes of their own: what matches, what is refused, and what no filter can do to the server."""

from __future__ import annotations

import asyncio
import operator
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from unit.server.processes import (
    ENDLESS,
    MIB,
    at_work,
    children,
    children_of,
    contents,
    is_at_work,
    is_dead,
    needs_proc,
    some_jq,
    until,
)
from zizq.errors import BadRequest, Unavailable
from zizq.server import jq as module
from zizq.server.jq import Jq

PROCESS = Path(module.__file__).with_name("jq_process.py")
pack = msgspec.msgpack.encode


async def verdicts(expression: str, *payloads: Any) -> list[bool]:
    async with some_jq() as jq:
        return await jq.matches(expression, [pack(payload) for payload in payloads])


async def verdict_of_each(expressions: Iterable[str], payload: Any) -> dict[str, bool]:
    async with some_jq() as jq:
        return {each: (await jq.matches(each, [pack(payload)])) == [True] for each in expressions}


async def refusals(expressions: Iterable[str]) -> dict[str, str]:
    """What is said of each expression, without the words that are common to all."""
    said = {}
    async with some_jq() as jq:
        for expression in expressions:
            with pytest.raises(BadRequest, match=r"^invalid filter: ") as caught:
                await jq.matches(expression, [])
            said[expression] = str(caught.value).removeprefix("invalid filter: ")
    return said


def soft_limits(pid: int) -> dict[str, str]:
    rows = [re.split(r"\s{2,}", line) for line in contents(pid, "limits").splitlines()]
    return {name: soft for name, soft, *_ in rows}


def open_files(pid: int) -> set[str]:
    return {entry.name for entry in Path(f"/proc/{pid}/fd").iterdir()}


# ── verdicts ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_job_matches_when_any_output_is_neither_false_nor_null() -> None:
    payload = {"to": "a@b", "no": False, "zero": 0, "empty": "", "list": [1, 2, 3]}
    expected = {
        ".to": True, '.to == "a@b"': True, '.to == "c"': False, ".nothing": False, ".no": False,
        ".zero": True, ".empty": True, "[]": True, "{}": True, "empty": False, "false, null": False,
        "false, 0": True, ".list[]": True, ".list | any(. > 2)": True, "select(.zero == 0)": True,
        '(.list | length) == 3 and (.to | endswith("b"))': True, '.to | test("^a")': True,
        "first(range(1e12))": True, "range(1e12)": True, "def f: .zero; f": True, "1 as $x | $x": True,
    }  # fmt: skip
    assert await verdict_of_each(expected, payload) == expected


async def test_an_empty_payload_is_null() -> None:
    async with some_jq() as jq:
        assert await jq.matches(". == null", [b"", pack(None), pack("")]) == [True, True, False]


async def test_a_payload_is_what_its_json_says() -> None:
    assert await verdicts(". == null", float("nan"), float("inf"), 0.5) == [True, True, False]
    assert await verdicts('. == {"ä": ["\\u0000", "😀"]}', {"ä": ["\0", "😀"]}) == [True]


async def test_an_error_ends_the_outputs_and_is_none() -> None:
    expected = {"error": False, 'error("x"), 1': False, '1, error("x")': True, "false, error, 1": False, "1 / 0": False}
    assert await verdict_of_each(expected, 1) == expected


async def test_a_payload_that_causes_an_error_leaves_the_others_alone() -> None:
    assert await verdicts(".a.b == 1", {"a": {"b": 1}}, {"a": 5}, "text", {"a": {"b": 1}}) == [True, False, False, True]


async def test_whole_numbers_of_64_bits_are_compared_exactly() -> None:
    numbers = [-(2**63), -(2**63) + 1, -(2**53) - 1, -(2**53), 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1]
    async with some_jq() as jq:
        for number in numbers:
            for sign, compare in (("==", operator.eq), ("<", operator.lt), (">", operator.gt)):
                found = await jq.matches(f". {sign} {number}", list(map(pack, numbers)))
                assert found == [compare(other, number) for other in numbers], (sign, number)


async def test_verdicts_come_in_the_order_of_payloads_whatever_their_size() -> None:
    payloads = [
        pack({"n": n, "text": "x" * size}) for n, size in enumerate([10, 3 * MIB, 3 * MIB, 5 * MIB, 16 * MIB, 10])
    ]
    async with some_jq() as jq:
        assert await jq.matches(".n >= 2 and .n < 5", payloads) == [False, False, True, True, True, False]


# ── expressions that are refused ─────────────────────────────────────────────────────────────────────


async def test_a_malformed_expression_is_refused_in_its_own_terms() -> None:
    expected = {
        "": 'Top-level program not given (try ".")',
        " # nothing": 'Top-level program not given (try ".")',
        "def f: 1;": 'Top-level program not given (try ".")',
        ".a ==": "syntax error, unexpected end of file at line 1, column 4",
        ".a |\n.b | foo(1)": "foo/1 is not defined at line 2, column 6",
        "$nothing": "$nothing is not defined at line 1, column 1",
        "1) | (1": "syntax error, unexpected INVALID_CHARACTER, expecting end of file at line 1, column 2",
        "1; def env: 1": "syntax error, unexpected ';', expecting end of file at line 1, column 2",
        ". as $x": "syntax error, unexpected end of file, expecting '|' at line 1, column 6",
        ". | if . then 1 else": "syntax error, unexpected end of file at line 1, column 17",
        "true\0": "it contains a NUL character",
    }
    assert await refusals(expected) == expected


async def test_a_comment_at_the_end_hides_nothing() -> None:
    expected = dict.fromkeys(["1 #", "1 # )", "1 # \\", "1 # \\\n)", "1\r\n", "1 # \\\r"], True)
    assert await verdict_of_each(expected, 1) == expected


async def test_what_reaches_out_is_refused() -> None:
    names = [
        "env", "input", "inputs", "input_filename", "input_line_number", "halt", "halt_error", "debug", "stderr",
        "get_search_list", "get_prog_origin", "get_jq_origin", "modulemeta",
    ]  # fmt: skip
    shapes = ["{}", "1 | [{}]", "try {} catch 1", '"\\({})"', "def f: {}; f"]
    expected = {shape.format(name): f"{name} is not available here" for name in names for shape in shapes}
    expected |= {f"{name}(1)": f"{name} is not available here" for name in ("halt_error", "debug")}
    assert await refusals(expected) == expected


async def test_names_that_are_refused_may_be_keys_and_functions_of_ones_own() -> None:
    expression = '.env == 1 and {env: 2}.env == 2 and .a.input == 3 and ."halt" == 4 and ([{debug}] | length == 1)'
    assert await verdicts(expression, {"env": 1, "a": {"input": 3}, "halt": 4, "debug": 5}) == [True]
    assert await verdicts("def env: 1; env == 1", None) == [True]


async def test_the_environment_of_the_server_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIZQ_SECRET", "hush")
    assert await verdicts("$ENV == {}", None) == [True]
    assert await verdicts("$ENV.ZIZQ_SECRET, $ENV.PATH", None) == [False]


async def test_files_are_out_of_reach(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text('{"hush": 1}')
    (tmp_path / "m.jq").write_text("def hush: 1;")
    read = f'import "b" as $d {{search: "{tmp_path}"}}; $d'
    expressions = [
        read,
        f"def f: 1; {read}",
        f"({read})",
        f"module {{}}; {read}",
        f'import "{tmp_path}/b" as $d; $d',
        f'include "m" {{search: "{tmp_path}"}}; hush',
    ]
    said = await refusals(expressions)
    assert [re.sub(" at line.*|, expecting.*", "", text) for text in said.values()] == [
        f"syntax error, unexpected {word}" for word in ("import", "import", "import", "module", "import", "include")
    ]


@needs_proc
async def test_a_process_can_open_nothing_and_inherits_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIZQ_SECRET", "hush")
    async with some_jq() as jq:
        await jq.matches(".", [])
        [pid] = children()
        limits = soft_limits(pid)
        assert (limits["Max open files"], limits["Max file size"], limits["Max core file size"]) == ("0", "0", "0")
        assert limits["Max address space"] == str(256 * MIB)
        assert int(limits["Max cpu time"]) < 60
        assert contents(pid, "environ") == ""
        assert os.getpgid(pid) == os.getsid(pid) == pid
        assert open_files(pid) == {"0", "1", "2"}


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("expression", [ENDLESS, "last(range(1e12))", "[limit(0; 1), empty] | until(false; .)"])
async def test_a_filter_that_takes_too_long_is_refused(expression: str) -> None:
    async with some_jq(timeout_ms=200, processes=1) as jq:
        with pytest.raises(BadRequest) as caught:
            await jq.matches(expression, [b""] * 1000)
        assert str(caught.value) == (
            "invalid filter: it took longer than 200ms on a batch of 1000 jobs: make it simpler, or start the server "
            "with a longer --filter-timeout"
        )


async def test_a_filter_runs_after_one_that_took_too_long() -> None:
    async with some_jq(timeout_ms=500, processes=1) as jq:
        with pytest.raises(BadRequest, match=r"longer than 500ms on a batch of 1 job: "):
            await jq.matches(ENDLESS, [b""])
        assert await jq.matches(".", [pack(1)]) == [True]


@pytest.mark.parametrize("expression", ['"x" * 1e9', "[range(1e12)]", '[limit(1e9; repeat("x"))]', "def f: 1 + f; f"])
async def test_a_filter_that_takes_too_much_memory_is_refused_and_the_next_one_runs(expression: str) -> None:
    async with some_jq(memory_bytes=64 * MIB, processes=1) as jq:
        with pytest.raises(BadRequest) as caught:
            await jq.matches(expression, [b""])
        assert str(caught.value) == (
            "invalid filter: it ran out of memory or crashed on a batch of 1 job: make it simpler, or start the server "
            "with more --filter-memory (64MiB now)"
        )
        assert await jq.matches(".", [pack(1)]) == [True]


async def test_others_are_answered_while_a_filter_is_endless() -> None:
    async with some_jq() as jq:
        endless = asyncio.create_task(jq.matches(ENDLESS, [b""]))
        for _ in range(3):
            assert await jq.matches(".", [pack(1)]) == [True]
        assert not endless.done()
        endless.cancel()
        await asyncio.wait([endless])


async def test_many_batches_of_one_do_not_hold_up_another() -> None:
    finished = []
    async with some_jq(processes=1) as jq:

        async def ask(name: str, batches: int) -> None:
            await jq.matches(".", [pack("x" * 3 * MIB)] * batches)
            finished.append(name)

        await asyncio.gather(ask("many", 3), ask("one", 1), ask("two", 2))
    assert finished == ["one", "two", "many"]


# ── processes ────────────────────────────────────────────────────────────────────────────────────────


@needs_proc
async def test_a_process_that_dies_at_work_fails_its_filter_only() -> None:
    async with some_jq(processes=1) as jq:
        asked = asyncio.create_task(jq.matches(ENDLESS, [b""]))
        os.kill(await at_work(), signal.SIGKILL)
        with pytest.raises(BadRequest, match="ran out of memory or crashed"):
            await asked
        assert await jq.matches(".", [pack(1)]) == [True]


@needs_proc
async def test_a_process_that_has_run_others_and_dies_is_not_held_against_a_filter() -> None:
    async with some_jq(processes=1) as jq:
        await jq.matches(".", [])
        [first] = children()
        os.kill(first, signal.SIGSTOP)
        asked = asyncio.create_task(jq.matches(".", [pack("x" * 8 * MIB)]))
        await asyncio.sleep(0)
        os.kill(first, signal.SIGKILL)
        assert await asked == [True]
        assert first not in children()


@needs_proc
async def test_a_process_that_dies_idle_is_replaced() -> None:
    async with some_jq() as jq:
        await jq.matches(".", [])
        os.kill(children()[0], signal.SIGKILL)
        assert await jq.matches(".", [pack(1)]) == [True]


@needs_proc
async def test_a_call_that_is_cancelled_takes_its_process_along() -> None:
    async with some_jq(processes=1) as jq:
        asked = asyncio.create_task(jq.matches(ENDLESS, [b""]))
        await at_work()
        asked.cancel()
        await asyncio.wait([asked])
        await until(lambda: not children())
        assert await jq.matches(".", [pack(1)]) == [True]


@needs_proc
async def test_a_process_is_used_again_and_ends_when_it_is_idle() -> None:
    async with some_jq() as jq:
        await jq.matches(".", [])
        before = children()
        await jq.matches(".a", [])
        assert children() == before
    async with some_jq(idle_s=0) as jq:
        await jq.matches(".", [])
        await until(lambda: not children())
        assert await jq.matches(".", [pack(1)]) == [True]


@needs_proc
async def test_there_are_no_more_processes_than_allowed() -> None:
    async with some_jq(processes=2) as jq:
        calls = [asyncio.create_task(jq.matches(".", [pack(1)])) for _ in range(5)]
        await asyncio.wait(calls)
        assert len(children()) == 2


@needs_proc
def test_processes_are_replaced_on_the_event_loop_of_the_server_too() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def die_idle_and_late() -> None:
        async with some_jq(timeout_ms=300) as jq:
            await jq.matches(".", [])
            os.kill(children()[0], signal.SIGKILL)
            with pytest.raises(BadRequest, match="longer than 300ms"):
                await jq.matches(ENDLESS, [b""])
            assert await jq.matches(".n", [pack({"n": 1, "text": "x" * 9 * MIB})]) == [True]
        assert children() == []

    uvloop.run(die_idle_and_late())


@needs_proc
async def test_no_process_is_left_by_a_stop_in_the_midst_of_a_start() -> None:
    for steps in range(4):
        jq = Jq(30_000, 256 * MIB)
        call = asyncio.create_task(jq.matches(".", []))
        for _ in range(steps):
            await asyncio.sleep(0)
        await jq.stop()
        assert children() == []
        with pytest.raises(Unavailable, match="no jq expression can run"):
            await call


@needs_proc
async def test_no_process_is_left_by_a_stop() -> None:
    jq = Jq(30_000, 256 * MIB)
    await jq.matches(".", [])
    calls = [asyncio.create_task(jq.matches(ENDLESS, [b""])) for _ in range(4)]
    await until(lambda: any(map(is_at_work, children())))
    await jq.stop()
    assert children() == []
    for call in calls:
        with pytest.raises(Unavailable, match="the server is stopping"):
            await call
    with pytest.raises(Unavailable):
        await jq.matches(".", [])
    await jq.stop()


async def test_no_process_is_started_without_a_filter() -> None:
    async with some_jq():
        assert sys.platform != "linux" or children() == []


def test_a_process_ends_with_its_input() -> None:
    command = [sys.executable, "-I", "-S", str(PROCESS), str(256 * MIB), *filter(None, sys.path)]
    ended = subprocess.run(command, input=b"", capture_output=True, check=True, env={})
    assert (ended.stdout, ended.stderr) == (bytes(4), b"")


LONELY = """
import asyncio
from zizq.server.jq import Jq

asyncio.run(Jq(600_000, 2**28, 1).matches("def f: f; f", [b""]))
"""


@needs_proc
async def test_a_process_dies_with_the_server_even_at_work() -> None:
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", LONELY)
    await until(lambda: any(map(is_at_work, children_of(server.pid))))
    [pid] = children_of(server.pid)
    server.kill()
    await server.wait()
    await until(lambda: is_dead(pid))


async def test_filters_say_what_to_install_where_jq_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    async with some_jq() as jq:
        with pytest.raises(
            BadRequest, match=r"^filters and batches need jq: pip install 'zizq\[server\]' on the server \("
        ):
            await jq.matches(".", [])


async def test_too_little_memory_to_start_is_the_fault_of_the_server() -> None:
    async with some_jq(memory_bytes=1) as jq:
        with pytest.raises(Unavailable, match="has it enough --filter-memory"):
            await jq.matches(".", [])


async def test_a_python_that_does_not_start_is_the_fault_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    async with some_jq() as jq:
        with pytest.raises(Unavailable, match="does not start"):
            await jq.matches(".", [])
