"""Certificates: an authority, and what it signs for servers and clients. Made and read in memory, as PEM."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from zizq.errors import ConfigError

LONGEST_NAME = 64
"""Characters of a common name (RFC 5280, appendix A.1)."""
LONGEST_DAYS = 36_500
LEEWAY = timedelta(hours=1)
"""How long before it is made a certificate is valid: the clocks of others may be slow."""
_HOST = re.compile(
    r"(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
)


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, as PEM."""

    cert: bytes
    key: bytes


@dataclass(frozen=True)
class Facts:
    """What a certificate says of itself; instants are Unix milliseconds."""

    not_before_at: int
    not_after_at: int
    public_key: bytes


class Authority:
    """Signs certificates.

    Args:
        pair: Its certificate and key.
        now_at: The time.

    Raises:
        ConfigError: When it is malformed, no authority, has expired, or its key is another's.
    """

    def __init__(self, pair: Pair, now_at: int) -> None:
        self._cert, self._key, self._now = _certificate(pair.cert), _private_key(pair.key), _instant(now_at)
        # A leaf of an authority that another has signed is of use only together with the way to that other.
        self._chain = b"" if self._cert.issuer == self._cert.subject else pair.cert
        if _public(self._key.public_key()) != _public(self._cert.public_key()):
            raise ConfigError("the key is not that of the authority's certificate")
        if not _is_authority(self._cert):
            raise ConfigError("the certificate is not that of an authority: its basic constraints do not say CA")
        if self._cert.not_valid_after_utc <= self._now:
            raise ConfigError(f"the authority expired on {self._cert.not_valid_after_utc:%Y-%m-%d}: make a new one")

    def sign_server(self, names: list[str], days: int) -> Pair:
        """A certificate for a server.

        Args:
            names: The host names and addresses that clients reach it by.
            days: How long it is valid; never longer than the authority.

        Raises:
            ConfigError: When a name is none.
        """
        if not names:
            raise ConfigError("a server needs a name: give --san")
        alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
        return self._sign(names[0][:LONGEST_NAME], days, ExtendedKeyUsageOID.SERVER_AUTH, alternatives)

    def sign_client(self, name: str, days: int) -> Pair:
        """A certificate for a client, whom the server will know by its name.

        Raises:
            ConfigError: When the name is not fit for one.
        """
        check_name(name)
        return self._sign(name, days, ExtendedKeyUsageOID.CLIENT_AUTH, None)

    def has_signed(self, cert: bytes) -> bool:
        """Whether a certificate is one of its own.

        Raises:
            ConfigError: When it is malformed.
        """
        try:
            _certificate(cert).verify_directly_issued_by(self._cert)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    def _sign(
        self, name: str, days: int, usage: x509.ObjectIdentifier, alternatives: x509.SubjectAlternativeName | None
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        last = min(_after(self._now, days), self._cert.not_valid_after_utc)
        builder = (
            _builder(name, key, self._now, last)
            .issuer_name(self._cert.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usages(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(self._identifier(), critical=False)
        )
        if alternatives is not None:
            builder = builder.add_extension(alternatives, critical=False)
        return _pair(builder.sign(self._key, _digest(self._key)), key, self._chain)

    def _identifier(self) -> x509.AuthorityKeyIdentifier:
        try:
            own = self._cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        except x509.ExtensionNotFound:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)


def make_authority(name: str, days: int, now_at: int) -> Pair:
    """A new authority, which signs itself and no other authorities.

    Raises:
        ConfigError: When the name is not fit for one.
    """
    check_name(name)
    key, now = ec.generate_private_key(ec.SECP256R1()), _instant(now_at)
    builder = (
        _builder(name, key, now, _after(now, days))
        .issuer_name(_subject(name))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usages(key_cert_sign=True, crl_sign=True), critical=True)
    )
    return _pair(builder.sign(key, hashes.SHA256()), key)


def facts(cert: bytes) -> Facts:
    """What a certificate says: the first one, where there is a chain.

    Raises:
        ConfigError: When it is malformed.
    """
    read = _certificate(cert)
    return Facts(_at(read.not_valid_before_utc), _at(read.not_valid_after_utc), _public(read.public_key()))


def public_key_of(key: bytes) -> bytes:
    """The public half of a private key, to compare with that of a certificate.

    Raises:
        ConfigError: When it is malformed.
    """
    return _public(_private_key(key).public_key())


def check_name(name: str) -> None:
    """Hold the name of a client or authority to its rules: it becomes a common name, and part of a file's name.

    Raises:
        ConfigError: When it is not fit for one.
    """
    if not name or len(name) > LONGEST_NAME or not name.isprintable() or name != name.strip() or "/" in name:
        raise ConfigError(
            f"{name!r} is not a name for a certificate: 1 to {LONGEST_NAME} printable characters, none of them a slash,"
            " with no space at either end"
        )


def _instant(at: int) -> datetime:
    return datetime.fromtimestamp(at // 1000, UTC)


def _at(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)


def _after(now: datetime, days: int) -> datetime:
    if not 1 <= days <= LONGEST_DAYS:
        raise ConfigError(f"a certificate is valid for 1 to {LONGEST_DAYS} days, not {days}")
    return now + timedelta(days=days)


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name.removeprefix("[").removesuffix("]")))
    except ValueError:
        pass
    try:
        host = name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        host = ""
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise ConfigError(f"{name!r} is no host name or address: write it as in db1.example.com or 10.0.0.7")
    return x509.DNSName(host)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(name: str, key: ec.EllipticCurvePrivateKey, now: datetime, last: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_subject(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - LEEWAY)
        .not_valid_after(last)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usages(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _digest(key: CertificateIssuerPrivateKeyTypes) -> hashes.SHA256 | None:
    # These two bring a digest of their own.
    return None if isinstance(key, (ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)) else hashes.SHA256()


def _is_authority(cert: x509.Certificate) -> bool:
    try:
        return cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _pair(cert: x509.Certificate, key: ec.EllipticCurvePrivateKey, chain: bytes = b"") -> Pair:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Pair(cert.public_bytes(Encoding.PEM) + chain, private)


def _certificate(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(pem)[0]
    except (ValueError, IndexError) as error:
        raise ConfigError("the certificate is no PEM certificate") from error


def _private_key(pem: bytes) -> CertificateIssuerPrivateKeyTypes:
    try:
        return load_pem_private_key(pem, password=None)  # type: ignore[return-value]
    except TypeError as error:
        raise ConfigError("the key is encrypted: give it without a passphrase") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError("the key is no PEM private key") from error


def _public(key: object) -> bytes:
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return encoded
