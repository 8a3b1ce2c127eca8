"""The names of captioners: `hf:MODEL`, `openai:MODEL@URL`, each with options behind it, or the name of one of ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import ConfigurationError
from ..models.other_names import is_other as is_other

if TYPE_CHECKING:
    from ..caption_stream import CaptionStream

NO_CAPTION = "No caption: "
"""What the `error` of an image begins with that could be read, and about which the captioner said nothing usable."""


def _prices(text: str) -> tuple[float, float]:
    read, written = (float(part) for part in text.split(","))
    return read, written


OPTIONS: Mapping[str, Mapping[str, Callable[[str], Any]]] = {
    "hf": {"prompt": str, "revision": str, "num_beams": int, "max_new_tokens": int, "dtype": str, "quantization": str},
    "openai": {
        **{
            "prompt": str,
            "max_new_tokens": int,
            "temperature": float,
            "reasoning_effort": str,
            "prices": _prices,
            "max_cost": float,
        },
        **{"api_key_env": str, "concurrency": int, "max_retries": int, "timeout": float, "image_size": int},
    },
}
"""The options that may stand behind a name, and how each is read."""


@dataclass(frozen=True)
class CaptionerSpec:
    """The name of a captioner of another family or behind a server, taken apart.

    Args:
        kind (`str`): "hf" or "openai".
        model (`str`): A folder or model id of the Hub, or the model's name at the server.
        url (`str`, *optional*): The server, up to `/v1`; by default the variable `OPENAI_BASE_URL`, or OpenAI.
        options (`Mapping[str, Any]`): See [`OPTIONS`].
    """

    kind: str
    model: str
    url: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> CaptionerSpec:
        """Read `hf:MODEL` or `openai:MODEL@URL`, each with `,option=value` behind it.

        Raises:
            ConfigurationError: It is written in another way, or has an unknown option.
        """
        kind, _, rest = text.strip().partition(":")
        # A value may have commas; an option begins with a name and "=".
        model, *written = re.split(r",(?=\s*[A-Za-z_]+\s*=)", rest)
        options: dict[str, Any] = {}
        for one in written:
            name, _, value = (part.strip() for part in one.partition("="))
            if name not in OPTIONS[kind]:
                raise ConfigurationError(
                    f"An '{kind}:' captioner has no option {name!r}; it has: {', '.join(sorted(OPTIONS[kind]))}."
                )
            try:
                options[name] = OPTIONS[kind][name](value)
            except ValueError:
                example = "such as prices=0.15,0.60" if name == "prices" else "a number is needed"
                raise ConfigurationError(f"{name}={value!r} in {text!r} cannot be read: {example}.") from None
        model, url = model.strip(), None
        if kind == "openai":
            # A model's name may have an "@" of its own.
            model, *places = re.split(r"@(?=[A-Za-z][A-Za-z0-9+.-]*://)", model, maxsplit=1)
            url = places[0] if places else None
            if url is None and re.search(r"@[^@]*[:/]", model):
                raise ConfigurationError(
                    f"The server in {text!r} must begin with http:// or https://: openai:MODEL@http://localhost:8000/v1"
                )
            if url is not None and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
                raise ConfigurationError(f"The server of {kind}:{model} must be an http:// or https:// address.")
        if not model:
            form = "hf:microsoft/git-base" if kind == "hf" else "openai:MODEL@http://localhost:8000/v1"
            raise ConfigurationError(f"{text!r} names no model; write it like {form}.")
        return cls(kind, model, url, options)

    @property
    def name(self) -> str:
        """`hf:MODEL` or `openai:MODEL`."""
        return f"{self.kind}:{self.model}"


def is_served(text: str) -> bool:
    """Whether a captioner is behind a server, which decodes as it does."""
    return is_other(text) and CaptionerSpec.parse(text).kind == "openai"


def refuse_decoding(spec: CaptionerSpec, options: Iterable[str]) -> None:
    """Refuse the first of some decoding options for a captioner whose server decodes.

    Raises:
        ConfigurationError: There is one.
    """
    for name in options:
        raise ConfigurationError(
            f"--{name.replace('_', '-')} has no effect with the captioner {spec.name}: its server decodes. "
            "Leave it out."
        )


def split_refiner(text: str) -> tuple[str, str]:
    """A captioner and the refiner behind `>`, `""` without one. The `>` of a `<TASK>` in a prompt does not count."""
    depth = 0
    for place, letter in enumerate(text):
        if letter == "<":
            depth += 1
        elif letter == ">" and depth:
            depth -= 1
        elif letter == ">":
            return text[:place].strip(), text[place + 1 :].strip()
    return text.strip(), ""


def load_captioner_stream(name: str, **options: Any) -> CaptionStream:
    """Load a captioner of any kind from its name.

    Args:
        name (`str`): `hf:MODEL`, `openai:MODEL@URL`, or whatever [`CaptionPipeline.from_pretrained`] takes.
        **options: Those of [`HubCaptioner.load`], [`ServerCaptioner`] or [`CaptionPipeline.from_pretrained`].

    Raises:
        ConfigurationError: An option that this kind of captioner does not have.
        ModelError: There is no such captioner, it cannot be loaded, or its server does not answer.
    """
    if not is_other(name):
        from ..pipeline import CaptionPipeline

        return CaptionPipeline.from_pretrained(name, **options)
    spec = CaptionerSpec.parse(name)
    if spec.kind == "hf":
        from .local import HubCaptioner

        return HubCaptioner.load(spec, **options)
    from .server import ServerCaptioner

    return ServerCaptioner(spec, **options)
