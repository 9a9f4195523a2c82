"""Clients and certificates."""

import asyncio
import ipaddress
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from zizq import TLS, Client, ConfigError, SyncClient, TransportError
from zizq.testing.server import running_server


@dataclass
class Pair:
    """A certificate and its key, as files."""

    cert: Path
    key: Path


def write_pair(folder, name, issuer=None):
    """Make a certificate; without an issuer it is an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime(2020, 1, 1)  # noqa: DTZ001 - x509 wants it naive
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0] if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=36_500))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer:
        names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    cert = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
    pair = Pair(folder / f"{name}.pem", folder / f"{name}-key.pem")
    pair.cert.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    pair.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pair, (subject, key)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    ca, issuer = write_pair(folder, "ca")
    return {
        "ca": ca,
        "server": write_pair(folder, "server", issuer)[0],
        "client": write_pair(folder, "client", issuer)[0],
    }


def ask(certificates, tls, *, mutual=False, refused=None):
    """Use a server with certificates through both clients; `refused` is what they are to be told instead."""
    settings = {"tls_cert": certificates["server"].cert, "tls_key": certificates["server"].key}
    if mutual:
        settings["tls_client_ca"] = certificates["ca"].cert

    async def main():
        async with running_server(**settings) as server:
            assert server.url.startswith("https://")
            expected = pytest.raises(TransportError, match=refused) if refused else nullcontext()
            async with Client(server.url, tls=tls) as client:
                with expected:
                    await client.enqueue_raw("t", 1)
                    async with client.take() as jobs:
                        assert (await anext(jobs)).payload == 1
            with SyncClient(server.url, tls=tls) as client, expected:
                await asyncio.to_thread(client.health)

    asyncio.run(main())


def test_a_private_authority_is_trusted_when_it_is_named(certificates):
    ask(certificates, TLS(ca=certificates["ca"].cert))


def test_an_unknown_authority_is_refused_and_the_message_says_so(certificates):
    ask(certificates, None, refused=r"UnknownIssuer\. Name its authority in tls=")


def test_a_client_certificate_is_shown_to_a_server_that_asks(certificates):
    client = certificates["client"]
    tls = TLS(ca=certificates["ca"].cert.read_bytes(), client_cert=str(client.cert), client_key=client.key)
    ask(certificates, tls, mutual=True)


def test_a_client_without_a_certificate_is_refused_by_a_server_that_asks(certificates):
    ask(certificates, TLS(ca=certificates["ca"].cert), mutual=True, refused="CertificateRequired")


def test_a_certificate_that_is_pem_in_name_only_is_refused():
    rubbish = b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"
    key = b"-----BEGIN PRIVATE KEY-----\n!!!\n-----END PRIVATE KEY-----\n"
    with (
        pytest.raises(ConfigError, match="tls="),
        SyncClient("https://127.0.0.1:1", tls=TLS(client_cert=rubbish, client_key=key)) as client,
    ):
        client.health()
