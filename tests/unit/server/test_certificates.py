"""Certificates: what they say, how long they are valid, and which authorities cannot sign."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from zizq.errors import ConfigError
from zizq.server.certificates import Authority, Pair, facts, make_authority, public_key_of

NOW = 1_790_000_000_000
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def pair() -> Pair:
    return make_authority("Our CA", 100, NOW)


@pytest.fixture(scope="module")
def authority(pair: Pair) -> Authority:
    return Authority(pair, NOW)


def read(pair: Pair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.cert)


def extension(cert: x509.Certificate, kind: type):
    return cert.extensions.get_extension_for_class(kind)


def usages(cert: x509.Certificate) -> set[str]:
    found = extension(cert, x509.KeyUsage)
    assert found.critical
    names = [
        "digital_signature",
        "key_cert_sign",
        "crl_sign",
        "key_encipherment",
        "content_commitment",
        "key_agreement",
    ]
    return {name for name in names if getattr(found.value, name)}


def test_an_authority_signs_certificates_and_no_other_authorities(pair):
    cert = read(pair)
    cert.verify_directly_issued_by(cert)
    constraints = extension(cert, x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    assert usages(cert) == {"key_cert_sign", "crl_sign"}
    assert cert.subject.rfc4514_string() == "CN=Our CA"


def test_a_server_has_its_names_and_is_no_client(pair, authority):
    cert = read(authority.sign_server(["localhost", "*.example.com", "bücher.example", "10.0.0.7", "[::1]"], 10))
    names = extension(cert, x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "*.example.com", "xn--bcher-kva.example"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("10.0.0.7"), ipaddress.ip_address("::1")]
    assert list(extension(cert, x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    cert.verify_directly_issued_by(read(pair))


def test_a_client_has_its_name_and_is_no_server(pair, authority):
    cert = read(authority.sign_client("build farm, é", 10))
    assert cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "build farm, é"
    assert list(extension(cert, x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert extension(cert, x509.BasicConstraints).value.ca is False
    assert usages(cert) == {"digital_signature"}
    own = extension(read(pair), x509.SubjectKeyIdentifier).value.digest
    assert extension(cert, x509.AuthorityKeyIdentifier).value.key_identifier == own


def test_keys_are_of_curve_p_256_and_fit_their_certificates(authority):
    for made in (authority.sign_client("a", 1), authority.sign_client("a", 1)):
        key = serialization.load_pem_private_key(made.key, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert key.curve.name == "secp256r1"
        assert public_key_of(made.key) == facts(made.cert).public_key
    assert read(authority.sign_client("a", 1)).serial_number != read(made).serial_number


def test_a_certificate_is_valid_from_a_little_earlier_for_so_many_days(authority):
    found = facts(authority.sign_client("a", 10).cert)
    assert (found.not_before_at, found.not_after_at) == (NOW - 3_600_000, NOW + 10 * DAY_MS)


def test_no_certificate_outlives_its_authority(authority):
    assert facts(authority.sign_client("a", 1000).cert).not_after_at == NOW + 100 * DAY_MS


@pytest.mark.parametrize("name", ["", " ", "a ", "a/b", "a\nb", "x" * 65])
def test_a_name_that_is_none_is_refused(name, authority):
    with pytest.raises(ConfigError, match="is not a name for a certificate"):
        authority.sign_client(name, 1)
    with pytest.raises(ConfigError, match="is not a name for a certificate"):
        make_authority(name, 1, NOW)


@pytest.mark.parametrize(
    "name", ["", "https://a.example", "a b", "a:7890", "a..b", "-a", "a.*", "x" * 64, "a." * 130 + "a", "é" * 64]
)
def test_what_is_no_host_is_refused(name, authority):
    with pytest.raises(ConfigError, match="is no host name or address"):
        authority.sign_server(["localhost", name], 1)


def test_a_server_without_names_and_times_without_end_are_refused(authority):
    with pytest.raises(ConfigError, match="give --san"):
        authority.sign_server([], 1)
    for days in (0, 36_501):
        with pytest.raises(ConfigError, match=f"not {days}"):
            authority.sign_client("a", days)


def test_an_authority_knows_its_own(authority):
    other = Authority(make_authority("Our CA", 100, NOW), NOW)
    assert authority.has_signed(authority.sign_client("a", 1).cert)
    assert not authority.has_signed(other.sign_client("a", 1).cert)


# ── authorities from outside ─────────────────────────────────────────────────────────────────────────


def outside(key, *, issuer=None, is_ca=True, identified=True) -> Pair:
    """An authority that something else has made."""
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "Outside"), x509.NameAttribute(NameOID.COUNTRY_NAME, "CH")]
    )
    now = datetime.fromtimestamp(NOW / 1000, UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(read(issuer).subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=10))
    )
    if is_ca:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    if identified:
        builder = builder.add_extension(x509.SubjectKeyIdentifier(b"of another kind"), critical=False)
    signer = serialization.load_pem_private_key(issuer.key, None) if issuer else key
    cert = builder.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    return Pair(cert.public_bytes(serialization.Encoding.PEM), pem(key))


def pem(key, encryption=None) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, encryption or serialization.NoEncryption())


@pytest.mark.parametrize("make", [ed25519.Ed25519PrivateKey.generate, lambda: rsa.generate_private_key(65537, 2048)])
@pytest.mark.parametrize("identified", [True, False])
def test_an_authority_from_outside_may_have_another_kind_of_key(make, identified):
    pair = outside(make(), identified=identified)
    cert = read(Authority(pair, NOW).sign_client("a", 1))
    cert.verify_directly_issued_by(read(pair))
    identifier = extension(cert, x509.AuthorityKeyIdentifier).value.key_identifier
    assert (identifier == b"of another kind") is identified


def test_what_an_authority_in_the_middle_signs_comes_with_the_way_to_the_root():
    root = make_authority("Root", 100, NOW)
    middle = outside(ec.generate_private_key(ec.SECP256R1()), issuer=root)
    made = Authority(middle, NOW).sign_client("a", 1)
    chain = x509.load_pem_x509_certificates(made.cert)
    assert [cert.subject.rfc4514_string() for cert in chain] == ["CN=a", read(middle).subject.rfc4514_string()]
    assert Authority(middle, NOW).has_signed(made.cert)


def test_what_cannot_sign_is_refused(pair, authority):
    leaf = authority.sign_client("a", 1)
    locked = serialization.BestAvailableEncryption(b"secret")
    key = ec.generate_private_key(ec.SECP256R1())
    for wrong, reason in (
        (leaf, "not that of an authority"),
        (outside(key, is_ca=False), "not that of an authority"),
        (Pair(pair.cert, leaf.key), "not that of the authority's certificate"),
        (Pair(b"nonsense", pair.key), "no PEM certificate"),
        (Pair(b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n", pair.key), "no PEM certificate"),
        (Pair(pair.cert, b"nonsense"), "no PEM private key"),
        (Pair(outside(key).cert, pem(key, locked)), "encrypted"),
    ):
        with pytest.raises(ConfigError, match=reason):
            Authority(wrong, NOW)
    with pytest.raises(ConfigError, match="expired on 2026-12-30: make a new one"):
        Authority(pair, NOW + 100 * DAY_MS)
