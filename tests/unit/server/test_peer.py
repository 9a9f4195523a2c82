"""The name of a client, out of the subject of its certificate."""

from __future__ import annotations

import pytest

from zizq.server.http.peer import peer_name


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("CN=worker", "worker"),
        ("O=Acme,CN=worker", "worker"),
        ("CN=worker,O=Acme", "worker"),
        ("O=Acme+CN=worker", "worker"),
        ("cn=worker", "worker"),
        (r"CN=\ a\+b\, \"c\" \\ é \<\;\>#\ ", ' a+b, "c" \\ é <;># '),
        (r"CN=b\C3\A9", "bé"),
        ("CN=a=b", "a=b"),
    ],
)
def test_the_common_name_is_read(subject, name):
    assert peer_name({"extensions": {"tls": {"client_cert_name": subject}}}) == name


@pytest.mark.parametrize(
    "subject",
    [
        None,
        "",
        "O=Acme",
        r"O=x\,CN=admin",
        r"O=x\+CN=admin",
        "CN=two,CN=one",
        "CN=",
        "CN=#0c0161",
        r"CN=nul\00",
        r"CN=two\0alines",
        r"CN=\FF",
        "CN=a\\",
        "nonsense",
        "CN=worker,nonsense",
        "xCN=worker",
    ],
)
def test_who_has_no_clear_name_is_nobody(subject):
    assert peer_name({"extensions": {"tls": {"client_cert_name": subject}}}) is None


@pytest.mark.parametrize("scope", [{}, {"extensions": None}, {"extensions": {}}, {"extensions": {"tls": {}}}])
def test_without_tls_there_is_no_name(scope):
    assert peer_name(scope) is None
