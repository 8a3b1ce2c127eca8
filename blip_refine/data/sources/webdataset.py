"""WebDataset: tar files of samples, `000123.jpg` beside `000123.txt` or `000123.json`, as img2dataset writes them.

A tar is indexed once by reading its headers and its captions; images are read from their place in it when a worker
needs them. Nothing is ever unpacked to disk, so what a tar says about paths and links cannot do harm.
"""

from __future__ import annotations

import glob
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import SourceFormatError, SourceNotFoundError
from ...records import CaptionRecord
from ..images import PackedImage
from ..rejections import Rejections
from .files import is_image_name

CAPTION_EXTENSIONS = ("txt", "caption", "text")
JSON_KEYS = ("captions", "caption", "text", "texts", "sentences")
MAX_CAPTION_BYTES = 2**20
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


class TarMember(PackedImage):
    """An image inside an uncompressed tar.

    Args:
        path (`str`): The tar.
        offset (`int`): Where the image starts, in bytes.
        size (`int`): Its length in bytes.
        name (`str`): Its name in the tar.
    """

    __slots__ = ("path", "offset", "size", "name")

    def __init__(self, path: str, offset: int, size: int, name: str):
        self.path, self.offset, self.size, self.name = path, offset, size, name

    def read_bytes(self) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)

    def __fspath__(self) -> str:
        return f"{self.path}/{self.name}"

    def __reduce__(self) -> tuple:
        return (type(self), (self.path, self.offset, self.size, self.name))


@dataclass
class _Sample:
    image: TarMember | None = None
    captions: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)


def find_shards(pattern: str | Path) -> list[Path]:
    """The tars that a folder, a path, a glob (`shards/*.tar`) or a brace pattern (`{00000..00031}.tar`) names.

    Raises:
        SourceNotFoundError: There are none.
    """
    text = str(pattern)
    match = _BRACES.search(text)
    if match:
        width, first, last = len(match[1]), int(match[1]), int(match[2])
        paths = [
            Path(text[: match.start()] + str(n).zfill(width) + text[match.end() :]) for n in range(first, last + 1)
        ]
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise SourceNotFoundError(
                f"{len(missing)} of the {len(paths)} tars of {text!r} are missing: {missing[0]}."
            )
        return paths
    if Path(text).is_dir():
        paths = sorted(Path(text).glob("*.tar"))
    elif Path(text).is_file():
        paths = [Path(text)]
    else:
        paths = sorted(Path(path) for path in glob.glob(text))
    if not paths:
        raise SourceNotFoundError(f"There is no tar at {text!r}.")
    return paths


def load(
    pattern: str | Path,
    *,
    rejections: Rejections,
    name: str | None = None,
    require_captions: bool = True,
) -> list[CaptionRecord]:
    """Read the samples of tars.

    Args:
        pattern (`str` or `Path`): See `find_shards`.
        rejections (`Rejections`): Samples without an image or a caption are noted here.
        name (`str`, *optional*): The name of the source; the tar's or its folder's by default.
        require_captions (`bool`, defaults to `True`): Whether samples without a caption are left out.

    Returns:
        `list[CaptionRecord]`: Their images are [`TarMember`]s; `image_id` is the sample's key, with the tar's name
        before it where keys of several tars would be the same.

    Raises:
        SourceNotFoundError: There are no tars.
        SourceFormatError: A tar is broken, compressed, or not one sample in it has an image.
    """
    shards = find_shards(pattern)
    name = name or (shards[0].name if len(shards) == 1 else shards[0].parent.name)
    found = [(shard, key, sample) for shard in shards for key, sample in _index(shard, rejections).items()]
    keys = [key for _, key, _ in found]
    ambiguous = len(set(keys)) != len(keys)
    records: list[CaptionRecord] = []
    for shard, key, sample in found:
        if sample.image is None:
            rejections.add("sample without image", key, shard.name)
        elif not sample.captions and require_captions:
            rejections.add("image without caption", key, shard.name)
        else:
            image_id = f"{shard.stem}/{key}" if ambiguous else key
            records.append(
                CaptionRecord(sample.image, tuple(sample.captions), image_id, None, name, metadata=sample.metadata)
            )
    if not records:
        raise SourceFormatError(
            f"{pattern}: no sample with an image and a caption. A WebDataset tar holds 000123.jpg beside 000123.txt "
            "or 000123.json."
        )
    return records


def _index(shard: Path, rejections: Rejections) -> dict[str, _Sample]:
    samples: dict[str, _Sample] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if not member.isfile() or PurePosixPath(member.name).name.startswith("."):
                    continue
                key, extension = _key_and_extension(member.name)
                sample = samples.setdefault(key, _Sample())
                if is_image_name(f"x.{extension}"):
                    if sample.image is not None:
                        rejections.add("second image of a sample", member.name, shard.name)
                        continue
                    sample.image = TarMember(str(shard), member.offset_data, member.size, member.name)
                elif extension in CAPTION_EXTENSIONS:
                    text = _text(tar, member, shard, rejections)
                    sample.captions[:0] = [line for line in text.split("\n") if line.strip()]
                elif extension == "json":
                    _read_json(
                        _text(tar, member, shard, rejections), sample, f"{shard.name}/{member.name}", rejections
                    )
    except tarfile.TarError as error:
        hint = " Compressed tars cannot be read from the middle: unpack it with gunzip first."
        compressed = shard.read_bytes()[:2] == b"\x1f\x8b"
        raise SourceFormatError(f"{shard} is no plain tar file ({error}).{hint if compressed else ''}") from error
    return samples


def _key_and_extension(name: str) -> tuple[str, str]:
    """`train/000123.seg.png` is the sample `train/000123` and the extension `seg.png`, as WebDataset has it."""
    path = PurePosixPath(name)
    base, _, extension = path.name.partition(".")
    return (path.parent / base).as_posix(), extension.lower()


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo, shard: Path, rejections: Rejections) -> str:
    handle = tar.extractfile(member)
    if handle is None or member.size > MAX_CAPTION_BYTES:
        rejections.add("broken caption file", member.name, shard.name, f"{member.size} bytes")
        return ""
    try:
        return handle.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        rejections.add("broken caption file", member.name, shard.name, f"not UTF-8 ({error.reason})")
        return ""


def _read_json(text: str, sample: _Sample, where: str, rejections: Rejections) -> None:
    if not text:
        return
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        rejections.add("broken JSON", where, None, str(error))
        return
    if not isinstance(content, dict):
        rejections.add("broken JSON", where, None, f"a {type(content).__name__}, not an object")
        return
    values = next((content[key] for key in JSON_KEYS if content.get(key)), ())
    texts = values if isinstance(values, list) else [values]
    # img2dataset repeats in the JSON what stands in the .txt: one caption, not two.
    sample.captions += [text for text in _strings(texts) if text not in sample.captions]
    sample.metadata |= {key: value for key, value in content.items() if key in ("url", "license", "sha256", "key")}


def _strings(values: Sequence[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, dict):
            value = value.get("raw") or value.get("caption")
        if isinstance(value, str) and value.strip():
            yield value
