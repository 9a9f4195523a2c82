"""The expressions of batches, in the processes of jq: what is refused, how payloads are folded, what is held back."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

import zizq
from unit.server.processes import ENDLESS, MIB, children, needs_proc, some_jq
from zizq.errors import BadRequest, Unavailable, Unprocessable
from zizq.server.jq import Folded, Jq
from zizq.server.jq_process import is_plain

SUM = "$existing + $new"
pack = msgspec.msgpack.encode
unpack = msgspec.msgpack.decode


async def refusals(pairs: Iterable[tuple[str, str]], payload: Any = None) -> dict[tuple[str, str], str]:
    """What is said of each pair of `when` and `fold`; nothing of those that are accepted."""
    said = {}
    async with some_jq() as jq:
        for when, fold in pairs:
            try:
                await jq.check_batch(when, fold, pack(payload))
            except Unprocessable as error:
                said[when, fold] = str(error)
    return said


async def folded(when: str, fold: str, existing: Any, *news: Any) -> tuple[Any, int, str | None]:
    async with some_jq() as jq:
        payload, count, error = await jq.fold(pack(existing), when, fold, [pack(new) for new in news])
        return unpack(payload), count, error


async def one_by_one(jq: Jq, when: str, fold: str, existing: bytes, news: list[bytes]) -> bytes:
    for new in news:
        existing, count, error = await jq.fold(existing, when, fold, [new])
        assert (count, error) == (1, None)
    return existing


# ── what is refused at enqueue ───────────────────────────────────────────────────────────────────────


async def test_expressions_that_work_are_accepted() -> None:
    whens = [
        "true", "false", "null", "empty", "true, false", 'true, error("late")', ". == null", "$existing == $new",
        "def f: def g: $new; g; f", "($existing | length) <= 100", "1 #", "1 # )", "1 # \\", "1 # \\\n)", "1\r\n",
    ]  # fmt: skip
    folds = [
        "$existing", "$new", ".", "$existing + $new", "{b: $new, a: [$existing]}", "def f($x): $x + $new; f($existing)",
        "reduce ($existing, $new) as $one ({}; . + $one)", "$existing | .a += $new.a", "first(1, 2)", "[1, 2] # ))",
        "label $out | 1, break $out", "$ENV", "1.7976931348623157e308", '"null"', "[null]", "$new # )", "$new # \\",
    ]  # fmt: skip
    pairs = [(when, "$existing") for when in whens] + [("true", fold) for fold in folds]
    assert await refusals(pairs, {"a": 1}) == {}


async def test_an_expression_that_does_not_compile_is_refused_in_its_own_terms() -> None:
    expected = {
        "": 'Top-level program not given (try ".")',
        "$existing +": "syntax error, unexpected end of file at line 1, column 11",
        "$new |\n  foo(1)": "foo/1 is not defined at line 2, column 3",
        "$other": "$other is not defined at line 1, column 1",
        "true\0": "it contains a NUL character",
        "input": "input is not available here",
        'import "m" as m; 1': "syntax error, unexpected import, expecting end of file at line 1, column 1",
    }
    assert await refusals([(text, "1") for text in expected]) == {
        (text, "1"): f"batch expression: when: {problem}" for text, problem in expected.items()
    }
    assert await refusals([("1", text) for text in expected]) == {
        ("1", text): f"batch expression: fold: {problem}" for text, problem in expected.items()
    }


async def test_an_expression_sees_no_names_but_the_two() -> None:
    names = ["$start", "$news", "$value", "$existing2", "$__prog_args", "$named", "$ARGS", "existing", "new", "env"]
    said = await refusals([("true", f"[1] | map({name})") for name in names])
    assert [text.split(" at line")[0] for text in said.values()] == [
        f"batch expression: fold: {name}" + (" is not available here" if name == "env" else problem)
        for name in names
        for problem in [" is not defined" if name.startswith("$") else "/0 is not defined"]
    ]


async def test_no_text_leaves_its_place() -> None:
    texts = [
        "1)", "(1", "1) | (1", "1\n\n))] | true, (1", "1) as $x | ($x", "1 # \n)", "1]", "1; def first(f): 1",
        "1 | def f: 2;", '"\\(1', "if 1 then 2",
    ]  # fmt: skip
    said = await refusals([(text, "1") for text in texts])
    assert [problem.split(" error")[0] for problem in said.values()] == ["batch expression: when: syntax"] * len(texts)


async def test_an_expression_that_fails_on_the_payload_is_refused() -> None:
    expected = {
        'error("no")': "no",
        "error(null)": "null",
        'error({"code": 1})': '{"code": 1}',
        "$new.a.b": 'Cannot index number with string ("b")',
        "$existing - $new": 'object ({"a":1}) and object ({"a":1}) cannot be subtracted',
        'error("é" * 1000)': "é" * 300 + "…",
    }
    assert await refusals([(text, "1") for text in expected], {"a": 1}) == {
        (text, "1"): f"batch dry-run: when: {problem}" for text, problem in expected.items()
    }
    assert await refusals([("false", text) for text in expected], {"a": 1}) == {
        ("false", text): f"batch dry-run: fold: {problem}" for text, problem in expected.items()
    }


NO_NUMBER = "its result holds a number that JSON has not: leave out what is infinite or not a number"
UNFIT = {
    "empty": "it has no output: write it so that it has one",
    "select(false)": "it has no output: write it so that it has one",
    "1, 2": "it has more than one output: write it so that it has one",
    "repeat(1)": "it has more than one output: write it so that it has one",
    '1, error("late")': "late",
    "nan": NO_NUMBER,
    '{a: [{b: nan}], c: "null"}': NO_NUMBER,
    "[1, [-infinite]]": NO_NUMBER,
    "1e1000 * 2": NO_NUMBER,
    "[1e1000]": "its result cannot be read: Number out of range - at `$[0]`",
    "reduce range(2000) as $i (0; [.])": "its result is nested too deeply: make it flatter",
    "reduce range(20000) as $i (0; [.])": "its result is nested too deeply: make it flatter",
}


async def test_a_fold_that_makes_no_payload_is_refused() -> None:
    expected = {("true", fold): f"batch dry-run: fold: {problem}" for fold, problem in UNFIT.items()}
    assert await refusals(expected) == expected


@pytest.mark.parametrize(("name", "when", "fold"), [("when", ENDLESS, "1"), ("fold", "true", ENDLESS)])
async def test_an_expression_that_takes_too_long_is_refused(name: str, when: str, fold: str) -> None:
    async with some_jq(timeout_ms=200, processes=1) as jq:
        with pytest.raises(Unprocessable) as caught:
            await jq.check_batch(when, fold, pack("abc"))
        assert str(caught.value) == (
            f"batch dry-run: {name}: it took longer than 200ms on a payload of 4B: make it simpler, or start the "
            "server with a longer --filter-timeout"
        )


@pytest.mark.parametrize(("name", "when", "fold"), [("when", '"x" * 1e9', "1"), ("fold", "true", "[range(1e12)]")])
async def test_an_expression_that_takes_too_much_memory_is_refused(name: str, when: str, fold: str) -> None:
    async with some_jq(memory_bytes=64 * MIB, processes=1) as jq:
        with pytest.raises(Unprocessable) as caught:
            await jq.check_batch(when, fold, b"")
        assert str(caught.value) == (
            f"batch dry-run: {name}: it ran out of memory or crashed on a payload of 0B: make it simpler, or start the "
            "server with more --filter-memory (64MiB now)"
        )


async def test_beside_one_that_takes_too_long_the_other_is_blamed_for_its_own_fault() -> None:
    async with some_jq(timeout_ms=200, processes=1) as jq:
        with pytest.raises(Unprocessable, match=r"^batch expression: fold: foo/0 is not defined"):
            await jq.check_batch(ENDLESS, "foo", b"")
        with pytest.raises(Unprocessable, match=r"^batch dry-run: when: it took longer"):
            await jq.check_batch(ENDLESS, "empty", b"")


# ── folding ──────────────────────────────────────────────────────────────────────────────────────────


async def test_payloads_are_folded_one_after_the_other() -> None:
    fold = "{n: ($existing.n + $new.n), seen: ($existing.seen + [$new.n])}"
    assert await folded("true", fold, {"n": 1, "seen": []}, {"n": 2}, {"n": 3}, {"n": 4}) == (
        {"n": 10, "seen": [2, 3, 4]},
        3,
        None,
    )


async def test_an_empty_payload_is_null_and_so_is_the_input() -> None:
    async with some_jq() as jq:
        payload, *_ = await jq.fold(b"", ". == null and $new == null", "[., $existing, $new]", [b""])
        assert unpack(payload) == [None, None, None]


@pytest.mark.parametrize(
    "no", ["false", "null", "empty", 'error("no")', "error(null)", "false, true", "$new.a", "nan.a"]
)
async def test_what_when_does_not_let_in_ends_the_chain(no: str) -> None:
    when = f"if $new == 3 then ({no}) else true end"
    assert await folded(when, SUM, 10, 1, 2, 3, 4) == (13, 2, None)
    assert await folded(when, SUM, 10, 3) == (10, 0, None)


@pytest.mark.parametrize("yes", ["true", "0", '""', "[]", "true, false", 'true, error("late")', "repeat(1)"])
async def test_the_first_output_of_when_lets_in(yes: str) -> None:
    assert await folded(yes, SUM, 10, 1, 2) == (13, 2, None)


async def test_when_sees_what_was_folded_so_far() -> None:
    assert await folded("$existing + $new <= 6", SUM, 0, 1, 2, 3, 4) == (6, 3, None)


@pytest.mark.parametrize(("fold", "problem"), UNFIT.items())
async def test_a_fold_that_fails_ends_the_chain_and_says_why(fold: str, problem: str) -> None:
    broken = f"if $new == 3 then ({fold}) else {SUM} end"
    assert await folded("true", broken, 10, 1, 2, 3, 4) == (13, 2, problem)
    assert await folded("true", broken, 10, 3) == (10, 0, problem)


async def test_a_fold_is_not_run_where_when_says_no() -> None:
    assert await folded("false", 'error("never")', 1, 2) == (1, 0, None)


async def test_expressions_that_do_not_compile_are_said_no_or_an_error() -> None:
    assert await folded("foo", SUM, 1, 2) == (1, 0, None)
    assert await folded("true", "foo", 1, 2) == (1, 0, "fold: foo/0 is not defined at line 1, column 1")


async def test_a_break_that_is_forged_ends_its_own_expression_only() -> None:
    forged = 'if $new == 3 then error({"__jq": range(9)}) else true end'
    assert await folded(forged, SUM, 10, 1, 2, 3, 4) == (13, 2, None)
    payload, count, error = await folded("true", f"{SUM} | ({forged}), .", 0, 3, 4)
    assert (payload, count) == (0, 0)
    assert error


async def test_numbers_that_are_only_passed_on_stay_as_they_are() -> None:
    numbers = [2**53 + 1, 2**63 - 1, 2**64 - 1, -(2**63), 1.0, -0.0, 1e300, 5e-324, 0.1, 1.7976931348623157e308, None]
    payload, count, error = await folded("true", "$existing + $new", numbers, numbers)
    assert (count, error) == (1, None)
    assert list(map(repr, payload)) == list(map(repr, numbers * 2))


async def test_an_integer_beyond_64_bits_becomes_a_float() -> None:
    payload, *_ = await folded("true", "[18446744073709551616, $existing * $new]", 2**60, 2**60)
    assert list(map(repr, payload)) == ["1.8446744073709552e+19", "1.329227995784916e+36"]


async def test_an_integer_beyond_all_floats_is_an_error_of_the_fold_that_makes_it() -> None:
    fold = f"if $new == 3 then 1{'0' * 400} else {SUM} end"
    assert await folded("true", fold, 10, 1, 2, 3, 4) == (
        13,
        2,
        "its result cannot be stored: invalid JSON: number out of range in payload",
    )


async def test_keys_are_sorted_in_what_is_stored_and_in_what_expressions_see() -> None:
    async with some_jq() as jq:
        existing, new = pack({"b": 1, "a": {"d": 1, "c": 2}}), pack({"f": 1, "e": 2})
        payload, *_ = await jq.fold(existing, "true", "$existing + {Z: 1, seen: [($existing, $new) | .[]?]}", [new])
        assert payload == pack({"Z": 1, "a": {"c": 2, "d": 1}, "b": 1, "seen": [{"c": 2, "d": 1}, 1, 2, 1]})


async def test_what_comes_of_it_does_not_depend_on_how_payloads_are_divided() -> None:
    fold = "{z: [$existing | .. | scalars], y: $new, a: ($existing | length), B: 18446744073709551616}"
    async with some_jq() as jq:
        news = [pack({"n": n, "a": n / 2}) for n in range(5)]
        together = await jq.fold(pack({"n": 0}), "true", fold, news)
        assert together == (await one_by_one(jq, "true", fold, pack({"n": 0}), news), 5, None)


BUILT = [
    zizq.Batch(".items", limit=1000, key="a"),
    zizq.Batch('.to["the list"]', limit=1000, key="a", dedup=True),
    zizq.Batch(".lists[0].ids", limit=1000, key="a", sorted=True),
    zizq.RawBatch(when="true", fold="$existing | .count += $new.count", key="a"),
]


@pytest.mark.parametrize("batch", BUILT, ids=lambda batch: batch.fold)
def test_of_a_chain_of_plain_expressions_only_the_last_result_is_written(batch: zizq.Batch | zizq.RawBatch) -> None:
    assert is_plain(batch.when, batch.fold)


@pytest.mark.parametrize(
    "fold",
    [
        "$existing | to_entries", "[$existing[]]", "$existing | ..", "$existing * $new", "$existing - $new", "1e308",
        "1.5", '"\\(.)"', "{a: $new}", "$existing | .a |= 1", "$existing, $new", "$existing | tojson", "@text", "env",
        "$existing / 0", "$existing /// $new", "infinite", "lengthy", "$__loc__", "1" * 400, " + ".join(["$new"] * 10),
        "$existing == $new and " * 10_000 + "$new - 1",
    ],
    ids=lambda fold: fold[:30],
)  # fmt: skip
def test_what_could_go_wrong_on_the_way_is_looked_at_step_by_step(fold: str) -> None:
    assert not is_plain("true", fold)


async def test_a_chain_of_plain_expressions_ends_where_it_ends_one_by_one() -> None:
    fold, when = "$existing | .ids += $new.ids | .last = $new", "($existing.ids + $new.ids) | length <= 100"
    news = [{"ids": [n], "b": n, "a": 2**64 - 1 - n} for n in range(200)]
    start = {"ids": [], "b": 0.5}
    assert await folded(when, fold, start, *news) == (start | {"ids": list(range(100)), "last": news[99]}, 100, None)
    payload, count, error = await folded("true", fold, start, *news[:99], {"ids": "text"}, *news)
    assert (payload["ids"], count) == (list(range(99)), 99)
    assert error is not None
    assert error.endswith('and string ("text") cannot be added')
    assert (await folded("true", "$new | .n = $existing.n + $new.s", {"n": 0}, *[{"s": 1}] * 130))[0]["n"] == 130


async def test_a_number_that_grows_too_large_is_an_error_of_its_own_fold_even_if_a_later_one_had_mended_it() -> None:
    fold = "$new | .sum = $existing.n + $new.n"
    payload, count, error = await folded("true", fold, {"n": 1.5e308}, {"n": 1e308}, {"n": 0}, {"n": 0})
    assert (payload, count) == ({"n": 1.5e308}, 0)
    assert error is not None
    assert "infinite" in error
    assert (await folded("true", "$existing + $existing", 1e99, *[0] * 800))[1] == 695


async def test_a_result_may_be_nested_as_deeply_as_any_payload() -> None:
    _, count, error = await folded("true", "[$existing, [$new]]", 0, *[0] * 130)
    assert (count, error) == (127, "its result is nested too deeply: make it flatter")
    wide = [{"n": n} for n in range(200)]
    assert await folded("true", "$existing + $new", wide, wide) == (wide + wide, 1, None)
    assert await folded("true", "$existing + $new", "[" * 200, "{") == ("[" * 200 + "{", 1, None)


async def test_a_result_may_not_be_larger_than_a_request() -> None:
    text = "x" * (6 * MIB)
    payload, count, error = await folded("true", SUM, text, text, text)
    assert (len(payload), count) == (12 * MIB, 1)
    assert error == "its result is larger than 16MiB of JSON: let fewer payloads in"


@needs_proc
async def test_large_payloads_are_folded_in_portions() -> None:
    news = [pack({"n": n, "text": "x" * MIB}) for n in range(32)]
    async with some_jq(memory_bytes=64 * MIB, processes=1) as jq:
        await jq.matches(".", [])
        before = children()
        every = await jq.fold(pack([]), "true", "$existing + [$new.n]", news)
        assert every == Folded(pack(list(range(32))), 32, None)
        some = await jq.fold(pack([]), "$new.n < 10", "$existing + [$new.n]", news)
        assert some == Folded(pack(list(range(10))), 10, None)
        assert children() == before


async def test_nothing_new_changes_nothing() -> None:
    async with some_jq() as jq:
        assert await jq.fold(pack({"b": 1, "a": 2}), "true", "1", []) == Folded(pack({"b": 1, "a": 2}), 0, None)
        assert sys.platform != "linux" or children() == []


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_fold_that_takes_too_long_spares_those_before_it() -> None:
    async with some_jq(timeout_ms=300, processes=1) as jq:
        fold = f"if $new == 3 then ({ENDLESS}) else {SUM} end"
        assert await jq.fold(pack(10), "true", fold, list(map(pack, [1, 2, 3, 4]))) == Folded(
            pack(13),
            2,
            "it took longer than 300ms on payloads of 2B: make it simpler, or start the server with a longer "
            "--filter-timeout",
        )


async def test_a_fold_that_takes_too_much_memory_spares_those_before_it() -> None:
    async with some_jq(memory_bytes=64 * MIB, processes=1) as jq:
        fold = f"if $new == 3 then [range(1e12)] else {SUM} end"
        assert await jq.fold(pack(10), "true", fold, list(map(pack, [1, 2, 3, 4]))) == Folded(
            pack(13),
            2,
            "it ran out of memory or crashed on payloads of 2B: make it simpler, or start the server with more "
            "--filter-memory (64MiB now)",
        )


async def test_a_when_that_takes_too_long_says_no() -> None:
    async with some_jq(timeout_ms=300, processes=1) as jq:
        when = f"if $new == 3 then ({ENDLESS}) else true end"
        assert await jq.fold(pack(10), when, SUM, list(map(pack, [1, 2, 3, 4]))) == Folded(pack(13), 2, None)


async def test_a_when_that_takes_too_much_memory_says_no() -> None:
    async with some_jq(memory_bytes=64 * MIB, processes=1) as jq:
        when = "if $existing == 13 then [range(1e12)] else true end"
        assert await jq.fold(pack(10), when, SUM, list(map(pack, [1, 2, 3, 4]))) == Folded(pack(13), 2, None)


async def test_what_comes_after_the_end_of_a_chain_can_exceed_nothing() -> None:
    async with some_jq(timeout_ms=300, processes=1) as jq:
        when, fold = f"$new < 3, ({ENDLESS})", f"if $new == 4 then ({ENDLESS}) else {SUM} end"
        assert await jq.fold(pack(10), when, fold, list(map(pack, [1, 2, 3, 4]))) == Folded(pack(13), 2, None)


@needs_proc
@pytest.mark.parametrize(
    ("when", "fold", "error"),
    [
        ("$new.n != 3", "$existing + $new.n", None),
        ("true", "if $new.n == 3 then empty else $existing + $new.n end", UNFIT["empty"]),
    ],
)
async def test_payloads_that_only_together_exceed_a_limit_are_folded_apart(
    when: str, fold: str, error: str | None
) -> None:
    async with some_jq(memory_bytes=120 * MIB, processes=1) as jq:
        await jq.matches(".", [])
        before = children()
        news = [pack({"n": n, "bulk": [1] * 600_000}) for n in (1, 2, 3)]
        assert await jq.fold(pack(0), when, fold, news) == Folded(pack(3), 2, error)
        assert children() != before


# ── processes ────────────────────────────────────────────────────────────────────────────────────────


@needs_proc
async def test_filters_and_batches_share_their_processes() -> None:
    async with some_jq() as jq:
        await jq.matches(".", [])
        before = children()
        await jq.check_batch("true", "1", b"")
        await jq.fold(b"", "true", "1", [b""])
        assert len(before) == 1
        assert children() == before


@needs_proc
async def test_a_process_does_not_hold_on_to_payloads() -> None:
    large = pack(list(range(200_000)))
    async with some_jq(memory_bytes=256 * MIB, processes=1) as jq:
        await jq.check_batch("true", "1", large)
        before = children()
        for turn in range(6):
            await jq.check_batch(f"{turn}, error", "$existing", large)
            assert (await jq.fold(large, f"false, {turn}", "1", [b""])).count == 0
            assert (await jq.fold(large, f"true, {turn}", "empty", [b""])).count == 0
        assert children() == before


async def test_batches_say_what_to_install_where_jq_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    async with some_jq() as jq:
        with pytest.raises(BadRequest, match=r"^filters and batches need jq: pip install 'zizq\[server\]'"):
            await jq.check_batch("true", "1", b"")


async def test_a_server_that_stops_folds_nothing() -> None:
    jq = Jq(30_000, 256 * MIB)
    await jq.stop()
    with pytest.raises(Unavailable, match="no jq expression can run: the server is stopping"):
        await jq.fold(b"", "true", "1", [b""])
    with pytest.raises(Unavailable, match="no jq expression can run: the server is stopping"):
        await jq.check_batch("true", "1", b"")
