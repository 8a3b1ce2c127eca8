"""What becomes of a caption when its picture is mirrored.

"A dog to the left of a boy" has to become "to the right". But "left" and "right" are not always sides: "right behind",
"he has left". Where that is in doubt the picture is not mirrored: a caption must stay true.
"""

from __future__ import annotations

import re

_SIDE = re.compile(r"\b(left|right)(most|ward|wards|hand|handed|handers?|side|s)?\b", re.IGNORECASE)

# Uses that say nothing about a side, and stay as they are.
_NO_SIDE = re.compile(
    r"\bright (?:next|behind|in front|in the (?:middle|center|centre)|above|below|beneath|under|over|on top|beside|by"
    r"|now|after|before|there|here|at|near|up|down|against|along|through|past|out|outside|inside|into|off|up against"
    r"|angles?|way|side up|time|moment|away|back|between|around|across|underneath|onto|alongside)\b"
    r"(?! (?:the|his|her|its|their) (?:left|right))"
    r"|\b(?:all|just|up)[ -]right\b"
    r"|\bleft (?:behind|over|alone|out|open|on the (?:table|ground|floor|beach|counter|plate)|in the)\b"
    r"|\b(?:has|have|had|was|were|is|are|been|being|having|just|recently|what is|what's) left\b(?! of| side| hand)"
    r"|\bleftovers?\b|\bleft-overs?\b|\bwho left\b|\bthat left\b",
    re.IGNORECASE,
)

# Uses that are sides without doubt, and change.
_SURE_SIDE = re.compile(
    r"\b(?:to|on|at|in|from|toward|towards|of|by) (?:the|his|her|its|their|our|your|my) "
    r"(?:(?:far|upper|lower|top|bottom|front|back|rear|very|immediate|extreme|outer|inner) )*(?:left|right)\b"
    r"|\b(?:to|on|from|toward|towards|far|upper|lower|top|bottom|looking|looks|facing|faces|turning|turns|turned"
    r"|leaning|leans|pointing|points|heading|moving|going|running|walking) (?:left|right)\b"
    r"|\b(?:left|right)[ -](?:hand(?:ed)?|handers?|side|arm|leg|foot|eye|ear|shoulder|knee|elbow|wrist|ankle|thumb"
    r"|fist|cheek|paw|wing|hip|thigh|palm|fingers?|glove|shoe|boot|sleeve|half|corner|edge|lane|wall|bank|end|field|front"
    r"|rear|page|turn|most)\b"
    r"|\b(?:the|his|her|its|their|one) (?:left|right)(?=[.,;:!?)]|\s*$| and\b| or\b| while\b| with\b| is\b| are\b"
    r"| has\b| of\b| side\b)"
    r"|\b(?:left|right) to (?:left|right)\b|\bleft and right\b|\bright and left\b"
    r"|\b(?:left|right)(?:most|wards?|handed|handers?|hand|side)\b",
    re.IGNORECASE,
)

# Things that a mirror changes and words do not tell how, and signs of writing in the picture.
_TURNING = re.compile(r"\b(?:anti|counter)?[- ]?clockwise\b|\bmirror(?:ed|-image)\b|\bswastika\b", re.IGNORECASE)
_WRITING = re.compile(
    r"\b(?:text|words?|letters?|lettering|writing|written|writes?|wrote|reads?|says?|saying|said|spells?|spelled"
    r"|spelling|signs?|signage|logos?|labels?|labell?ed|numbers?|numbered|numerals?|digits?|headlines?|newspapers?|magazines?"
    r"|books?|posters?|billboards?|banners?|license plates?|maps?|clocks?|watch(?:es)? face|menus?|screens?|keyboards?"
    r"|letters?|inscriptions?|graffiti|tattoos?|titled|entitled|advertisements?|ads?|flags?|scoreboards?|chalkboards?"
    r"|whiteboards?|blackboards?|jerseys?)\b|[\"“”]|\b\w*\d+\w*\b",
    re.IGNORECASE,
)

_OPPOSITE = {"left": "right", "right": "left"}


def mirror_caption(caption: str) -> str | None:
    """The caption of the mirrored picture.

    Args:
        caption (`str`): The caption of the picture as it is.

    Returns:
        `str`, *optional*: The caption with the sides changed, or `None` where it cannot be told whether a word is a
        side, or what it becomes.
    """
    if _TURNING.search(caption):
        return None
    untouched = [match.span() for match in _NO_SIDE.finditer(caption)]
    sure = [match.span() for match in _SURE_SIDE.finditer(caption)]
    pieces: list[str] = []
    place = 0
    for match in _SIDE.finditer(caption):
        is_side = any(start <= match.start() < end for start, end in sure)
        is_no_side = any(start <= match.start() < end for start, end in untouched)
        if is_side == is_no_side:
            return None
        pieces.append(caption[place : match.start(1)])
        pieces.append(_like(match[1], _OPPOSITE[match[1].lower()]) if is_side else match[1])
        place = match.end(1)
    return "".join([*pieces, caption[place:]])


def mentions_writing(caption: str) -> bool:
    """Whether a caption says that there is writing, or a thing that bears writing, in the picture: mirrored, it would
    be wrong to read."""
    return _WRITING.search(caption) is not None


def _like(model: str, word: str) -> str:
    """`word` in the case of `model`."""
    if model.isupper():
        return word.upper()
    return word.capitalize() if model[0].isupper() else word
