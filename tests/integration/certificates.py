"""Certificates as files, and what speaks TLS to a server by hand."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from zizq.clock import SystemClock
from zizq.server.certificates import Authority, Pair, make_authority

DAY_MS = 86_400_000
NOW = SystemClock().wall_ms()
LONG_AGO = NOW - 100 * DAY_MS


@dataclass(frozen=True)
class Files:
    """A certificate and its key, as files."""

    cert: Path
    key: Path


class Certificates:
    """An authority, and what it signs, in a folder.

    Args:
        folder: The folder.
        name: The name of the authority.
    """

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._pair = make_authority(name, 1000, LONG_AGO)
        self.ca = self.write(name, self._pair).cert

    def write(self, stem: str, pair: Pair) -> Files:
        """Write a pair, over one of that name."""
        files = Files(self._folder / f"{stem}.pem", self._folder / f"{stem}-key.pem")
        files.cert.write_bytes(pair.cert)
        files.key.write_bytes(pair.key)
        return files

    def server(self, stem: str = "server", days: int = 300) -> Files:
        """A server's certificate, valid since 100 days."""
        return self.write(stem, Authority(self._pair, LONG_AGO).sign_server(["localhost", "127.0.0.1", "::1"], days))

    def client(self, name: str = "worker", days: int = 300) -> Files:
        """A client's certificate, valid since 100 days."""
        return self.write(name, Authority(self._pair, LONG_AGO).sign_client(name, days))

    def context(self, client: Files | None = None, *protocols: str) -> ssl.SSLContext:
        """What trusts the authority and nothing else, shows a client's certificate and offers these protocols."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if protocols:
            context.set_alpn_protocols(list(protocols))
        if client is not None:
            context.load_cert_chain(client.cert, client.key)
        return context


def serial(cert: Path) -> int:
    """The serial number of a certificate."""
    from cryptography import x509

    return x509.load_pem_x509_certificate(cert.read_bytes()).serial_number
