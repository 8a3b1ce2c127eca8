"""The names of captioners that are compared with ours and never trained: `hf:MODEL` and `openai:MODEL@URL`."""

from __future__ import annotations

import os

from ..errors import ConfigurationError

OTHER_KINDS = ("hf", "openai")
"""What the names of captioners begin with, before a ":", that are compared with ours and never trained."""


def is_other(name: str) -> bool:
    """Whether this is the name of a captioner of another family (`hf:MODEL`) or behind a server (`openai:MODEL`)."""
    return name.strip().startswith(tuple(f"{kind}:" for kind in OTHER_KINDS))


def refuse_other_captioner(model: str | os.PathLike | None) -> None:
    """Refuse a captioner that is not ours where only ours will do.

    Args:
        model (`str` or `os.PathLike`, *optional*): Its name.

    Raises:
        ConfigurationError: It is `hf:...` or `openai:...`.
    """
    if model is not None and is_other(str(model)):
        raise ConfigurationError(
            f"{str(model).split(',')[0]!r} is a captioner for compare, ablate, caption and rate; it cannot be trained "
            "or loaded here. Name a BLIP captioner, such as Salesforce/blip-image-captioning-base."
        )
