"""The alert rules: they name what there is, and fire when they should and not before.

The cases are in the notation of promtool. Our own evaluation judges them; so does promtool, where it is installed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser as promql
import pytest
import yaml

from deploy.promql import Data, Labels, evaluate, parts, selected, series, values
from deploy.test_dashboard import check_expression

ROOT = Path(__file__).parents[2]
RULES_FILE = ROOT / "deploy" / "alerts.yml"
GROUPS = yaml.safe_load(RULES_FILE.read_text(encoding="utf-8"))["groups"]
RULES = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}
MINUTE_S = 60.0


class Case(NamedTuple):
    """Samples of a minute each, and whether an alert fires so many minutes on, for which labels."""

    alert: str
    samples: dict[str, str]
    at: int
    fires: dict[str, str] | None


def buckets(metric: str, *counts: str) -> dict[str, str]:
    bounds = ("0.05", "0.1", "0.25", "0.5", "+Inf")
    return {f'{metric}_bucket{{le="{le}"}}': count for le, count in zip(bounds, counts, strict=True)}


def finished(completed: str, retried: str, dead: str) -> dict[str, str]:
    outcomes = {"completed": completed, "retried": retried, "dead": dead}
    return {f'zizq_jobs_finished_total{{queue="q", outcome="{one}"}}': text for one, text in outcomes.items()}


def requests(good: str, bad: str) -> dict[str, str]:
    classes = {"2xx": good, "5xx": bad}
    return {f'zizq_requests_total{{method="GET", status="{one}"}}': text for one, text in classes.items()}


def waiting(ready: str, streams: str) -> dict[str, str]:
    return {'zizq_jobs{queue="q", status="ready"}': ready, "zizq_take_streams": streams}


def queue(ready: str) -> dict[str, str]:
    return {'zizq_jobs{queue="q", status="ready"}': ready, 'zizq_jobs{queue="q", status="dead"}': "20000+9x90"}


def descriptors(used: int) -> dict[str, str]:
    return {"process_open_fds": f"{used}x20", "process_max_fds": "100x20"}


Q = {"queue": "q"}
CASES = [
    Case("ZizqDown", {"up": "1x5 0x10"}, 7, {}),
    Case("ZizqDown", {"up": "1x5 0x10"}, 6, None),
    Case("ZizqRestarts", {"process_start_time_seconds": "1x5 2x5 3x5 4x5"}, 20, {}),
    Case("ZizqRestarts", {"process_start_time_seconds": "1x5 2x5 3x20"}, 20, None),
    Case("ZizqWritesRefused", {"zizq_writes_refused": "0x5 1x10"}, 7, {}),
    Case("ZizqWritesRefused", {"zizq_writes_refused": "0x5 1x10"}, 6, None),
    Case("ZizqErrors", requests("0+98x20", "0+2x20"), 11, {}),
    Case("ZizqErrors", requests("0+98x20", "0+2x20"), 4, None),
    Case("ZizqErrors", requests("0+199x20", "0+1x20"), 11, None),
    Case("ZizqRefuses", {'zizq_refused_total{reason="streams"}': "0+12x30"}, 16, {"reason": "streams"}),
    Case("ZizqRefuses", {'zizq_refused_total{reason="streams"}': "0+3x30"}, 16, None),
    Case("ZizqDescriptors", descriptors(85), 11, {}),
    Case("ZizqDescriptors", descriptors(75), 11, None),
    Case("ZizqFsyncSlow", buckets("zizq_fsync_seconds", "0+90x30", *["0+95x30"] * 2, *["0+100x30"] * 2), 16, {}),
    Case("ZizqFsyncSlow", buckets("zizq_fsync_seconds", "0+90x30", *["0+100x30"] * 4), 16, None),
    Case("ZizqCommitsSlow", buckets("zizq_commit_seconds", *["0+95x30"] * 3, *["0+100x30"] * 2), 16, {}),
    Case("ZizqCommitsSlow", buckets("zizq_commit_seconds", *["0+95x30"] * 2, *["0+100x30"] * 3), 16, None),
    Case("ZizqLogGrows", {'zizq_store_bytes{file="log"}': "300000000x20"}, 15, {"file": "log"}),
    Case("ZizqLogGrows", {'zizq_store_bytes{file="log"}': "66000000x20"}, 15, None),
    Case("ZizqLogGrows", {'zizq_store_bytes{file="database"}': "300000000x20"}, 15, None),
    Case("ZizqInboxWaits", {"zizq_oldest_post_age_seconds": "61x20"}, 1, {}),
    Case("ZizqInboxWaits", {"zizq_oldest_post_age_seconds": "59x20"}, 5, None),
    Case("ZizqInboxWaits", {"zizq_oldest_post_age_seconds": "0 300 0x20"}, 2, None),
    Case("ZizqNobodyWorks", waiting("5x20", "0x20"), 5, {}),
    Case("ZizqNobodyWorks", waiting("5x20", "0x20"), 4, None),
    Case("ZizqNobodyWorks", waiting("5x20", "1x20"), 5, None),
    Case("ZizqNobodyWorks", waiting("0x20", "0x20"), 5, None),
    Case("ZizqQueueWaits", {'zizq_oldest_ready_age_seconds{queue="q"}': "601x20"}, 5, Q),
    Case("ZizqQueueWaits", {'zizq_oldest_ready_age_seconds{queue="q"}': "599x20"}, 5, None),
    Case("ZizqQueueGrows", queue("10001+10x90"), 40, Q | {"status": "ready"}),
    Case("ZizqQueueGrows", queue("10001+10x90"), 20, None),
    Case("ZizqQueueGrows", queue("20000-10x90"), 40, None),
    Case("ZizqQueueGrows", queue("0+10x90"), 40, None),
    Case("ZizqJobsFail", finished("0+60x60", "0+30x60", "0+10x60"), 31, Q),
    Case("ZizqJobsFail", finished("0+60x60", "0+3x60", "0+3x60"), 31, None),
    Case("ZizqJobsDie", finished("0+60x60", "0+9x60", "0+1x60"), 16, Q),
    Case("ZizqJobsDie", finished("0+60x60", "0+99x60", "5x60"), 16, None),
    # A counter that begins anew with its server.
    Case("ZizqJobsDie", finished("0+60x60", "0+9x60", "100x10 0x20"), 16, None),
]
NUMBERED = [pytest.param(case, id=f"{case.alert}-{number}") for number, case in enumerate(CASES)]


def scraped(text: str) -> str:
    """The name of a series with the labels that Prometheus gives it."""
    name, _, rest = text.partition("{")
    return f'{name}{{instance="a:1", job="zizq"{", " + rest if rest else "}"}'


def data_of(case: Case) -> Data:
    data: dict[str, dict[Labels, dict[float, float]]] = {}
    for text, notation in case.samples.items():
        name, labels = series(scraped(text))
        samples = {number * MINUTE_S: value for number, value in enumerate(values(notation))}
        data.setdefault(name, {})[labels] = samples
    return data


def firing(rule: dict[str, Any], case: Case) -> list[dict[str, str]]:
    """The labels of the alerts that fire at the time of a case; rules are looked at every minute."""
    expression, data = promql.parse(rule["expr"]), data_of(case)
    hold_s = promql.parse_duration(rule["for"]).total_seconds() if "for" in rule else 0.0
    since: dict[Labels, float] = {}
    at = 0.0
    for minute in range(case.at + 1):
        at = minute * MINUTE_S
        found = evaluate(expression, at, data)
        since = {labels: since.get(labels, at) for labels in found}
    return [dict(labels) for labels, begun in since.items() if at - begun >= hold_s]


def expected(case: Case) -> list[dict[str, str]]:
    return [] if case.fires is None else [{"job": "zizq", "instance": "a:1"} | case.fires]


@pytest.mark.parametrize("case", NUMBERED)
def test_an_alert_fires_when_it_should_and_not_before(case: Case) -> None:
    assert firing(RULES[case.alert], case) == expected(case)


@pytest.mark.parametrize("alert", RULES)
def test_each_alert_is_seen_to_fire_and_to_be_silent(alert: str) -> None:
    assert {case.fires is None for case in CASES if case.alert == alert} == {True, False}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_an_alert_names_what_there_is(rule: dict[str, Any]) -> None:
    check_expression(rule["expr"])
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("critical", "warning")
    labels = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    [fires] = [case for case in CASES if case.alert == rule["alert"] and case.fires is not None]
    assert labels <= set(expected(fires)[0])
    assert any(selected(node) for node in parts(rule["expr"]))


def test_each_alert_has_a_section_in_the_runbook_and_no_section_is_left_over() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert re.findall(r"^### (Zizq\w+)$", page, re.MULTILINE) == list(RULES)


def for_promtool(case: Case) -> dict[str, Any]:
    """A case as promtool reads it."""
    rule = RULES[case.alert]
    alerts = [
        {
            "exp_labels": labels | rule["labels"],
            "exp_annotations": {
                name: re.sub(r"{{ \$labels\.(\w+) }}", lambda found, of=labels: of[found[1]], text)
                for name, text in rule["annotations"].items()
            },
        }
        for labels in expected(case)
    ]
    return {
        "interval": "1m",
        "input_series": [{"series": scraped(name), "values": text} for name, text in case.samples.items()],
        "alert_rule_test": [{"eval_time": f"{case.at}m", "alertname": case.alert, "exp_alerts": alerts}],
    }


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_judges_as_we_do(tmp_path: Path) -> None:
    tests = {
        "rule_files": [str(RULES_FILE)],
        "evaluation_interval": "1m",
        "tests": [for_promtool(one) for one in CASES],
    }
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests), encoding="utf-8")
    ran = subprocess.run(["promtool", "test", "rules", str(tmp_path / "tests.yml")], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
