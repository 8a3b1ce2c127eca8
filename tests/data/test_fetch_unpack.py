from __future__ import annotations

import stat
import struct
import zipfile
from pathlib import Path

import pytest

from blip_refine.data.fetch import unpack
from blip_refine.data.fetch.unpack import unpack_zip
from blip_refine.errors import DataError


def make_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as opened:
        for name, data in members.items():
            opened.writestr(zipfile.ZipInfo(name), data, method)
    return path


def test_only_what_was_asked_for_and_without_the_folders_of_a_mac(tmp_path):
    members = {
        "photos/": b"",
        "photos/1.jpg": b"one",
        "photos/notes.txt": b"no",
        "__MACOSX/photos/._1.jpg": b"no",
        "photos/._1.jpg": b"no",
    }
    archive = make_zip(tmp_path / "a.zip", members)
    counted: list[int] = []
    written = unpack_zip(archive, tmp_path / "out", patterns=["photos/*.jpg"], progress=counted.append)
    assert written == [tmp_path / "out" / "photos" / "1.jpg"] and counted == [1]
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["1.jpg"]
    assert (
        unpack_zip(archive, tmp_path / "flat", patterns=["*.txt"], flatten=True)[0] == tmp_path / "flat" / "notes.txt"
    )


def test_an_interrupted_unpacking_goes_on_and_repairs_what_is_half(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {f"{number}.jpg": bytes([number]) * 1000 for number in range(5)})
    out = tmp_path / "out"
    unpack_zip(archive, out)
    (out / "1.jpg").write_bytes(b"\0" * 1000)  # the size is right, as after a power cut
    (out / "2.jpg").write_bytes(b"half")
    (out / "3.jpg").unlink()
    kept = (out / "4.jpg").stat().st_mtime_ns
    unpack_zip(archive, out)
    assert all((out / f"{number}.jpg").read_bytes() == bytes([number]) * 1000 for number in range(5))
    assert (out / "4.jpg").stat().st_mtime_ns == kept


@pytest.mark.parametrize(
    "name",
    ["../evil.jpg", "a/../../evil.jpg", "/etc/evil.jpg", "C:/evil.jpg", "a//b.jpg", "a\\..\\evil.jpg", "./a.jpg"],
)
def test_a_name_that_leads_out_condemns_the_whole(tmp_path, name):
    archive = make_zip(tmp_path / "a.zip", {"good.jpg": b"good", name: b"evil"})
    with pytest.raises(DataError, match="leads out of its folder. Nothing was unpacked"):
        unpack_zip(archive, tmp_path / "deep" / "out", patterns=["good.jpg"])
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a.zip"]


def test_links_and_encrypted_members_are_refused(tmp_path):
    link = zipfile.ZipInfo("link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="is a link or a device"):
        unpack_zip(tmp_path / "a.zip", tmp_path / "out")
    data = bytearray(make_zip(tmp_path / "b.zip", {"1.jpg": b"one"}).read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = data.index(signature) + offset
        struct.pack_into("<H", data, place, 1)
    (tmp_path / "b.zip").write_bytes(data)
    with pytest.raises(DataError, match="is encrypted"):
        unpack_zip(tmp_path / "b.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_zip_bomb_is_refused_before_it_is_opened(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"bomb.jpg": bytes(128 * 2**20)})
    assert archive.stat().st_size < 2**18
    with pytest.raises(DataError, match=r"would unpack to 128.0 MiB: no dataset is packed so tightly"):
        unpack_zip(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_member_that_lies_about_its_size_writes_no_more_than_that(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"bomb.jpg": bytes(128 * 2**20)})
    data = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", data, data.index(signature) + offset, 1000)
    archive.write_bytes(data)
    with pytest.raises(DataError, match="is not a whole zip file"):
        unpack_zip(archive, tmp_path / "out")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path != archive]


@pytest.mark.parametrize("damage", ["cut", "flipped", "html"])
def test_a_truncated_or_damaged_zip_is_one_sentence(tmp_path, damage):
    archive = make_zip(tmp_path / "a.zip", {"1.jpg": bytes(range(256)) * 40, "2.jpg": b"two"}, zipfile.ZIP_STORED)
    data = bytearray(archive.read_bytes())
    data[100] ^= 255
    broken = {"cut": bytes(data[:-500]), "flipped": bytes(data), "html": b"<html>Too many requests</html>"}[damage]
    archive.write_bytes(broken)
    with pytest.raises(DataError, match="a.zip is not a whole zip file"):
        unpack_zip(archive, tmp_path / "out")
    assert not (tmp_path / "out" / "1.jpg").exists()


def test_another_file_than_expected_is_told(tmp_path):
    with pytest.raises(DataError, match="holds nothing that is called"):
        unpack_zip(make_zip(tmp_path / "a.zip", {"1.txt": b"one"}), tmp_path / "out", patterns=["train2014/*.jpg"])


def test_a_disk_that_is_too_small_is_told_before(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "a.zip", {"1.jpg": b"one" * 1000})
    monkeypatch.setattr(unpack.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1024})())
    with pytest.raises(DataError, match=r"2.9 KiB are needed to unpack a.zip, and the disk of .* has 1.0 KiB free"):
        unpack_zip(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()
