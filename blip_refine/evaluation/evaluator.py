"""From a captioner, or a file of its captions, to captions by image; and from scores to the files of a run folder."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, Union

from ..caption_prompts import for_scoring
from ..captioners.spec import CaptionerSpec, is_other, is_served, load_captioner_stream, split_refiner
from ..errors import ConfigurationError, DataError, SourceFormatError, SourceNotFoundError
from ..jsonlines import atomic_write, read_jsonl, write_json, write_jsonl
from ..records import OUTCOMES, Caption, CaptionRecord, ImageInput, SceneObject
from ..refine.base import load_refiner
from .error_analysis import Judged, analyse_errors, background_of, people_judged

if TYPE_CHECKING:
    from ..caption_stream import CaptionStream

Captioner = Callable[[Sequence[ImageInput]], Sequence["Caption | str"]]
"""Anything that is called with images and answers with their captions, in the same order."""

System = Union[str, os.PathLike, Mapping[str, "Caption | str"], Captioner, "NamedSystem"]
"""What can be scored: a file of predictions; a model (folder, Hub id, "starter", `hf:MODEL`, `openai:MODEL@URL`), with
`> refiner` behind it if its captions are to be refined; captions by image id; or a captioner."""

KEPT_PIXELS = 640
"""Longest side, in pixels, of the pictures kept beside the results: enough for any screen, without photo metadata."""


def read_predictions(path: str | os.PathLike) -> dict[str, Caption]:
    """Captions by image id from a file.

    Args:
        path (`str` or `os.PathLike`): JSON Lines with `image_id` and `caption` (and, where known, `draft` and
            `confidence`), or a JSON list of such objects (the COCO results format). A `prompt` that a row names is cut
            off its caption.

    Raises:
        SourceNotFoundError: There is no such file.
        SourceFormatError: A row lacks its id or caption, or an image is there twice.
    """
    captions: dict[str, Caption] = {}
    for number, row in enumerate(_rows(Path(path)), 1):
        if "image_id" not in row or not isinstance(row.get("caption"), str):
            raise SourceFormatError(f"{path}, row {number}: a prediction has an 'image_id' and a 'caption'.")
        image_id = str(row["image_id"])
        if image_id in captions:
            raise SourceFormatError(f"{path}, row {number}: the image {image_id!r} has a caption already.")
        captions[image_id] = Caption(
            text=row["caption"],
            draft=str(row.get("draft") or row["caption"]),
            confidence=row.get("confidence"),
            refined=bool(row.get("refined", False)),
            reason=row.get("reason"),
            outcome=row.get("outcome") if row.get("outcome") in OUTCOMES else None,
            image_id=image_id,
            error=row.get("error"),
            candidates=_texts_in(row.get("candidates")),
            prompt=row.get("prompt") if isinstance(row.get("prompt"), str) else None,
        )
    return {image_id: for_scoring(caption) for image_id, caption in captions.items()}


def _texts_in(value: Any) -> tuple[str, ...]:
    return tuple(value) if isinstance(value, list) and all(isinstance(text, str) for text in value) else ()


def read_references(path: str | os.PathLike) -> dict[str, tuple[str, ...]]:
    """Reference captions by image id from JSON Lines with `image_id` and `captions` (or `references`).

    Raises:
        SourceNotFoundError: There is no such file.
        SourceFormatError: A row is not what it should be.
    """
    references: dict[str, tuple[str, ...]] = {}
    for number, row in enumerate(_rows(Path(path)), 1):
        captions = row.get("captions", row.get("references"))
        if "image_id" not in row or not isinstance(captions, list):
            raise SourceFormatError(f"{path}, row {number}: references have an 'image_id' and a list of 'captions'.")
        references[str(row["image_id"])] = tuple(str(caption) for caption in captions)
    return references


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    if path.suffix.lower() != ".json":
        return read_jsonl(path)
    if not path.is_file():
        raise SourceNotFoundError(f"There is no file {str(path)!r}.")
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SourceFormatError(f"{path} is not JSON ({error}).") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SourceFormatError(f"{path}: expected a list of objects, one for each image.")
    return rows


def captions_of(
    system: System, records: Sequence[CaptionRecord] | None = None, *, batch_size: int = 32, prompts: bool = False
) -> dict[str, Caption]:
    """What a system says about each image.

    Args:
        system (`System`): A file, a model, captions by image id, or a callable.
        records (`Sequence[CaptionRecord]`, *optional*): The images, for a system that has to look at them.
        batch_size (`int`, defaults to 32): Images handed to a callable at once.
        prompts (`bool`, defaults to `False`): Leave the prompts in the captions. By default they are cut off, as
            scoring needs it.

    Raises:
        ConfigurationError: The system has to look at images, and there are none.
        DataError: A callable gave another number of captions than it was given images.
    """
    ready = (lambda caption: caption) if prompts else for_scoring
    if isinstance(system, Mapping):
        return {str(image_id): ready(_as_caption(caption, str(image_id))) for image_id, caption in system.items()}
    if is_file_of_predictions(system):
        return read_predictions(system)
    if not records:
        raise ConfigurationError("A model can only be scored on images: name a dataset, not a file of references.")
    if isinstance(system, (str, os.PathLike)):
        system = NamedSystem(str(system))
    if isinstance(system, NamedSystem):
        system = system.load()
    captions: dict[str, Caption] = {}
    if isinstance(system, PipelineSystem):
        # A server is asked as many questions at once as it was told to take.
        batch_size = max(batch_size, system.pipeline.batch_size)
    for start in range(0, len(records), batch_size):
        batch = records[start : start + batch_size]
        # Ours is given the records, whose prompts and columns it may need.
        if isinstance(system, PipelineSystem):
            answers: list[Caption | str] = list(system.caption(batch))
        else:
            answers = list(system([record.image for record in batch]))
        if len(answers) != len(batch):
            raise DataError(f"A system gave {len(answers)} captions for {len(batch)} images.")
        for record, answer in zip(batch, answers, strict=True):
            captions[record.image_id] = ready(_as_caption(answer, record.image_id))
    return captions


def _as_caption(caption: Caption | str, image_id: str) -> Caption:
    return Caption(text=caption, draft=caption, image_id=image_id) if isinstance(caption, str) else caption


def parse_systems(texts: Sequence[str]) -> dict[str, str]:
    """Name to system from texts such as `"after=runs/demo"`; a bare file is named after itself.

    Raises:
        ConfigurationError: A name is missing or there twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, sign, system = text.partition("=")
        if is_other(text):  # its options have an "="
            name, system = CaptionerSpec.parse(split_refiner(text)[0]).model.rpartition("/")[2], text.strip()
        else:
            name, system = (name.strip(), system.strip()) if sign else (Path(text).stem, text)
        if not name or not system:
            raise ConfigurationError(f"{text!r} is no system; write NAME=SYSTEM, for example after=runs/demo.")
        if name in found:
            raise ConfigurationError(f"There are two systems called {name!r}; give each a name with NAME=SYSTEM.")
        found[name] = system
    return found


class PipelineSystem:
    """A captioner as a system: called with images like any other, and asked with records here.

    Args:
        pipeline ([`CaptionStream`]): What captions: a [`CaptionPipeline`], or a captioner of another kind.
    """

    def __init__(self, pipeline: CaptionStream):
        self.pipeline = pipeline
        self.seconds, self.images = 0.0, 0

    def __call__(self, images: Sequence[ImageInput]) -> list[Caption]:
        return self._timed(images)

    def caption(self, records: Sequence[CaptionRecord]) -> list[Caption]:
        """The captions of records, which may bring prompts of their own."""
        return self._timed(records)

    def _timed(self, images: Sequence[Any]) -> list[Caption]:
        began = time.perf_counter()
        captions = list(self.pipeline.stream(images))
        self.seconds += time.perf_counter() - began
        self.images += len(captions)
        return captions

    def with_candidates(self, needed: int) -> PipelineSystem:
        """The same captioner, with at least `needed` captions per image for a refiner."""
        return PipelineSystem(self.pipeline.with_candidates(needed))

    def facts(self, captions: Iterable[Caption]) -> dict[str, Any]:
        """What results say of how captions were made.

        Args:
            captions (`Iterable[Caption]`): All that this system said.

        Returns:
            `dict`: What the captioner says of itself (`model`, `revision`, `prompt`, `decoding`, ...), `seconds` per
            image, its refiner's included, and if they are known `tokens` and `cost` (US dollars) per image.
        """
        facts: dict[str, Any] = dict(self.pipeline.describe())
        facts["seconds"] = self.seconds / max(self.images, 1)
        held = list(captions)
        for name in ("tokens", "cost"):
            known = [value for one in held if (value := getattr(one, name)) is not None]
            if known:
                facts[name] = math.fsum(known) / len(held)
        return facts


def refiner_of(system: System) -> str | None:
    """The name of the refiner of a system that is given as text ("runs/demo > rules"); `None` without one."""
    if not isinstance(system, str) or is_file_of_predictions(system):
        return None
    return split_refiner(system)[1] or None


class NamedSystem:
    """A captioner by its name, found to exist, with a refiner that has been found to answer.

    Args:
        spec (`str`): A folder, a Hub id, "starter", `hf:MODEL` or `openai:MODEL@URL`, alone or with a refiner behind
            `>` ("runs/demo > rules").
        refiner_options (`Mapping[str, Any]`, *optional*): Those of [`load_refiner`].
        decoding (`Mapping[str, Any]`, *optional*): `decoding`, `changes` and `prompt` of [`CaptionPipeline`]. A model
            of another family is not given the prompt, and a server nothing of it.

    Raises:
        ConfigurationError, ModelError: There is no such refiner or captioner, or the captioner's server does not
            answer.
        RefinerUnansweredError: The refiner's server does not answer.
    """

    def __init__(
        self,
        spec: str,
        refiner_options: Mapping[str, Any] | None = None,
        decoding: Mapping[str, Any] | None = None,
    ):
        self.model, refiner = split_refiner(spec)
        other = CaptionerSpec.parse(self.model) if is_other(self.model) else None
        self.refiner = load_refiner(refiner, **(refiner_options or {})) if refiner else None
        decoding = {} if is_served(self.model) else dict(decoding or {})
        if other is not None:
            decoding.pop("prompt", None)
        self.decoding = decoding
        if self.refiner is not None:
            self.refiner.check()
        self._loaded: PipelineSystem | None = None
        if is_served(self.model):
            self._loaded = self.load()  # asks the server one question
        elif other is not None:
            from ..models.other_captioners import read_family

            read_family(other.model, other.options.get("revision"))

    def load(self) -> PipelineSystem:
        """Load the captioner."""
        if self._loaded is not None:
            return self._loaded
        return PipelineSystem(load_captioner_stream(self.model, refiner=self.refiner, **self.decoding))


def is_file_of_predictions(system: System) -> TypeGuard[str | os.PathLike]:
    """Whether a system is a file of its captions."""
    return isinstance(system, (str, os.PathLike)) and Path(system).suffix.lower() in (".jsonl", ".json")


def spread(gains: Sequence[float | None], limit: int) -> list[int]:
    """Which images to show where there are too many: half of them the extremes, half at equal distances.

    Args:
        gains (`Sequence[float | None]`): Of each image, the score of the last system minus that of the first.
        limit (`int`): How many to show.

    Returns:
        `list[int]`: Their places, ascending.
    """
    if len(gains) <= limit:
        return list(range(len(gains)))
    known = sorted((gain, place) for place, gain in enumerate(gains) if gain is not None)
    share = min(limit // 4, len(known) // 2)
    chosen = {place for _, place in known[:share]} | {place for _, place in known[len(known) - share :]}
    rest = [place for place in range(len(gains)) if place not in chosen]
    wanted = limit - len(chosen)
    chosen.update(rest[step * len(rest) // wanted] for step in range(wanted))
    return sorted(chosen)


def write_results(
    folder: str | os.PathLike,
    metrics: Mapping[str, Any],
    rows: Iterable[Mapping[str, Any]],
    records: Iterable[CaptionRecord] = (),
    *,
    gains: Mapping[str, float] | None = None,
    max_pictures: int = 200,
) -> Path:
    """Write `coco_metrics.json`, `predictions.jsonl`, `error_analysis.json` and `images/` of a run folder.

    Args:
        folder (`str` or `os.PathLike`): The run folder; made if need be.
        metrics (`Mapping[str, Any]`): What goes into `coco_metrics.json`.
        rows (`Iterable[Mapping[str, Any]]`): What goes into `predictions.jsonl`, a row an image.
        records (`Iterable[CaptionRecord]`, *optional*): The images: their pictures, true objects and metadata are
            added to the rows.
        gains (`Mapping[str, float]`, *optional*): Image id to how much it gained; see `max_pictures`.
        max_pictures (`int`, defaults to 200): At most so many pictures are kept, made smaller where they are large:
            the images that gained and lost most, and the rest at equal distances.

    Returns:
        `Path`: `coco_metrics.json`.
    """
    folder, gains = Path(folder), gains or {}
    by_id = {record.image_id: record for record in records}
    full = []
    for row in rows:
        record = by_id.get(row["image_id"])
        full.append(dict(row) if record is None else {**row, **_known_of(record)})
    for place in spread([gains.get(row["image_id"]) for row in full], max_pictures):
        record = by_id.get(full[place]["image_id"])
        if record is not None:
            full[place]["image"] = _keep_picture(record, folder, place)
    write_jsonl(folder / "predictions.jsonl", full)
    splits = {record.split for record in by_id.values()}
    split = {"evaluation_split": splits.pop()} if len(splits) == 1 and None not in splits else {}
    write_json(folder / "coco_metrics.json", {**split, **metrics})
    if full:
        write_json(folder / "error_analysis.json", analyse_rows(full))
    return folder / "coco_metrics.json"


def analyse_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The error analysis of all systems of `predictions.jsonl`, as it is kept in `error_analysis.json`.

    Args:
        rows (`Sequence[Mapping[str, Any]]`): Rows with `image_id`, `systems`, and where they are known `references`
            and `objects`.

    Returns:
        `dict`: `systems` (name to `ErrorAnalysis.to_dict`) and, where images have several references, `people`: the
        references judged by each other.
    """
    systems: dict[str, list[Judged]] = {}
    for row in rows:
        references = tuple(row.get("references", ()))
        objects = None if row.get("objects") is None else tuple(SceneObject(**item) for item in row["objects"])
        background = background_of(row.get("metadata", {}))
        for name, caption in row.get("systems", {}).items():
            systems.setdefault(name, []).append(Judged(row["image_id"], caption, references, objects, background))
    found: dict[str, Any] = {"systems": {name: analyse_errors(held).to_dict() for name, held in systems.items()}}
    people = people_judged(list(systems.values())[-1]) if systems else []
    if people:
        found["people"] = analyse_errors(people).to_dict()
    return found


def _known_of(record: CaptionRecord) -> dict[str, Any]:
    known: dict[str, Any] = {}
    if record.objects is not None:
        fields = ("name", "color", "size", "count")
        known["objects"] = [
            {field: value for field in fields if (value := getattr(item, field)) is not None}
            for item in record.objects
        ]
    if record.metadata:
        known["metadata"] = dict(record.metadata)
    return known


def _keep_picture(record: CaptionRecord, folder: Path, place: int) -> str:
    from ..data.images import load_image

    picture = load_image(record.image)
    # Drawings and small pictures stay as they are; photos are kept at the size at which they are looked at.
    small = max(picture.size) <= 128
    picture.thumbnail((KEPT_PIXELS, KEPT_PIXELS))
    name = f"images/{place:05d}.{'png' if small else 'jpg'}"
    with atomic_write(folder / name, "wb") as file:
        picture.save(file, "PNG" if small else "JPEG", **({} if small else {"quality": 88}))
    return name
