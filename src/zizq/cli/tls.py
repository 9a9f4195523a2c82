"""`zizq tls`: make an authority, and certificates for the server and its clients."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click

from zizq.cli.options import Command
from zizq.cli.root import root_dir_option
from zizq.clock import SystemClock
from zizq.errors import ConfigError
from zizq.words import printable

try:
    from zizq.server.certificates import LONGEST_DAYS, Authority, Pair, check_name, make_authority
except ModuleNotFoundError as error:
    raise ConfigError("zizq tls needs cryptography: pip install 'zizq[tls]'") from error

_DAYS = click.IntRange(1, LONGEST_DAYS)
_FILE = click.Path(path_type=Path)


class Outcome(NamedTuple):
    """A pair of files to be written, or to be left as they are.

    Args:
        stem: What their names begin with.
        pair: What to write; None leaves them.
    """

    stem: str
    pair: Pair | None


class Folder:
    """The folder that the files are in.

    Args:
        path: Where it is; it is made when something is written.
        overwrite: Whether files that exist are replaced.
    """

    def __init__(self, path: Path, overwrite: bool) -> None:
        self._path = path
        self._overwrite = overwrite

    def cert(self, stem: str) -> Path:
        """The file of a certificate."""
        return self._path / f"{stem}-cert.pem"

    def key(self, stem: str) -> Path:
        """The file of a private key."""
        return self._path / f"{stem}-key.pem"

    def check_free(self, stem: str) -> None:
        """See to it that nothing would be replaced that is not to be.

        Raises:
            ConfigError: When a file exists.
        """
        for path in (self.cert(stem), self.key(stem)):
            if path.exists() and not self._overwrite:
                raise ConfigError(f"{path} exists: --overwrite replaces it")

    def authority(self, now_at: int) -> Authority | None:
        """The authority that is in the folder.

        Raises:
            ConfigError: When one of its files is missing, or something is wrong with them.
        """
        paths = self.cert("ca"), self.key("ca")
        if not any(path.exists() for path in paths):
            return None
        return authority_of(*paths, now_at)

    def made(self, stem: str, make: Callable[[], Pair]) -> Outcome:
        """A new pair, unless both files exist and are to stay."""
        if self.cert(stem).exists() and self.key(stem).exists() and not self._overwrite:
            return Outcome(stem, None)
        self.check_free(stem)
        return Outcome(stem, make())

    def write(self, outcome: Outcome) -> None:
        """Write a pair, the key first: it is of no use to anyone without its certificate.

        Raises:
            ConfigError: When that is impossible.
        """
        for path, is_key in ((self.key(outcome.stem), True), (self.cert(outcome.stem), False)):
            if outcome.pair is None:
                click.echo(f"Kept  {printable(str(path))}")
            else:
                _write(path, outcome.pair.key if is_key else outcome.pair.cert, 0o600 if is_key else 0o644)
                click.echo(f"Wrote {printable(str(path))}")


def authority_of(cert: Path, key: Path, now_at: int) -> Authority:
    """The authority in two files.

    Raises:
        ConfigError: When they cannot be read, or something is wrong with them.
    """
    pair = Pair(_read(cert), _read(key))
    try:
        return Authority(pair, now_at)
    except ConfigError as error:
        raise ConfigError(f"{cert}: {error}") from error


# ── options ──────────────────────────────────────────────────────────────────────────────────────────

_AUTHORITY = (
    click.option("--ca-cert", type=_FILE, help="Sign with this authority and not with the one in the folder."),
    click.option("--ca-key", type=_FILE, help="The key of that authority."),
)
_NAMES = click.option(
    "--san",
    "names",
    multiple=True,
    default=["localhost"],
    show_default=True,
    help="A host name or address that clients reach the server by; may be repeated.",
)
_VALID = click.option("--days", type=_DAYS, default=365, show_default=True, help="How long certificates are valid.")
_COMMON_NAME = click.option("--cn", "name", default="Zizq CA", show_default=True, help="The name of the authority.")


def _ca_days(*flags: str) -> Callable[[Command], Command]:
    return click.option(
        *flags, "ca_days", type=_DAYS, default=3650, show_default=True, help="How long the authority is valid."
    )


def _folder_options(command: Command) -> Command:
    for option in (
        click.option("--overwrite", is_flag=True, help="Replace files that exist."),
        click.option("--out-dir", type=_FILE, help="Where to write. [default: ROOT/tls]"),
        root_dir_option,
    ):
        command = option(command)
    return command


def _authority_options(command: Command) -> Command:
    for option in reversed(_AUTHORITY):
        command = option(command)
    return command


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────


@click.group()
def tls() -> None:
    """Make certificates for the server and its clients.

    They are files in a folder: ca-cert.pem, server-cert.pem and client-NAME-cert.pem, each with its key beside it.
    """


@tls.command()
@_NAMES
@_VALID
@_ca_days("--ca-days")
@_COMMON_NAME
@_authority_options
@click.option("--client", "clients", multiple=True, metavar="NAME", help="A client to certify; may be repeated.")
@_folder_options
def init(
    names: tuple[str, ...],
    days: int,
    ca_days: int,
    name: str,
    ca_cert: Path | None,
    ca_key: Path | None,
    clients: tuple[str, ...],
    root_dir: Path,
    out_dir: Path | None,
    overwrite: bool,
) -> None:
    """Make all certificates that are missing.

    These are an authority, a certificate for the server, and those of clients.

    An authority that is there is used again, even with --overwrite: `zizq tls ca --overwrite` replaces it.
    """
    folder, now_at = Folder(out_dir or root_dir / "tls", overwrite), SystemClock().wall_ms()
    outcomes = []
    authority = _outside(ca_cert, ca_key, now_at) or folder.authority(now_at)
    if authority is None:
        pair = make_authority(name, ca_days, now_at)
        authority = Authority(pair, now_at)
        outcomes.append(Outcome("ca", pair))
    signing = authority
    outcomes.append(folder.made("server", lambda: signing.sign_server(list(names), days)))
    for client in dict.fromkeys(clients):
        check_name(client)
        outcomes.append(folder.made(_stem(client), lambda client=client: signing.sign_client(client, days)))  # type: ignore[misc]
    for outcome in outcomes:
        folder.write(outcome)
        if outcome.pair is None and not authority.has_signed(_read(folder.cert(outcome.stem))):
            click.echo(f"{folder.cert(outcome.stem)} is not of this authority: --overwrite makes it anew", err=True)


@tls.command()
@_ca_days("--days", "--ca-days")
@_COMMON_NAME
@_folder_options
def ca(ca_days: int, name: str, root_dir: Path, out_dir: Path | None, overwrite: bool) -> None:
    """Make an authority.

    Whoever replaces one must replace all that it has signed.
    """
    folder = Folder(out_dir or root_dir / "tls", overwrite)
    folder.check_free("ca")
    folder.write(Outcome("ca", make_authority(name, ca_days, SystemClock().wall_ms())))


@tls.command("server-cert")
@_NAMES
@_VALID
@_authority_options
@_folder_options
def server_cert(
    names: tuple[str, ...],
    days: int,
    ca_cert: Path | None,
    ca_key: Path | None,
    root_dir: Path,
    out_dir: Path | None,
    overwrite: bool,
) -> None:
    """Make a certificate for the server."""
    folder = Folder(out_dir or root_dir / "tls", overwrite)
    folder.check_free("server")
    folder.write(Outcome("server", _signing(folder, ca_cert, ca_key).sign_server(list(names), days)))


@tls.command("client-cert")
@click.option("--name", required=True, help="The name by which the server knows the client.")
@_VALID
@_authority_options
@_folder_options
def client_cert(
    name: str,
    days: int,
    ca_cert: Path | None,
    ca_key: Path | None,
    root_dir: Path,
    out_dir: Path | None,
    overwrite: bool,
) -> None:
    """Make a certificate for a client."""
    check_name(name)
    folder = Folder(out_dir or root_dir / "tls", overwrite)
    folder.check_free(_stem(name))
    folder.write(Outcome(_stem(name), _signing(folder, ca_cert, ca_key).sign_client(name, days)))


def _stem(client: str) -> str:
    return f"client-{client}"


def _signing(folder: Folder, ca_cert: Path | None, ca_key: Path | None) -> Authority:
    now_at = SystemClock().wall_ms()
    authority = _outside(ca_cert, ca_key, now_at) or folder.authority(now_at)
    if authority is None:
        missing = folder.cert("ca")
        raise ConfigError(f"there is no {missing}: make an authority with `zizq tls ca`, or name one with --ca-cert")
    return authority


def _outside(ca_cert: Path | None, ca_key: Path | None, now_at: int) -> Authority | None:
    if ca_cert is None and ca_key is None:
        return None
    if ca_cert is None or ca_key is None:
        raise ConfigError("--ca-cert and --ca-key go together: give both or neither")
    return authority_of(ca_cert, ca_key, now_at)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file so that it is there whole or not at all, and is at no moment open to others."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
            Path(draft).replace(path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error
