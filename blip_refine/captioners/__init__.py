"""Captioners that are not ours, to be compared with them: `hf:MODEL` (transformers) and `openai:MODEL@URL` (a server).

`load_captioner_stream` makes one of either kind, or of ours, from its name.
"""

from __future__ import annotations

from .spec import CaptionerSpec as CaptionerSpec
from .spec import is_other as is_other
from .spec import split_refiner as split_refiner
