"""The comparison with other systems, as far as it is pure: turns, results, tables, pictures and the page."""

from __future__ import annotations

import argparse
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from bench import plot
from bench.peers import page
from bench.peers.catalogue import ALL
from bench.peers.inside.forms import ROW, STAMP
from bench.peers.inside.produce import Order
from bench.peers.results import Results, key
from bench.peers.run import durabilities, turns
from bench.peers.shapes import SHAPES
from bench.peers.tally import Tally
from bench.report import markdown, placed

SVG = "{http://www.w3.org/2000/svg}"


def results(**figures: list[float]) -> Results:
    return Results({"`python -m bench peers`": []}, {"zizq": dict(figures), "rq": dict(figures)})


def order(**said: object) -> Order:
    return Order(argparse.Namespace(**{"do": "nothing", "jobs": 250, "seconds": 1e9, "rate": 0.0, **said}), bulk=True)


def test_a_figure_is_the_median_with_the_lowest_and_the_highest() -> None:
    assert page.figure(results(drain=[3000.0, 1000.0, 2500.0]), "rq", "drain") == "2,500 (1,000-3,000)"


def test_a_figure_of_one_round_has_no_spread() -> None:
    assert page.figure(results(drain=[1234.5]), "rq", "drain") == "1,234"


def test_a_figure_that_was_not_measured_is_empty() -> None:
    assert page.figure(results(), "rq", "drain") == ""


def test_all_systems_take_a_shape_before_the_next_begins() -> None:
    taken = [(shape, name) for name, _, shape in turns(["zizq", "rq"], ["one", "mixed"], first=True)]
    assert taken == [("one", "zizq"), ("one", "zizq"), ("one", "rq"), ("one", "rq"), ("mixed", "zizq"), ("mixed", "rq")]


def test_what_hardly_varies_is_measured_in_the_first_round_alone() -> None:
    assert list(turns(["rq"], ["backlog"], first=True)) == [("rq", False, "backlog")]
    assert list(turns(["rq"], ["backlog"], first=False)) == []


def test_every_system_is_measured_as_it_comes() -> None:
    assert {name: durabilities(system)[0] for name, system in ALL.items()} == {
        name: not system.server.quick for name, system in ALL.items()
    }


@pytest.mark.parametrize("name", ALL)
def test_every_system_has_its_file_and_three_workers(name: str) -> None:
    system = ALL[name]
    assert (Path(page.__file__).parent / "systems" / f"{system.module}.py").exists()
    assert set(system.workers) == {"default", "best", "wide"}


def test_newer_results_replace_what_they_measured_again() -> None:
    old = Results({"a": []})
    old.add("rq", {"one": 1.0})
    older = Results({"b": []}, failures={"rq, io": "ended", "saq, io": "ended"})
    older.add("rq", {"one": 3.0, "many": 2.0})
    new = Results({"c": []})
    for _ in range(2):
        new.add("rq", {"one": 9.0})
    merged = Results().merge(older).merge(old).merge(new)
    assert merged.samples == {"rq": {"one": [9.0, 9.0], "many": [2.0]}}
    # What has nothing left that stands is not named.
    assert merged.commands == {"b": ["rq: many"], "c": ["rq: one"]}
    assert merged.failures == {"saq, io": "ended"}


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = results(one=[1.0, 2.0])
    written.save(tmp_path / "results" / "peers.json")
    assert Results.load(tmp_path / "results" / "peers.json") == written


def test_the_page_names_command_versions_durability_and_what_failed() -> None:
    measured = results(one=[1000.0], drain=[2000.0])
    measured.failed("saq", "io", "ran 3 of 5 jobs")
    text = page.page(measured, {"Redis": "7.0"})
    for told in ("`python -m bench peers`", "Redis 7.0", ALL["rq"].server.quick, "saq, io: ran 3 of 5 jobs"):
        assert told in text
    assert "| RQ | Redis as it comes: snapshots, minutes may be lost | 1,000 |" in text


def test_a_page_of_a_trial_says_so() -> None:
    assert "This was a trial" in page.page(Results({"`python -m bench peers --size 0.02`": []}), {})
    assert "This was a trial" not in page.page(Results({"`python -m bench peers`": []}), {})


def test_durability_stands_beside_every_figure() -> None:
    text = page.page(results(**{"one": [1.0], "in hand": [50.0]}), {})
    tables = [line for line in text.splitlines() if line.startswith("| system |")]
    assert len(tables) == 7
    assert all(line.startswith("| system | durability |") for line in tables)


def test_a_system_without_bulk_says_so() -> None:
    text = page.page(Results({"x": []}, {"celery": {"one": [1.0]}}), {})
    assert "| no bulk |" in text


def test_synced_figures_stand_in_a_table_of_their_own() -> None:
    text = page.page(Results({"x": []}, {key("rq", True): {"one": [77.0]}}), {})
    assert f"| RQ | {ALL['rq'].server.synced} | 77 |" in text


def test_the_lines_of_a_table_have_as_many_cells_as_its_head() -> None:
    table = markdown(["a", "b"], [["1", "2"]], 1)
    assert table.splitlines() == ["| a | b |", "| --- | ---: |", "| 1 | 2 |"]


def test_a_text_replaces_what_stood_in_its_place() -> None:
    before = "head\n<!-- x -->\nold\n<!-- end of x -->\ntail"
    assert placed(before, "x", "new") == "head\n<!-- x -->\n\nnew\n\n<!-- end of x -->\ntail"


def test_a_page_without_the_place_is_refused() -> None:
    with pytest.raises(ValueError, match="no place marked <!-- x -->"):
        placed("nothing", "x", "new")


def test_bars_are_as_long_as_their_figures() -> None:
    picture = ET.fromstring(plot.bars("t", [plot.Bar("a & b", 100.0, ours=True), plot.Bar("c", 25.0)]))
    widths = [float(bar.attrib["width"]) for bar in picture.iter(f"{SVG}rect")]
    assert widths[1] == pytest.approx(widths[0] / 4, abs=0.1)
    assert [bar.attrib["class"] for bar in picture.iter(f"{SVG}rect")] == ["ours", "other"]


def test_ranges_are_drawn_by_powers_of_ten() -> None:
    picture = ET.fromstring(plot.ranges("t", [plot.Bar("a", 1.0, [10.0]), plot.Bar("b", 10.0, [100.0])]))
    [a, b] = [float(bar.attrib["width"]) for bar in picture.iter(f"{SVG}rect")]
    assert a == pytest.approx(b, abs=0.1)


def test_numbers_of_ranges_are_short() -> None:
    assert "0.51 / 1,235" in plot.ranges("t", [plot.Bar("a", 0.512, [1234.6])])


def test_curves_that_are_flat_are_drawn_flat() -> None:
    picture = ET.fromstring(plot.curves("t", {"rate": [(10.0, 5.0), (1000.0, 5.0)]}, "jobs"))
    [line] = picture.iter(f"{SVG}polyline")
    [(_, first), (_, last)] = [point.split(",") for point in line.attrib["points"].split()]
    assert first == last


def test_every_picture_follows_the_dark_scheme() -> None:
    pictures = page.pictures(results(**{"drain": [5.0], "paced p50": [0.001], "paced p99": [0.01]}))
    assert set(pictures) == {"bench-drain", "bench-latency"}
    assert all("prefers-color-scheme: dark" in svg for svg in pictures.values())


def test_an_order_is_drawn_in_bulk_until_its_jobs_are_out() -> None:
    drawn = order()
    drawn.begin()
    assert [len(drawn.draw()) for _ in range(4)] == [100, 100, 50, 0]


def test_an_order_ends_when_its_time_is_up() -> None:
    drawn = order(seconds=-1.0)
    drawn.begin()
    assert drawn.draw() == []


def test_the_first_request_of_a_caller_is_beside_the_order() -> None:
    drawn = order(do="stamp", jobs=1)
    [payload] = drawn.warm()
    assert payload["do"] == "nothing"
    assert drawn.draw() == [0]


def test_a_tally_adds_up_what_processes_have_run(tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    rows = bytearray((tmp_path / "tally").read_bytes())
    ROW.pack_into(rows, 0, 3, 10.0, 12.0)
    ROW.pack_into(rows, 5 * ROW.size, 4, 9.0, 11.0)
    (tmp_path / "tally").write_bytes(rows)
    ran = tally.read()
    assert (ran.jobs, ran.first, ran.last) == (7, 9.0, 12.0)


def test_stamps_come_sorted(tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    (tmp_path / "stamps").write_bytes(STAMP.pack(0.5) + STAMP.pack(0.25))
    assert tally.stamps() == [0.25, 0.5]


def test_the_shapes_of_the_issue_are_there() -> None:
    assert set(SHAPES) == {
        "one", "many", "bulk", "drain", "default", "mixed", "idle", "paced", "io", "backlog", "kill",
    }  # fmt: skip
