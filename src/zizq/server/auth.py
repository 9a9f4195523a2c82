"""Who calls: recognises tokens and certificates, reads their file anew when it changes, and counts refusals."""

from __future__ import annotations

import hmac
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from zizq.clock import Clock
from zizq.errors import ConfigError, Denied, Unauthenticated
from zizq.server import tokens
from zizq.server.access import Caller, Grant
from zizq.server.tokens import Mark

log = logging.getLogger("zizq.auth")

LOOK_S = 1.0
"""How often the file of tokens is looked at, in seconds, while requests come."""
LINE_S = 1.0
"""How often a refusal is logged at most: who floods the server must not flood its log."""
_BEARER = b"bearer "
_NO_SECRET = bytes(32)
"""What the secret of an unknown token is compared with; nothing has it as its hash."""


class Auth:
    """Knows who may call, and counts who may not.

    Args:
        path: The file of tokens; None lets everybody do everything.
        clock: Tells when tokens expire, and when to look at the file.
    """

    def __init__(self, path: Path | None, clock: Clock) -> None:
        self.is_on = path is not None
        self.refused: Counter[str] = Counter()
        """How many requests were refused, by reason: `missing`, `malformed`, `unknown`, `expired`, `certificate`,
        `scope`, `queue`, `reset`, `origin` and `form`."""
        self._path = path or Path()
        self._clock = clock
        self._tokens: dict[str, Caller] = {}
        self._certificates: dict[str, Caller] = {}
        self._mark: Mark | None = None
        self._trouble = ""
        self._look_at = 0.0
        self._logged_at = -LINE_S
        self._unlogged = 0

    # ── the file ──

    def start(self) -> None:
        """Read the file; one that is not there allows nobody anything.

        Raises:
            ConfigError: When it cannot be read, is malformed, or others may write to it.
        """
        if not self.is_on:
            return
        try:
            self._read()
        except FileNotFoundError as error:
            self._trouble = str(error)
            log.warning("nobody may call yet: zizq token create makes a token", extra={"fields": {"file": self._path}})

    def _read(self) -> None:
        """Read the file, unless it is as it was."""
        mark = tokens.mark_of(self._path)
        if mark == self._mark:
            return
        self._know(tokens.load(self._path))
        # As it was before the file was read: what was written meanwhile is found by the next look. And not noted where
        # it could not be read: that may pass, as a lack of descriptors does, and leave no mark on the file.
        self._mark = mark
        known = {"tokens": len(self._tokens), "certificates": len(self._certificates)}
        log.info("tokens read", extra={"fields": {"file": self._path, **known}})

    def _know(self, grants: Iterable[Grant]) -> None:
        # Whoever may do what they could do before stays the same caller: their streams go on.
        before = {caller.grant: caller for caller in (*self._tokens.values(), *self._certificates.values())}
        callers = [before.get(grant) or Caller(grant) for grant in grants]
        self._tokens = {one.grant.id: one for one in callers if one.grant.certificate is None}
        self._certificates = {one.grant.certificate: one for one in callers if one.grant.certificate is not None}

    def _look(self) -> None:
        """Read the file now and then; one that is broken or gone changes nothing."""
        now = self._clock.mono_s()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_S
        before, self._trouble = self._trouble, ""
        try:
            self._read()
        except (FileNotFoundError, ConfigError) as error:
            self._trouble = str(error)
        if self._trouble not in ("", before):
            fields = {"file": self._path, "error": self._trouble}
            log.error("the tokens cannot be read: those read last stay in force", extra={"fields": fields})

    # ── callers ──

    def recognise(self, authorization: bytes | None, certificate: str | None) -> Caller:
        """Who calls.

        Args:
            authorization: The header of that name; None for none. If there is one, it counts alone.
            certificate: The name in the certificate that the client has shown; None for none.

        Raises:
            Unauthenticated: When it is nobody that is known.
        """
        self._look()
        if authorization is not None:
            caller = self._by_token(authorization)
        elif certificate is not None:
            caller = self._by_certificate(certificate)
        else:
            raise Unauthenticated(
                "this server wants to know who calls: send a token, as in `authorization: Bearer zq_...`"
            ).because("missing")
        if caller.has_expired(self._clock.wall_ms()):
            raise Unauthenticated(f"{caller} has expired: ask for a new one").because("expired")
        return caller

    def _by_token(self, authorization: bytes) -> Caller:
        parts = None
        if authorization[:7].lower() == _BEARER:
            parts = tokens.parts_of(authorization[7:].strip())
        if parts is None:
            raise Unauthenticated("the authorization header holds no token: write it as `Bearer zq_...`").because(
                "malformed"
            )
        token_id, secret = parts
        caller = self._tokens.get(token_id)
        # As much work for an id that is not known as for a wrong secret.
        expected = _NO_SECRET if caller is None else caller.secret_hash
        if not hmac.compare_digest(tokens.hash_of(secret), expected) or caller is None:
            raise Unauthenticated("the token is not known here: it was revoked, or is another server's").because(
                "unknown"
            )
        return caller

    def _by_certificate(self, name: str) -> Caller:
        caller = self._certificates.get(name)
        if caller is None:
            raise Unauthenticated(
                f"the certificate {name!r} is not known here: send a token, or have it added by"
                " `zizq token create --certificate`"
            ).because("certificate")
        return caller

    def still_holds(self, caller: Caller) -> bool:
        """Whether somebody who was recognised would be so now, with the same rights."""
        self._look()
        grant = caller.grant
        known = self._tokens.get(grant.id) if grant.certificate is None else self._certificates.get(grant.certificate)
        return known is caller and not caller.has_expired(self._clock.wall_ms())

    # ── refusals ──

    def note(self, refusal: Denied, caller: Caller | None, request: Mapping[str, str]) -> None:
        """Count a refusal, and log it unless one was logged just now.

        Args:
            refusal: Why.
            caller: Who was refused, if that is known.
            request: What they asked for, and from where, as fields of a log line.
        """
        self.refused[refusal.reason] += 1
        now = self._clock.mono_s()
        if now < self._logged_at + LINE_S:
            self._unlogged += 1
            return
        who = {} if caller is None else {"caller": str(caller)}
        fields = {"reason": refusal.reason, **who, **request, "unlogged": self._unlogged}
        self._logged_at, self._unlogged = now, 0
        log.warning("request refused", extra={"fields": fields})
