"""Time zones by name, and the one that this machine keeps."""

from __future__ import annotations

import os
import struct
from datetime import UTC, tzinfo
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

from zizq.errors import BadRequest, ConfigError

_LOCALTIME = Path("/etc/localtime")


def zone(name: str | None) -> tzinfo:
    """The time zone of this name.

    The first call takes some 50 ms, for it finds out which names there are.

    Args:
        name: An IANA name, in its own case; None is the zone of this machine.

    Raises:
        BadRequest: When there is no zone of this name.
        ConfigError: When the zone of this machine cannot be read.
    """
    if name is None:
        return local_zone(os.environ.get("TZ"), _LOCALTIME)
    if name not in _names():
        raise BadRequest(f'invalid timezone: "{name}"')
    return ZoneInfo(name)


def local_zone(tz: str | None, localtime: Path) -> tzinfo:
    """The time zone of a machine: an IANA zone where its name can be found out.

    Args:
        tz: The variable `TZ`: an IANA name, a path, or a rule as POSIX has it; None where it is not set.
        localtime: The file that is asked where `TZ` is not set. Where it is not there either, the zone is UTC.

    Raises:
        ConfigError: When it cannot be read.
    """
    if tz is None and not localtime.exists():
        return UTC
    given = str(localtime) if tz is None else tz.removeprefix(":")
    try:
        if given.startswith("/"):
            return _of_file(Path(given))
        return ZoneInfo(given) if given in _names() else _of_rule(given)
    except (OSError, ValueError):
        raise ConfigError(
            f'the time zone "{given}" of this machine cannot be read: set TZ to an IANA name such as Europe/London'
        ) from None


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    """The IANA names; `localtime` is a file of some systems, and no name."""
    return frozenset(available_timezones() - {"localtime"})


def _of_file(path: Path) -> tzinfo:
    """The zone of a file, by the name its place shows where it lies in a time zone database."""
    parts = path.resolve().parts
    roots = [place for place, part in enumerate(parts) if part.startswith("zoneinfo")]
    name = "/".join(parts[roots[-1] + 1 :]) if roots else ""
    if name in _names():
        return ZoneInfo(name)
    with path.open("rb") as file:
        return ZoneInfo.from_file(file, key=str(path))


def _of_rule(rule: str) -> tzinfo:
    """The zone of a POSIX rule such as `CET-1CEST,M3.5.0,M10.5.0/3`; the empty one is UTC.

    A zone file may end in such a rule (RFC 9636), so one is made that has nothing else to say.
    """
    part = struct.pack(">4sc15x6l", b"TZif", b"2", 0, 0, 0, 0, 1, 4) + bytes(6) + b"UTC\0"
    return ZoneInfo.from_file(BytesIO(part + part + f"\n{rule or 'UTC0'}\n".encode()), key=rule or "UTC")
