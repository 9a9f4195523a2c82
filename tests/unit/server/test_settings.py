"""Options of the server: as flags, as variables, as settings."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from zizq.cli import main
from zizq.cli import serve as command
from zizq.errors import ConfigError
from zizq.server import logs
from zizq.server import serve as server
from zizq.server.settings import Settings, options, variable_of
from zizq.store.base import CommitMode
from zizq.store.url import StoreUrl


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run `zizq serve` up to the point where it would serve; returns its settings, or what it said."""
    seen: list[Settings] = []
    monkeypatch.setattr(server, "run", seen.append)
    monkeypatch.setattr(logs, "configure", lambda settings: None)

    def run(*flags: str, **variables: str) -> Any:
        result = CliRunner().invoke(command.serve, flags, env=variables)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return seen[-1] if result.exit_code == 0 else result.output

    return run


VALUES = {
    "root_dir": ("/r", Path("/r")), "store": ("postgresql://h/d", StoreUrl("postgresql://h/d")),
    "host": ("::1", "::1"), "port": ("0", 0), "heartbeat_interval": ("1s", 1000),
    "global_in_flight_limit": ("0", 0), "default_retry_limit": ("3", 3), "default_backoff_exponent": ("1.5", 1.5),
    "default_backoff_base": ("2s", 2000), "default_backoff_jitter": ("0", 0),
    "default_completed_job_retention": ("1h", 3_600_000), "default_dead_job_retention": ("1d", 86_400_000),
    "max_worker_deaths": ("9", 9),
    "reaper_check_interval": ("250", 250), "default_commit_mode": ("fsync", "fsync"),
    "enqueue_commit_mode": ("buffered", "buffered"), "cache_size": ("1MiB", 2**20), "max_body_size": ("64k", 64_000),
    "max_body_memory": ("1MiB", 2**20), "max_requests": ("10", 10), "max_streams": ("11", 11),
    "max_connections": ("12", 12),
    "filter_timeout": ("2s", 2000), "filter_memory": ("1GiB", 2**30),
    "enqueue_batch_size": ("5", 5), "complete_batch_size": ("6", 6), "scheduler_batch_size": ("7", 7),
    "max_budgets": ("9", 9),
    "auth": ("tokens", "tokens"), "token_file": ("/t", Path("/t")), "reset": ("disabled", "disabled"),
    "dashboard": ("read-only", "read-only"),
    "admin_host": ("::1", "::1"), "admin_port": ("0", 0),
    "tcp_user_timeout": ("0", 0), "drain_timeout": ("2s", 2000), "log_format": ("json", "json"),
    "log_level": ("warn", "warn"),
    "log_filter": ("warn,zizq::take=debug", "warn,zizq::take=debug"),
    "log_dir": ("/l", Path("/l")), "log_rotation": ("never", "never"),
    "log_max_size": ("1MB", 10**6), "log_max_files": ("2", 2),
}  # fmt: skip
TOGETHER = {
    "tls_cert", "tls_key", "tls_client_ca", "admin_tls_cert", "admin_tls_key", "admin_tls_client_ca", "no_admin",
    "log_to_disk",
}  # fmt: skip


def test_every_option_is_tried_here() -> None:
    assert {setting.name for setting, _ in options()} == VALUES.keys() | TOGETHER


@pytest.mark.parametrize("name", VALUES)
def test_an_option_is_a_variable_and_mostly_a_flag(run: Any, name: str) -> None:
    text, value = VALUES[name]
    assert getattr(run(**{variable_of(name): text}), name) == value
    [flag] = [option.flag for setting, option in options() if setting.name == name]
    if flag:
        assert getattr(run("--" + name.replace("_", "-"), text), name) == value


def test_a_flag_wins_over_its_variable(run: Any) -> None:
    assert run("--port", "1", ZIZQ_PORT="2").port == 1


def test_the_limit_has_a_letter(run: Any) -> None:
    assert run("-l", "9").global_in_flight_limit == 9


def test_logging_to_disk_is_a_switch(run: Any) -> None:
    assert run("--log-to-disk").log_to_disk
    assert not run().log_to_disk


@pytest.mark.parametrize(
    ("flags", "remedy"),
    [
        (("--port", "x"), "whole number"),
        (("--port", "70000"), "0 to 65535"),
        (("--heartbeat-interval", "3 parsecs"), "no unit"),
        (("--log-level", "loud"), "one of trace"),
        (("--cache-size", "big"), "256MiB"),
        (("--store", "/var/lib/zizq"), "postgresql://user:password@host"),
    ],
)
def test_a_bad_flag_says_what_would_do(run: Any, flags: tuple[str, ...], remedy: str) -> None:
    assert remedy in run(*flags)


def test_a_port_variable_that_is_no_port_is_ignored(run: Any) -> None:
    assert run(ZIZQ_PORT="tcp://10.0.0.1:7890").port == 7890
    assert run(ZIZQ_ADMIN_PORT="tcp://10.0.0.1:8901").admin_port == 8901


def test_a_bad_variable_without_a_flag_is_named(run: Any) -> None:
    with pytest.raises(ConfigError, match="ZIZQ_SCHEDULER_BATCH_SIZE"):
        run(ZIZQ_SCHEDULER_BATCH_SIZE="x")


@pytest.mark.parametrize(
    "given",
    [
        {"tls_cert": Path("c")},
        {"tls_key": Path("k")},
        {"tls_client_ca": Path("a")},
        {"admin_tls_cert": Path("c")},
        {"admin_tls_client_ca": Path("a"), "tls_cert": Path("c"), "tls_key": Path("k")},
        {"heartbeat_interval": 0},
        {"tcp_user_timeout": 2**31},
    ],
)
def test_contradictions_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="--"):
        Settings(**given)


@pytest.mark.parametrize(
    ("given", "enqueue", "other"),
    [
        ({}, "fsync", "buffered"),
        ({"default_commit_mode": "buffered"}, "buffered", "buffered"),
        ({"default_commit_mode": "fsync"}, "fsync", "fsync"),
        ({"enqueue_commit_mode": "buffered"}, "buffered", "buffered"),
        ({"default_commit_mode": "buffered", "enqueue_commit_mode": "fsync"}, "fsync", "buffered"),
    ],
)
def test_enqueues_are_durable_unless_asked_otherwise(given: dict[str, Any], enqueue: str, other: str) -> None:
    chosen = Settings(**given).store_options
    assert (chosen.enqueue_mode, chosen.default_mode) == (CommitMode(enqueue), CommitMode(other))


def test_a_filter_sets_levels_by_part() -> None:
    assert logs.parse_filter("warn, zizq=info,zizq::take=trace") == {
        "": logging.WARNING,
        "zizq": logging.INFO,
        "zizq.take": logging.DEBUG,
    }
    with pytest.raises(ConfigError, match="loud"):
        logs.parse_filter("zizq=loud")


@pytest.mark.parametrize("arguments", ["--root-dir /r serve", "--root-dir /r", "serve --root-dir /r"])
def test_the_root_folder_is_the_same_wherever_it_is_named(monkeypatch: pytest.MonkeyPatch, arguments: str) -> None:
    seen: list[Settings] = []
    monkeypatch.setattr(server, "run", seen.append)
    monkeypatch.setattr(logs, "configure", lambda settings: None)
    result = CliRunner().invoke(main.cli, arguments.split(), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert seen[0].root_dir == Path("/r")


@pytest.mark.parametrize(
    ("host", "is_local"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.1", False), ("example.com", False)],
)  # fmt: skip
def test_an_address_is_local_or_not(host: str, is_local: bool) -> None:
    assert Settings(host=host).primary.is_local is is_local


CLEAR = ("WARNING", "tokens travel in the clear: serve TLS, here or by a proxy")
OPEN = ("INFO", "whoever reaches this address may do everything: see --auth")
TLS = {"tls_cert": Path("c"), "tls_key": Path("k")}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, []),
        ({"auth": "tokens"}, []),
        ({"host": "0.0.0.0"}, [OPEN]),
        ({"host": "0.0.0.0", **TLS}, [OPEN]),
        ({"host": "0.0.0.0", **TLS, "tls_client_ca": Path("a")}, []),
        ({"host": "0.0.0.0", "auth": "tokens"}, [CLEAR]),
        ({"host": "0.0.0.0", "auth": "tokens", **TLS}, []),
        ({"admin_host": "0.0.0.0"}, [OPEN]),
        ({"admin_host": "0.0.0.0", "no_admin": True}, []),
    ],
)
def test_what_the_network_may_see_or_do_is_said(
    given: dict[str, Any], said: list[tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "zizq.serve")
    server.warn_of_exposure(Settings(**given))
    assert [(record.levelname, record.message) for record in caplog.records] == said


def test_tokens_are_in_the_root_folder_unless_they_are_elsewhere() -> None:
    assert Settings(root_dir=Path("/r")).tokens_path == Path("/r/tokens.json")
    assert Settings(root_dir=Path("/r"), token_file=Path("/t")).tokens_path == Path("/t")


def test_a_store_in_a_database_takes_the_place_of_the_one_in_the_folder() -> None:
    assert Settings(root_dir=Path("/r")).place == Path("/r")
    url = StoreUrl("postgresql://h/d")
    assert Settings(root_dir=Path("/r"), store=url).place == url
