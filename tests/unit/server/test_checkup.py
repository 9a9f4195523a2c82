"""What `zizq doctor` thinks of what it sees."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from zizq.server import checkup
from zizq.server.access import Grant
from zizq.server.checkup import Answer, CertificateFacts, Finding, Verdict
from zizq.server.descriptors import SPARE
from zizq.server.settings import Address
from zizq.store.base import CommitMode
from zizq.store.facts import StoreFacts
from zizq.wire.operations import Scope

OK, NOTE, PROBLEM = Verdict.OK, Verdict.NOTE, Verdict.PROBLEM
NOW = 1_790_000_000_000
DAY_MS = 86_400_000
GB = 10**9


def verdicts(findings) -> dict[str, Verdict]:
    return {finding.check: finding.verdict for finding in findings}


def advised(finding: Finding) -> Finding:
    """A finding, which says what to do if there is anything to do."""
    assert (finding.advice is None) is (finding.verdict is OK)
    return finding


@pytest.mark.parametrize(
    ("found", "verdict"),
    [({"h2corn": "2.0.0"}, OK), ({"h2corn": "2.0.1"}, PROBLEM), ({"h2corn": None}, PROBLEM), ({"uvloop": None}, NOTE),
     ({"apsw": "3.50.1.0"}, OK)],
)  # fmt: skip
def test_packages_must_be_there_in_the_version_that_they_are_bound_to(found, verdict):
    [finding] = checkup.on_packages(found, {"h2corn": "2.0.0"})
    assert advised(finding).verdict is verdict


@pytest.mark.parametrize(("version", "verdict"), [("3.50.0", OK), ("4.0", OK), ("3.49.2", NOTE), ("3.9.0", NOTE)])
def test_an_old_sqlite_is_noted(version, verdict):
    assert advised(checkup.on_sqlite(version)).verdict is verdict


@pytest.mark.parametrize(
    ("let_in", "wanted", "limit", "verdict"),
    [(16_000, 16_000, 20_000, OK), (3968, 16_000, 4096, NOTE), (128, 16_000, 256, PROBLEM), (16_000, 16_000, 2**63, OK),
     (3968, 0, 4096, OK), (100, 0, 228, PROBLEM), (100, 100, 4096, OK)],
)  # fmt: skip
def test_the_limit_of_open_files_must_leave_room_for_connections(let_in, wanted, limit, verdict):
    assert advised(checkup.on_descriptors(let_in, wanted, limit)).verdict is verdict


@pytest.mark.parametrize(
    ("limit", "wanted", "says"),
    [(64, 16_000, "16,160"), (256, 16_000, "16,160"), (4096, 16_000, "16,160"), (64, 0, "416"), (256, 0, "416")],
)
def test_the_advice_names_a_limit_that_is_enough(limit, wanted, says):
    let_in = max(1, limit - SPARE)
    assert f"raise the limit to {says}:" in str(checkup.on_descriptors(let_in, wanted, limit).advice)


@pytest.mark.parametrize(
    ("now", "synchronised", "verdict"), [(NOW, True, OK), (NOW, None, OK), (NOW, False, NOTE), (0, True, PROBLEM)]
)
def test_the_clock_must_be_set_and_should_be_kept_right(now, synchronised, verdict):
    assert advised(checkup.on_clock(now, synchronised)).verdict is verdict


def test_time_zones_must_be_there():
    assert advised(checkup.on_zones(600, "UTC", None)).verdict is OK
    assert advised(checkup.on_zones(0, "UTC", None)).verdict is PROBLEM
    assert advised(checkup.on_zones(600, None, "cannot be read")).verdict is PROBLEM


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [("ext4", OK), ("xfs", OK), (None, OK), ("overlay", NOTE), ("tmpfs", PROBLEM), ("nfs4", PROBLEM), ("9p", PROBLEM),
     ("cifs", PROBLEM)],
)  # fmt: skip
def test_a_store_belongs_on_a_disk_of_its_own_machine(kind, verdict):
    assert advised(checkup.on_file_system(kind)).verdict is verdict


def test_a_folder_may_be_missing_but_must_be_writable():
    assert checkup.on_folder("/a", exists=True, error=None) == ("folder", OK, "/a", None)
    assert checkup.on_folder("/a", exists=False, error=None).says == "/a will be made"
    assert advised(checkup.on_folder("/a", exists=True, error="cannot write")).verdict is PROBLEM


@pytest.mark.parametrize(("free", "verdict"), [(99 * 2**20, PROBLEM), (101 * 2**20, NOTE), (2 * GB, OK)])
def test_little_room_is_noted_before_it_is_a_problem(free, verdict):
    assert advised(checkup.on_space(free, 100 * GB)).verdict is verdict


@pytest.mark.parametrize(
    ("free", "total", "verdict"), [(99, 10**6, PROBLEM), (101, 10**6, NOTE), (10**5, 10**6, OK), (0, 0, OK)]
)
def test_a_disk_may_be_out_of_files(free, total, verdict):
    assert advised(checkup.on_inodes(free, total)).verdict is verdict


@pytest.mark.parametrize(
    ("samples", "verdict"),
    [([0.004] * 9, OK), ([0.011] * 9, NOTE), ([0.000_019] * 9, NOTE), ([0.004] * 8 + [3.0], OK),
     ([0.000_01] * 4 + [0.004] * 5, OK)],
)  # fmt: skip
def test_a_disk_may_be_slow_or_too_quick_to_be_true(samples, verdict):
    assert advised(checkup.on_latency(samples)).verdict is verdict


def test_times_are_told_in_units_that_fit():
    assert checkup.on_latency([0.000_25, 0.000_25, 0.056]).says == "250 µs in the middle, 56 ms at most, of 3"


WHOLE = StoreFacts(format=3, known_format=3, size=GB, free=0, log_size=0)


def test_a_store_that_is_not_there_yet_is_no_problem():
    assert verdicts(checkup.on_store(None)) == {"store": OK}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (WHOLE, {"store": OK, "free pages": OK, "log": OK}),
        (WHOLE._replace(holder=7), {"server": OK, "store": OK, "free pages": OK, "log": OK}),
        (WHOLE._replace(holder=0), {"server": OK, "store": OK, "free pages": OK, "log": OK}),
        (WHOLE._replace(format=2), {"store": NOTE, "free pages": OK, "log": OK}),
        (WHOLE._replace(free=600 * 10**6), {"store": OK, "free pages": NOTE, "log": OK}),
        (WHOLE._replace(free=400 * 10**6), {"store": OK, "free pages": OK, "log": OK}),
        (WHOLE._replace(size=2**20, free=2**20), {"store": OK, "free pages": OK, "log": OK}),
        (WHOLE._replace(log_size=GB), {"store": OK, "free pages": OK, "log": NOTE}),
        (StoreFacts(error="not ours"), {"store": PROBLEM}),
        (StoreFacts(error="not ours", holder=7), {"server": OK, "store": PROBLEM}),
    ],
)
def test_what_is_wrong_with_a_store(facts, expected):
    assert verdicts(map(advised, checkup.on_store(facts))) == expected


@pytest.mark.parametrize(
    ("enqueues", "others", "words"),
    [
        (CommitMode.FSYNC, CommitMode.BUFFERED, "their jobs run again"),
        (CommitMode.FSYNC, CommitMode.FSYNC, "all that was answered"),
        (CommitMode.BUFFERED, CommitMode.FSYNC, "the last enqueues, and nothing else"),
        (CommitMode.BUFFERED, CommitMode.BUFFERED, "jobs too"),
    ],
)
def test_what_each_commit_mode_promises_is_said(enqueues, others, words):
    finding = checkup.on_commit(enqueues, others)
    assert (finding.verdict, words in finding.says) == (OK, True)


@pytest.mark.parametrize(
    ("host", "cert", "ca", "guarded", "verdict"),
    [
        ("127.0.0.1", False, False, False, OK),
        ("::1", False, False, False, OK),
        ("0.0.0.0", False, False, False, NOTE),
        ("::1:2", False, False, False, NOTE),
        ("localhost.example.com", False, False, False, NOTE),
        ("10.0.0.7", True, False, False, NOTE),
        ("10.0.0.7", False, False, True, NOTE),
        ("10.0.0.7", True, False, True, OK),
        ("10.0.0.7", True, True, False, OK),
    ],
)
def test_who_may_reach_the_server_should_be_asked_who_they_are(host, cert, ca, guarded, verdict):
    path = Path("x.pem")
    address = Address("primary", host, 7890, path if cert else None, path if cert else None, path if ca else None)
    assert advised(checkup.on_exposure(address, is_guarded=guarded)).verdict is verdict


@pytest.mark.parametrize(
    ("after", "verdict", "says"),
    [(31 * DAY_MS, OK, "valid for 31 days more"), (29 * DAY_MS, NOTE, "valid for 29 days more"),
     (0, PROBLEM, "expired 0 days ago"), (-1, PROBLEM, "expired 0 days ago"),
     (-DAY_MS * 3, PROBLEM, "expired 3 days ago")],
)  # fmt: skip
def test_a_certificate_is_made_anew_before_it_expires(after, verdict, says):
    [finding] = checkup.on_certificate("admin", CertificateFacts(None, NOW - DAY_MS, NOW + after), NOW)
    assert advised(finding)[:3] == ("admin certificate", verdict, says)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (CertificateFacts("cannot read"), {"primary certificate": PROBLEM}),
        (CertificateFacts(None, NOW + 1, NOW + 99 * DAY_MS), {"primary certificate": PROBLEM}),
        (CertificateFacts(), {"primary certificate": NOTE}),
        (CertificateFacts(None, 0, NOW + 99 * DAY_MS, 0o640), {"primary key": NOTE, "primary certificate": OK}),
    ],
)
def test_what_is_wrong_with_a_certificate(facts, expected):
    assert verdicts(map(advised, checkup.on_certificate("primary", facts, NOW))) == expected


TOKEN = Grant(id="a", name="n", scopes=(Scope.READ,), created_at=0, sha256="0" * 64)
OVER = msgspec.structs.replace(TOKEN, id="b", expires_at=NOW)


@pytest.mark.parametrize(
    ("grants", "error", "verdict", "says"),
    [
        ([TOKEN, TOKEN, OVER], None, OK, "f: 2 good, 1 expired"),
        ([OVER], None, NOTE, "f: 0 good, 1 expired: nobody may call"),
        ([], None, NOTE, "f: there are none: nobody may call"),
        (None, None, NOTE, "f: there are none: nobody may call"),
        (None, "f is no file of tokens", PROBLEM, "f is no file of tokens"),
    ],
)
def test_somebody_should_have_a_token_that_is_good(grants, error, verdict, says):
    assert advised(checkup.on_tokens("f", grants, error, NOW))[:3] == ("tokens", verdict, says)


@pytest.mark.parametrize(
    ("answer", "expected", "found"),
    [
        (Answer("refused"), True, {"answer": PROBLEM}),
        (Answer("refused"), False, {"answer": OK}),
        (Answer("no HTTP", is_taken=True), False, {"answer": NOTE}),
        (Answer("no HTTP", is_taken=True), True, {"answer": PROBLEM}),
        (Answer(None, "1.0", "ok"), True, {"answer": OK, "version": OK}),
        (Answer(None, "1.1", "ok", 900), True, {"answer": OK, "version": NOTE, "clocks": OK}),
        (Answer(None, "1.0", "read-only", -2100), True, {"answer": PROBLEM, "version": OK, "clocks": NOTE}),
    ],
)
def test_what_a_server_says_of_itself(answer, expected, found):
    findings = checkup.on_answer("http://a", answer, "1.0", expected=expected, runs=False)
    assert verdicts(map(advised, findings)) == found


def test_a_server_that_runs_and_is_not_where_it_was_looked_for_is_noted():
    [finding] = checkup.on_answer("http://a", Answer("refused"), "1.0", expected=False, runs=True)
    assert advised(finding)[1:3] == (NOTE, "a server runs on this store, and none answers at http://a")


def test_a_clock_that_is_apart_is_ahead_or_behind():
    for apart, says in ((5000, "5 s ahead"), (-5000, "5 s behind")):
        *_, finding = checkup.on_answer("http://a", Answer(None, "1.0", "ok", apart), "1.0", expected=True, runs=True)
        assert finding.says == f"the server's clock is {says}"
