"""Guards: what a refined caption must pass. Each can be switched off and tuned, and each names what it rejects.

`form`: too long or too short, several sentences, another language or script, talk about "the image". `facts`: nouns,
numbers, colours, places and names that draft, candidates and metadata do not have. `polarity`: "not" added or lost,
one thing made several or the reverse. `grounding`: a caption that the captioner finds clearly less likely, given the
picture, than the draft. `matching`: a caption that an image-text model does not find to be of the picture.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import ConfigurationError, RefinerError
from ..records import RefineRequest
from .facts import FactsGuard, PolarityGuard
from .lexicon import FUNCTION_WORDS, lexicon, words_of

Scorer = Callable[[RefineRequest, Sequence[str]], Sequence[float]]
"""A number for each of several captions of the request's image. Handed in: guards load no model themselves."""

_ABOUT_THE_IMAGE = re.compile(
    r"^\W*(?:the|this|an|in (?:the|this))\s+(?:image|photo|photograph|picture|caption|scene)\b", re.IGNORECASE
)
_SCRIPTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("ru", "uk"), ("CYRILLIC",)),
    **{"ar": ("ARABIC",), "hi": ("DEVANAGARI",), "zh": ("CJK",), "ja": ("CJK", "HIRAGANA", "KATAKANA")},
    "ko": ("HANGUL",),
}
_LATIN = ("LATIN",)


@dataclass(frozen=True, slots=True)
class FormGuard:
    """One caption, of a fitting length, in the right language.

    Args:
        max_words (`int`, *optional*): The most words. Without it, `max_ratio` and `slack` decide.
        max_ratio (`float`, defaults to 1.6): The most words, as a multiple of the longest draft or candidate ...
        slack (`int`, defaults to 4): ... plus this many.
        min_ratio (`float`, defaults to 0.4): The fewest words, as a share of the draft's.
        max_sentences (`int`, defaults to 2): The most sentences; as many as the draft has are always allowed.
        language (`str`, *optional*, defaults to `"en"`): ISO 639-1 code; `None` allows any. English is told by its
            words, languages of other scripts by their letters; of other languages only that they are not English.
        about_the_image (`bool`, defaults to `False`): Let "The image shows ..." pass where the draft does not begin
            like that.
    """

    max_words: int | None = None
    max_ratio: float = 1.6
    slack: int = 4
    min_ratio: float = 0.4
    max_sentences: int = 2
    language: str | None = "en"
    about_the_image: bool = False

    def check(self, request: RefineRequest, text: str) -> str | None:
        """Why `text` cannot stand; `None` if it can."""
        words, draft = len(text.split()), len(request.draft.split())
        longest = max([draft, *(len(one.split()) for one in request.candidates)])
        limit = self.max_words if self.max_words is not None else int(longest * self.max_ratio) + self.slack
        # Chinese and Japanese put no spaces: their characters are not words, and are not counted as such.
        spaced = self.language not in ("zh", "ja")
        if spaced and words > limit:
            return f"it is too long: {words} words, at most {limit}"
        if spaced and self.max_words is None and words < math.ceil(draft * self.min_ratio):
            return f"it is too short: {words} words for a draft of {draft}"
        if "\n" in text:
            return "it has several lines"
        sentences, before = _sentences(text), _sentences(request.draft)
        if sentences > max(self.max_sentences, before):
            return f"it has too many sentences: {sentences}"
        if not self.about_the_image and _ABOUT_THE_IMAGE.match(text) and not _ABOUT_THE_IMAGE.match(request.draft):
            return "it talks about the image instead of saying what is in it"
        return None if self.language is None else self._language_problem(request, text)

    def _language_problem(self, request: RefineRequest, text: str) -> str | None:
        letters = [char for char in text if char.isalpha()]
        if not letters:
            return "it has no words"
        wanted = _SCRIPTS.get(self.language or "", _LATIN)
        own = sum(unicodedata.name(char, "").startswith(wanted) for char in letters) / len(letters)
        if own < 0.5:
            return f"it is not written in the script of {self.language!r}"
        if wanted != _LATIN:
            return None
        words = [word.lower() for word in words_of(text)]
        if self.language == "en":
            own_words = {word.lower() for word in words_of(request.draft)}
            known = sum(word in own_words or lexicon().knows(word) or word.isdigit() for word in words)
            if known < 0.6 * len(words):
                return "it is not in English"
        elif len(words) > 3 and sum(word in FUNCTION_WORDS for word in words) >= 0.4 * len(words):
            return f"it is in English, not in {self.language!r}"
        return None


def _sentences(text: str) -> int:
    return len([part for part in re.split(r"(?<=[.!?])\s+(?=[A-Z\"'(])", text.strip()) if part])


@dataclass(frozen=True, slots=True)
class GroundingGuard:
    """The captioner itself must not find the refined caption much less likely than the draft, given the picture.

    Args:
        likelihood (`Callable`): From a request and captions to the captioner's mean token log-probability (natural) of
            each, given the request's image.
        margin (`float`, defaults to 0.5): By how many nats a token it may fall.
    """

    likelihood: Scorer
    margin: float = 0.5

    def check(self, request: RefineRequest, text: str) -> str | None:
        """Why `text` cannot stand; `None` if it can, or if the request has no image."""
        if request.image is None or text == request.draft:
            return None
        draft, refined = _scores(self.likelihood, request, (request.draft, text))
        if refined < draft - self.margin:
            return f"the captioner finds it less likely: {refined:.2f} a token, the draft {draft:.2f}"
        return None


@dataclass(frozen=True, slots=True)
class MatchingGuard:
    """An image-text matching model must find the caption to be of the picture.

    Args:
        probability (`Callable`): From a request and captions to the probability of each to match the request's image.
        lowest (`float`, defaults to 0.2): Below this a caption is rejected, unless the draft's is as low ...
        margin (`float`, defaults to 0.1): ... and it is rejected where it falls below the draft's by more than this.
    """

    probability: Scorer
    lowest: float = 0.2
    margin: float = 0.1

    def check(self, request: RefineRequest, text: str) -> str | None:
        """Why `text` cannot stand; `None` if it can, or if the request has no image."""
        if request.image is None or text == request.draft:
            return None
        draft, refined = _scores(self.probability, request, (request.draft, text))
        if refined < draft and (refined < self.lowest or refined < draft - self.margin):
            return f"it matches the picture less: {refined:.2f}, the draft {draft:.2f}"
        return None


def _scores(scorer: Scorer, request: RefineRequest, texts: Sequence[str]) -> list[float]:
    values = [float(value) for value in scorer(request, texts)]
    if len(values) != len(texts) or any(value != value for value in values):
        raise RefinerError(f"A guard's scorer must give one number for each of {len(texts)} captions; got {values}.")
    return values


@dataclass(frozen=True, slots=True)
class Guards:
    """All guards, asked in this order; the first one that objects decides. `None` switches a guard off.

    Args:
        form (`FormGuard`, *optional*): On by default.
        facts (`FactsGuard`, *optional*): On by default.
        polarity (`PolarityGuard`, *optional*): On by default.
        grounding (`GroundingGuard`, *optional*): Off by default: it needs a captioner.
        matching (`MatchingGuard`, *optional*): Off by default: it needs an image-text matching model.
        holds_to_words (`bool`, defaults to `False`): Ask `facts` and `polarity` of a refiner that sees the picture,
            too, and not of the captioner at hand. Guards that are chosen by their names do: they and no other act.
    """

    form: FormGuard | None = field(default_factory=FormGuard)
    facts: FactsGuard | None = field(default_factory=FactsGuard)
    polarity: PolarityGuard | None = field(default_factory=PolarityGuard)
    grounding: GroundingGuard | None = None
    matching: MatchingGuard | None = None
    holds_to_words: bool = False

    def check(
        self, request: RefineRequest, text: str, *, seen: bool = False, likelihood: Scorer | None = None
    ) -> str | None:
        """Why `text` cannot stand, with the name of the guard ("facts: it adds ..."); `None` if it can.

        Args:
            request (`RefineRequest`): The draft.
            text (`str`): What is to take its place.
            seen (`bool`, defaults to `False`): Whoever wrote `text` saw the request's image, if it has one. What is
                in the picture is support then, and the words of the draft are not what `text` is held to: `facts` and
                `polarity` make room for `grounding` or `matching`.
            likelihood (`Callable`, *optional*): The captioner at hand. Without `grounding`, `matching` and
                `holds_to_words` it does what `grounding` does, with a margin of `SEEN_MARGIN`.
        """
        seen = seen and request.image is not None
        if self.holds_to_words or self.matching is not None:
            likelihood = None
        for name in GUARD_NAMES:
            guard = getattr(self, name)
            if seen and name in _WORDS and not self.holds_to_words:
                continue
            if seen and name == "grounding" and guard is None and likelihood is not None:
                guard = GroundingGuard(likelihood, margin=SEEN_MARGIN)
            if guard is not None:
                problem = guard.check(request, text)
                if problem is not None:
                    return f"{name}: {problem}"
        return None

    def lets_sight_pass(self, likelihood: Scorer | None = None) -> bool:
        """Whether nothing checks the facts of a refiner that sees the picture."""
        looks = any(one is not None for one in (self.grounding, self.matching, likelihood))
        holds = self.holds_to_words and any(getattr(self, name) is not None for name in _WORDS)
        return not looks and not holds and (self.facts is not None or self.polarity is not None)

    @classmethod
    def only(cls, names: str | Sequence[str]) -> Guards:
        """The guards of these names ("form,facts"), with their defaults; `"none"` for none of them.

        Raises:
            ConfigurationError: There is no such guard, or it cannot be had without a model.
        """
        wanted = [name.strip() for name in (names.split(",") if isinstance(names, str) else names)]
        wanted = [] if wanted == ["none"] else wanted
        for name in wanted:
            if name not in GUARD_NAMES:
                raise ConfigurationError(f"There is no guard {name!r}; there are: {', '.join(GUARD_NAMES)}, none.")
            if name in ("grounding", "matching"):
                raise ConfigurationError(f"The guard {name!r} needs a model: Guards({name}=...).")
        guards = cls()
        off = {name: None for name in ("form", "facts", "polarity") if name not in wanted}
        return replace(guards, **off, holds_to_words=True)

    def in_language(self, language: str, max_words: int | None = None) -> Guards:
        """These guards for captions in another language than their drafts: facts can then only be checked by numbers
        written in digits and by names, and negation not at all."""
        form = self.form if self.form is None else replace(self.form, language=language)
        if form is not None and max_words is not None:
            form = replace(form, max_words=max_words)
        if language == "en":
            return replace(self, form=form)
        if form is not None:
            # Languages differ in how many words they make of a thing.
            form = replace(form, max_ratio=form.max_ratio * 1.5, min_ratio=form.min_ratio / 2)
        facts = self.facts
        if facts is not None:
            facts = replace(
                facts, nouns=False, colours=False, adjectives=False, actions=False, names=False, least_supported=0.0
            )
        return replace(self, form=form, facts=facts, polarity=None)


_WORDS = ("facts", "polarity")
SEEN_MARGIN = 1.0
"""Nats a token by which a caption of a refiner that saw the picture may be less likely than the draft. Drafts are what
the captioner finds likeliest: a true caption in other words is less likely, too."""

GUARD_NAMES = ("form", "facts", "polarity", "grounding", "matching")


def as_guards(guards: Any) -> Guards | None:
    """`True` for the default guards, `False` or `None` for none, names of guards, or guards."""
    if guards is True:
        return Guards()
    if guards is False or guards is None:
        return None
    if isinstance(guards, str):
        return Guards.only(guards)
    if isinstance(guards, Guards):
        return guards
    raise ConfigurationError(f"`guards` must be Guards, their names, True or False, not a {type(guards).__name__}.")
