"""Captions inside picture files: found by other readers, with the pixels and all other metadata untouched."""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image, IptcImagePlugin

from blip_refine.data.alt_text import DC, IPTC, RDF, embed_alt_text
from blip_refine.data.sources.scenes import make_scene
from blip_refine.errors import ImageDecodeError

TEXT = "ein Hündchen & <eine Katze>"
KINDS = [("JPEG", {}), ("PNG", {}), ("WEBP", {"quality": 80}), ("WEBP", {"lossless": True})]


def described(path) -> tuple[list[str], list[str]]:
    root = ET.fromstring(Image.open(path).info["xmp"].strip(b"\0"))
    return tuple(
        [item.text for found in root.iter(tag) for item in found.iter(f"{{{RDF}}}li")]
        for tag in (f"{{{DC}}}description", f"{{{IPTC}}}AltTextAccessibility")
    )


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_other_readers_find_the_caption_and_the_pixels_stay(tmp_path, kind, options):
    source, target, again = (tmp_path / f"{name}.img" for name in ("source", "target", "again"))
    make_scene("everyday", "test", 0).image.save(source, kind, **options)
    before = source.read_bytes()
    embed_alt_text(source, target, TEXT)
    embed_alt_text(target, again, "second")
    assert source.read_bytes() == before
    assert described(target) == ([TEXT], [TEXT])
    assert described(again) == (["second"], ["second"]), "replaced, not added"
    assert np.array_equal(np.asarray(Image.open(source)), np.asarray(Image.open(again)))
    if kind == "JPEG":
        assert IptcImagePlugin.getiptcinfo(Image.open(target))[(2, 120)].decode() == TEXT


def test_what_a_photo_says_already_is_kept(tmp_path):
    source, target = tmp_path / "source.jpg", tmp_path / "target.jpg"
    picture = make_scene("everyday", "test", 0).image
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    xmp = (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}"><rdf:Description rdf:about="" '
        f'xmlns:dc="{DC}" dc:format="image/jpeg"><dc:title><rdf:Alt><rdf:li xml:lang="x-default">My title</rdf:li>'
        "</rdf:Alt></dc:title></rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    picture.save(source, "JPEG", exif=exif, xmp=xmp.encode(), comment=b"hello")
    records = struct.pack(">BBBH", 0x1C, 2, 80, 4) + "Jos\xe9".encode("latin-1")
    resources = struct.pack(">4sHHI", b"8BIM", 0x0404, 0, len(records)) + records + b"\0" * (len(records) % 2)
    resources += struct.pack(">4sHHI", b"8BIM", 0x0425, 0, 16) + bytes(range(16))
    body = b"Photoshop 3.0\0" + resources
    data = source.read_bytes()
    source.write_bytes(data[:2] + struct.pack(">BBH", 0xFF, 0xED, len(body) + 2) + body + data[2:])
    embed_alt_text(source, target, TEXT)
    result = Image.open(target)
    assert result.getexif()[0x010F] == "Camera" and result.info["comment"] == b"hello"
    assert b"My title" in result.info["xmp"] and b"image/jpeg" in result.info["xmp"]
    fields = IptcImagePlugin.getiptcinfo(result)
    assert fields[(2, 80)].decode() == "José", "all of the block is UTF-8 once it says so"
    assert fields[(1, 90)] == b"\x1b%G" and bytes(range(16)) in target.read_bytes()


@pytest.mark.parametrize(
    "data", [b"GIF89a", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\xff\xff", b"\x89PNG\r\n\x1a\n", b"RIFF____WEBPVP8 "]
)
def test_what_cannot_carry_a_caption_is_refused_and_nothing_is_written(tmp_path, data):
    (tmp_path / "source").write_bytes(data)
    with pytest.raises(ImageDecodeError):
        embed_alt_text(tmp_path / "source", tmp_path / "target", TEXT)
    assert not (tmp_path / "target").exists()


def test_a_hostile_packet_is_not_expanded(tmp_path):
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>'
    make_scene("everyday", "test", 0).image.save(tmp_path / "bomb.jpg", xmp=bomb)
    embed_alt_text(tmp_path / "bomb.jpg", tmp_path / "safe.jpg", TEXT)
    assert described(tmp_path / "safe.jpg") == ([TEXT], [TEXT])
