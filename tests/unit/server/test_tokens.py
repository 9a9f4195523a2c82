"""The file of tokens."""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from wire.grants import Grants
from zizq.errors import ConfigError
from zizq.server import tokens
from zizq.wire.operations import Scope

HASH = "0" * 64
GRANT = {"id": "a", "name": "n", "scopes": ["read"], "created_at": 0, "sha256": HASH}


def write(folder: Path, value: Any, mode: int = 0o600) -> Path:
    path = folder / "tokens.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    path.chmod(mode)
    return path


# ── tokens ──


def test_a_token_is_its_id_and_its_secret_of_which_a_hash_is_kept() -> None:
    token, digest = tokens.new_token("ab12", lambda size: bytes(range(size)))
    assert token == "zq_ab12_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    found = tokens.parts_of(token.encode())
    assert found is not None
    assert (found[0], tokens.hash_of(found[1]).hex()) == ("ab12", digest)


def test_secrets_have_32_random_bytes_and_ids_are_public() -> None:
    sizes: list[int] = []

    def random(size: int) -> bytes:
        sizes.append(size)
        return os.urandom(size)

    grant_id = tokens.new_id(random)
    assert grant_id in tokens.new_token(grant_id, random)[0]
    assert sizes == [5, 32]


SECRET = "A" * 43


@pytest.mark.parametrize(
    "text",
    ["", "zq", "zq_a", f"zq_a{SECRET}", f"zq__{SECRET}", f"zq_a_{SECRET}.", f"zq_A_{SECRET}", f"xx_a_{SECRET}",
     f" zq_a_{SECRET}", f"zq_a_{SECRET}\n", f"zq_a_{'A' * 19}", f"zq_a_{'A' * 200}", f"zq_é_{SECRET}"],
)  # fmt: skip
def test_what_is_no_token_has_no_parts(text: str) -> None:
    assert tokens.parts_of(f"zq_a_{SECRET}".encode()) == ("a", SECRET.encode())
    assert tokens.parts_of(text.encode()) is None


# ── the file ──


def test_what_is_saved_is_read_back_and_only_its_owner_may_see_it(tmp_path: Path) -> None:
    grants = Grants(tmp_path)
    token = grants.token(Scope.WORK, queues=("mail*",), expires_at=5)
    grants.certificate("ops", Scope.ADMIN)
    first, second = tokens.load(grants.path)
    assert (first.id, first.scopes, first.queues, first.expires_at) == (token.split("_")[1], ("work",), ("mail*",), 5)
    assert (second.certificate, second.sha256) == ("ops", None)
    assert grants.path.stat().st_mode & 0o777 == 0o600
    assert token.split("_")[2] not in grants.path.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokens.json"]


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path, {"version": 1, "grants": [GRANT]}, mode)
    with pytest.raises(ConfigError, match=f"can be written to by others .mode {mode:o}.: chmod 600 "):
        tokens.load(path)


def test_a_file_of_another_user_is_refused_and_one_of_root_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, {"version": 1, "grants": [GRANT]}, 0o644)
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner or 12345)
    assert tokens.load(path)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr(os, "fstat", lambda _: os.stat_result((0o100644, 0, 0, 1, 54321, 0, 0, 0, 0, 0)))
    with pytest.raises(ConfigError, match=r"belongs to another user .54321.: give it to the server's user"):
        tokens.load(path)


def test_a_file_that_others_may_only_read_is_fine(tmp_path: Path) -> None:
    [grant] = tokens.load(write(tmp_path, {"version": 1, "grants": [GRANT]}, 0o644))
    assert grant.id == "a"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "Input data was truncated"),
        ("{", "truncated"),
        ({"version": 2}, "its form is 2, and this program knows 1"),
        ({"grants": []}, "missing required field `version`"),
        ({"version": 1, "more": 1}, "unknown field `more`"),
        ({"version": 1, "grants": [GRANT | {"only_on_sundays": True}]}, "unknown field `only_on_sundays`"),
        ({"version": 1, "grants": [GRANT | {"scopes": ["all"]}]}, "Invalid enum value 'all'"),
        ({"version": 1, "grants": [GRANT | {"scopes": []}]}, "has no scope"),
        ({"version": 1, "grants": [GRANT, GRANT]}, "the id 'a' comes 2 times"),
        (
            {"version": 1, "grants": [{**GRANT, "id": i, "sha256": None, "certificate": "c"} for i in "ab"]},
            "the certificate 'c' comes 2 times",
        ),
    ],
)
def test_a_malformed_file_is_refused_with_the_reason(tmp_path: Path, value: Any, message: str) -> None:
    path = write(tmp_path, value)
    with pytest.raises(ConfigError, match=f"tokens.json is no file of tokens: .*{message}"):
        tokens.load(path)


def test_a_file_that_cannot_be_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "tokens.json").mkdir()
    with pytest.raises(ConfigError, match=r"cannot read the tokens in .*: Is a directory$"):
        tokens.load(tmp_path / "tokens.json")
    with pytest.raises(FileNotFoundError):
        tokens.load(tmp_path / "none")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_file_that_the_server_may_not_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = write(tmp_path, {"version": 1, "grants": [GRANT]})
    os.seteuid(54321)
    try:
        with pytest.raises(ConfigError, match=r": Permission denied: give it to the server's user$"):
            tokens.load(path)
    finally:
        os.seteuid(0)


def test_a_change_writes_through_no_link(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("kept")
    (tmp_path / "tokens.json.new").symlink_to(other)
    grants = Grants(tmp_path)
    grants.token(Scope.READ)
    assert len(tokens.load(grants.path)) == 1
    assert other.read_text() == "kept"


def test_a_change_that_fails_changes_nothing(tmp_path: Path) -> None:
    grants = Grants(tmp_path)
    grants.token(Scope.READ)
    before = grants.path.read_bytes()
    with suppress(RuntimeError), tokens.changing(grants.path) as all_:
        all_.clear()
        raise RuntimeError
    with pytest.raises(ConfigError, match="comes 2 times"), tokens.changing(grants.path) as all_:
        all_.append(all_[0])
    assert grants.path.read_bytes() == before


def test_changes_at_once_lose_nothing(tmp_path: Path) -> None:
    grants = Grants(tmp_path / "new" / "folder")
    threads = [threading.Thread(target=grants.token, args=(Scope.READ,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens.load(grants.path)) == 20


def test_a_file_that_cannot_be_written_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "tokens.json.new").mkdir()
    with pytest.raises(ConfigError, match=r"cannot write the tokens to .*tokens\.json: Is a directory"):
        Grants(tmp_path).token(Scope.READ)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot make the folder .*file/folder: Not a directory"):
        Grants(tmp_path / "file" / "folder").token(Scope.READ)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_changes_stays_the_file_of_its_owner(tmp_path: Path) -> None:
    folder = tmp_path / "root"
    folder.mkdir()
    os.chown(folder, 4321, 4322)
    grants = Grants(folder)
    for owner in ((4321, 4322), (1234, 1235)):
        grants.token(Scope.READ)
        status = grants.path.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (*owner, 0o600)
        os.chown(grants.path, 1234, 1235)


def test_a_mark_tells_one_state_of_a_file_from_another(tmp_path: Path) -> None:
    grants = Grants(tmp_path)
    grants.token(Scope.READ)
    first = tokens.mark_of(grants.path)
    assert tokens.mark_of(grants.path) == first
    grants.token(Scope.READ)
    second = tokens.mark_of(grants.path)
    grants.path.chmod(0o640)
    assert len({first, second, tokens.mark_of(grants.path)}) == 3
