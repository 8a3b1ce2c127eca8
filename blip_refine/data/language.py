"""Is a caption in the wanted language? An option of cleaning, by `py3langid` (the extra `language`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from ..errors import ConfigurationError, MissingExtraError

SURE = 0.95
"""How probable another language has to be before a caption is left out: short captions are easily mistaken."""


@lru_cache(maxsize=8)
def language_filter(language: str) -> Callable[[str], bool]:
    """A test whether a caption may be in a language.

    Args:
        language (`str`): ISO 639-1 code ("en", "de", ...).

    Returns:
        `Callable[[str], bool]`: `False` only where another language is more probable than `SURE`.

    Raises:
        ConfigurationError: The code is none that can be told.
        MissingExtraError: `py3langid` is not installed.
    """
    try:
        import py3langid
    except ImportError as error:
        raise MissingExtraError("py3langid", "language", "tell the language of captions") from error
    known = sorted({str(label) for label, _ in py3langid.rank("any text")})
    if language not in known:
        raise ConfigurationError(f"The language {language!r} cannot be told; known are {', '.join(known)}.")

    def may_be(text: str) -> bool:
        # Log-probabilities up to a common constant, most probable first.
        ranked = [(str(label), float(score)) for label, score in py3langid.rank(text)]
        found, best = ranked[0]
        probability = 1 / sum(math.exp(score - best) for _, score in ranked)
        return found == language or probability < SURE

    return may_be
