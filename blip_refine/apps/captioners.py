"""The captioners behind a page: loaded when first asked for, each for one visitor at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import BlipRefineError, ConfigurationError
from ..records import Caption
from ..refine.base import Refiner, find_refiner, kinds_of, load_refiner, option_names
from ..refine.captions import refine_captions
from ..refine.grounding import captioner_likelihood
from ..refine.language import instructed
from ..refine.options import share_options
from ..refine.prompts import Style
from ..refine.safety import require_working

NO_REFINER = "none"


@dataclass(frozen=True, slots=True)
class Settings:
    """How a page's visitor wants a caption.

    Args:
        decoding (`str`, *optional*): A preset: "accurate", "fast", "creative" or "candidates"; by default what is
            saved with the model.
        num_beams (`int`, *optional*): Another number of beams than the preset's, where it searches by beams.
        max_new_tokens (`int`, *optional*): The longest caption in tokens; by default the decoding's.
        prompt (`str`, *optional*): How every caption begins; by default as it is saved with the model. "" for nothing.
        refiner (`str`, defaults to `"rules"`): Who refines the draft; "none" for nobody.
        style (`Style`, defaults to a neutral one): How the refiner is to write.
        instruction (`str`, *optional*): A free instruction for a refiner that asks a language model.
    """

    decoding: str | None = None
    num_beams: int | None = None
    max_new_tokens: int | None = None
    prompt: str | None = None
    refiner: str = "rules"
    style: Style = Style()
    instruction: str | None = None

    def decoding_options(self, model: Any = None) -> Any:
        """The [`DecodingOptions`] that these settings mean.

        Args:
            model (`nn.Module`, *optional*): The captioner, whose saved prompt and decoding hold where nothing is set.

        Raises:
            ConfigurationError: Settings that cannot be.
        """
        from ..models.saved_defaults import effective_decoding, saved_defaults

        saved = None if model is None else saved_defaults(model)
        longest = None if self.max_new_tokens is None else int(self.max_new_tokens)
        options = effective_decoding(saved, self.decoding, max_new_tokens=longest, prompt=self.prompt)
        # Diverse beams come in groups and sampling has none: there the preset's own number stands.
        if self.num_beams and options.num_beam_groups == 1 and not options.do_sample and self.decoding != "fast":
            options = replace(options, num_beams=int(self.num_beams))
        return options


class Captioners:
    """Captioners by name. A model is loaded once and captions for one visitor at a time; refining is not held up.

    Args:
        models (`Sequence[str]`): Folders, model ids of the Hub, or "starter"; only these can be asked for.
        refiners (`Sequence[str]`, defaults to `("rules", "consensus", "rules>consensus")`): Who can be asked to
            refine; "none" always can.
        refiner_options (`Mapping[str, Any]`, *optional*): Options of the refiners; each gets those that it knows.
        **loading: Passed to [`load_captioner`] (`dtype=`, `revision=`, `token=`).
    """

    def __init__(
        self,
        models: Sequence[str] = ("starter",),
        refiners: Sequence[str] = ("rules", "consensus", "rules>consensus"),
        *,
        refiner_options: Mapping[str, Any] | None = None,
        **loading: Any,
    ):
        if not models:
            raise ConfigurationError("A page needs at least one model.")
        self.models = tuple(dict.fromkeys(str(name) for name in models))
        self.refiners = tuple(dict.fromkeys([*refiners, NO_REFINER]))
        self._refiner_options = share_options(
            [name for name in self.refiners if name != NO_REFINER], refiner_options or {}
        )
        self._loading = loading
        self._loaded: dict[str, tuple[Any, Any]] = {}
        self._refiners: dict[tuple[str, Style], Refiner] = {}
        self._locks = {name: threading.Lock() for name in self.models}
        self._refiner_lock = threading.Lock()
        self._checked = False

    def check_refiners(self) -> None:
        """Check, once, that every refiner that can be asked for works.

        Raises:
            ConfigurationError: There is no such refiner.
            RefinerError, ModelError: A refiner does not answer, or its model cannot be loaded.
        """
        for name in () if self._checked else self.refiners:
            require_working(self.refiner(Settings(refiner=name)))
        self._checked = True

    def load(self, model: str) -> tuple[Any, Any]:
        """The model and its processor.

        Raises:
            ConfigurationError: It is none of `models`.
            ModelError: It cannot be loaded.
        """
        if model not in self._locks:
            raise ConfigurationError(f"This page has no model {model!r}; it has {', '.join(self.models)}.")
        with self._locks[model]:
            if model not in self._loaded:
                import torch

                from ..models.captioner import load_captioner

                captioner, processor = load_captioner(model, **self._loading)
                self._loaded[model] = captioner.to("cuda" if torch.cuda.is_available() else "cpu"), processor
            return self._loaded[model]

    def refiner(self, settings: Settings) -> Refiner | None:
        """The refiner that the settings ask for.

        Raises:
            ConfigurationError: The page has no such refiner, or it cannot write in that style or by an instruction.
        """
        if settings.refiner not in self.refiners:
            raise ConfigurationError(
                f"This page has no refiner {settings.refiner!r}; it has {', '.join(self.refiners)}."
            )
        if settings.instruction is not None and not self.takes_instruction(settings.refiner):
            raise ConfigurationError(
                f"The refiner {settings.refiner!r} asks no language model: an instruction cannot act."
            )
        if settings.refiner == NO_REFINER:
            return None
        key = (settings.refiner, settings.style)
        with self._refiner_lock:
            if key not in self._refiners:
                options = {} if settings.style == Style() else {"style": settings.style}
                self._refiners[key] = load_refiner(
                    settings.refiner, **self._refiner_options[settings.refiner], **options
                )
            refiner = self._refiners[key]
        # A copy that is not kept: visitors may write any number of instructions.
        return refiner if settings.instruction is None else instructed(refiner, settings.instruction)

    def takes_instruction(self, refiner: str) -> bool:
        """Whether a refiner asks a language model, so that it can be told something."""
        kinds = [] if refiner == NO_REFINER else kinds_of(refiner)
        return any("instruction" in (option_names(find_refiner(kind)) or ()) for kind in kinds)

    def caption(self, image: Any, model: str, settings: Settings) -> Caption:
        """Caption one picture.

        Raises:
            BlipRefineError: It cannot be done; the message is for the visitor.
        """
        caption = next(self.stream([image], model, settings, batch_size=1))
        if caption.error is not None:
            raise BlipRefineError(caption.error)
        return caption

    def stream(self, images: Iterable[Any], model: str, settings: Settings, batch_size: int = 8) -> Iterator[Caption]:
        """Caption pictures, in order, one answer for each; a picture that cannot be read has its `error`."""
        from ..pipeline import CaptionPipeline

        refiner = self.refiner(settings)
        captioner, processor = self.load(model)
        pipeline = CaptionPipeline(
            captioner,
            processor,
            decoding=settings.decoding_options(captioner),
            prompt=settings.prompt,
            batch_size=batch_size,
            candidates=1 if refiner is None else refiner.needs_candidates,
            num_workers=0,
            on_error="record",
        )
        batch: list[Any] = []
        for image in images:
            batch.append(image)
            if len(batch) == batch_size:
                yield from self._answer(pipeline, batch, model, refiner)
                batch = []
        if batch:
            yield from self._answer(pipeline, batch, model, refiner)

    def _answer(self, pipeline: Any, batch: list[Any], model: str, refiner: Refiner | None) -> list[Caption]:
        with self._locks[model]:
            captions = pipeline(batch)
        if refiner is None:
            return captions
        # One refiner serves all models of the page.
        refiner.use_captioner(captioner_likelihood(pipeline.model, pipeline.processor))
        return refine_captions(refiner, captions, images=batch)
