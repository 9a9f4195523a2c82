"""What a caller may do: the rule behind every 401 and 403, in one place. Pure.

Scopes say which calls somebody may make, patterns for which queues. To somebody with patterns

* a call that names queues must name some, and only those that a pattern matches, else 403;
* a call that names a job behaves as if jobs of other queues were not there: 404;
* a call that is about the whole server, as those on crons and budgets are, is 403.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from enum import Enum
from fnmatch import translate

import msgspec

from zizq.errors import ConfigError, NotPermitted
from zizq.wire import operations as op
from zizq.wire.operations import Operation, Scope

EVERY_QUEUE = "*"
"""The pattern that is as good as none."""


class Grant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What somebody may do: the holder of a token, or of a certificate.

    Args:
        id: Its identifier, which is no secret.
        name: Whom it is for, in the words of whoever made it.
        scopes: What they may do.
        created_at: When it was made, in Unix milliseconds.
        queues: The patterns of the queues that they may do it to; none for all queues.
        expires_at: When it ends, in Unix milliseconds; None for never.
        sha256: The hash of the token's secret, in hexadecimal digits.
        certificate: The common name of the certificate; exactly one of it and `sha256` is given.
    """

    # An unknown member may be a limit that a later version knows: to pass over it would allow too much.
    id: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: int
    queues: tuple[str, ...] = ()
    expires_at: int | None = None
    sha256: str | None = None
    certificate: str | None = None


def check_grant(grant: Grant) -> None:
    """Hold a grant to its rules.

    Raises:
        ConfigError: When it breaks one.
    """
    where = f"grant {grant.id!r}"
    if not re.fullmatch("[0-9a-z]{1,32}", grant.id):
        raise ConfigError(f"{where}: an id is made of 0-9 and a-z")
    if not grant.name or not grant.name.isprintable():
        raise ConfigError(f"{where}: the name {grant.name!r} is empty, or cannot be printed")
    if not grant.scopes:
        raise ConfigError(f"{where} has no scope: give it one of {', '.join(Scope)}")
    if (grant.sha256 is None) == (grant.certificate is None):
        raise ConfigError(f"{where} must have either the hash of a secret or the name of a certificate")
    if grant.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", grant.sha256):
        raise ConfigError(f"{where}: {grant.sha256!r} is no SHA-256 in 64 hexadecimal digits")
    for pattern in grant.queues:
        if not pattern or "," in pattern or not pattern.isprintable():
            raise ConfigError(f"{where}: {pattern!r} is no pattern of queues: write it as in mail or mail-*")
    if Scope.ADMIN in grant.scopes and limits(grant.queues):
        raise ConfigError(f"{where}: the scope admin is about the whole server: leave the queues out")


def limits(queues: Collection[str]) -> bool:
    """Whether patterns leave any queue out."""
    return bool(queues) and EVERY_QUEUE not in queues


# ── who calls ──


class Caller:
    """Somebody who is known, and what they may do.

    Args:
        grant: What they may do.
    """

    __slots__ = ("_matches", "grant", "is_limited", "scopes", "secret_hash")

    def __init__(self, grant: Grant) -> None:
        self.grant = grant
        self.scopes = frozenset(Scope) if Scope.ADMIN in grant.scopes else frozenset(grant.scopes)
        self.secret_hash = bytes.fromhex(grant.sha256 or "")
        self.is_limited = limits(grant.queues)
        self._matches = re.compile("|".join(map(translate, grant.queues))).match

    def __str__(self) -> str:
        kind = "token" if self.grant.certificate is None else "certificate"
        return f"the {kind} {self.grant.name!r} ({self.grant.id})"

    def has_expired(self, now: int) -> bool:
        """Whether it is over, by the wall clock in Unix milliseconds."""
        return self.grant.expires_at is not None and now >= self.grant.expires_at

    def may_use(self, queue: str) -> bool:
        """Whether a queue is one of theirs."""
        return not self.is_limited or self._matches(queue) is not None

    def check_scope(self, scope: Scope) -> None:
        """Let them do what needs a scope.

        Raises:
            NotPermitted: When they have not got it.
        """
        if scope not in self.scopes:
            raise NotPermitted(
                f"{self} has not the scope `{scope}` that this needs, only {_listed(self.grant.scopes)}"
            ).because("scope")

    def check_queues(self, names: Collection[str]) -> None:
        """Let them do something to queues that they name.

        Raises:
            NotPermitted: When they name none, or one that is not theirs.
        """
        if not names:
            raise self._not_theirs(f"name some of them in the parameter `queue`: it is for {self._patterns}")
        for name in names:
            if not self.may_use(name):
                raise self._not_theirs(f"`{name}` is none of them: it is for {self._patterns}")

    def check_whole(self, what: str) -> None:
        """Let them do something that is about the whole server.

        Args:
            what: What it is, as the beginning of a sentence.

        Raises:
            NotPermitted: When not all queues are theirs.
        """
        if self.is_limited:
            raise self._not_theirs(f"{what} is about all queues: use a token without patterns of queues")

    @property
    def _patterns(self) -> str:
        return _listed(self.grant.queues)

    def _not_theirs(self, remedy: str) -> NotPermitted:
        return NotPermitted(f"{self} is for some queues only; {remedy}").because("queue")


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


# ── what a call is about ──


class Reach(Enum):
    """How one can tell which queues a call is about."""

    NOTHING = "it is about none"
    NAMED = "its query names them"
    PATH = "its path names one"
    JOB = "its path names a job, which has one"
    OWN = "its handler knows, from the body or the answer"
    SERVER = "it is about all of them"


_OWN = frozenset((op.ENQUEUE, op.ENQUEUE_BULK, op.SUCCEED_BULK, op.RELEASE, op.QUEUES))


def reach(operation: Operation) -> Reach:
    """How one can tell which queues a call is about; a call that nobody has thought of is about all."""
    if operation.scope is None:
        return Reach.NOTHING
    if "{id}" in operation.path:
        return Reach.JOB
    if "{queue}" in operation.path:
        return Reach.PATH
    if any(parameter.name == "queue" for parameter in operation.query):
        return Reach.NAMED
    return Reach.OWN if operation in _OWN else Reach.SERVER
