"""What `zizq doctor` sees of a machine."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

import pytest

from integration.certificates import DAY_MS, LONG_AGO, Certificates
from zizq.clock import SystemClock
from zizq.server import probes
from zizq.server.checkup import CertificateFacts
from zizq.server.settings import Address, Settings
from zizq.store.sqlite.survey import holder_of, lock_holder
from zizq.testing.clock import ManualClock

MOUNTS = r"""22 28 0:20 / /sys rw,nosuid - sysfs sysfs rw
28 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 28 0:35 / /srv rw - tmpfs tmpfs rw
41 28 8:17 /jobs /srv/my\040jobs rw shared:5 master:1 - xfs /dev/sdb1 rw
42 28 0:40 / /home rw - ext4 /dev/sda2 rw
43 28 0:41 / /home rw - nfs4 server:/home rw
"""
LOCKS = """1: FLOCK  ADVISORY  WRITE 4242 08:01:131 0 EOF
1: -> FLOCK  ADVISORY  WRITE 4343 08:01:131 0 EOF
2: POSIX  ADVISORY  READ  99 08:01:132 128 128
3: FLOCK  ADVISORY  WRITE -1 00:35:133 0 EOF
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "ext4"), ("/var/lib", "ext4"), ("/srv", "tmpfs"), ("/srv/my", "tmpfs"), ("/srv/my jobs/a", "xfs"),
     ("/home/a", "nfs4"), ("/srvother", "ext4")],
)  # fmt: skip
def test_the_file_system_is_that_of_the_nearest_mount(path, kind):
    assert probes.file_system(MOUNTS, Path(path)) == kind


def test_without_mounts_no_kind_is_known():
    assert probes.file_system("", Path("/a")) is None


@pytest.mark.parametrize(("inode", "pid"), [(131, 4242), (132, None), (133, 0), (31, None)])
def test_the_holder_of_a_lock_is_the_one_that_has_it_and_not_who_waits(inode, pid):
    assert holder_of(LOCKS, inode) == pid


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/locks")
def test_a_lock_that_is_held_tells_by_whom(tmp_path):
    lock = tmp_path / "lock"
    assert lock_holder(lock) is None
    with lock.open("w") as file:
        assert lock_holder(lock) is None
        fcntl.flock(file, fcntl.LOCK_EX)
        assert lock_holder(lock) == os.getpid()


def test_the_disk_is_tried_and_nothing_is_left_behind(tmp_path):
    samples = list(probes.sync_times(tmp_path, ManualClock(0)))
    assert samples == [0.0] * probes.SAMPLES
    assert list(tmp_path.iterdir()) == []


class SlowClock(ManualClock):
    """A clock on which everything takes half a second."""

    def mono_s(self) -> float:
        self.advance(500)
        return super().mono_s()


def test_a_disk_that_is_very_slow_is_not_tried_for_long(tmp_path):
    assert list(probes.sync_times(tmp_path, SlowClock(0))) == [0.5] * 3


def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path):
    (tmp_path / "file").write_text("")
    found = {one.check: one for one in probes.examine(Settings(root_dir=tmp_path / "file"), SystemClock())}
    assert found["folder"].verdict == "problem"
    assert "Not a directory" in found["folder"].says
    assert "fsync" not in found


def test_a_folder_that_is_missing_is_tried_where_it_would_be_made_and_not_made(tmp_path):
    found = {one.check: one for one in probes.examine(Settings(root_dir=tmp_path / "a" / "b"), SystemClock())}
    assert found["folder"].says == f"{tmp_path}/a/b will be made"
    assert "fsync" in found
    assert list(tmp_path.iterdir()) == []


def test_the_pins_are_those_of_the_package():
    assert probes.pins()["h2corn"] == "2.0.0"


def address(cert: Path, key: Path, ca: Path | None = None) -> Address:
    return Address("primary", "127.0.0.1", 7890, cert, key, ca)


def test_a_certificate_that_fits_says_how_long_it_is_valid(tmp_path):
    certificates = Certificates(tmp_path)
    pair = certificates.server(days=300)
    pair.key.chmod(0o640)
    end = LONG_AGO // 1000 * 1000 + 300 * DAY_MS
    found = probes.certificate_facts(address(pair.cert, pair.key, certificates.ca))
    assert found == CertificateFacts(None, LONG_AGO // 1000 * 1000 - 3_600_000, end, 0o640)


def test_certificates_that_cannot_be_used_are_named(tmp_path):
    certificates = Certificates(tmp_path)
    pair, other = certificates.server(), certificates.server("other")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    for wrong, named in (
        (address(pair.cert, other.key), f"cannot use {pair.cert} and {other.key}"),
        (address(nonsense, pair.key), f"cannot use {nonsense} and {pair.key}"),
        (address(pair.cert, nonsense), f"cannot use {pair.cert} and {nonsense}"),
        (address(pair.cert, tmp_path / "gone"), f"cannot read {tmp_path}/gone: No such file"),
        (address(pair.cert, pair.key, tmp_path / "gone"), f"cannot read {tmp_path}/gone: No such file"),
        (address(pair.cert, pair.key, nonsense), f"cannot use {nonsense}"),
    ):
        assert str(probes.certificate_facts(wrong).error).startswith(named)
