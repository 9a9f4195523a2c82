"""Clients and certificates."""

import asyncio
from contextlib import nullcontext

import pytest

from integration.certificates import Certificates
from zizq import TLS, Client, ConfigError, SyncClient, TransportError
from zizq.testing.server import running_server


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("tls"))


def ask(certificates, tls, *, mutual=False, refused=None):
    """Use a server with certificates through both clients; `refused` is what they are to be told instead."""
    server = certificates.server()
    settings = {"tls_cert": server.cert, "tls_key": server.key}
    if mutual:
        settings["tls_client_ca"] = certificates.ca

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
    ask(certificates, TLS(ca=certificates.ca))


def test_words_between_the_certificates_are_passed_over(certificates):
    ask(certificates, TLS(ca="Behörde: müßig\n".encode() + certificates.ca.read_bytes()))


def test_an_unknown_authority_is_refused_and_the_message_says_so(certificates):
    ask(certificates, None, refused=r"unable to get local issuer certificate\. Name its authority in tls=")


def test_a_client_certificate_is_shown_to_a_server_that_asks(certificates):
    client = certificates.client()
    tls = TLS(ca=certificates.ca.read_bytes(), client_cert=str(client.cert), client_key=client.key)
    ask(certificates, tls, mutual=True)


def test_a_client_without_a_certificate_is_refused_by_a_server_that_asks(certificates):
    ask(certificates, TLS(ca=certificates.ca), mutual=True, refused="certificate required")


def test_a_certificate_that_is_pem_in_name_only_is_refused():
    rubbish = b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"
    key = b"-----BEGIN PRIVATE KEY-----\n!!!\n-----END PRIVATE KEY-----\n"
    with (
        pytest.raises(ConfigError, match="tls="),
        SyncClient("https://127.0.0.1:1", tls=TLS(client_cert=rubbish, client_key=key)) as client,
    ):
        client.health()
