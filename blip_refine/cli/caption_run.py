"""The work of `blip-refine caption`: which images, what became of them, and when to stop."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..caption_files import CaptionFile, read_captions
from ..data.image_files import as_text
from ..errors import DataError, SourceNotFoundError
from ..inputs import ImageSource, expand_images
from ..jsonlines import read_jsonl, write_jsonl
from ..records import Caption
from ..review import review_queue
from ..url_images import UrlLimits
from .caption_copies import Copies
from .output import output as sink

if TYPE_CHECKING:
    from ..pipeline import CaptionedImage, CaptionPipeline

NOTE_SECONDS = 10.0
"""How often progress is told where there is no bar."""


def read_list(path: Path) -> list[str]:
    """The lines of a text file, without blank ones."""
    if not path.is_file():
        raise SourceNotFoundError(f"There is no file {str(path)!r}.")
    return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


class CaptionRun:
    """One run of the command. The arguments are its options."""

    def __init__(
        self,
        paths: Sequence[str],
        *,
        output: Path | None,
        existing: str,
        prefix: str,
        suffix: str,
        sidecar: bool,
        copies: Path | None,
        review: Path | None,
        allow_private: bool,
    ):
        self.paths, self.output, self.existing = list(paths), output, existing
        self.prefix, self.suffix, self.review = prefix, suffix, review
        self.limits = UrlLimits(allow_private=allow_private)
        self.copies = Copies(sidecar=sidecar, folder=copies, overwrite=existing == "overwrite")
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.first_failure: str | None = None
        self.for_review: list[Caption] = []
        self.stopped = False
        self.shown: list[dict[str, Any]] = []
        self._counting = threading.Lock()
        # A walk through the folders, before a model is loaded for nothing. Standard input can be read once only.
        self.total = None if "-" in self.paths else sum(1 for _ in self.sources())

    def sources(self) -> Iterator[ImageSource]:
        """The images, in the order in which they were named."""
        return expand_images(self._inputs(), limits=self.limits)

    def _inputs(self) -> Iterator[str]:
        for path in self.paths:
            if path == "-":
                yield from filter(None, map(str.strip, sys.stdin))
            else:
                yield path

    def describe(self) -> None:
        """What a run would do, by names alone: no image is read."""
        held: set[str] = set()
        known_rows = self.output if self.existing == "resume" else None
        if known_rows is not None and known_rows.suffix == ".jsonl" and known_rows.exists():
            held = {str(row.get("image_id")) for row in read_jsonl(known_rows) if not row.get("error")}
        found = [(source, _problem(source)) for source in self.sources()]
        missing = [(source, problem) for source, problem in found if problem is not None]
        todo = [source for source, problem in found if problem is None and source.image_id not in held]
        known = len(found) - len(missing) - len(todo)
        sink.line(
            f"{len(found)} inputs: {len(todo)} to caption, {known} with a caption in {self.output or 'no file'}."
        )
        for source, problem in missing:
            sink.line(f"  {source.image_id}: {problem}")
        for source in todo[:10]:
            sink.line(f"  {source.image_id}")
        if len(todo) > 10:
            sink.line(f"  ... and {len(todo) - 10} more")
        sink.result({"inputs": len(found), "to_caption": len(todo), "done": known, "missing": len(missing)})

    def load(self, model: str, *, preset: str, changes: dict[str, Any], **options: Any) -> None:
        """Load the captioner."""
        from ..models.decoding import DecodingOptions
        from ..pipeline import CaptionPipeline
        from .libraries import quieten_libraries

        quieten_libraries()
        decoding = DecodingOptions.preset(preset, **changes)
        sink.note(f"Loading {model} ...")
        self.pipeline: CaptionPipeline = CaptionPipeline.from_pretrained(
            model, decoding=decoding, url_limits=self.limits, **options
        )

    def go(self) -> None:
        """Caption everything, and say what came of it."""
        started = time.monotonic()
        with ExitStack() as stack:
            file = None
            if self.output is not None:
                settings = {**self.pipeline.settings(), "prefix": self.prefix, "suffix": self.suffix}
                file = stack.enter_context(CaptionFile(self.output, settings, self.existing))
            stack.enter_context(self._stopping_gently())
            progress = stack.enter_context(self._progress(started))
            captioned = self.pipeline.run(self.sources(), skip=self._skip(file))
            stack.callback(captioned.close)
            rows: list[dict[str, Any]] = []
            size = self.pipeline.batch_size
            for one in captioned:
                rows.append(self._row(one))
                self.copies.write(one.source, rows[-1]["caption"])
                progress()
                # A batch at a time, as they come; a row that is held back could be lost.
                if len(rows) == size:
                    self._write(file, rows)
                    rows = []
                    if self.stopped:
                        break
            self._write(file, rows)
        self._summary(time.monotonic() - started)

    def _skip(self, file: CaptionFile | None):
        if file is None:
            return None

        def skip(source: ImageSource, content: str) -> bool:
            done = file.is_done(source.image_id, content)
            if done:
                with self._counting:  # several decode workers ask
                    self.counts["done before"] += 1
            return done

        return skip

    def _row(self, one: CaptionedImage) -> dict[str, Any]:
        caption = one.caption
        if caption.text:
            caption = replace(caption, text=f"{self.prefix}{caption.text}{self.suffix}")
        if caption.error is not None:
            self.counts["failed"] += 1
            self.first_failure = self.first_failure or caption.error
            self.reasons[_kind(caption.error)] += 1
        else:
            self.counts["captioned"] += 1
            self.counts["refined"] += caption.refined
            if caption.review is not None:
                self.counts["for review"] += 1
            if self.review is not None and self.output is None:
                self.for_review.append(caption)
        row = {name: value for name, value in caption.to_dict().items() if value is not None}
        place = local_path(one.source)
        if place is not None and self.output is not None:
            row["image"] = as_text(os.path.relpath(place, self.output.parent))
        if one.digest is not None:
            row["content"] = one.digest
        return row

    def _write(self, file: CaptionFile | None, rows: list[dict[str, Any]]) -> None:
        if file is not None:
            if rows:
                file.write(rows)
            return
        for row in rows:
            sink.line(f"{row['image_id']}: {row.get('error') or row['caption'] or '(' + row['review'] + ')'}")
        if sink.json_mode:
            self.shown += rows

    @contextmanager
    def _stopping_gently(self) -> Iterator[None]:
        """The first Ctrl-C ends the run after the batch in flight, the second at once."""

        def stop(number: int, frame: Any) -> None:
            if self.stopped:
                raise KeyboardInterrupt
            self.stopped = True
            sink.note("Stopping after this batch; Ctrl-C again stops at once.")

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    @contextmanager
    def _progress(self, started: float) -> Iterator[Any]:
        told = started
        done = 0

        with sink.progress("Captioning", total=self.total) as advance:

            def one_more() -> None:
                nonlocal told, done
                done += 1
                skipped = self.counts["done before"]
                advance()
                now = time.monotonic()
                if now - told >= NOTE_SECONDS:
                    told = now
                    rate = done / (now - started)
                    of = "" if self.total is None else f" of {self.total}"
                    text = f"{done + skipped}{of} images, {rate:.2f} images/s"
                    if self.total is not None and rate > 0:
                        text += f", {_minutes((self.total - done - skipped) / rate)} left"
                    sink.note(text)

            yield one_more

    def _reviewable(self) -> list[Caption]:
        """All captions, those of earlier runs that this one went on from among them."""
        if self.output is None:
            return self.for_review
        return [Caption.from_dict(row) for row in read_captions(self.output) if not row.get("error")]

    def _summary(self, seconds: float) -> None:
        captioned = self.counts["captioned"]
        rate = captioned / seconds if seconds > 0 else 0.0
        if self.review is not None:
            write_jsonl(self.review, (one.to_dict() for one in review_queue(self._reviewable())))
        parts = [f"{captioned} captioned ({rate:.2f} images/s)"]
        parts += [
            f"{self.counts[name]} {name}"
            for name in ("refined", "for review", "done before", "failed")
            if self.counts[name]
        ]
        parts += self.copies.summary()
        (sink.line if self.output is not None else sink.note)(", ".join(parts) + ".")
        for reason, count in self.reasons.most_common():
            (sink.line if self.output is not None else sink.note)(f"  {count} x {reason}")
        if refused := self.pipeline.breaker.summary():
            sink.warning(refused)
        if self.output is not None:
            sink.line(f"Captions: {self.output}")
        sink.result(
            {
                "output": None if self.output is None else str(self.output),
                **{name.replace(" ", "_"): count for name, count in self.counts.items()},
                "failures": dict(self.reasons),
                "images_per_second": round(rate, 3),
                "stopped": self.stopped,
                **({} if self.output is not None else {"captions": self.shown}),
            }
        )
        if self.stopped:
            raise KeyboardInterrupt
        if self.counts["failed"] and not captioned and not self.counts["done before"]:
            raise DataError(f"None of the {self.counts['failed']} images could be captioned: {self.first_failure}")


def local_path(source: ImageSource) -> Path | None:
    """The file that an image lies in, if it is one."""
    image = source.image
    return Path(image) if isinstance(image, (str, Path)) else None


def _problem(source: ImageSource) -> str | None:
    """What is wrong with an input, as far as can be told without reading it."""
    place = local_path(source)
    if source.error is None and place is not None and not place.exists():
        return "there is no such file"
    return source.error


def _kind(error: str) -> str:
    """The reason without the image's name, so that equal ones can be counted."""
    for marker in (
        " cannot be read: ",
        " cannot be decoded: ",
        " cannot be fetched: ",
        " is not an image that can be decoded ",
    ):
        if marker in error:
            return marker.strip(" :") + ": " + error.split(marker, 1)[1].strip("(). ")
    return error.split(" ", 1)[1] if error.startswith("'") and " " in error else error


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
