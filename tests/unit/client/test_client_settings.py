"""What a client is told at construction."""

from datetime import timedelta

import pytest

from unit.client.fakes import SyncFakeTransport
from zizq.client import Client, SyncClient
from zizq.client.options import TLS, Backoff, Retention
from zizq.client.settings import check_settings
from zizq.errors import ConfigError

CERT = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
KEY = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"


def client(*args, **options):
    return SyncClient(*args, transport=SyncFakeTransport(), **options)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://host", "http://host"),
        ("https://host:1/", "https://host:1"),
        ("http://[::1]:7890/prefix/", "http://[::1]:7890/prefix"),
    ],
)
def test_a_url_keeps_its_path_and_loses_its_last_slash(given, url):
    assert client(given).url == url


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:7890", "write http"),
        ("ftp://host", "write http"),
        ("http://", "write http"),
        ("http://host:99999", "not a URL"),
        ("http://ho st", "write http"),
        ("http://host:0", "write http"),
        ("http://me:secret@host", "names a user"),
        ("http://host?a=1", "a query"),
        ("http://host/?", "a query"),
        ("http://host#x", "a fragment"),
    ],
)
@pytest.mark.parametrize("make", [Client, SyncClient])
def test_a_wrong_url_is_refused(make, url, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make(url)
    assert "secret" not in str(caught.value)


def test_the_url_comes_from_the_environment_and_then_from_the_default(monkeypatch):
    monkeypatch.setenv("ZIZQ_URL", "http://elsewhere:1")
    assert client().url == "http://elsewhere:1"
    monkeypatch.delenv("ZIZQ_URL")
    assert repr(client()) == "<SyncClient of http://127.0.0.1:7890>"


def test_timeouts_are_timedeltas_or_seconds():
    settings = check_settings("http://h", None, 0.5, timedelta(minutes=1), 30)
    assert (settings.connect_timeout, settings.read_timeout, settings.stream_idle_timeout) == (0.5, 60.0, 30.0)


@pytest.mark.parametrize("wrong", [0, -1, "10", float("inf"), None])
@pytest.mark.parametrize("name", ["connect_timeout", "read_timeout", "stream_idle_timeout"])
def test_a_timeout_that_is_no_time_is_refused(name, wrong):
    with pytest.raises(ConfigError, match=name):
        client(**{name: wrong})


def test_an_unknown_format_is_refused():
    with pytest.raises(ConfigError, match="'msgpack' or 'json'"):
        client(format="yaml")


def test_certificates_with_a_plain_url_are_refused():
    with pytest.raises(ConfigError, match="write https"):
        client("http://host", tls=TLS())


def test_a_certificate_without_its_key_is_refused():
    for half in ({"client_cert": CERT}, {"client_key": KEY}):
        with pytest.raises(ConfigError, match="belong together"):
            TLS(**half)


def test_certificates_are_read_from_files_or_bytes(tmp_path):
    path = tmp_path / "ca.pem"
    path.write_bytes(CERT)
    assert TLS(ca=path).ca_pem() == TLS(ca=str(path)).ca_pem() == TLS(ca=CERT).ca_pem() == CERT
    assert TLS(client_cert=CERT, client_key=KEY).identity_pem() == KEY + b"\n" + CERT
    assert (TLS().ca_pem(), TLS().identity_pem()) == (None, None)


@pytest.mark.parametrize("ca", ["/nowhere/ca.pem", b"rubbish", KEY])
def test_a_certificate_that_is_none_is_refused_when_the_client_is_made(ca):
    for make in (Client, SyncClient):
        with pytest.raises(ConfigError, match="ca: "):
            make("https://host", tls=TLS(ca=ca))


@pytest.mark.parametrize(
    "policy",
    [
        lambda: Backoff(-1, 2, 3),
        lambda: Backoff(1, -2, 3),
        lambda: Backoff(1, float("nan"), 3),
        lambda: Backoff(timedelta(days=50), 2, 3),
        lambda: Retention(completed=-1),
        lambda: Retention(dead="soon"),
    ],
)
def test_a_policy_out_of_bounds_is_refused(policy):
    with pytest.raises(ConfigError):
        policy()
