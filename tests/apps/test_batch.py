"""Many pictures at once: archives that strangers made, and files that spreadsheets open."""

from __future__ import annotations

import csv
import io
import json
import zipfile

import pytest
from PIL import Image

from blip_refine.apps.batch import BatchLimits, count_pictures, read_uploads, write_captions
from blip_refine.errors import DataError
from blip_refine.records import Caption


def png(color: str = "red") -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(data, "PNG")
    return data.getvalue()


def archive(path, entries: dict[str, bytes]):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries.items():
            file.writestr(name, data)
    return path


def test_pictures_and_archives_together(tmp_path):
    (tmp_path / "one.png").write_bytes(png())
    (tmp_path / "notes.txt").write_text("no picture")
    entries = {"a/two.PNG": png(), "a/readme.md": b"-", "__MACOSX/a/._two.PNG": b"-", ".hidden.png": b"-"}
    zipped = archive(tmp_path / "more.zip", entries)
    paths = [tmp_path / "one.png", tmp_path / "notes.txt", zipped]
    records = list(read_uploads(paths))
    assert [record.image_id for record in records] == ["one.png", "a/two.PNG"]
    assert records[1].image == png()
    assert count_pictures(paths) == 2


def test_nothing_of_an_archive_is_unpacked_to_disk(tmp_path):
    zipped = archive(tmp_path / "evil.zip", {"../../escape.png": png()})
    before = sorted(tmp_path.parent.rglob("*"))
    assert len(list(read_uploads([zipped]))) == 1
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_an_archive_that_swells_is_refused(tmp_path):
    zipped = archive(tmp_path / "bomb.zip", {"big.png": b"\0" * 3_000_000})
    assert zipped.stat().st_size < 10_000
    with pytest.raises(DataError, match="big.png is larger than 1 MiB"):
        list(read_uploads([zipped], BatchLimits(picture_bytes=2**20)))
    with pytest.raises(DataError, match="holds more than 2 MiB"):
        list(read_uploads([zipped], BatchLimits(total_bytes=2 * 2**20)))


def test_too_many_pictures_are_refused(tmp_path):
    zipped = archive(tmp_path / "many.zip", {f"{number}.png": png() for number in range(4)})
    with pytest.raises(DataError, match="At most 3 pictures"):
        list(read_uploads([zipped], BatchLimits(pictures=3)))


def test_a_broken_archive_is_named(tmp_path):
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(DataError, match="broken.zip is no zip archive"):
        list(read_uploads([tmp_path / "broken.zip"]))
    with pytest.raises(DataError, match="broken.zip is no zip archive"):
        count_pictures([tmp_path / "broken.zip"])


def test_results_as_json_lines_and_csv(tmp_path):
    captions = [
        Caption("A boat.", "a boat", ("a boat",), -0.5, True, image_id="1.png"),
        Caption('=HYPERLINK("http://x")', "-", image_id="@2.png"),
        Caption("", "", image_id="3.png", error="3.png cannot be decoded"),
    ]
    lines, sheet = write_captions(captions, tmp_path)
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [row["caption"] for row in rows] == ["A boat.", '=HYPERLINK("http://x")', ""]
    table = list(csv.DictReader(sheet.open()))
    assert table[0]["caption"] == "A boat." and table[0]["refined"] == "True" and table[0]["confidence"] == "-0.5"
    assert table[1]["caption"].startswith("'=") and table[1]["image_id"] == "'@2.png"
    assert table[2]["error"] == "3.png cannot be decoded" and table[2]["confidence"] == ""


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_whatever_byte_of_an_archive_is_broken_it_is_named(tmp_path, method):
    path = tmp_path / "broken.zip"
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("a.png", png())
    sound = path.read_bytes()
    refused = 0
    for place in range(len(sound)):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 0xFF]) + sound[place + 1 :])
        try:
            count_pictures([path])
            list(read_uploads([path]))
        except DataError as error:
            refused += 1
            assert "broken.zip" in str(error) or "a.png" in str(error) or "larger" in str(error)
    assert refused > 30
