"""From what a model wrote to the caption that it meant: preambles, quotes, lists and notes are taken off, or refused.

Nothing is changed inside the caption itself.
"""

from __future__ import annotations

import json
import re

_OPENERS = r"(?:sure|certainly|of course|okay|ok|absolutely|great|yes)\b[^:\n.!]{0,60}[.!,:]?\s*"
_NAMES_OF_IT = r"(?:caption|answer|sentence|correction|output|rewrite|version|alt[- ]?text|description|translation)s?"
_ANNOUNCEMENT = (
    rf"(?:here(?:'s| is| are| you go)\b[^:\n]{{0,80}}|(?:this is|the|my|a|your|i would|i have|i've)\b[^:\n]{{0,60}}\b"
    rf"{_NAMES_OF_IT}\b[^:\n]{{0,40}}|(?:(?:new|corrected|revised|improved|refined|rewritten|final|possible|better|fixed|"
    rf"edited|output)\s+)*{_NAMES_OF_IT}(?:\s*\([^)]*\))?)\s*:\s*"
)
PREAMBLE = re.compile(rf"^(?:{_OPENERS})?{_ANNOUNCEMENT}", re.IGNORECASE)
OPENER_LINE = re.compile(rf"^{_OPENERS}$", re.IGNORECASE)
REFUSAL = re.compile(
    r"^\W*(?:i'?m sorry|i am sorry|sorry,|i cannot|i can'?t|i am unable|i'?m unable|i won'?t|as an ai|"
    r"unfortunately,? i|i do not have|i don'?t have|i am not able|i'?m not able|please provide|could you please)",
    re.IGNORECASE,
)
NOTE = re.compile(
    r"^\W*(?:note|explanation|reason|changes?|corrections?|i\s|let me know|hope|please|this (?:caption|is))", re.I
)
LIST_MARK = re.compile(r"^\s*(?:[-*\u2022]|\(?\d{1,2}[.)]|caption \d+:)\s+", re.IGNORECASE)
QUOTES = (('"', '"'), ("\u201c", "\u201d"), ("\u2018", "\u2019"), ("'", "'"), ("\u00ab", "\u00bb"), ("`", "`"))
THOUGHT = re.compile(r"<think>.*?(?:</think>|$)", re.IGNORECASE | re.DOTALL)
WRAPPERS = re.compile(r"</?(?:caption|data|answer|output|image|s|p|b|i)>|<\|[^|<>]{1,40}\|>", re.IGNORECASE)


def clean_answer(raw: str, strict: bool = False) -> tuple[str | None, str | None]:
    """The caption in a model's answer.

    Args:
        raw (`str`): What the model wrote.
        strict (`bool`, defaults to `False`): Refuse an answer that is more than a bare caption, rather than strip it.

    Returns:
        `tuple[str | None, str | None]`: The caption and `None`; or `None` and why there is none.
    """
    text = THOUGHT.sub("", raw).strip()
    text = WRAPPERS.sub(" ", text).strip()
    unfenced = re.fullmatch(r"```\w*\s*\n?(.*?)\n?```", text, re.DOTALL)
    text = unfenced[1].strip() if unfenced else text
    if text.startswith("{"):
        text, problem = _from_json(text)
        if problem:
            return None, problem
    if not text:
        return None, "the answer is empty"
    if REFUSAL.match(text):
        return None, "the model refused"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    listed = [line for line in lines if LIST_MARK.match(line)]
    if len(listed) > 1:
        return None, f"{len(listed)} captions instead of one"
    captions = _captions_in(lines)
    if not captions:
        return None, "the answer is only a preamble"
    if len(captions) > 1:
        return None, f"{len(captions)} captions instead of one"
    caption = captions[0]
    if strict and caption != raw.strip():
        return None, "the answer is more than a bare caption"
    return (caption, None) if caption else (None, "the answer is empty")


def _from_json(text: str) -> tuple[str, str | None]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return "", "the answer is broken JSON"
    caption = value.get("caption") if isinstance(value, dict) else None
    if not isinstance(caption, str):
        return "", "the answer is JSON without a caption"
    return caption.strip(), None


def _captions_in(lines: list[str]) -> list[str]:
    """The lines that are captions: without preambles before, and notes after them."""
    captions: list[str] = []
    for line in lines:
        if OPENER_LINE.match(line) and not captions:
            continue
        bare = _strip_marks(line)
        if captions and (NOTE.match(bare) or line.startswith("(")):
            # A note ends the answer: what follows explains, and is no caption.
            break
        if bare:
            captions.append(bare)
    return captions


def _strip_marks(line: str) -> str:
    """One line without list mark, preamble, bold marks and quotes around all of it."""
    before = None
    while before != line:
        before = line
        line = LIST_MARK.sub("", line).strip()
        line = re.sub(r"^(\*\*|__|\*|_|#+ )(.*?)(\*\*|__|\*|_|)$", r"\2", line).strip()
        line = PREAMBLE.sub("", line, count=1).strip()
        line = re.sub(r"^\*\*\s*", "", line)
        for opening, closing in QUOTES:
            inner = line.rstrip(".")[len(opening) : -len(closing)]
            quoted = line.startswith(opening) and line.rstrip(".").endswith(closing) and len(line) > 1
            if quoted and opening not in inner and closing not in inner.replace("'s", ""):
                line = inner.strip()
    return line
