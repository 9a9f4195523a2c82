"""The URL of a store: checked, and never shown with its password. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlencode

from zizq.errors import ConfigError

SCHEMES = ("postgresql", "postgres")
_SECRET = frozenset({"password", "sslpassword"})
_PREPARED = {"on": True, "off": False}
_PARTS = re.compile(
    r"(?P<scheme>[a-z]+)://(?P<authority>[^/?#@]*@)?(?P<hosts>[^/?#@]*)(?P<path>/[^/?#@]*)?(\?(?P<query>[^#@]*))?"
)
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]*)(:[0-9]{1,5})?")
_HELP = (
    "write it as postgresql://user:password@host:5432/database, with %40 for @, %2F for /, %3F for ? and %23 for #"
    " in a name or password"
)


@dataclass(frozen=True, repr=False)
class StoreUrl:
    """Where a database is.

    Shown without its password, whoever shows it: only `dsn` has that.

    Args:
        text: A URL such as `postgresql://user:password@host:5432/database`, which may name several hosts and has
            libpq's parameters behind `?`; `prepared=off` is ours: statements are not prepared, for a pooler in
            transaction mode.

    Raises:
        ConfigError: When it is none; the message has no part of it that may be secret.
    """

    text: str

    def __post_init__(self) -> None:
        """Hold the text to its form."""
        match = _PARTS.fullmatch(self.text)
        if match is None or match["scheme"] not in SCHEMES:
            raise ConfigError(f"the URL of the store is none: {_HELP}")
        if not all(_HOST.fullmatch(host) for host in match["hosts"].split(",")):
            raise ConfigError(f"the URL of the store has a host or port that is none: {_HELP}")
        if self._parameters.get("prepared", "on") not in _PREPARED:
            raise ConfigError("the URL of the store says prepared=, and that is on or off")

    @property
    def _match(self) -> re.Match[str]:
        match = _PARTS.fullmatch(self.text)
        assert match is not None  # noqa: S101 - checked when it was made
        return match

    @property
    def _parameters(self) -> dict[str, str]:
        return dict(parse_qsl(self._match["query"] or "", keep_blank_values=True))

    @property
    def prepared(self) -> bool:
        """Whether statements may be prepared; not behind a pooler that shares sessions."""
        return _PREPARED[self._parameters.get("prepared", "on")]

    @property
    def dsn(self) -> str:
        """The URL as a driver takes it, with the password and without what is ours."""
        return self._with({name: value for name, value in self._parameters.items() if name != "prepared"})

    @property
    def database(self) -> str | None:
        """The name of the database; None where it is left to the driver."""
        return unquote((self._match["path"] or "/")[1:]) or None

    def _with(self, parameters: dict[str, str], authority: str | None = None) -> str:
        match = self._match
        authority = match["authority"] or "" if authority is None else authority
        query = f"?{urlencode(parameters)}" if parameters else ""
        return f"{match['scheme']}://{authority}{match['hosts']}{match['path'] or ''}{query}"

    def __str__(self) -> str:
        user, colon, _ = (self._match["authority"] or "").rstrip("@").partition(":")
        authority = f"{user}:***@" if colon else self._match["authority"] or ""
        shown = {name: "***" if name in _SECRET else value for name, value in self._parameters.items()}
        return self._with(shown, authority).replace("%2A%2A%2A", "***")

    def __repr__(self) -> str:
        return f"StoreUrl({str(self)!r})"


def is_url(text: str) -> bool:
    """Whether a text means a URL, right or wrong, and no folder."""
    return "://" in text or text.startswith(SCHEMES)
