"""Looks at the machine that a server runs on, for `zizq doctor`; `checkup` says what to think of it.

Nothing is changed. A small file is written in the folder of the store, and removed, to see how long that takes.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import platform
import re
import ssl
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from zoneinfo import available_timezones

from zizq.clock import Clock
from zizq.errors import ConfigError
from zizq.server import checkup, database_checkup, descriptors, tokens
from zizq.server.checkup import CertificateFacts, Finding
from zizq.server.settings import Address, Settings
from zizq.store.opening import survey_database, survey_store
from zizq.store.url import StoreUrl
from zizq.zones import zone

PACKAGES = ("apsw", "h2corn", "jq", "uvloop")
SAMPLES = 50
LONGEST_S = 2.0
"""How long the disk may be tried."""
BLOCK = bytes(4096)
_MOUNTS = Path("/proc/self/mountinfo")
_TIME_ERROR = 5
"""What adjtimex answers where the clock is not kept right."""
_PIN = re.compile(r"([\w-]+)==([\w.]+)")
_OCTAL = re.compile(r"\\([0-7]{3})")


def examine(settings: Settings, clock: Clock) -> Iterator[Finding]:
    """What there is to say of this machine as the place of such a server, one thing after the other."""
    now_at = clock.wall_ms()
    yield from _programs()
    # As the server does when it starts.
    descriptors.raise_limit()
    room = descriptors.connections(settings.max_connections)
    yield checkup.on_descriptors(room, settings.max_connections, descriptors.limit())
    if settings.store is None:
        yield from _disk(settings.root_dir, clock)
        # A missing package was told already.
        with suppress(ConfigError):
            yield from checkup.on_store(survey_store(settings.root_dir))
    else:
        yield from _database(settings.store, clock)
    options = settings.store_options
    yield checkup.on_commit(options.enqueue_mode, options.default_mode)
    yield checkup.on_clock(now_at, is_synchronised())
    yield _zones()
    if settings.auth != "off":
        yield _tokens(settings.tokens_path, now_at)
    for address in (settings.primary, *(() if settings.no_admin else (settings.admin,))):
        yield checkup.on_exposure(address, is_guarded=settings.auth != "off")
        if address.tls_cert is not None:
            yield from checkup.on_certificate(address.api, certificate_facts(address), now_at)


# ── programs ─────────────────────────────────────────────────────────────────────────────────────────


def _programs() -> Iterator[Finding]:
    yield from checkup.on_packages({"zizq": _version("zizq"), "python": platform.python_version()}, {})
    yield from checkup.on_packages({name: _version(name) for name in PACKAGES}, pins())
    try:
        import apsw
    except ModuleNotFoundError:
        return
    yield checkup.on_sqlite(apsw.sqlite_lib_version())


def pins() -> dict[str, str]:
    """The packages that are bound to one version."""
    return dict(found.groups() for line in metadata.requires("zizq") or () if (found := _PIN.match(line)))  # type: ignore[misc]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


# ── the system ───────────────────────────────────────────────────────────────────────────────────────


def is_synchronised() -> bool | None:
    """Whether the kernel believes that its clock is kept right; None where it cannot be asked."""
    if sys.platform != "linux":
        return None
    try:
        # A question, and no order: all fields of the struct, which is smaller than this, are 0.
        state: int = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def _zones() -> Finding:
    try:
        local, error = str(zone(None)), None
    except ConfigError as problem:
        local, error = None, str(problem)
    return checkup.on_zones(len(available_timezones()), local, error)


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────────


def _tokens(path: Path, now_at: int) -> Finding:
    grants, error = None, None
    try:
        grants = tokens.load(path)
    except FileNotFoundError:
        pass
    except ConfigError as problem:
        error = str(problem)
    return checkup.on_tokens(str(path), grants, error, now_at)


# ── the database ─────────────────────────────────────────────────────────────────────────────────────


def _database(url: StoreUrl, clock: Clock) -> Iterator[Finding]:
    yield from checkup.on_packages({"asyncpg": _version("asyncpg")}, {})
    with suppress(ConfigError):
        facts = asyncio.run(survey_database(url, clock))
        yield from database_checkup.on_database(str(url), facts)


# ── the disk ─────────────────────────────────────────────────────────────────────────────────────────


def _disk(root: Path, clock: Clock) -> Iterator[Finding]:
    root = root.absolute()
    folder = next((one for one in (root, *root.parents) if one.exists()), Path("/"))
    error, samples = None, []
    try:
        samples = list(sync_times(folder, clock))
    except OSError as problem:
        error = f"cannot write to {folder}: {problem.strerror}"
    yield checkup.on_folder(str(root), exists=root.exists(), error=error)
    yield checkup.on_file_system(file_system(_MOUNTS.read_text(), folder.resolve()) if _MOUNTS.exists() else None)
    room = os.statvfs(folder)
    yield checkup.on_space(room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize)
    yield checkup.on_inodes(room.f_favail, room.f_files)
    if samples:
        yield checkup.on_latency(samples)


def sync_times(folder: Path, clock: Clock) -> Iterator[float]:
    """How many seconds it takes to append 4 KiB to a file and make them certain, again and again.

    Raises:
        OSError: When no file can be written there.
    """
    with tempfile.TemporaryFile(dir=folder, prefix=".zizq-doctor-", buffering=0) as file:
        began = clock.mono_s()
        for _ in range(SAMPLES):
            before = clock.mono_s()
            file.write(BLOCK)
            os.fsync(file.fileno())
            after = clock.mono_s()
            yield after - before
            if after - began > LONGEST_S:
                return


def file_system(mounts: str, path: Path) -> str | None:
    """The kind of file system that a path is on.

    Args:
        mounts: What Linux tells in /proc/self/mountinfo.
        path: The path, without symbolic links.
    """
    found: tuple[int, str] | None = None
    for line in mounts.splitlines():
        place, _, source = line.partition(" - ")
        mounted = Path(_OCTAL.sub(lambda code: chr(int(code[1], 8)), place.split()[4]))
        # Of several at one place the last covers the others.
        if path.is_relative_to(mounted) and (found is None or len(mounted.parts) >= found[0]):
            found = len(mounted.parts), source.split()[0]
    return None if found is None else found[1]


# ── certificates ─────────────────────────────────────────────────────────────────────────────────────


def certificate_facts(address: Address) -> CertificateFacts:
    """What there is to know of the files of an endpoint with TLS."""
    if address.tls_cert is None or address.tls_key is None:
        raise ValueError(f"the {address.api} endpoint has no certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    path = address.tls_cert
    try:
        for path in address.tls_files:
            path.read_bytes()
        # With a passphrase it would ask at the terminal.
        context.load_cert_chain(address.tls_cert, address.tls_key, password=lambda: "")
        if address.tls_client_ca is not None:
            path = address.tls_client_ca
            context.load_verify_locations(address.tls_client_ca)
    except ssl.SSLError as error:
        what = f"{address.tls_cert} and {address.tls_key}" if path != address.tls_client_ca else f"{path}"
        return CertificateFacts(error=f"cannot use {what}: {error.reason or error}")
    except OSError as error:
        return CertificateFacts(error=f"cannot read {path}: {error.strerror}")
    return _validity(address.tls_cert, address.tls_key.stat().st_mode & 0o777)


def _validity(cert: Path, key_mode: int) -> CertificateFacts:
    try:
        from zizq.server.certificates import facts
    except ModuleNotFoundError:
        return CertificateFacts(key_mode=key_mode)
    found = facts(cert.read_bytes())
    return CertificateFacts(None, found.not_before_at, found.not_after_at, key_mode)
