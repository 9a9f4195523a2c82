"""The Grafana dashboard: it shows what there is, and all of it."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest

from deploy.names import ANY, METRICS, SERIES, series_of
from deploy.promql import parts, selected

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deploy" / "grafana" / "zizq.json").read_text(encoding="utf-8")
DASHBOARD = json.loads(TEXT)
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = [
    pytest.param(panel, target, id=f"{panel['title']}-{target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
]
VARIABLES = {one["name"]: one for one in DASHBOARD["templating"]["list"]}


def check_expression(text: str) -> set[str]:
    """Hold an expression to the names and labels that there are; returns the labels that it may have."""
    labels: set[str] = set()
    for node in filter(selected, parts(text)):
        known = SERIES[node.name]
        labels |= set(known)
        for matcher in node.matchers.matchers:
            assert matcher.name in known, f"{matcher.name} of {node.name}"
            if known[matcher.name] is not ANY and matcher.op in (promql.MatchOp.Equal, promql.MatchOp.NotEqual):
                assert matcher.value in known[matcher.name], f"{matcher.value} of {node.name}"
    for node in parts(text):
        if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
            assert set(node.modifier.labels) <= labels
    return labels


def expression(target: dict[str, Any]) -> str:
    """What Prometheus is asked once Grafana has filled in its own variable."""
    return str(target["expr"]).replace("$__rate_interval", "5m")


@pytest.mark.parametrize(("panel", "target"), TARGETS)
def test_a_panel_asks_for_what_there_is(panel: dict[str, Any], target: dict[str, Any]) -> None:
    labels = check_expression(expression(target))
    assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= labels
    used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
    assert used <= set(VARIABLES)
    assert target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_each_metric_is_shown() -> None:
    asked = {
        node.name for panel in PANELS for one in panel["targets"] for node in parts(expression(one)) if selected(node)
    }
    ours = {name: set(series_of(name, metric)) for name, metric in METRICS.items() if name.startswith("zizq_")}
    assert [name for name, series in ours.items() if not series & asked] == []


def test_panels_have_room_and_names_of_their_own() -> None:
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    titles = [panel["title"] for panel in PANELS]
    assert len(set(titles)) == len(titles)
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in itertools.combinations(places, 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"], (one, other)


@pytest.mark.parametrize("name", ["instance", "queue"])
def test_variables_come_from_what_there_is(name: str) -> None:
    match = re.fullmatch(r"label_values\((.+), (\w+)\)", VARIABLES[name]["query"]["query"])
    assert match
    assert match[2] == name
    assert name in check_expression(match[1])
