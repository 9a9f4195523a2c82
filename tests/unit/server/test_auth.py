"""Who calls: tokens, certificates, changes of their file, and what is counted."""

from __future__ import annotations

import hmac
import logging
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wire.grants import Grants, bearer
from zizq.errors import ConfigError, NotPermitted, Unauthenticated
from zizq.server.auth import Auth
from zizq.testing.clock import ManualClock
from zizq.wire.operations import Scope

REQUEST = {"method": "GET", "path": "/jobs", "peer": "10.0.0.1"}


class Door:
    """An `Auth` on a file of its own, and a clock to move."""

    def __init__(self, folder: Path) -> None:
        self.grants = Grants(folder)
        self.clock = ManualClock()
        self.auth = Auth(self.grants.path, self.clock)

    def who(self, token: str | None = None, certificate: str | None = None) -> str:
        """The name of who calls, or the reason why that is nobody."""
        try:
            header = None if token is None else bearer(token).encode()
            return self.auth.recognise(header, certificate).grant.name
        except Unauthenticated as refusal:
            return refusal.reason

    def later(self) -> None:
        """Let so much time pass that the file is looked at again."""
        self.clock.advance(1000)


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)


def test_a_token_says_who_calls(door: Door) -> None:
    mail, ops = door.grants.token(Scope.WORK, name="mail"), door.grants.token(Scope.ADMIN, name="ops")
    door.auth.start()
    assert [door.who(mail), door.who(ops)] == ["mail", "ops"]


def test_a_certificate_says_who_calls_unless_a_token_does(door: Door) -> None:
    token = door.grants.token(Scope.WORK, name="token")
    door.grants.certificate("cn", Scope.WORK, name="ops")
    door.auth.start()
    assert [door.who(None, "cn"), door.who(token, "cn"), door.who(None, "other")] == [
        "ops", "token", "certificate",
    ]  # fmt: skip
    with pytest.raises(Unauthenticated, match="'other' is not known here"):
        door.auth.recognise(None, "other")
    # A token that is wrong does not fall back on the certificate.
    assert door.who(token[:-1], "cn") == "unknown"


@pytest.mark.parametrize(
    "header", [b"", b"Bearer", b"Bearer ", b"Basic YTpi", b"zq_a_b", b"Bearer zq_a_b", b"bearer\xff"]
)
def test_what_holds_no_token_is_malformed(door: Door, header: bytes) -> None:
    door.auth.start()
    with pytest.raises(Unauthenticated, match="write it as `Bearer zq_") as caught:
        door.auth.recognise(header, None)
    assert caught.value.reason == "malformed"


def test_the_word_bearer_is_read_in_any_case(door: Door) -> None:
    token = door.grants.token(Scope.WORK, name="mail").encode()
    door.auth.start()
    for header in (b"bearer " + token, b"BEARER  " + token, b"Bearer " + token + b" "):
        assert door.auth.recognise(header, None).grant.name == "mail"


def test_a_wrong_secret_and_an_unknown_id_are_told_apart_by_nothing(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = door.grants.token(Scope.WORK)
    door.auth.start()
    compared: list[tuple[int, int]] = []
    real = hmac.compare_digest

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return real(a, b)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    texts = set()
    for wrong in (token[:-1] + "x", f"zq_0000000000_{token.split('_')[2]}"):
        with pytest.raises(Unauthenticated) as caught:
            door.auth.recognise(bearer(wrong).encode(), None)
        texts.add((str(caught.value), caught.value.reason))
    assert compared == [(32, 32), (32, 32)]
    assert texts == {("the token is not known here: it was revoked, or is another server's", "unknown")}


def test_the_secret_of_one_is_no_secret_of_another(door: Door) -> None:
    first, second = door.grants.token(Scope.WORK), door.grants.token(Scope.WORK)
    door.auth.start()
    assert door.who(f"zq_{first.split('_')[1]}_{second.split('_')[2]}") == "unknown"


def test_a_token_ends_at_its_time(door: Door) -> None:
    token = door.grants.token(Scope.WORK, name="mail", expires_at=door.clock.wall_ms() + 10)
    door.auth.start()
    caller = door.auth.recognise(bearer(token).encode(), None)
    door.clock.advance(9)
    assert (door.who(token), door.auth.still_holds(caller)) == ("mail", True)
    door.clock.advance(1)
    assert (door.who(token), door.auth.still_holds(caller)) == ("expired", False)
    assert door.who(token[:-1] + "x") == "unknown"


# ── the file changes ──


def test_the_file_is_read_again_after_a_second(door: Door) -> None:
    door.auth.start()
    assert door.who("zq_a_" + "A" * 43) == "unknown"
    token = door.grants.token(Scope.WORK, name="mail")
    assert door.who(token) == "unknown"
    door.later()
    assert door.who(token) == "mail"
    door.grants.revoke(token)
    door.later()
    assert door.who(token) == "unknown"


def test_a_caller_stays_the_same_until_its_own_grant_changes(door: Door) -> None:
    first, second = door.grants.token(Scope.WORK), door.grants.token(Scope.READ)
    door.grants.certificate("cn", Scope.READ)
    door.auth.start()
    callers = [door.auth.recognise(bearer(token).encode(), None) for token in (first, second)]
    callers.append(door.auth.recognise(None, "cn"))
    door.grants.token(Scope.READ)
    door.later()
    assert all(map(door.auth.still_holds, callers))
    door.grants.revoke(first)
    door.later()
    assert list(map(door.auth.still_holds, callers)) == [False, True, True]


def test_a_broken_file_changes_nothing_and_is_logged_once(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    token = door.grants.token(Scope.WORK, name="mail")
    door.auth.start()
    good = door.grants.path.read_bytes()
    for trouble in (b"{", None):
        if trouble is None:
            door.grants.path.unlink()
        else:
            door.grants.path.write_bytes(trouble)
        caplog.clear()
        for _ in range(3):
            door.later()
            assert door.who(token) == "mail"
        assert [(one.levelname, one.message) for one in caplog.records] == [
            ("ERROR", "the tokens cannot be read: those read last stay in force")
        ]
        assert token not in caplog.text
    door.grants.path.write_bytes(good.replace(b'"mail"', b'"post"'))
    door.grants.path.chmod(0o600)
    door.later()
    assert door.who(token) == "post"


def test_a_file_that_could_not_be_read_for_a_moment_is_read_after_it(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    token = door.grants.token(Scope.WORK, name="mail")
    door.auth.start()
    door.grants.revoke(token)
    with no_descriptors():
        for _ in range(2):
            door.later()
            assert door.who(token) == "mail"
    assert [one.fields["error"] for one in caplog.records if one.levelname == "ERROR"] == [  # type: ignore[attr-defined]
        f"cannot read the tokens in {door.grants.path}: Too many open files"
    ]
    door.later()
    assert door.who(token) == "unknown"


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open no more files."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("text", ["{", '{"version": 9}'])
def test_a_server_does_not_start_on_a_broken_file(door: Door, text: str) -> None:
    door.grants.path.write_text(text)
    with pytest.raises(ConfigError, match="is no file of tokens"):
        door.auth.start()


def test_a_server_starts_without_a_file_and_lets_nobody_in(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    door.auth.start()
    assert "zizq token create makes a token" in caplog.text
    caplog.clear()
    assert door.who("zq_a_" + "A" * 43) == "unknown"
    assert caplog.text == ""


def test_without_a_file_nothing_is_on() -> None:
    auth = Auth(None, ManualClock())
    auth.start()
    assert not auth.is_on


# ── refusals ──


def test_refusals_are_counted_by_reason_and_logged_once_a_second(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    token = door.grants.token(Scope.WORK, name="mail")
    door.auth.start()
    caller = door.auth.recognise(bearer(token).encode(), None)
    caplog.set_level(logging.WARNING, "zizq.auth")
    door.auth.note(Unauthenticated("no").because("missing"), None, REQUEST)
    for _ in range(3):
        door.auth.note(NotPermitted("no").because("scope"), caller, REQUEST)
    door.clock.advance(1000)
    door.auth.note(NotPermitted("no").because("queue"), caller, REQUEST)
    assert door.auth.refused == {"missing": 1, "scope": 3, "queue": 1}
    first, last = (record.fields for record in caplog.records)  # type: ignore[attr-defined]
    assert first == {"reason": "missing", **REQUEST, "unlogged": 0}
    assert last == {"reason": "queue", "caller": str(caller), **REQUEST, "unlogged": 3}
    assert token not in caplog.text
