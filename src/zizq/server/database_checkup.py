"""What to think of a database that servers share: a finding for each thing that was looked at. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from zizq.server.checkup import Finding, Verdict
from zizq.store.facts import DatabaseFacts
from zizq.words import count, duration, size

LEAST_VERSION = 14
OLD_S, TOO_OLD_S = 60.0, 3600.0
"""The age of a transaction that is worth a word, and one that does harm."""
MANY_DEAD = 20_000
"""Dead rows that a table may have before it is worth a word: autovacuum begins at 2,000 to 5,000."""
PER_SERVER = 11
"""Connections that one more server takes."""
APART_MS = 1000
LATE_S = 10.0
"""A post that has waited for so long waits for somebody who is not there."""
RESERVED = ("jobs", "errors", "draws")
"""Tables that are as large as the backlog: of these a fifth may be dead."""


def on_database(place: str, facts: DatabaseFacts) -> Iterator[Finding]:
    """The database as a whole.

    Args:
        place: Where it is, without a password.
        facts: What was seen.
    """
    if facts.error is not None:
        yield Finding(
            "database", Verdict.PROBLEM, facts.error, "see whether it is up, --store is right, and lets us in"
        )
        return
    yield _on_version(place, facts)
    yield _on_format(facts)
    yield from _on_durability(facts)
    yield from _on_holdups(facts)
    yield _on_dead_rows(facts)
    yield _on_autovacuum(facts)
    yield _on_connections(facts)
    yield _on_clock(facts)
    yield from _on_notifications(facts)
    yield from _on_inbox(facts)


def _on_version(place: str, facts: DatabaseFacts) -> Finding:
    major, minor = divmod(facts.version, 10_000)
    says = f"PostgreSQL {major}.{minor} at {place}, {size(facts.size)}"
    if major < LEAST_VERSION:
        return Finding("database", Verdict.PROBLEM, says, f"use PostgreSQL {LEAST_VERSION} or newer")
    if facts.is_standby:
        return Finding("database", Verdict.PROBLEM, f"{says}: a standby, which cannot be written to",
                       "name the primary, or both hosts with ?target_session_attrs=read-write")  # fmt: skip
    return Finding("database", Verdict.OK, says)


def _on_format(facts: DatabaseFacts) -> Finding:
    if facts.format == 0:
        return Finding("store", Verdict.OK, "has no tables yet: the first server makes them")
    if facts.format < facts.known_format:
        return Finding("store", Verdict.PROBLEM, f"format {facts.format}, and this zizq needs {facts.known_format}",
                       "run `zizq migrate` with the same --store")  # fmt: skip
    if facts.format > facts.known_format:
        return Finding("store", Verdict.PROBLEM, f"format {facts.format}, and this zizq knows {facts.known_format}",
                       "use a newer zizq")  # fmt: skip
    runs = "no server runs on it" if not facts.servers else f"servers that run on it: {facts.servers}"
    return Finding("store", Verdict.OK, f"format {facts.format}; {runs}")


def _on_durability(facts: DatabaseFacts) -> Iterator[Finding]:
    off = [name for name in ("fsync", "synchronous_commit") if facts.settings.get(name) == "off"]
    for name in off:
        yield Finding(name, Verdict.PROBLEM, "off: a power cut takes back what was answered",
                      f"set {name} = on; --default-commit-mode buffered says what may be lost")  # fmt: skip
    if facts.settings.get("full_page_writes") == "off":
        yield Finding("full_page_writes", Verdict.NOTE, "off: a power cut may tear pages",
                      "set full_page_writes = on, unless the file system writes pages whole")  # fmt: skip
    if not off:
        standbys = facts.settings.get("synchronous_standby_names")
        says = f"waits for {standbys}" if standbys else "waits for no standby: a failover may lose the last commits"
        yield Finding("fsync", Verdict.OK, f"on; a commit {says}")


def _on_holdups(facts: DatabaseFacts) -> Iterator[Finding]:
    old = [one for one in facts.holdups if one.age_s is None or one.age_s > OLD_S]
    for one in old:
        spent = "" if one.age_s is None else f", open for {duration(int(one.age_s) * 1000)}"
        worst = one.age_s is None or one.age_s > TOO_OLD_S
        yield Finding("horizon", Verdict.PROBLEM if worst else Verdict.NOTE,
                      f"{one.what}{spent}: rows that died since then stay, and takes slow down",
                      "end it, or drop it; idle_in_transaction_session_timeout ends such by itself")  # fmt: skip
    if not facts.sees_all:
        yield Finding("horizon", Verdict.NOTE, "what others have open cannot be seen",
                      "GRANT pg_read_all_stats to the user in --store")  # fmt: skip
    elif not old:
        yield Finding("horizon", Verdict.OK, "nothing old is open")


def _on_dead_rows(facts: DatabaseFacts) -> Finding:
    def most(table: str, live: int) -> int:
        return max(MANY_DEAD, live // 5 if table in RESERVED else 0)

    over = {table: dead for table, (live, dead) in facts.dead.items() if dead > most(table, live)}
    if over:
        listed = ", ".join(f"{count(dead)} in {table}" for table, dead in sorted(over.items()))
        return Finding("dead rows", Verdict.NOTE, listed,
                       "see what holds the horizon; then VACUUM (VERBOSE) zizq." + min(over))  # fmt: skip
    return Finding("dead rows", Verdict.OK, f"{count(sum(dead for _, dead in facts.dead.values()))}")


def _on_autovacuum(facts: DatabaseFacts) -> Finding:
    off = [name for name in ("autovacuum", "track_counts") if facts.settings.get(name) == "off"]
    if off:
        return Finding("autovacuum", Verdict.PROBLEM, f"{off[0]} is off: dead rows stay for ever", f"set {off[0]} = on")
    return Finding("autovacuum", Verdict.OK, "on")


def _on_connections(facts: DatabaseFacts) -> Finding:
    used, most = facts.connections
    says = f"{count(used)} of {count(most)} are open"
    if most - used < PER_SERVER:
        return Finding("connections", Verdict.NOTE, f"{says}, and a server takes {PER_SERVER}",
                       "raise max_connections, or put PgBouncer between")  # fmt: skip
    return Finding("connections", Verdict.OK, says)


def _on_clock(facts: DatabaseFacts) -> Finding:
    if abs(facts.ahead_ms) > APART_MS + facts.apart_ms:
        way = "ahead of" if facts.ahead_ms > 0 else "behind"
        says = (
            f"the database's is {abs(facts.ahead_ms) / 1000:.1f} s {way} this machine's; servers go by the database's"
        )
        return Finding("clocks", Verdict.NOTE, says, "run chrony or systemd-timesyncd on both machines")
    return Finding("clocks", Verdict.OK, f"the database's is that of this machine, within {facts.apart_ms} ms")


def _on_notifications(facts: DatabaseFacts) -> Iterator[Finding]:
    if facts.hears is False:
        yield Finding("notifications", Verdict.NOTE,
                      "none come, as behind PgBouncer in transaction mode: servers look for jobs of others themselves",
                      "nothing, or a --store that leads past the pooler: jobs start some 30 ms sooner")  # fmt: skip
    elif facts.hears:
        yield Finding("notifications", Verdict.OK, "come")


def _on_inbox(facts: DatabaseFacts) -> Iterator[Finding]:
    number, waited_s = facts.posts
    if number and waited_s > LATE_S:
        yield Finding("inbox", Verdict.PROBLEM,
                      f"{count(number)} posted jobs wait, the first for {duration(int(waited_s) * 1000)}",
                      "start a server on this database, or read its log")  # fmt: skip
    elif facts.format:
        yield Finding("inbox", Verdict.OK, f"{count(number)} posted jobs wait")
