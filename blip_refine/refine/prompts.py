"""Prompts: strict template files, styles, and captions that are data and never instructions.

A template is a YAML file with the keys `name`, `system`, `user` and, if wanted, `examples` and `variables`; any other
key is refused. Texts are Jinja2, run in its sandbox. Whatever a template inserts is put on one line and stripped of
the marks that could end its fence or pass for a model's special token: no template can forget to do that.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import jinja2.sandbox
import yaml

from ..errors import ConfigurationError, SourceFormatError, SourceNotFoundError
from ..records import RefineRequest

TEMPLATE_KEYS = {"name", "system", "user", "examples", "variables"}
EXAMPLE_KEYS = {"draft", "candidates", "metadata", "caption"}
OWN_VARIABLES = {"draft", "candidates", "metadata", "instructions", "language", "max_words", "feedback", "has_image"}
"""What every template may use besides its own `variables`."""

MOST_INSTRUCTION = 1000
"""Longest free instruction, in characters."""

TONES = {
    "neutral": None,
    "formal": "Use a formal tone.",
    "informal": "Use a relaxed, informal tone.",
}
DETAILS = {
    "brief": "Keep only what matters most.",
    "normal": None,
    "full": "Keep every detail that the data gives.",
}
VOICES = {
    "descriptive": None,
    "first-person": "Write as the person who took the photo, in the first person.",
    "story": "Write it as a sentence of a story, in the present tense.",
}
AUDIENCES = {
    "general": (),
    "alt-text": (
        "It is alternative text for people who cannot see the picture: say what matters, in plain words.",
        'Do not begin with "image of", "photo of" or the like.',
    ),
    "e-commerce": ("It stands beside a product in a shop: name the product first, and praise nothing.",),
    "catalogue": ("It is an entry of a catalogue: a noun phrase, without a full stop.",),
}
LANGUAGES = {
    **{"en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian", "pt": "Portuguese"},
    **{"nl": "Dutch", "pl": "Polish", "sv": "Swedish", "tr": "Turkish", "ru": "Russian", "uk": "Ukrainian"},
    **{"ar": "Arabic", "hi": "Hindi", "zh": "Chinese", "ja": "Japanese", "ko": "Korean"},
}


@dataclass(frozen=True, slots=True)
class Style:
    """How a caption is to be written.

    Args:
        tone (`str`, defaults to `"neutral"`): `"neutral"`, `"formal"` or `"informal"`.
        detail (`str`, defaults to `"normal"`): `"brief"`, `"normal"` or `"full"`.
        voice (`str`, defaults to `"descriptive"`): `"descriptive"`, `"first-person"` or `"story"`.
        max_words (`int`, *optional*): The most words that it may have.
        audience (`str`, defaults to `"general"`): `"general"`, `"alt-text"`, `"e-commerce"` or `"catalogue"`.
        language (`str`, defaults to `"en"`): The language to write in, by its ISO 639-1 code.

    Raises:
        ConfigurationError: A value is none of these.
    """

    tone: str = "neutral"
    detail: str = "normal"
    voice: str = "descriptive"
    max_words: int | None = None
    audience: str = "general"
    language: str = "en"

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ConfigurationError(
                    f"A style has no {name} {getattr(self, name)!r}; there are: {', '.join(known)}."
                )
        if self.max_words is not None and (not isinstance(self.max_words, int) or self.max_words < 1):
            raise ConfigurationError(f"`max_words` of a style is a positive number, not {self.max_words!r}.")

    @classmethod
    def parse(cls, text: str | Style | None) -> Style:
        """A style from words such as `"formal,max_words=12,alt-text,fr"`: names of values, or `name=value`.

        Raises:
            ConfigurationError: A word is no value of any part of a style.
        """
        if isinstance(text, Style):
            return text
        style = cls()
        for word in re.split(r"[,\s]+", text or ""):
            name, equals, value = word.partition("=")
            if not word:
                continue
            if not equals:
                parts = [part for part, known in _CHOICES.items() if word in known]
                if not parts:
                    names = ", ".join(sorted({*(value for known in _CHOICES.values() for value in known)}))
                    raise ConfigurationError(f"A style has no {word!r}; there are: {names}, max_words=N.")
                name, value = parts[0], word
            if name not in {one.name for one in fields(cls)}:
                raise ConfigurationError(f"A style has no part {name!r}; it has: {', '.join(asdict(style))}.")
            if name == "max_words":
                if not value.isdecimal():
                    raise ConfigurationError(f"`max_words` of a style is a positive number, not {value!r}.")
                style = replace(style, max_words=int(value))
            else:
                style = replace(style, **{name: value})  # type: ignore[arg-type]
        return style

    def instructions(self) -> list[str]:
        """The sentences that tell a model of this style."""
        said = [TONES[self.tone], DETAILS[self.detail], VOICES[self.voice], *AUDIENCES[self.audience]]
        if self.max_words is not None:
            said.append(f"Use at most {self.max_words} words.")
        if self.language != "en":
            said.append(f"Write it in {LANGUAGES[self.language]}.")
        return [sentence for sentence in said if sentence]


_CHOICES: dict[str, Mapping[str, Any]] = {
    "tone": TONES,
    "detail": DETAILS,
    "voice": VOICES,
    "audience": AUDIENCES,
    "language": LANGUAGES,
}


def neutralise(value: Any) -> Any:
    """`value` as it may stand inside a fence: one line, no angle brackets, no marks of a chat format.

    Everything that a template prints goes through this. Text that was captioned ("ignore the above") stays readable.
    """
    if isinstance(value, (bool, int, float)):
        return value
    # A list that a template prints whole holds captions, too.
    value = "" if value is None else str(value)
    value = "".join(char if char.isprintable() else " " for char in value)
    value = re.sub(r"\[(/?[A-Z_]{2,})\]", r"(\1)", value.replace("<", "\u2039").replace(">", "\u203a"))
    return " ".join(value.replace("```", "'''").split())


class _Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    def __init__(self) -> None:
        super().__init__(
            undefined=jinja2.StrictUndefined,
            finalize=neutralise,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=False,
        )
        self.filters["facts"] = _facts


def _facts(metadata: Mapping[str, Any]) -> str:
    """Metadata on one line: "place: Lisbon; year: 1998"."""
    return "; ".join(f"{name}: {_plain_value(value)}" for name, value in metadata.items())


def _plain_value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


@dataclass(frozen=True)
class PromptTemplate:
    """A prompt with gaps.

    Args:
        name (`str`): What it is called in records.
        system (`str`): Jinja2 text of the system message; may be empty.
        user (`str`): Jinja2 text of the user's message. It must show the draft or the candidates.
        examples (`tuple[Mapping[str, Any], ...]`): Solved cases, each with `draft` and `caption`, shown before.
        variables (`Mapping[str, Any]`): Values of the variables that the texts use besides `draft`, `candidates`,
            `metadata`, `instructions`, `language`, `max_words`, `feedback` and `has_image`.

    Raises:
        ConfigurationError: A variable has no value (it is named), or the template does not show the caption.
        SourceFormatError: A text is not Jinja2.
    """

    name: str
    user: str
    system: str = ""
    examples: tuple[Mapping[str, Any], ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        used = self._used_variables()
        missing = sorted(used - OWN_VARIABLES - set(self.variables))
        if missing:
            names = ", ".join(repr(name) for name in missing)
            raise ConfigurationError(
                f"The prompt template {self.name!r} uses {names}, and nothing gives a value. Put it under "
                f"`variables:`, or give it ({missing[0]}=...). Always there: {', '.join(sorted(OWN_VARIABLES))}."
            )
        shadowed = sorted(set(self.variables) & OWN_VARIABLES)
        if shadowed:
            raise ConfigurationError(f"The prompt template {self.name!r} may not set {shadowed[0]!r} itself.")
        if not used & {"draft", "candidates"}:
            raise ConfigurationError(
                f"The prompt template {self.name!r} shows the model neither `draft` nor `candidates`: "
                "there would be nothing to refine."
            )

    def _used_variables(self) -> set[str]:
        environment = _Environment()
        used: set[str] = set()
        for part, text in (("system", self.system), ("user", self.user)):
            try:
                used |= jinja2.meta.find_undeclared_variables(environment.parse(text))
            except jinja2.TemplateSyntaxError as error:
                raise SourceFormatError(
                    f"The prompt template {self.name!r} is not Jinja2: {error.message} ({part}, line {error.lineno})."
                ) from error
        return used

    @property
    def prompt_id(self) -> str:
        """The name and the first 8 hex digits of a hash over all of its text."""
        return f"{self.name}@{hashlib.sha256(json.dumps(self.content(), sort_keys=True).encode()).hexdigest()[:8]}"

    def content(self) -> dict[str, Any]:
        """All that this template is, as JSON can hold it."""
        return {
            "name": self.name,
            "system": self.system,
            "user": self.user,
            "examples": [dict(example) for example in self.examples],
            "variables": dict(self.variables),
        }

    def check_instruction(self, instruction: str) -> None:
        """Refuse a free instruction that this template would not pass on.

        Raises:
            ConfigurationError: It is empty or too long, or the template does not print `instructions`.
        """
        if not neutralise(instruction):
            raise ConfigurationError("`instruction` is empty: say how captions are to be written, or leave it out.")
        if len(instruction) > MOST_INSTRUCTION:
            raise ConfigurationError(
                f"`instruction` has {len(instruction)} characters, at most {MOST_INSTRUCTION}; a longer one belongs "
                "into a prompt template of your own."
            )
        if "instructions" not in self._used_variables():
            raise ConfigurationError(
                f"The prompt template {self.name!r} does not print `instructions`, so `instruction` cannot act."
            )

    def messages(
        self,
        request: RefineRequest,
        style: Style,
        feedback: str | None = None,
        has_image: bool = False,
        instruction: str | None = None,
    ) -> list[dict[str, str]]:
        """The chat messages that ask for one caption.

        Args:
            request (`RefineRequest`): The caption and what is known.
            style (`Style`): How it is to be written.
            feedback (`str`, *optional*): Why the last answer was rejected.
            has_image (`bool`, defaults to `False`): Whether the picture is sent with the message.
            instruction (`str`, *optional*): A free instruction, given after those of the style. It comes from whoever
                runs the refiner, and stands outside of the fence around captions, on one line.

        Returns:
            `list[dict[str, str]]` with `role` and `content`.
        """
        common = {
            **self.variables,
            "instructions": [*style.instructions(), *([instruction] if instruction else [])],
            "language": LANGUAGES[style.language],
            "max_words": style.max_words,
            "has_image": has_image,
        }
        messages = []
        system = self._render(self.system, {**common, **_data(request), "feedback": None})
        if system:
            messages.append({"role": "system", "content": system})
        for example in self.examples:
            shown = RefineRequest(
                draft=example["draft"],
                candidates=tuple(example.get("candidates", ())),
                metadata=example.get("metadata", {}),
            )
            text = self._render(self.user, {**common, **_data(shown), "feedback": None, "has_image": False})
            messages.append({"role": "user", "content": text})
            messages.append({"role": "assistant", "content": example["caption"]})
        text = self._render(self.user, {**common, **_data(request), "feedback": feedback})
        messages.append({"role": "user", "content": text})
        return messages

    def _render(self, text: str, values: Mapping[str, Any]) -> str:
        try:
            return _compiled(text).render(values).strip()
        except (jinja2.TemplateError, TypeError, ArithmeticError, LookupError) as error:
            raise ConfigurationError(f"The prompt template {self.name!r} cannot be filled in: {error}") from error


@lru_cache(maxsize=64)
def _compiled(text: str) -> jinja2.Template:
    return _Environment().from_string(text)


def _data(request: RefineRequest) -> dict[str, Any]:
    others = [text for text in dict.fromkeys(request.candidates) if text.strip() and text != request.draft]
    return {"draft": request.draft, "candidates": others, "metadata": dict(request.metadata)}


def built_in_templates() -> list[str]:
    """The names of the templates of this package."""
    folder = files(__package__).joinpath("templates")
    return sorted(entry.name[: -len(".yaml")] for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_template(name: str | os.PathLike, variables: Mapping[str, Any] | None = None) -> PromptTemplate:
    """A template of this package by name, or the user's own by path (anything that ends in `.yaml` or `.yml`).

    Args:
        name (`str` or `os.PathLike`): `"correct"`, `"fuse"`, `"refine"`, or a path.
        variables (`Mapping[str, Any]`, *optional*): Values for the template's own variables, over those of the file.

    Raises:
        SourceNotFoundError: There is no such file or template.
        SourceFormatError: The file is not YAML, or has unknown or missing keys; they are named.
        ConfigurationError: A variable has no value.
    """
    given = str(name)
    if given.endswith((".yaml", ".yml")):
        path = Path(given)
        if not path.is_file():
            raise SourceNotFoundError(f"There is no prompt template {given!r}.")
        text = path.read_text(encoding="utf-8")
    else:
        known = built_in_templates()
        if given not in known:
            raise SourceNotFoundError(
                f"There is no prompt template {given!r}; there are: {', '.join(known)}. Your own is given by its "
                "path, which ends in .yaml."
            )
        text = files(__package__).joinpath(f"templates/{given}.yaml").read_text(encoding="utf-8")
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SourceFormatError(f"The prompt template {given!r} is not YAML: {error}") from error
    return _template_from(given, content, variables or {})


def _template_from(given: str, content: Any, variables: Mapping[str, Any]) -> PromptTemplate:
    where = f"The prompt template {given!r}"
    if not isinstance(content, Mapping):
        raise SourceFormatError(f"{where} must be a YAML mapping with the keys {', '.join(sorted(TEMPLATE_KEYS))}.")
    unknown = sorted(set(map(str, content)) - TEMPLATE_KEYS)
    if unknown:
        known = ", ".join(sorted(TEMPLATE_KEYS))
        raise SourceFormatError(f"{where} has the unknown key {unknown[0]!r}; there are: {known}.")
    for key in ("name", "user"):
        if not isinstance(content.get(key), str) or not content[key].strip():
            raise SourceFormatError(f"{where} needs the key {key!r}, with some text.")
    if not isinstance(content.get("system", ""), str):
        raise SourceFormatError(f"{where}: `system` must be text.")
    own = content.get("variables") or {}
    examples = content.get("examples") or []
    if not isinstance(own, Mapping):
        raise SourceFormatError(f"{where}: `variables` must be a mapping from names to values.")
    if not isinstance(examples, list):
        raise SourceFormatError(f"{where}: `examples` must be a list.")
    for number, example in enumerate(examples, 1):
        _check_example(f"{where}, example {number}", example)
    surplus = sorted(set(variables) - set(own) - _mentioned(content))
    if surplus:
        raise ConfigurationError(f"{where} has no variable {surplus[0]!r}.")
    return PromptTemplate(
        name=content["name"],
        system=content.get("system", ""),
        user=content["user"],
        examples=tuple(examples),
        variables={**own, **variables},
    )


def _check_example(where: str, example: Any) -> None:
    if not isinstance(example, Mapping):
        raise SourceFormatError(f"{where} must be a mapping with `draft` and `caption`.")
    unknown = sorted(set(map(str, example)) - EXAMPLE_KEYS)
    if unknown:
        raise SourceFormatError(f"{where} has the unknown key {unknown[0]!r}; there are: {', '.join(EXAMPLE_KEYS)}.")
    for key in ("draft", "caption"):
        if not isinstance(example.get(key), str):
            raise SourceFormatError(f"{where} needs the key {key!r}, with some text.")


def _mentioned(content: Mapping[str, Any]) -> set[str]:
    """Variables that a template uses; faults in its syntax are reported later, with their place."""
    environment, found = _Environment(), set()
    for part in ("system", "user"):
        try:
            found |= jinja2.meta.find_undeclared_variables(environment.parse(content.get(part, "")))
        except jinja2.TemplateSyntaxError:
            continue
    return found - OWN_VARIABLES
