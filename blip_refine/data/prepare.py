"""From sources as they are found to a folder that is clean, split, fingerprinted and described."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from .. import __version__
from ..errors import DataError
from ..jsonlines import atomic_write, read_json_object, write_json, write_jsonl
from ..records import CaptionRecord, ImageInput
from .cleaning import CleaningRules, clean_records
from .contact_sheet import choose_records, sheet_of_records
from .fingerprint import Fingerprint, load_fingerprint, save_fingerprint
from .images import CroppedImage, load_image, open_header, read_image_bytes
from .inspection import inspect_images
from .rejections import Rejections
from .splits import DEFAULT_RATIOS, keep_on_one_side, split_the_unsplit
from .statistics import dataset_statistics
from .statistics_page import render_statistics_page

RECORDS_FILE = "records.jsonl"
REJECTED_FILE = "rejected.jsonl"
FINGERPRINT_FILE = "fingerprint.json"
STATISTICS_FILE = "statistics.json"
PAGE_FILE = "index.html"
SHEET_FILE = "contact_sheet.jpg"
IMAGE_FOLDER = "images"
PICTURED = 40


@dataclass(frozen=True, slots=True)
class PreparedDataset:
    """What `prepare_dataset` made.

    Args:
        records (`list[CaptionRecord]`): The data set.
        statistics (`dict[str, Any]`): Its numbers, as in `statistics.json`.
        rejections (`Rejections`): What was left out.
        fingerprint (`str`): Its fingerprint's value.
    """

    records: list[CaptionRecord]
    statistics: dict[str, Any]
    rejections: Rejections
    fingerprint: str


def prepare_dataset(
    records: Sequence[CaptionRecord],
    output: str | os.PathLike,
    *,
    name: str = "dataset",
    rules: CleaningRules | None = None,
    ratios: Mapping[str, float] | None = None,
    seed: int = 0,
    copy_images: bool = False,
    workers: int | None = None,
    rejections: Rejections | None = None,
    progress: Callable[[int], object] | None = None,
) -> PreparedDataset:
    """Clean and split records, and write them with everything that is worth knowing of them.

    The folder gets `records.jsonl` (which `load_source(folder)` reads), `rejected.jsonl`, `fingerprint.json`,
    `statistics.json`, `index.html` and `contact_sheet.jpg`. Images stay where they are, unless they are no files.

    Args:
        records (`Sequence[CaptionRecord]`): As `load_source` returns them.
        output (`str` or `os.PathLike`): The folder. If a data set was prepared there with the same ratios and seed,
            its images stay in the splits that they are in.
        name (`str`, defaults to `"dataset"`): The data set's name, for the page.
        rules (`CleaningRules`, *optional*): What captions and images have to be.
        ratios (`Mapping[str, float]`, *optional*): Splits to make. By default the splits that a source has are kept,
            without pictures that are on two sides; a source that has none is split 90 / 5 / 5.
        seed (`int`, defaults to 0): The seed of splits that are made.
        copy_images (`bool`, defaults to `False`): Copy all images into the folder, so that it can travel.
        workers (`int`, *optional*): Threads that look at images; the number of processor cores by default.
        rejections (`Rejections`, *optional*): What the source has left out already; what is left out here is added.
        progress (`Callable[[int], object]`, *optional*): Called with 1 after each image that was looked at.

    Raises:
        DataError: Nothing is left.
    """
    output = Path(output)
    rules = rules or CleaningRules()
    rejections = Rejections() if rejections is None else rejections
    cleaned = clean_records(records, rules, rejections)
    kept, facts = inspect_images(cleaned, rules, rejections, workers=workers, progress=progress)
    if not kept:
        raise DataError(f"Nothing is left of {len(records)} images of {name}:\n{rejections.summary()}")
    hashes = [fact.hash for fact in facts]
    facts_of = {record.image_id: fact for record, fact in zip(kept, facts, strict=True)}
    wanted = dict(ratios if ratios is not None else DEFAULT_RATIOS)
    earlier = _earlier_splits(output, wanted, seed)
    if ratios is not None:
        kept = [replace(record, split=None) for record in kept]
    official = sorted({str(record.source) for record in kept if record.split is not None})
    kept = split_the_unsplit(kept, wanted, seed, hashes=hashes, previous=earlier)
    made = sorted({str(record.source) for record in kept} - set(official))
    kept, hashes = keep_on_one_side(kept, hashes, rejections)
    kept = [replace(record, image=_placed(record.image, output, copy_images)) for record in kept]

    fingerprint = Fingerprint.of(kept, hashes)
    statistics = dataset_statistics(kept, [facts_of[record.image_id] for record in kept], rejections)
    statistics["fingerprint"] = fingerprint.value
    statistics["prepared"] = {
        "name": name,
        "splits": {"official": official, "made": made, "ratios": wanted, "seed": seed},
        "rules": asdict(rules),
        "version": __version__,
    }
    pictured = choose_records(kept, PICTURED, seed)
    sheet = sheet_of_records(pictured)
    write_jsonl(output / RECORDS_FILE, (_row(record, output) for record in kept))
    write_jsonl(output / REJECTED_FILE, (rejection.to_dict() for rejection in rejections))
    save_fingerprint(fingerprint, output / FINGERPRINT_FILE)
    write_json(output / STATISTICS_FILE, statistics)
    with atomic_write(output / SHEET_FILE, "wb") as file:
        sheet.save(file, "JPEG", quality=85)
    with atomic_write(output / PAGE_FILE) as file:
        file.write(render_statistics_page(name, statistics, rejections, fingerprint.value, pictured, sheet))
    return PreparedDataset(kept, statistics, rejections, fingerprint.value)


def _earlier_splits(output: Path, ratios: Mapping[str, float], seed: int) -> dict[str, str]:
    """The splits that an earlier run made here in the same way; data that has been added does not move them."""
    if not (output / STATISTICS_FILE).is_file() or not (output / FINGERPRINT_FILE).is_file():
        return {}
    earlier = read_json_object(output / STATISTICS_FILE).get("prepared", {}).get("splits")
    if not isinstance(earlier, dict) or (earlier.get("ratios"), earlier.get("seed")) != (dict(ratios), seed):
        return {}
    return load_fingerprint(output / FINGERPRINT_FILE).split_of_content()


def _placed(image: ImageInput, output: Path, copy: bool) -> ImageInput:
    """Where the image is from now on: images that are no files become files, named by their content."""
    is_file = isinstance(image, (str, os.PathLike)) and Path(image).is_file()
    if is_file and not copy:
        return image
    if isinstance(image, (CroppedImage, Image.Image)):
        buffer = io.BytesIO()
        load_image(image).save(buffer, "PNG")
        data, suffix = buffer.getvalue(), ".png"
    else:
        data = read_image_bytes(image)
        opened = open_header(data, "image")
        suffix = Path(os.fspath(image)).suffix if is_file else ""  # type: ignore[arg-type]
        suffix = suffix or {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif"}.get(
            opened.format or "", f".{(opened.format or 'img').lower()}"
        )
    digest = hashlib.sha256(data).hexdigest()
    path = output / IMAGE_FOLDER / digest[:2] / f"{digest[:32]}{suffix}"
    if not path.is_file():
        with atomic_write(path, "wb") as file:
            shutil.copyfileobj(io.BytesIO(data), file)
    return str(path)


def _row(record: CaptionRecord, output: Path) -> dict[str, Any]:
    """A record as a row. Paths are relative to the folder, so that folder and images can move together."""
    image = os.path.relpath(os.path.abspath(os.fspath(record.image)), os.path.abspath(output))  # type: ignore[arg-type]
    row: dict[str, Any] = {
        "image": Path(image).as_posix(),
        "image_id": record.image_id,
        "captions": list(record.captions),
        "prompt": record.prompt,
        "split": record.split,
        "source": record.source,
    }
    extra = {key: value for key, value in record.metadata.items() if isinstance(value, (str, int, float, bool))}
    return {key: value for key, value in {**extra, **row}.items() if value is not None}
