"""The image and the composition: what they name is there, and fits together."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from acceptance.processes import ServerProcess
from zizq.cli.main import cli
from zizq.server.settings import Settings, options, variable_of

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
PROMETHEUS = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))
KNOWN = {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
UID = "1000"


def instructions() -> list[tuple[str, str]]:
    """Those of the Dockerfile, each with its arguments on one line."""
    text = re.sub(r"(?m)^#.*\n", "", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"))
    lines = [line for line in re.sub(r"\\\n\s*", "", text).splitlines() if line]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def all_of(name: str) -> list[str]:
    return [rest for one, rest in instructions() if one == name]


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for rest in all_of("ENV") for pair in shlex.split(rest))


def parsed(words: list[str]) -> dict[str, Any]:
    """The options of a command of `zizq`."""
    with click.Context(cli) as context:
        command = cli.get_command(context, words[0])
        assert command is not None, words
        return command.make_context(words[0], words[1:]).params


def test_the_image_is_made_by_instructions_that_there_are() -> None:
    assert {name for name, _ in instructions()} <= KNOWN
    stages = [rest.partition(" AS ")[2] for rest in all_of("FROM")]
    assert stages == ["build", ""]
    assert all(rest.startswith("python:${PYTHON}-slim") for rest in all_of("FROM"))
    [version] = re.findall(r"PYTHON=(\S+)", all_of("ARG")[0])
    assert f"Programming Language :: Python :: {version}" in PROJECT["project"]["classifiers"]


def test_what_is_copied_is_there_and_not_ignored() -> None:
    kept = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    for rest in all_of("COPY"):
        if rest.startswith("--from=build"):
            continue
        for source in rest.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(fnmatch.fnmatch(source, line[1:]) for line in kept if line.startswith("!")), source


def test_what_builds_the_package_is_copied() -> None:
    copied = {word for rest in all_of("COPY") for word in rest.split()[:-1]}
    needed = {"pyproject.toml", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"], "src"}
    assert needed <= copied


def test_the_extras_that_are_installed_exist() -> None:
    [extras] = re.findall(r"pip install .*'\.\[([\w,]+)\]'", all_of("RUN")[0])
    assert set(extras.split(",")) <= set(PROJECT["project"]["optional-dependencies"])


def test_it_does_not_run_as_root_and_keeps_its_store_in_a_volume() -> None:
    assert all_of("USER") == [f"{UID}:{UID}"]
    assert f"useradd --uid {UID} --gid {UID}" in all_of("RUN")[1]
    variables = environment()
    assert all_of("VOLUME") == [variables["ZIZQ_ROOT_DIR"]]
    assert f"-o zizq -g zizq -m 700 {variables['ZIZQ_ROOT_DIR']}" in all_of("RUN")[1]
    assert {name for name in variables if name.startswith("ZIZQ_")} <= {variable_of(one.name) for one, _ in options()}
    assert all_of("EXPOSE") == [f"{Settings().port} {Settings().admin_port}"]


def health_check() -> list[str]:
    [rest] = all_of("HEALTHCHECK")
    flags, _, command = rest.partition(" CMD ")
    assert set(re.findall(r"--([\w-]+)=\d+s?", flags)) == {"interval", "timeout", "start-period", "retries"}
    words: list[str] = json.loads(command)
    return words


def test_its_commands_are_understood() -> None:
    [entry], [command] = all_of("ENTRYPOINT"), all_of("CMD")
    assert json.loads(entry) == ["zizq"]
    assert parsed(json.loads(command))
    assert health_check()[0] == "zizq"
    assert parsed(health_check()[1:])["url"] == f"http://127.0.0.1:{Settings().port}"


@pytest.mark.acceptance
def test_its_health_check_works_by_hand(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name(health_check()[0])
    with ServerProcess(tmp_path) as server:
        command = [str(program), *health_check()[1:]]
        variables = os.environ | {"ZIZQ_URL": server.url}
        assert subprocess.run(command, env=variables, timeout=30, check=False).returncode == 0
        server.stop()
        assert subprocess.run(command, env=variables, timeout=30, check=False, stderr=subprocess.PIPE).returncode == 1


# ── the composition ──


def test_the_commands_of_the_services_are_understood() -> None:
    for name in ("server", "worker"):
        assert parsed([str(word) for word in SERVICES[name]["command"]])
    check = SERVICES["worker"]["healthcheck"]["test"]
    port = parsed(SERVICES["worker"]["command"])["health_port"]
    assert check[:2] == ["CMD", "zizq"]
    assert parsed(check[2:])["url"] == f"http://127.0.0.1:{port}"
    target = parsed(SERVICES["worker"]["command"])["target"]
    assert f"./{target.partition(':')[0]}.py:/app/" in SERVICES["worker"]["volumes"][0]
    assert "/app" in all_of("WORKDIR")


def test_files_that_are_mounted_are_there_and_volumes_declared() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], volume
    build = SERVICES["server"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
    assert f"jobs:{environment()['ZIZQ_ROOT_DIR']}" in SERVICES["server"]["volumes"]


def test_services_reach_each_other_where_they_listen() -> None:
    assert SERVICES["worker"]["environment"]["ZIZQ_URL"] == f"http://server:{Settings().port}"
    [scraped] = PROMETHEUS["scrape_configs"]
    assert scraped["job_name"] == "zizq"
    assert scraped["static_configs"] == [{"targets": [f"server:{Settings().admin_port}"]}]
    assert parsed(SERVICES["server"]["command"])["admin_host"] == "0.0.0.0"
    assert PROMETHEUS["rule_files"] == ["alerts.yml"]
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())
    [one] = source["datasources"]
    assert one["url"] == "http://prometheus:9090"
    dashboard = json.loads((DEPLOY / "grafana/zizq.json").read_text())
    assert dashboard["templating"]["list"][0]["current"]["value"] == one["uid"]
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/zizq.yml").read_text())
    folder = provider["providers"][0]["options"]["path"]
    assert any(volume.startswith(f"./grafana/zizq.json:{folder}/") for volume in SERVICES["grafana"]["volumes"])


def test_nothing_is_published_to_the_network_nor_runs_with_more_than_it_needs() -> None:
    assert all(port.startswith("127.0.0.1:") for one in SERVICES.values() for port in one.get("ports", []))
    for name in ("server", "worker"):
        assert SERVICES[name]["read_only"]
        assert SERVICES[name]["cap_drop"] == ["ALL"]
        assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) * 1000 > Settings().drain_timeout
    assert all(re.search(r":v?\d+\.\d+\.\d+$", SERVICES[name]["image"]) for name in ("prometheus", "grafana"))


def test_the_handlers_of_the_worker_are_a_router() -> None:
    program = "import jobs, zizq; assert isinstance(jobs.router, zizq.Router)"
    subprocess.run([sys.executable, "-c", program], cwd=DEPLOY, check=True, timeout=30)
