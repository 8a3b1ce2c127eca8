"""The drafts of an ablation, kept on the disk as they are made: the captions that its refiners start from."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from ..jsonlines import read_jsonl, write_json, write_jsonl
from ..records import Caption, CaptionRecord
from .evaluator import Captioner, captions_of


@dataclass(frozen=True)
class Drafts:
    """The drafts of one way of decoding, and per image the seconds, tokens and US dollars that they took."""

    captions: dict[str, Caption]
    seconds: float

    @property
    def tokens(self) -> float:
        """Tokens that the captioner read and wrote per image; 0 if it does not count them."""
        return sum(one.tokens or 0 for one in self.captions.values()) / max(len(self.captions), 1)

    @property
    def cost(self) -> float | None:
        """US dollars per image: 0 for a captioner that runs here, `None` if a server's prices are not known."""
        # A server counts tokens and gives no confidence; what runs here gives one.
        if any(one.tokens and one.cost is None and one.confidence is None for one in self.captions.values()):
            return None
        return math.fsum(one.cost or 0.0 for one in self.captions.values()) / max(len(self.captions), 1)


class DraftMaker:
    """Captions the images of an ablation once for each way of decoding, and once more if a refiner needs candidates.

    The captions that a refiner is given cost the time of the wider search, and the cells without that refiner must not
    pay for it: so the two are made, and timed, apart. The draft is that of the first one, also where captions are
    sampled.

    Args:
        captioners (`Mapping[str, Captioner]` or `Callable`): For each decoding preset what captions images, or a
            function from the preset's name to it. Called or looked up only where captions are missing.
        records (`Sequence[CaptionRecord]`): The images.
        folder (`Path`): Where captions are kept.
        batch_size (`int`): Images at once.
    """

    def __init__(
        self,
        captioners: Mapping[str, Captioner] | Callable[[str], Captioner],
        records: Sequence[CaptionRecord],
        folder: Path,
        batch_size: int,
    ):
        self.captioners, self.records, self.folder, self.batch_size = captioners, records, folder, batch_size
        self._made: dict[tuple[str, int], Drafts] = {}
        self._loaded: dict[str, Captioner] = {}

    def drafts(self, decoding: str, candidates: int = 1) -> Drafts:
        """The drafts of a decoding preset, with at least `candidates` captions per image if the captioner can decode
        so many (it then has a method `with_candidates`, as [`PipelineSystem`] does)."""
        key = (decoding, candidates)
        if key not in self._made:
            self._made[key] = self._narrow(decoding) if candidates < 2 else self._wide(decoding, candidates)
        return self._made[key]

    def load(self, decoding: str) -> Captioner:
        """The captioner of a way of decoding, kept until `unload`."""
        if decoding not in self._loaded:
            self._loaded[decoding] = (
                self.captioners(decoding) if callable(self.captioners) else self.captioners[decoding]
            )
        return self._loaded[decoding]

    def unload(self) -> None:
        """Let go of captioners."""
        self._loaded.clear()

    def _narrow(self, decoding: str) -> Drafts:
        drafts = self._captioned(decoding, lambda: self.load(decoding))
        assert drafts is not None
        return drafts

    def _wide(self, decoding: str, candidates: int) -> Drafts:
        drafts = self.drafts(decoding)
        if all(len(one.candidates) >= candidates or one.error is not None for one in drafts.captions.values()):
            return drafts

        def load() -> Captioner | None:
            widen = getattr(self.load(decoding), "with_candidates", None)
            return None if widen is None else widen(candidates)

        wide = self._captioned(f"{decoding} with {candidates} candidates", load)
        if wide is None:
            return drafts
        joined = {image_id: _joined(drafts.captions[image_id], one) for image_id, one in wide.captions.items()}
        return Drafts(joined, wide.seconds)

    def _captioned(self, name: str, load: Callable[[], Captioner | None]) -> Drafts | None:
        """The captions on the disk, and the rest in parts, each kept when it is done; `None` without a captioner."""
        captions: dict[str, Caption] = {}
        spent: list[float] = []
        parts = self.folder / "drafts" / file_name(name)
        for path in sorted(parts.glob("*.jsonl")):
            for row in read_jsonl(path):
                # Drafts of a time when the confidence in each candidate was not kept are made anew, as a refiner
                # chooses differently with them; and so is what could not be captioned.
                if "candidate_confidences" in row and row["error"] is None:
                    captions[row["image_id"]] = Caption.from_dict(row)
                    spent.append(row["seconds"])
        missing = [record for record in self.records if record.image_id not in captions]
        captioner = load() if missing else None
        if missing and captioner is None:
            return None
        # A part is a few batches: little is lost at an interruption, and there are not as many files as images.
        size = 8 * self.batch_size
        for start in range(0, len(missing), size):
            assert captioner is not None
            part = missing[start : start + size]
            began = time.perf_counter()
            # Refiners are asked here what they are asked in the pipeline, prompt included; scoring cuts it off.
            made = captions_of(captioner, part, batch_size=self.batch_size, prompts=True)
            seconds = (time.perf_counter() - began) / len(part)
            spent += [seconds] * len(part)
            named = {image_id: replace(caption, image_id=image_id) for image_id, caption in made.items()}
            captions.update(named)
            rows = [{**caption.to_dict(), "seconds": seconds} for caption in named.values()]
            names = (parts / f"{number:08d}.jsonl" for number in count(len(captions)))
            write_jsonl(next(path for path in names if not path.exists()), rows)
        ordered = {record.image_id: captions[record.image_id] for record in self.records}
        return Drafts(ordered, math.fsum(spent) / max(len(self.records), 1))


def _joined(draft: Caption, wide: Caption) -> Caption:
    """The draft of one search, and behind it the other captions of a wider one."""
    if draft.error is not None or wide.error is not None:
        return draft if draft.error is not None else wide
    others = [place for place, text in enumerate(wide.candidates) if text != draft.draft]
    confidences: tuple[float, ...] = ()
    if draft.confidence is not None and len(wide.candidate_confidences) == len(wide.candidates):
        confidences = (draft.confidence, *(wide.candidate_confidences[place] for place in others))
    candidates = (draft.draft, *(wide.candidates[place] for place in others))
    return replace(draft, candidates=candidates, candidate_confidences=confidences)


def claim_folder(folder: Path, records: Sequence[CaptionRecord], captioner: str) -> None:
    """Say what a folder's drafts are of, or make sure that they are of the same.

    Raises:
        ConfigurationError: The folder holds drafts of other images or another captioner.
    """
    content: list[Any] = [captioner, [(record.image_id, list(record.captions)) for record in records]]
    if any(record.prompt for record in records):
        content.append([record.prompt for record in records])
    fingerprint = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    path = folder / "drafts" / "of.json"
    if path.is_file():
        if json.loads(path.read_text(encoding="utf-8"))["sha256"] != fingerprint:
            raise ConfigurationError(
                f"{folder} holds an ablation over other images or of another captioner: name another folder."
            )
    else:
        write_json(path, {"sha256": fingerprint, "images": len(records), "captioner": captioner})


def file_name(name: str) -> str:
    """A name that any file system takes, and no two cells share."""
    plain = "".join(char if char.isalnum() else "-" for char in name)[:60]
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
