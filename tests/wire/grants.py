"""A file of tokens for tests: secrets that are no secrets."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

from zizq.server import tokens
from zizq.server.access import Grant
from zizq.wire.operations import Scope


class Grants:
    """Changes a file of tokens, as `zizq token` does.

    Args:
        folder: Where the file is to be.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "tokens.json"
        self._numbers = count(1)

    def _random(self, size: int) -> bytes:
        return next(self._numbers).to_bytes(size)

    def token(self, *scopes: Scope | str, **fields: Any) -> str:
        """A new token."""
        grant_id = tokens.new_id(self._random)
        token, digest = tokens.new_token(grant_id, self._random)
        self._add(grant_id, scopes, sha256=digest, **fields)
        return token

    def certificate(self, common_name: str, *scopes: Scope | str, **fields: Any) -> None:
        """Let in clients with a certificate of this name."""
        self._add(tokens.new_id(self._random), scopes, certificate=common_name, **fields)

    def revoke(self, token: str) -> None:
        """Forget a token."""
        with tokens.changing(self.path) as grants:
            grants[:] = [grant for grant in grants if grant.id != token.split("_")[1]]

    def _add(self, grant_id: str, scopes: tuple[Scope | str, ...], **fields: Any) -> None:
        wanted = tuple(Scope(scope) for scope in scopes)
        with tokens.changing(self.path) as grants:
            grants.append(Grant(id=grant_id, scopes=wanted, **{"name": "app", "created_at": 0} | fields))


def bearer(token: str) -> str:
    """The header that shows a token."""
    return f"Bearer {token}"
