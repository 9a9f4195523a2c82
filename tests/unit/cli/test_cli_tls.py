"""`zizq tls`: which files it writes, keeps and replaces, and that others accept them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509

from zizq.cli.main import cli


def run(*args: str, ok: bool = True, **env: str) -> Result:
    result = CliRunner(env=env).invoke(cli, ["tls", *args])
    assert (result.exit_code == 0) is ok, result.output
    return result


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def cert(folder: Path, stem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / f"{stem}-cert.pem").read_bytes())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "tls"


@pytest.fixture
def made(folder: Path) -> Path:
    run("init", "--out-dir", str(folder), "--client", "web")
    return folder


def test_init_makes_an_authority_a_server_and_the_clients_that_are_named(folder):
    output = run(
        "init", "--out-dir", str(folder), "--client", "web", "--client", "build farm", "--client", "web"
    ).stdout
    assert list(files(folder)) == [
        "ca-cert.pem", "ca-key.pem", "client-build farm-cert.pem", "client-build farm-key.pem", "client-web-cert.pem",
        "client-web-key.pem", "server-cert.pem", "server-key.pem",
    ]  # fmt: skip
    assert sorted(line.removeprefix("Wrote ") for line in output.splitlines()) == sorted(map(str, folder.iterdir()))


def test_keys_are_readable_by_their_owner_alone(made):
    modes = {path.name: path.stat().st_mode & 0o777 for path in made.iterdir()}
    assert set(modes.values()) == {0o600, 0o644}
    assert {name for name, mode in modes.items() if mode == 0o600} == {name for name in modes if "-key." in name}


def test_names_days_and_the_name_of_the_authority_are_as_asked(folder):
    run("init", "--out-dir", str(folder), "--san", "q.example", "--san", "10.0.0.7", "--days", "7", "--ca-days", "70",
        "--cn", "Ours")  # fmt: skip
    server, ca = cert(folder, "server"), cert(folder, "ca")
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["q.example"]
    assert [str(name) for name in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.7"]
    assert [(one.not_valid_after_utc - one.not_valid_before_utc).days for one in (server, ca)] == [7, 70]
    assert server.issuer.rfc4514_string() == "CN=Ours"


def test_without_options_it_is_localhost_for_a_year_and_an_authority_for_ten(made):
    server, ca = cert(made, "server"), cert(made, "ca")
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [(one.not_valid_after_utc - one.not_valid_before_utc).days for one in (server, ca)] == [365, 3650]
    assert ca.subject.rfc4514_string() == "CN=Zizq CA"


def test_files_go_to_the_folder_of_the_store(tmp_path):
    for number, (before, after, env) in enumerate(
        [(["--root-dir", "{}"], [], {}), ([], ["--root-dir", "{}"], {}), ([], [], {"ZIZQ_ROOT_DIR": "{}"}),
         (["--root-dir", "{}"], [], {"ZIZQ_ROOT_DIR": "/nonsense"})]
    ):  # fmt: skip
        root = tmp_path / str(number)
        arguments = [part.format(root) for part in (*before, "tls", "init", *after)]
        result = CliRunner(env={name: value.format(root) for name, value in env.items()}).invoke(cli, arguments)
        assert result.exit_code == 0, result.output
        assert (root / "tls" / "ca-cert.pem").exists()


def test_init_again_changes_nothing_and_adds_what_is_missing(made):
    before = files(made)
    output = run("init", "--out-dir", str(made), "--client", "web", "--client", "new").stdout
    after = files(made)
    assert after.keys() - before.keys() == {"client-new-cert.pem", "client-new-key.pem"}
    assert before.items() <= after.items()
    assert output.count("Kept  ") == 4
    cert(made, "client-new").verify_directly_issued_by(cert(made, "ca"))


def test_overwrite_makes_all_anew_but_the_authority(made):
    before = files(made)
    run("init", "--out-dir", str(made), "--client", "web", "--overwrite")
    after = files(made)
    assert {name for name in before if before[name] == after[name]} == {"ca-cert.pem", "ca-key.pem"}


@pytest.mark.parametrize(
    "command", [["ca"], ["server-cert"], ["client-cert", "--name", "web"]], ids=lambda command: command[0]
)
def test_a_single_one_is_replaced_only_with_overwrite(command, made):
    before = files(made)
    result = run(*command, "--out-dir", str(made), ok=False)
    assert "-cert.pem exists: --overwrite replaces it" in result.stderr
    assert files(made) == before
    run(*command, "--out-dir", str(made), "--overwrite")
    stem = {"ca": "ca", "server-cert": "server", "client-cert": "client-web"}[command[0]]
    assert {name for name, data in files(made).items() if data != before[name]} == {
        f"{stem}-cert.pem",
        f"{stem}-key.pem",
    }


def test_a_new_authority_is_not_the_one_that_signed_what_is_kept(made):
    run("ca", "--out-dir", str(made), "--overwrite")
    result = run("init", "--out-dir", str(made))
    assert result.stderr == f"{made}/server-cert.pem is not of this authority: --overwrite makes it anew\n"


def test_half_a_pair_is_not_skipped(made):
    (made / "server-key.pem").unlink()
    assert "server-cert.pem exists" in run("init", "--out-dir", str(made), ok=False).stderr
    (made / "ca-key.pem").unlink()
    assert f"cannot read {made}/ca-key.pem" in run("init", "--out-dir", str(made), "--overwrite", ok=False).stderr


@pytest.mark.parametrize("command", [["server-cert"], ["client-cert", "--name", "web"]], ids=lambda command: command[0])
def test_nothing_is_signed_without_an_authority(command, folder):
    result = run(*command, "--out-dir", str(folder), ok=False)
    assert f"there is no {folder}/ca-cert.pem: make an authority with `zizq tls ca`" in result.stderr
    assert not folder.exists()


def test_an_authority_from_outside_signs_and_is_not_copied(made, tmp_path):
    other = tmp_path / "other"
    options = ["--ca-cert", str(made / "ca-cert.pem"), "--ca-key", str(made / "ca-key.pem"), "--out-dir", str(other)]
    run("init", *options)
    run("client-cert", "--name", "a", *options)
    assert list(files(other)) == ["client-a-cert.pem", "client-a-key.pem", "server-cert.pem", "server-key.pem"]
    for stem in ("server", "client-a"):
        cert(other, stem).verify_directly_issued_by(cert(made, "ca"))
    assert "go together" in run("init", *options[2:], ok=False).stderr


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["client-cert", "--name", "../a"], "is not a name"),
        (["init", "--client", "a/b"], "is not a name"),
        (["init", "--san", "http://a"], "is no host name"),
        (["init", "--days", "0"], "Invalid value"),
    ],
)
def test_what_is_refused_leaves_no_file(command, reason, folder):
    assert reason in run(*command, "--out-dir", str(folder), ok=False).stderr
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    result = run("ca", "--out-dir", str(tmp_path / "file" / "tls"), ok=False)
    assert result.stderr == f"Error: cannot write {tmp_path}/file/tls/ca-key.pem: Not a directory\n"


def test_without_cryptography_it_says_what_to_install():
    code = "import sys; sys.modules['cryptography'] = None; from zizq.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "tls", "ca"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "Error: zizq tls needs cryptography: pip install 'zizq[tls]'\n")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="asks openssl")
def test_openssl_accepts_them_by_the_letter_of_the_standard(made):
    for stem, purpose in (("server", ["sslserver", "-verify_hostname", "localhost"]), ("client-web", ["sslclient"])):
        command = ["openssl", "verify", "-x509_strict", "-CAfile", "ca-cert.pem", "-purpose", *purpose]
        done = subprocess.run([*command, f"{stem}-cert.pem"], cwd=made, capture_output=True, text=True, check=False)
        assert done.stdout == f"{stem}-cert.pem: OK\n", done.stderr
