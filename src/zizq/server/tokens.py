"""The file of tokens: who may do what. It holds hashes, and no secret.

A token is `zq_<id>_<secret>`. The id is public: logs and lists show it. The secret is 32 random bytes, so one round of
SHA-256 hides it as well as any slower hash would: there is nothing to guess from.

The file is changed by `zizq token` and read by the server, which are different processes: it is always replaced as a
whole, and never written in place.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import stat
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from zizq.errors import ConfigError
from zizq.server.access import Grant, check_grant

VERSION = 1
"""Of the form of the file; a server refuses to read a form that it does not know."""
ID_BYTES = 5
"""Of randomness in an id: it need not be secret, only different from the others."""
SECRET_BYTES = 32
_TOKEN = re.compile(rb"zq_([0-9a-z]{1,32})_([0-9A-Za-z_-]{20,128})")
_HIDDEN = rb"zq_\1_..."
_TOO_OPEN = stat.S_IWGRP | stat.S_IWOTH


class Contents(msgspec.Struct, forbid_unknown_fields=True):
    """What the file holds."""

    version: int
    grants: tuple[Grant, ...] = ()


class Mark(NamedTuple):
    """What tells one state of a file from another."""

    inode: int
    size: int
    modified_ns: int
    changed_ns: int


# ── tokens ──


def new_id(random: Callable[[int], bytes]) -> str:
    """An identifier.

    Args:
        random: Gives so many random bytes.
    """
    return random(ID_BYTES).hex()


def new_token(grant_id: str, random: Callable[[int], bytes]) -> tuple[str, str]:
    """A token for an identifier, and the hash of its secret.

    Args:
        grant_id: The identifier.
        random: Gives so many random bytes, which nobody can foresee.
    """
    secret = urlsafe_b64encode(random(SECRET_BYTES)).rstrip(b"=")
    return f"zq_{grant_id}_{secret.decode()}", hash_of(secret).hex()


def parts_of(token: bytes) -> tuple[str, bytes] | None:
    """The identifier and the secret of a token; None for what is no token."""
    match = _TOKEN.fullmatch(token)
    return None if match is None else (match[1].decode(), match[2])


def without_secrets(text: bytes) -> bytes:
    """A text, such as a URL where somebody has put their token, with the secrets of all tokens in it left out."""
    return _TOKEN.sub(_HIDDEN, text) if b"zq_" in text else text


def hash_of(secret: bytes) -> bytes:
    """What is kept of a secret."""
    return hashlib.sha256(secret).digest()


# ── the file ──


def mark_of(path: Path) -> Mark:
    """The state of a file.

    Raises:
        FileNotFoundError: When there is no such file.
        ConfigError: When nothing can be known of it.
    """
    with _translated(path):
        status = path.stat()
    return Mark(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def load(path: Path) -> tuple[Grant, ...]:
    """The grants in a file.

    Raises:
        FileNotFoundError: When there is no such file.
        ConfigError: When it cannot be read or is malformed, or others than its owner may write to it.
    """
    with _translated(path), path.open("rb") as file:
        status = os.fstat(file.fileno())
        text = file.read()
    if status.st_mode & _TOO_OPEN:
        raise ConfigError(f"{path} can be written to by others (mode {status.st_mode & 0o777:03o}): chmod 600 {path}")
    # Whoever owns it can write to it. Root may give it to whom it likes, and reads what it gave away.
    if os.geteuid() not in (0, status.st_uid) and status.st_uid != 0:
        raise ConfigError(f"{path} belongs to another user ({status.st_uid}): give it to the server's user")
    return _checked(path, text)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        remedy = ": give it to the server's user" if isinstance(error, PermissionError) else ""
        raise ConfigError(f"cannot read the tokens in {path}: {error.strerror}{remedy}") from error


def _checked(path: Path, text: bytes) -> tuple[Grant, ...]:
    try:
        contents = msgspec.json.decode(text, type=Contents)
        _check_version(contents.version)
        for grant in contents.grants:
            check_grant(grant)
        _check_distinct("id", [grant.id for grant in contents.grants])
        _check_distinct(
            "certificate", [grant.certificate for grant in contents.grants if grant.certificate is not None]
        )
    except (msgspec.DecodeError, ConfigError) as error:
        raise ConfigError(f"{path} is no file of tokens: {error}") from error
    return contents.grants


def _check_version(version: int) -> None:
    if version != VERSION:
        raise ConfigError(f"its form is {version}, and this program knows {VERSION}: upgrade it")


def _check_distinct(what: str, values: Sequence[str]) -> None:
    for value, number in Counter(values).items():
        if number > 1:
            raise ConfigError(f"the {what} {value!r} comes {number} times: revoke one of them")


def save(path: Path, grants: Sequence[Grant]) -> None:
    """Replace a file, at one instant and for good; only its owner may read it.

    Raises:
        ConfigError: When it cannot be written, or a grant breaks a rule; then the old one is still there.
    """
    text = msgspec.json.format(msgspec.json.encode(Contents(VERSION, tuple(grants))), indent=2) + b"\n"
    _checked(path, text)
    draft = path.with_name(f"{path.name}.new")
    try:
        # Never through a link: root changes this file in a folder that is somebody else's.
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            _give_to_owner(file.fileno(), path)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        with _folder(path) as folder:
            os.fsync(folder)
    except OSError as error:
        raise ConfigError(f"cannot write the tokens to {path}: {error.strerror}") from error


def _give_to_owner(descriptor: int, path: Path) -> None:
    """Where root makes a change, the file stays its owner's, or becomes that of the owner of its folder."""
    if os.geteuid() == 0:
        status = (path if path.exists() else path.parent).stat()
        os.fchown(descriptor, status.st_uid, status.st_gid)


@contextmanager
def changing(path: Path) -> Iterator[list[Grant]]:
    """The grants in a file, in a list to change; it is saved when the block is left without an error.

    One at a time: who comes meanwhile waits, and loses nothing.

    Raises:
        ConfigError: When the file cannot be read or written, or what is to be saved breaks a rule.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {path.parent}: {error.strerror}") from error
    with _folder(path) as folder:
        # The lock is on the folder, for the file itself is another one after each change.
        fcntl.flock(folder, fcntl.LOCK_EX)
        try:
            grants = list(load(path))
        except FileNotFoundError:
            grants = []
        yield grants
        save(path, grants)


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
