"""What to think of a machine that runs a server: a finding for each thing that was looked at. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from statistics import median
from typing import NamedTuple

from zizq.server.access import Caller, Grant
from zizq.server.descriptors import SPARE
from zizq.server.settings import Address
from zizq.store.base import CommitMode
from zizq.store.facts import StoreFacts
from zizq.words import count

DAY_MS = 86_400_000
MIB = 2**20


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


class Finding(NamedTuple):
    """What was looked at, what came of it, and what to do.

    Args:
        check: What was looked at.
        verdict: How bad it is.
        says: What was found.
        advice: What to do; None where nothing is to be done.
    """

    check: str
    verdict: Verdict
    says: str
    advice: str | None = None


def _ok(check: str, says: str) -> Finding:
    return Finding(check, Verdict.OK, says)


def _note(check: str, says: str, advice: str) -> Finding:
    return Finding(check, Verdict.NOTE, says, advice)


def _problem(check: str, says: str, advice: str) -> Finding:
    return Finding(check, Verdict.PROBLEM, says, advice)


# ── programs ─────────────────────────────────────────────────────────────────────────────────────────

LEAST_SQLITE = (3, 50)
"""What apsw brings by itself; Linux distributions may pair it with an older one."""


def on_packages(found: Mapping[str, str | None], pinned: Mapping[str, str]) -> Iterator[Finding]:
    """The packages that the server is made of.

    Args:
        found: Their versions; None for one that is missing.
        pinned: The only versions that will do, of those that are bound to one.
    """
    for name, version in found.items():
        wanted = pinned.get(name)
        if version is None and name == "uvloop":
            yield _note(name, "not installed: requests take longer", "pip install uvloop")
        elif version is None:
            extra = "postgres" if name == "asyncpg" else "server"
            yield _problem(name, "not installed", f"pip install 'zizq[{extra}]'")
        elif wanted not in (None, version):
            yield _problem(name, f"{version}, and not {wanted}", f"pip install {name}=={wanted}")
        else:
            yield _ok(name, version)


def on_sqlite(version: str) -> Finding:
    """The SQLite library that the store runs on."""
    if tuple(int(part) for part in version.split(".")[:2]) < LEAST_SQLITE:
        least = ".".join(map(str, LEAST_SQLITE))
        return _note("sqlite", f"{version}: the store is tested with {least} and later", "pip install -U apsw")
    return _ok("sqlite", version)


# ── the system ───────────────────────────────────────────────────────────────────────────────────────

LEAST_CONNECTIONS = 256
BEYOND = 2**40
"""So many files are no limit."""


def on_descriptors(let_in: int, wanted: int, limit: int) -> Finding:
    """How many connections the limit of open files leaves room for.

    Args:
        let_in: As many are let in.
        wanted: As many are to be let in; 0 for as many as can be.
        limit: How many files may be open.
    """
    if limit >= BEYOND:
        return _ok("descriptors", "no limit of open files")
    says = f"{count(limit)} open files: room for {count(let_in)} connections"
    judge = _problem if let_in < LEAST_CONNECTIONS else _note
    if let_in >= wanted > 0 or (not wanted and let_in >= LEAST_CONNECTIONS):
        return _ok("descriptors", says)
    enough = SPARE + max(wanted, LEAST_CONNECTIONS)
    return judge(
        "descriptors",
        f"{says}, of {count(wanted)} that --max-connections says" if wanted else says,
        f"raise the limit to {count(enough)}: ulimit -n, LimitNOFILE= of systemd",
    )


def on_clock(now_at: int, synchronised: bool | None) -> Finding:
    """The clock: due times, retention and certificates go by it."""
    if now_at < 1_735_689_600_000:
        return _problem("clock", "the year is before 2025", "set the clock, and run chrony or systemd-timesyncd")
    if synchronised is False:
        return _note("clock", "nothing keeps it right", "run chrony or systemd-timesyncd")
    return _ok("clock", "kept right" if synchronised else "runs; whether anything keeps it right is not known")


def on_zones(number: int, local: str | None, error: str | None) -> Finding:
    """The time zones that crons may name."""
    if not number:
        return _problem("time zones", "there is no time zone data", "pip install tzdata")
    if error is not None:
        return _problem("time zones", error, "set TZ to an IANA name such as Europe/London")
    return _ok("time zones", f"{count(number)} zones; crons that name none go by {local}")


# ── the disk ─────────────────────────────────────────────────────────────────────────────────────────

MEMORY = {"tmpfs", "ramfs", "devtmpfs"}
NETWORK = {
    "9p", "afs", "beegfs", "ceph", "cifs", "drvfs", "fuse.ceph", "fuse.cephfs", "fuse.glusterfs", "fuse.rclone",
    "fuse.s3fs", "fuse.sshfs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "ocfs2", "prl_fs", "smb3", "smbfs",
    "vboxsf", "virtiofs",
}  # fmt: skip
LAYERED = {"overlay", "aufs", "fuse.fuse-overlayfs"}
LEAST_FREE = 100 * MIB
LITTLE_FREE = 1024 * MIB
LEAST_INODES, LITTLE_INODES = 100, 10_000
SLOW_S = 0.010
QUICK_S = 0.000_020
"""No disk is so quick: even memory that outlives a power cut takes that long to be told."""


def on_file_system(kind: str | None) -> Finding:
    """The kind of file system that the store is on."""
    if kind is None:
        return _ok("file system", "its kind is not known")
    if kind in MEMORY:
        return _problem("file system", f"{kind}: memory, gone at the next restart of the machine",
                        "choose a --root-dir on a disk")  # fmt: skip
    if kind in NETWORK:
        return _problem("file system", f"{kind}: shared or over a network, where SQLite's locks and log do not hold",
                        "choose a --root-dir on a disk of this machine")  # fmt: skip
    if kind in LAYERED:
        return _note("file system", f"{kind}: likely a layer of a container, gone with the container",
                     "put --root-dir on a volume")  # fmt: skip
    return _ok("file system", kind)


def on_folder(folder: str, *, exists: bool, error: str | None) -> Finding:
    """Whether the server can work in its folder."""
    if error is not None:
        return _problem("folder", error, f"let this user write to {folder}, or choose another --root-dir")
    return _ok("folder", folder if exists else f"{folder} will be made")


def on_space(free: int, total: int) -> Finding:
    """How much room there is on the disk, in bytes."""
    says = f"{_about(free)} free of {_about(total)}"
    if free < LEAST_FREE:
        return _problem("space", says, "make room: without it the server only reads")
    if free < LITTLE_FREE:
        return _note("space", says, "make room before it is needed: without it the server only reads")
    return _ok("space", says)


def _about(number: int) -> str:
    return f"{number / 1e9:.3g}GB" if number >= 10**9 else f"{number / 1e6:.3g}MB"


def on_inodes(free: int, total: int) -> Finding:
    """How many files may still be made; file systems without a limit say 0 of 0."""
    says = f"{count(free)} free of {count(total)}" if total else "no limit"
    if total and free < LITTLE_INODES:
        return (_problem if free < LEAST_INODES else _note)("inodes", says, "delete files on this file system")
    return _ok("inodes", says)


def on_latency(samples_s: Sequence[float]) -> Finding:
    """How long it takes to make a few bytes certain."""
    middle, longest = median(samples_s), max(samples_s)
    says = f"{_spent(middle)} in the middle, {_spent(longest)} at most, of {len(samples_s)}"
    if middle < QUICK_S:
        return _note("fsync", f"{says}: too quick for a disk",
                     "a cache may say yes too early: see whether its writes survive a power cut")  # fmt: skip
    if middle > SLOW_S:
        return _note("fsync", f"{says}: a single enqueue waits that long",
                     "enqueue in bulk or from many clients, which share a commit, or use a faster disk")  # fmt: skip
    return _ok("fsync", says)


def _spent(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} µs" if seconds < 0.001 else f"{seconds * 1e3:.3g} ms"


# ── the store ────────────────────────────────────────────────────────────────────────────────────────

MUCH_FREE = 256 * MIB
LONG_LOG = 512 * MIB


def on_store(facts: StoreFacts | None) -> Iterator[Finding]:
    """The store, if there is one."""
    if facts is None:
        yield _ok("store", "there is none yet: the first start makes it")
        return
    if facts.holder is not None:
        yield _ok("server", f"process {facts.holder} runs on this store" if facts.holder else "runs on this store")
    if facts.error is not None:
        yield _problem("store", facts.error, "see whether the folder is the right one, then `zizq check`")
        return
    if facts.format < facts.known_format:
        yield _note("store", f"format {facts.format}: the next start brings it to {facts.known_format}",
                    "back it up before: an older zizq cannot read it after")  # fmt: skip
    else:
        yield _ok("store", f"format {facts.format}, {_about(facts.size)}")
    if facts.free > MUCH_FREE and facts.free * 2 > facts.size:
        yield _note("free pages", f"{_about(facts.free)} of {_about(facts.size)}",
                    "`zizq compact` gives it back to the disk")  # fmt: skip
    else:
        yield _ok("free pages", f"{_about(facts.free)} of {_about(facts.size)}")
    if facts.log_size > LONG_LOG:
        yield _note("log", f"{_about(facts.log_size)}: a reader kept it from beginning anew",
                    "look for long lists, backups and other programs that have the database open")  # fmt: skip
    else:
        yield _ok("log", _about(facts.log_size))


def on_commit(enqueues: CommitMode, others: CommitMode) -> Finding:
    """What a power cut may take back."""
    if others is CommitMode.FSYNC:
        says = "all that was answered survives a power cut"
        if enqueues is not CommitMode.FSYNC:
            says = "a power cut may take back the last enqueues, and nothing else"
    elif enqueues is CommitMode.FSYNC:
        says = "jobs that were accepted survive a power cut; the last reports may be lost, and their jobs run again"
    else:
        says = "a power cut may take back what was answered last, jobs too; the death of the server takes nothing"
    return _ok("commits", f"enqueues {enqueues.value}, others {others.value}: {says}")


# ── the network ──────────────────────────────────────────────────────────────────────────────────────

SOON_MS = 30 * DAY_MS
APART_MS = 2000
"""How far apart two clocks may be: the server tells its own in whole seconds."""


class CertificateFacts(NamedTuple):
    """The files of an endpoint.

    Args:
        error: Why they cannot be used; None where they can.
        not_before_at: When the certificate begins to be valid; None where that is not known.
        not_after_at: When it ends to be.
        key_mode: The access rights of the key's file.
    """

    error: str | None = None
    not_before_at: int | None = None
    not_after_at: int | None = None
    key_mode: int = 0o600


def on_exposure(address: Address, *, is_guarded: bool) -> Finding:
    """Who can reach an endpoint, and whether they are asked who they are."""
    check = f"{address.api} API"
    place = f"{address.scheme}://{address.host}:{address.port}"
    if address.is_local:
        return _ok(check, f"{place}, from this machine alone")
    asks = is_guarded or address.tls_client_ca is not None
    if address.tls_cert is not None and asks:
        return _ok(check, place)
    lacks = "in the clear" if asks else "to whoever reaches it"
    return _note(
        check, f"{place}, {lacks}", "`zizq tls init` makes certificates; --tls-client-ca and --auth ask who calls"
    )


def on_tokens(path: str, grants: Sequence[Grant] | None, error: str | None, now_at: int) -> Finding:
    """The file of tokens, where the server asks who calls.

    Args:
        path: Where it is.
        grants: What it holds; None where there is no file.
        error: Why it cannot be used; None where it can.
        now_at: The wall clock, in Unix milliseconds.
    """
    if error is not None:
        return _problem("tokens", error, "the server does not start on it: mend it, or make tokens anew")
    good = sum(not Caller(grant).has_expired(now_at) for grant in grants or ())
    expired = len(grants or ()) - good
    says = f"{path}: {count(good)} good, {count(expired)} expired"
    if not good:
        says = says if grants else f"{path}: there are none"
        return _note("tokens", f"{says}: nobody may call", "`zizq token create` makes one")
    return _ok("tokens", says)


def on_certificate(api: str, facts: CertificateFacts, now_at: int) -> Iterator[Finding]:
    """The certificate of an endpoint."""
    check = f"{api} certificate"
    if facts.error is not None:
        yield _problem(
            check,
            facts.error,
            "name PEM files that this user can read and that fit each other: `zizq tls init` makes them",
        )
        return
    if facts.key_mode & 0o077:
        yield _note(f"{api} key", f"others may read it: its mode is {facts.key_mode:o}", "chmod 600")
    if facts.not_before_at is None or facts.not_after_at is None:
        yield _note(check, "fits its key; until when it is valid is not known", "pip install 'zizq[tls]'")
        return
    days = (facts.not_after_at - now_at) // DAY_MS
    renew = "make a new one, then send the server SIGHUP"
    if now_at >= facts.not_after_at:
        yield _problem(check, f"expired {count((now_at - facts.not_after_at) // DAY_MS)} days ago", renew)
    elif now_at < facts.not_before_at:
        yield _problem(check, "not valid yet", "see whether the clock is right")
    elif facts.not_after_at - now_at < SOON_MS:
        yield _note(check, f"valid for {count(days)} days more", renew)
    else:
        yield _ok(check, f"valid for {count(days)} days more")


class Answer(NamedTuple):
    """What a server says of itself.

    Args:
        error: Why it did not answer; None where it did.
        version: Its version.
        health: Its health, in its own word.
        apart_ms: How far its clock is ahead of ours; None where that is not known.
        is_taken: Whether somebody listens there, answer or not.
    """

    error: str | None = None
    version: str = ""
    health: str = ""
    apart_ms: int | None = None
    is_taken: bool = False


def on_answer(url: str, answer: Answer, own_version: str, *, expected: bool, runs: bool) -> Iterator[Finding]:
    """A server that was asked.

    Args:
        url: Where it was asked.
        answer: What it said.
        own_version: The version of this program.
        expected: Whether one should be there.
        runs: Whether one runs on the store.
    """
    if answer.error is not None:
        yield _on_silence(url, answer, answer.error, expected=expected, runs=runs)
        return
    if answer.health == "ok":
        yield _ok("answer", f"{url} is well")
    else:
        yield _problem("answer", f"{url} is {answer.health}", "read its log: it cannot write to its store")
    if answer.version == own_version:
        yield _ok("version", own_version)
    else:
        yield _note("version", f"the server has {answer.version}, this is {own_version}", "restart it after an upgrade")
    if answer.apart_ms is not None:
        says = (
            f"the server's clock is {abs(answer.apart_ms) / 1000:.0f} s {'ahead' if answer.apart_ms > 0 else 'behind'}"
        )
        if abs(answer.apart_ms) > APART_MS:
            yield _note("clocks", says, "run chrony or systemd-timesyncd on both machines")
        else:
            yield _ok("clocks", "the server's is that of this machine")


def _on_silence(url: str, answer: Answer, error: str, *, expected: bool, runs: bool) -> Finding:
    if expected:
        return _problem("answer", error, "start it, or correct --url, --ca, --client-cert and --client-key")
    if answer.is_taken:
        return _note("answer", f"somebody listens at {url}, and cannot be asked: {error}",
                     "if it is this server, give --ca, --client-cert and --client-key as a client does, or --url;"
                     " if it is another program, choose another --port")  # fmt: skip
    if runs:
        return _note("answer", f"a server runs on this store, and none answers at {url}", "say where it is: --url")
    return _ok("answer", f"no server answers at {url}")
