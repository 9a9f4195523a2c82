"""What alerts and dashboard ask for is what a live server measures."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from acceptance.processes import ServerProcess
from deploy.names import METRICS, ON_POSTGRES, SCRAPED, SERIES, series_of
from zizq import SyncClient
from zizq.server.settings import Settings

ROOT = Path(__file__).parents[2]
SCRAPES = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
ON_ADMIN_PORT = SCRAPES[0]["static_configs"][0]["targets"][0].endswith(f":{Settings().admin_port}")
LINE = re.compile(r"^(?P<name>\w+)(?:{(?P<labels>.*)})? (?P<value>\S+)")


def work(client: SyncClient) -> None:
    """Have something of everything happen."""
    ids = [client.enqueue_raw("t", n, queue="q", retry_limit=0 if n == 2 else 1).id for n in range(4)]
    with client.take(prefetch=3) as stream:
        for job in stream:
            if job.id == ids[0]:
                client.report_success(job.id)
            else:
                client.report_failure(job.id, "no")
            if job.id == ids[2]:
                break
    # What the stream held may be given back only in a moment.
    client.enqueue_raw("t", 4, queue="q")


@pytest.fixture(scope="module", params=["folder", "postgres"])
def exposed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What GET /metrics answers on the port that prometheus.yml asks, for each kind of store."""
    store = [] if request.param == "folder" else ["--store", request.getfixturevalue("all_databases").fresh()]
    with ServerProcess(tmp_path_factory.mktemp("root"), *store, admin=True) as server:
        with SyncClient(server.url) as client:
            work(client)
        url = f"{server.admin_url if ON_ADMIN_PORT else server.url}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            yield answer.read().decode()


@pytest.mark.acceptance
@pytest.mark.parametrize("name", sorted(METRICS.keys() - ON_POSTGRES))
def test_the_server_measures_it(name: str, exposed: str) -> None:
    lines = [match for line in exposed.splitlines() if (match := LINE.match(line))]
    for series in series_of(name, METRICS[name]):
        wanted = SERIES[series].keys() - SCRAPED.keys()
        found = [set(re.findall(r'(\w+)="', match["labels"] or "")) for match in lines if match["name"] == series]
        # What was refused is shown once something was.
        assert found or name == "zizq_refused_total", f"{series} is not there"
        assert all(labels == wanted for labels in found), f"{series} has the labels {found[0]}"
    # OpenMetrics leaves the end of a counter's name out.
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", exposed, re.MULTILINE))
    assert METRICS[name].kind in (kinds.get(name), kinds.get(name.removesuffix("_total")))


@pytest.mark.acceptance
def test_it_names_things_as_prometheus_has_it(exposed: str) -> None:
    kinds = dict(re.findall(r"^# TYPE (zizq_\S+) (\S+)$", exposed, re.MULTILINE))
    texts = dict(re.findall(r"^# HELP (zizq_\S+) (.+)$", exposed, re.MULTILINE))
    assert kinds.keys() == texts.keys() > {"zizq_jobs"}
    assert {name for name, kind in kinds.items() if kind == "counter"} == {
        name for name in kinds if name.endswith("_total")
    }
    # Times are in seconds and sizes in bytes, and no name has another unit.
    assert all(name.endswith("_seconds") for name, kind in kinds.items() if kind == "histogram")
    assert not [name for name in kinds if re.search(r"_(ms|us|millis\w*|kib|mib|bytes_\w+|seconds_\w+)$", name)]


@pytest.mark.acceptance
def test_all_that_it_measures_of_itself_is_known(exposed: str) -> None:
    named = {match["name"] for line in exposed.splitlines() if (match := LINE.match(line))}
    assert {name for name in named if name.startswith("zizq_") and not name.endswith("_created")} <= SERIES.keys()
