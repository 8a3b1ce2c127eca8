"""A caption inside the picture file: as alt text and description, where photo tools and screen readers look for it.

The pixels are not touched: metadata blocks are put into a copy of the file, beside those that it has. Written are the
XMP properties `dc:description` (which IPTC names Description) and `Iptc4xmpCore:AltTextAccessibility` (IPTC Photo
Metadata Standard 2021.1), and in JPEG also the older IPTC-IIM field Caption/Abstract (2:120), which tools still read.
"""

from __future__ import annotations

import os
import struct
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path

from ..errors import ImageDecodeError
from ..jsonlines import atomic_write
from .images import read_image_bytes

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DC = "http://purl.org/dc/elements/1.1/"
IPTC = "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/"
META = "adobe:ns:meta/"
_XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"

_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_JPEG_IPTC = b"Photoshop 3.0\0"
_IPTC_RESOURCE = 0x0404
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_XMP = b"XML:com.adobe.xmp"
_MAX_SEGMENT = 65533

for _prefix, _uri in (("rdf", RDF), ("dc", DC), ("Iptc4xmpCore", IPTC), ("x", META)):
    ET.register_namespace(_prefix, _uri)


def embed_alt_text(image: str | os.PathLike, target: str | os.PathLike, text: str) -> None:
    """Write a copy of an image file that carries a caption.

    Args:
        image (`str` or `os.PathLike`): A JPEG, PNG or WebP file. It is not changed.
        target (`str` or `os.PathLike`): The copy. It appears whole or not at all.
        text (`str`): The caption.

    Raises:
        ImageDecodeError: The file is of another kind, or broken.
    """
    data = read_image_bytes(image)
    # XML knows no control characters, and a caption needs none.
    text = "".join(character for character in text if character.isprintable() or character == " ")
    name = os.fspath(image)
    try:
        if data[:2] == b"\xff\xd8":
            result = _into_jpeg(data, text)
        elif data.startswith(_PNG_SIGNATURE):
            result = _into_png(data, text)
        elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            result = _into_webp(data, text)
        else:
            raise ImageDecodeError(f"{name!r} cannot carry a caption: only JPEG, PNG and WebP files can.")
    except (struct.error, IndexError, zlib.error) as error:
        raise ImageDecodeError(f"{name!r} is broken: its metadata cannot be found ({error}).") from error
    with atomic_write(Path(target), "wb") as file:
        file.write(result)


def _xmp_packet(existing: bytes | None, text: str) -> bytes:
    """An XMP packet with the caption; all else that an existing packet says is kept."""
    root = _parse(existing) if existing else None
    if root is None:
        root = ET.Element(f"{{{META}}}xmpmeta")
        ET.SubElement(root, f"{{{RDF}}}RDF")
    rdf = root if root.tag == f"{{{RDF}}}RDF" else root.find(f"{{{RDF}}}RDF")
    if rdf is None:
        rdf = ET.SubElement(root, f"{{{RDF}}}RDF")
    for tag in (f"{{{DC}}}description", f"{{{IPTC}}}AltTextAccessibility"):
        for description in rdf.findall(f"{{{RDF}}}Description"):
            for old in description.findall(tag):
                description.remove(old)
            description.attrib.pop(tag, None)
    for description in rdf.findall(f"{{{RDF}}}Description"):
        if len(description) == 0 and set(description.attrib) <= {f"{{{RDF}}}about"}:
            rdf.remove(description)
    block = ET.SubElement(rdf, f"{{{RDF}}}Description", {f"{{{RDF}}}about": ""})
    for tag in (f"{{{DC}}}description", f"{{{IPTC}}}AltTextAccessibility"):
        alternatives = ET.SubElement(ET.SubElement(block, tag), f"{{{RDF}}}Alt")
        ET.SubElement(alternatives, f"{{{RDF}}}li", {_XML_LANG: "x-default"}).text = text
    body = ET.tostring(root, encoding="unicode")
    return f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n{body}\n<?xpacket end="w"?>'.encode()


def _parse(packet: bytes) -> ET.Element | None:
    # A picture of unknown origin must not make the parser expand entities.
    if b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:
        return None
    try:
        return ET.fromstring(packet.strip(b" \t\r\n\0"))
    except ET.ParseError:
        return None  # a broken packet says nothing that could be kept


def _into_jpeg(data: bytes, text: str) -> bytes:
    segments, rest = _jpeg_segments(data)
    xmp = next((body[len(_JPEG_XMP) :] for marker, body in segments if _is(marker, body, 0xE1, _JPEG_XMP)), None)
    iptc = next((body[len(_JPEG_IPTC) :] for marker, body in segments if _is(marker, body, 0xED, _JPEG_IPTC)), b"")
    kept = [
        (marker, body)
        for marker, body in segments
        if not _is(marker, body, 0xE1, _JPEG_XMP) and not _is(marker, body, 0xED, _JPEG_IPTC)
    ]
    packet = _xmp_packet(xmp, text)
    if len(_JPEG_XMP) + len(packet) > _MAX_SEGMENT:
        # A packet of tens of kilobytes holds an editing history; the part that would not fit is not ours to cut.
        packet = _xmp_packet(None, text)
    new = [(0xE1, _JPEG_XMP + packet)]
    resources = _JPEG_IPTC + _photoshop_resources(iptc, text)
    if len(resources) <= _MAX_SEGMENT:
        new.append((0xED, resources))
    # After the JFIF and EXIF segments, which readers expect first.
    place = 0
    while place < len(kept) and (kept[place][0] == 0xE0 or _is(*kept[place], 0xE1, b"Exif\0")):
        place += 1
    parts = [b"\xff\xd8"]
    for marker, body in [*kept[:place], *new, *kept[place:]]:
        parts.append(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body)
    return b"".join(parts) + rest


def _is(marker: int, body: bytes, wanted: int, start: bytes) -> bool:
    return marker == wanted and body.startswith(start)


def _jpeg_segments(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """The segments before the picture itself (marker and body), and the rest of the file."""
    segments: list[tuple[int, bytes]] = []
    place = 2
    while True:
        start = place
        if data[place] != 0xFF:
            raise IndexError(f"no marker at byte {place}")
        while data[place] == 0xFF:
            place += 1
        marker = data[place]
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            return segments, data[start:]
        (length,) = struct.unpack_from(">H", data, place + 1)
        if length < 2 or place + 1 + length > len(data):
            raise IndexError(f"a segment of {length} bytes at byte {place}")
        segments.append((marker, data[place + 3 : place + 1 + length]))
        place += 1 + length


def _photoshop_resources(existing: bytes, text: str) -> bytes:
    """The image resources with the caption in their IPTC block; the other resources are kept."""
    kept, records, place = b"", b"", 0
    while existing[place : place + 4] == b"8BIM":
        (number,) = struct.unpack_from(">H", existing, place + 4)
        name = 1 + existing[place + 6]
        body = place + 6 + name + name % 2
        (size,) = struct.unpack_from(">I", existing, body)
        end = body + 4 + size + size % 2
        if number == _IPTC_RESOURCE:
            records = existing[body + 4 : body + 4 + size]
        else:
            kept += existing[place:end]
        place = end
    iptc = _iptc_records(records, text)
    return kept + struct.pack(">4sHHI", b"8BIM", _IPTC_RESOURCE, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)


def _iptc_records(existing: bytes, text: str) -> bytes:
    """IPTC-IIM datasets with the caption (2:120) in UTF-8 (1:90)."""
    kept, place, unicode = [], 0, False
    datasets = []
    while existing[place : place + 1] == b"\x1c":
        record, number, size = struct.unpack_from(">BBH", existing, place + 1)
        if size & 0x8000:  # an extended dataset, which captions never are
            break
        datasets.append((record, number, existing[place + 5 : place + 5 + size]))
        place += 5 + size
    unicode = (1, 90, b"\x1b%G") in datasets
    for record, number, value in datasets:
        if (record, number) in ((1, 90), (2, 120)):
            continue
        # Older files hold Latin-1 and do not say so. Once the block is declared to be UTF-8, all of it must be.
        if record == 2 and number != 0 and not unicode and not value.isascii():
            value = value.decode("latin-1").encode()
        kept.append((record, number, value))
    caption = text.encode()[:2000].decode(errors="ignore").encode()  # the standard's limit
    everything = sorted([(1, 90, b"\x1b%G"), *kept, (2, 120, caption)], key=lambda dataset: dataset[0])
    return b"".join(
        struct.pack(">BBBH", 0x1C, record, number, len(value)) + value for record, number, value in everything
    )


def _into_png(data: bytes, text: str) -> bytes:
    parts, place, existing = [_PNG_SIGNATURE], len(_PNG_SIGNATURE), None
    chunks = []
    while place < len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        chunk = data[place : place + 12 + length]
        if len(chunk) < 12 + length:
            raise IndexError(f"a chunk of {length} bytes at byte {place}")
        place += 12 + length
        if kind == b"iTXt" and chunk[8:].startswith(_PNG_XMP + b"\0"):
            body = chunk[8 + len(_PNG_XMP) + 1 : -4]
            compressed = body[0] == 1
            # Language and translated keyword, each ended by a zero byte, precede the text.
            packet = body[2:].split(b"\0", 2)[2]
            existing = zlib.decompress(packet) if compressed else packet
        else:
            chunks.append((kind, chunk))
        if kind == b"IEND":
            break
    if not chunks or chunks[0][0] != b"IHDR":
        raise IndexError("no IHDR chunk")
    body = b"iTXt" + _PNG_XMP + b"\0\0\0\0\0" + _xmp_packet(existing, text)
    new = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    for number, (_, chunk) in enumerate(chunks):
        parts.append(chunk)
        if number == 0:
            parts.append(new)
    return b"".join(parts)


def _into_webp(data: bytes, text: str) -> bytes:
    """Into the XMP chunk of the extended format, which a simple file is turned into (its pixels stay as they are)."""
    chunks, place, existing = [], 12, None
    while place + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, place)
        body = data[place + 8 : place + 8 + size]
        if len(body) < size:
            raise IndexError(f"a chunk of {size} bytes at byte {place}")
        place += 8 + size + size % 2
        if kind == b"XMP ":
            existing = body
        else:
            chunks.append((kind, body))
    if chunks and chunks[0][0] == b"VP8X":
        header = bytearray(chunks.pop(0)[1])
    else:
        width, height, alpha = _webp_size(*chunks[0])
        header = bytearray(struct.pack("<I", 0x10 if alpha else 0))
        header += struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    header[0] |= 0x04  # "holds XMP"
    chunks = [(b"VP8X", bytes(header)), *chunks, (b"XMP ", _xmp_packet(existing, text))]
    body = b"".join(
        struct.pack("<4sI", kind, len(content)) + content + b"\0" * (len(content) % 2) for kind, content in chunks
    )
    return struct.pack("<4sI4s", b"RIFF", len(body) + 4, b"WEBP") + body


def _webp_size(kind: bytes, body: bytes) -> tuple[int, int, bool]:
    """Width, height and whether there is transparency, from the bitstream's own header (RFC 9649, section 2.5 f.)."""
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF, False
    if kind != b"VP8L":
        raise IndexError(f"an unknown first chunk {kind!r}")
    (bits,) = struct.unpack_from("<I", body, 1)
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
