"""The work of `blip-refine caption`: which images, what became of them, and when to stop."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..caption_files import CaptionFile, check_output, check_writable, has_captions, read_captions
from ..caption_prompts import PromptTemplate
from ..captioners.spec import NO_CAPTION
from ..data.image_files import as_text
from ..errors import CaptionerUnansweredError, ConfigurationError, DataError, SourceFormatError, SourceNotFoundError
from ..inputs import ImageSource
from ..jsonlines import write_jsonl
from ..records import Caption
from ..refine.counts import RefineCounts, describe_counts
from ..review import review_queue
from ..url_images import UrlLimits
from .caption_copies import Copies
from .caption_inputs import CommandInputs, Shard, local_path
from .caption_progress import CaptionProgress
from .output import output as sink
from .refine_options import make_refiner

if TYPE_CHECKING:
    from ..caption_stream import CaptionedImage, CaptionStream


def read_list(path: Path) -> list[str]:
    """The lines of a text file, without blank ones."""
    if not path.is_file():
        raise SourceNotFoundError(f"There is no file {str(path)!r}.")
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise SourceFormatError(f"{path} is no text in UTF-8 ({error.reason}).") from error


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
        shard: Shard | None = None,
        trust_names: bool = False,
        prompt_template: str | None = None,
    ):
        self.output = output if shard is None or output is None else shard.path(output)
        self.review = review if shard is None or review is None else shard.path(review)
        if review is not None and output is not None and os.path.realpath(review) == os.path.realpath(output):
            raise ConfigurationError(f"--review and --output are both {review}: the queue is a file of its own.")
        if trust_names and output is None:
            raise ConfigurationError("--trust-names goes by the rows of --output: give one.")
        self.existing, self.shard, self.trust_names = existing, shard, trust_names
        self.prefix, self.suffix = prefix, suffix
        self.limits = UrlLimits(allow_private=allow_private)
        self.inputs = CommandInputs(paths, limits=self.limits, leave_out=copies)
        if output is not None and os.path.realpath(output) in map(os.path.realpath, self.inputs.tables):
            raise ConfigurationError(f"--output would replace the table {output}: name another file.")
        self.template = None if prompt_template is None else PromptTemplate(prompt_template)
        self.copies = Copies(self.inputs, sidecar=sidecar, folder=copies, overwrite=existing == "overwrite")
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.refinement = RefineCounts()
        self.tokens: list[int] = []
        self.costs: list[float] = []
        self.first_failure: str | None = None
        self.for_review: list[Caption] = []
        self.stopped = False
        self.shown: list[dict[str, Any]] = []
        self._counting = threading.Lock()
        # A walk through the folders, before a model is loaded for nothing. Standard input can be read once only.
        self.total = None if self.inputs.listed else sum(1 for source in self.sources() if self._fits(source))

    def sources(self) -> Iterator[ImageSource]:
        """The images, in the order in which they were named; those of this run's share, where it has one."""
        for source in self.inputs:
            self.copies.claim(source)
            if self.shard is None or self.shard.holds(self.inputs.share_name(source)):
                yield source

    def _fits(self, source: ImageSource) -> bool:
        """`True`; an image without the columns of the prompt template is refused before a model is loaded."""
        if self.template is not None and source.error is None:
            self.template.fill({**source.metadata, "image_id": source.image_id}, source.image_id)
        return True

    def describe(self) -> None:
        """What a run would do, by names alone: no image is read."""
        held: set[str] = set()
        if self.output is not None and self.existing == "resume" and has_captions(self.output):
            held = {str(row.get("image_id")) for row in read_captions(self.output) if not row.get("error")}
        found = [(source, _problem(source)) for source in self.sources()]
        missing = [(source, problem) for source, problem in found if problem is not None]
        todo = [source for source, problem in found if problem is None and source.image_id not in held]
        known = len(found) - len(missing) - len(todo)
        share = "" if self.shard is None else f" in share {self.shard}"
        sink.line(
            f"{len(found)} inputs{share}: {len(todo)} to caption, {known} with a caption in "
            f"{self.output or 'no file'}."
        )
        for source, problem in missing:
            sink.line(f"  {source.image_id}: {problem}")
        for source in todo[:10]:
            sink.line(f"  {source.image_id}")
        if len(todo) > 10:
            sink.line(f"  ... and {len(todo) - 10} more")
        sink.result({"inputs": len(found), "to_caption": len(todo), "done": known, "missing": len(missing)})

    def load(self, model: str, *, decoding: str | None, changes: dict[str, Any], **options: Any) -> None:
        """Load the captioner."""
        from ..captioners.spec import is_other, load_captioner_stream
        from .decoding_options import check_decoding, naming_flags
        from .libraries import quieten_libraries

        # A model may take minutes to load; what cannot be written is said before.
        if self.output is not None:
            check_output(self.output)
        if self.review is not None:
            check_writable(self.review)
        if self.copies.folder is not None:
            check_writable(self.copies.folder / "photo")
        quieten_libraries()
        if not is_other(model):
            check_decoding(model, decoding, changes)
        sink.note(f"Loading {model} ...")
        refiner = make_refiner(options.pop("refiner", None), options.pop("refiner_options", {}))
        if refiner is not None:
            refiner.check()
        changes = dict(changes)
        prompt = changes.pop("prompt", None)  # as an argument of its own it leaves out a saved template, too
        with naming_flags():
            self.pipeline: CaptionStream = load_captioner_stream(
                model,
                decoding=decoding,
                changes=changes,
                prompt=prompt,
                prompt_template=None if self.template is None else self.template.text,
                url_limits=self.limits,
                refiner=refiner,
                **options,
            )

    def go(self) -> None:
        """Caption everything, and say what came of it."""
        started = time.monotonic()
        with ExitStack() as stack:
            file = None
            if self.output is not None:
                settings = {**self.pipeline.settings(), "prefix": self.prefix, "suffix": self.suffix}
                file = CaptionFile(self.output, settings, self.existing, remember=self.copies.wanted)
                stack.enter_context(file)
            stack.enter_context(self._stopping_gently())
            progress = CaptionProgress(self.total)
            stack.enter_context(progress.shown())
            captioned = self.pipeline.run(self._to_do(file, progress), skip=self._skip(file, progress))
            stack.callback(captioned.close)
            batch: list[CaptionedImage] = []
            try:
                for one in captioned:
                    batch.append(one)
                    # A batch at a time, as they come; a row that is held back could be lost.
                    if len(batch) == self.pipeline.batch_size:
                        finished, batch = batch, []
                        self._write(file, finished, progress)
                        if self.stopped:
                            break
            finally:  # also where the second Ctrl-C, or an error, ends the run
                self._write(file, batch, progress)
        self._summary(time.monotonic() - started, file)

    def _to_do(self, file: CaptionFile | None, progress: CaptionProgress) -> Iterator[ImageSource]:
        """The images that have to be looked at: where names are trusted, those that have no row."""
        for source in self.sources():
            if self.trust_names and file is not None and file.has(source.image_id):
                self._done_before(source, file, progress)
            else:
                yield source

    def _skip(self, file: CaptionFile | None, progress: CaptionProgress):
        if file is None:
            return None

        def skip(source: ImageSource, content: str) -> bool:  # several decode workers ask
            done = file.is_done(source.image_id, content)
            if done:
                self._done_before(source, file, progress)
            return done

        return skip

    def _done_before(self, source: ImageSource, file: CaptionFile, progress: CaptionProgress) -> None:
        caption = file.caption_of(source.image_id)
        if caption:  # the run that captioned it may not have been asked for copies, or was killed before it made them
            self.copies.write(source, caption, caption, fresh=False)
        with self._counting:
            self.counts["done before"] += 1
        progress.count(captioned=False)

    def _row(self, one: CaptionedImage) -> dict[str, Any]:
        caption = one.caption
        if caption.tokens is not None:
            self.tokens.append(caption.tokens)
        if caption.cost is not None:
            self.costs.append(caption.cost)
        if caption.text:
            caption = replace(caption, text=f"{self.prefix}{caption.text}{self.suffix}")
        if caption.error is not None:
            self.counts["failed"] += 1
            self.first_failure = self.first_failure or caption.error
            self.reasons[_kind(caption.error)] += 1
        else:
            self.counts["captioned"] += 1
            self.counts["refined"] += caption.refined
            if caption.outcome is not None:
                self.refinement.count(caption.outcome, caption.reason)
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

    def _write(self, file: CaptionFile | None, batch: Sequence[CaptionedImage], progress: CaptionProgress) -> None:
        """Write a batch: its rows first, since what is missing beside an image that has a row is made up for."""
        rows = [self._row(one) for one in batch]
        if file is not None and rows:
            file.write(rows)
        elif file is None:
            for row in rows:
                sink.line(f"{row['image_id']}: {row.get('error') or row['caption'] or '(' + row['review'] + ')'}")
            if sink.json_mode:
                self.shown += rows
        for one, row in zip(batch, rows, strict=True):
            previous = None if file is None else file.caption_of(row["image_id"])
            self.copies.write(one.source, row["caption"], previous)
            progress.count(captioned=True)

    @contextmanager
    def _stopping_gently(self) -> Iterator[None]:
        """The first Ctrl-C ends the run after the batch in flight, the second at once. So does what a scheduler sends
        before it kills."""

        def stop(number: int, frame: Any) -> None:
            if self.stopped:
                raise KeyboardInterrupt
            self.stopped = True
            sink.note("Stopping after this batch; Ctrl-C again stops at once.")
            self.inputs.end()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _spent(self) -> dict[str, Any]:
        """Tokens and dollars of this run's drafts, if they were counted."""
        spent: dict[str, Any] = {"tokens": sum(self.tokens)} if self.tokens else {}
        return {**spent, "cost": math.fsum(self.costs)} if self.costs else spent

    def _reviewable(self, file: CaptionFile | None) -> Iterator[Caption]:
        """All captions of these settings, those of earlier runs that this one went on from among them."""
        if file is None:
            yield from self.for_review
            return
        for row in read_captions(file.path):
            if row.get("settings") == file.settings and not row.get("error"):
                yield Caption.from_dict(row)

    def _summary(self, seconds: float, file: CaptionFile | None) -> None:
        captioned = self.counts["captioned"]
        rate = captioned / seconds if seconds > 0 else 0.0
        if self.review is not None:
            try:
                write_jsonl(self.review, (one.to_dict() for one in review_queue(self._reviewable(file))))
            except OSError as error:
                raise DataError(
                    f"{self.review} cannot be written: {error.strerror or error}. The captions are in {self.output}."
                ) from error
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
        if self.refinement.asked:
            text = f"Refiner: {describe_counts(self.refinement.to_dict())}."
            (sink.line if self.output is not None else sink.note)(text)
        spent = self._spent()
        if spent:
            (sink.line if self.output is not None else sink.note)(f"Captioner: {describe_spent(spent)}.")
        if refused := self.pipeline.breaker.summary():
            sink.warning(refused)
        if self.output is not None:
            sink.line(f"Captions: {self.output}")
        sink.result(
            {
                "output": None if self.output is None else str(self.output),
                **{name.replace(" ", "_"): count for name, count in self.counts.items()},
                "failures": dict(self.reasons),
                **({"refinement": self.refinement.to_dict()} if self.refinement.asked else {}),
                "captioner": {**self.pipeline.describe(), **spent},
                "images_per_second": round(rate, 3),
                "stopped": self.stopped,
                **({} if self.output is not None else {"captions": self.shown}),
            }
        )
        if self.stopped:
            raise KeyboardInterrupt
        self.copies.check()
        if self.pipeline.refiner is not None:
            self.refinement.require_answers(self.pipeline.refiner.name, "the captions are unrefined drafts")
        if self.counts["failed"] and not captioned and not self.counts["done before"]:
            if any(reason.startswith(NO_CAPTION.strip()) for reason in self.reasons):
                raise CaptionerUnansweredError(
                    f"{self.pipeline.name} captioned none of the {self.counts['failed']} images: {self.first_failure}"
                )
            raise DataError(f"None of the {self.counts['failed']} images could be captioned: {self.first_failure}")


def describe_spent(spent: Mapping[str, Any]) -> str:
    """Tokens and dollars in words: "1200 tokens, $0.0012"."""
    parts = [f"{spent['tokens']} tokens"] if "tokens" in spent else []
    return ", ".join([*parts, *([f"${spent['cost']:.4f}"] if "cost" in spent else [])])


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
