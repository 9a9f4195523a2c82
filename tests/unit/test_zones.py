"""Time zones by name, and the one of this machine."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from zizq.errors import BadRequest, ConfigError
from zizq.zones import local_zone, zone

NOWHERE = Path("/nowhere")


def offsets(zone: tzinfo) -> list[float]:
    """Its hours ahead of UTC in January and in July."""
    moments = [datetime(2026, month, 1, tzinfo=zone).utcoffset() for month in (1, 7)]
    return [moment.total_seconds() / 3600 for moment in moments if moment is not None]


def zone_file(folder: Path, name: str) -> Path:
    """A zone file in a database of its own."""
    path = folder / "zoneinfo" / name
    path.parent.mkdir(parents=True)
    count = bytes.fromhex("000000000000000000000000000000000000000100000004")
    part = b"TZif2" + bytes(15) + count + bytes(6) + b"UTC\0"
    path.write_bytes(part + part + b"\nABC-7\n")
    return path


@pytest.mark.parametrize("name", ["Europe/London", "America/Argentina/Buenos_Aires", "UTC", "Etc/GMT+5", "EST5EDT"])
def test_a_zone_is_found_by_its_iana_name(name: str) -> None:
    assert str(zone(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "", "europe/london", "EUROPE/LONDON", " Europe/London", "Europe", "Europe/", "Moon/Base", "localtime",
        "posix/Europe/London", "right/Europe/London", "posixrules", "/etc/localtime", "/usr/share/zoneinfo/UTC",
        "../zoneinfo/UTC", "Europe/../UTC", "Europe//London", "Europe/London\0", "UTC+1", "CET-1CEST", "é",
    ],
)  # fmt: skip
def test_whatever_is_no_iana_name_is_refused(name: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        zone(name)
    assert str(refusal.value) == f'invalid timezone: "{name}"'


def test_without_a_name_it_is_the_zone_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert zone(None) is ZoneInfo("Asia/Tokyo")


@pytest.mark.parametrize("tz", ["Europe/Berlin", ":Europe/Berlin"])
def test_the_variable_may_hold_a_name(tz: str) -> None:
    assert local_zone(tz, NOWHERE) is ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("CET-1CEST,M3.5.0,M10.5.0/3", [1, 2]), ("NZST-12NZDT,M9.5.0,M4.1.0/3", [13, 12]), ("<+03>-3", [3, 3]),
        ("ABC5:30", [-5.5, -5.5]), ("", [0, 0]),
    ],
)  # fmt: skip
def test_the_variable_may_hold_a_rule(rule: str, expected: list[float]) -> None:
    assert offsets(local_zone(rule, NOWHERE)) == expected


def test_the_variable_goes_before_the_file(tmp_path: Path) -> None:
    path = zone_file(tmp_path, "Asia/Tokyo")
    assert local_zone("Europe/Berlin", path) is ZoneInfo("Europe/Berlin")


def test_a_link_into_a_database_gives_the_name(tmp_path: Path) -> None:
    link = tmp_path / "localtime"
    link.symlink_to(zone_file(tmp_path, "Asia/Tokyo"))
    assert local_zone(None, link) is ZoneInfo("Asia/Tokyo")


def test_the_variable_may_hold_a_path(tmp_path: Path) -> None:
    path = zone_file(tmp_path, "Asia/Tokyo")
    assert local_zone(str(path), NOWHERE) is ZoneInfo("Asia/Tokyo")


@pytest.mark.parametrize("name", ["posix/Asia/Tokyo", "Moon/Base"])
def test_a_file_without_a_known_name_is_read(tmp_path: Path, name: str) -> None:
    assert offsets(local_zone(None, zone_file(tmp_path, name))) == [7, 7]


def test_a_machine_that_says_nothing_keeps_utc() -> None:
    assert local_zone(None, NOWHERE) is UTC


@pytest.mark.parametrize("tz", ["Moon/Base", "CET-", "/nowhere", "\0"])
def test_a_variable_that_is_no_zone_is_an_error(tz: str) -> None:
    with pytest.raises(ConfigError, match="set TZ to an IANA name"):
        local_zone(tz, NOWHERE)


def test_a_file_that_is_no_zone_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "localtime"
    path.write_text("Asia/Tokyo")
    with pytest.raises(ConfigError, match="localtime"):
        local_zone(None, path)
