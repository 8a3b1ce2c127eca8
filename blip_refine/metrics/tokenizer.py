"""Penn Treebank tokenization of captions, as the COCO evaluation does it, without Java.

The COCO caption evaluation splits captions with Stanford's `PTBTokenizer -preserveLines -lowerCase` and drops
punctuation. This module is written from the published Penn Treebank conventions and from what that tool prints for
some 900,000 probes; its rules are in `_RULES`, and the longest match wins.

One thing is done otherwise on purpose. The Java tool reads all captions as one text, so that the beginning of the
*next* caption can change the last token of this one ("... a Nintendo Wii U." ends in `u.` or in `u`). Here every
caption is tokenized by itself, as the tool does where it is given that caption alone on its line; and a line or
paragraph separator inside of a caption is a space, where the Java tool would shift all later captions to the wrong
image.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

TOKENIZER = "ptb-1"
"""Name and version in signatures. The number changes with any change of a token."""

_DROPPED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";", '"'])
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_WRITTEN = {
    **_BRACKETS,
    **dict.fromkeys("\u20ac\u00a4\u20a0\u0080", "$"),
    "\u00a3": "#",
    "\u00a2": "cents",
    "\u00bd": "1/2",
    "\u00bc": "1/4",
    "\u00be": "3/4",
    "\u2153": "1/3",
    "\u2154": "2/3",
    ":[": ":[",
    ":]": ":]",
}
"""How the Java tool prints some tokens."""

# Characters --------------------------------------------------------------------------------------------------------
# Quotes that open or close, dashes and the ellipsis become punctuation that is dropped: a space does the same.
_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("\u2018\u201b\u2039\u2013\u2014\u2015\u2026\u00ab\u00bb\u201c\u201d\u0091\u0093\u0094", " "),
        **dict.fromkeys("\u2019\u203a\u0092", "'"),
        "\u00ad": "",
    }
)
# What the Java tool cannot read and leaves out: emoji, private and unassigned characters, most control characters.
_UNREADABLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\u1ffd-\u200f\u2012\u2024\u2025\u2027-\u202f\u203c\u203d\u2043\u2045-\u206f"
    "\u20a1-\u20a3\u20a5-\u20ab\u20ad-\u20ff\u2e30-\u3000\u3003\u3004\u3007-\u3011\u3013-\u3030\u3200-\u33ff"
    "\ud800-\uf8ff\ufdfc-\ufe6f\ufefd-\uff00\uffe7-\uffff\U00010000-\U0010ffff]+"
)
# Raised, lowered and circled figures are symbols to it, and letters or digits to Python's regular expressions.
_FIGURES = re.compile("([\u00b2\u00b3\u00b9\u00bc-\u00be\u2070\u2074-\u2079\u2080-\u2089\u2153-\u215e\u2460-\u249b])")
_ENTITIES = {
    "&amp;": "&",
    "&lt;": " < ",
    "&gt;": " > ",
    "&quot;": '"',
    "&apos;": "'",
    "&nbsp;": " ",
    "&mdash;": " ",
    "&ndash;": " ",
}
_ENTITY = re.compile("|".join(_ENTITIES), re.IGNORECASE)

# Words -------------------------------------------------------------------------------------------------------------
# Abbreviations that keep their full stop wherever they stand; then those that do so only with a capital, and those
# that do so only before a number.
_ABBREVIATIONS = (
    "adm|ala|alex|apr|ariz|assn|asst|atty|aug|ave|al|bldg|blvd|bros|calif|cf|cmdr|col|colo|conn|corp|cos|cpl|co|ct|dak|"
    "dec|dept|det|drs|dr|esq|est|etc|ext|feb|fla|fri|ft|ga|gen|gov|hon|inc|ind|insp|intl|jan|jos|jr|jul|jun|kans|kan|"
    "ky|lt|ltd|maj|mar|md|messrs|mich|minn|mlle|mme|mon|mont|mo|mr|mrs|ms|mt|neb|nev|nov|oct|okla|penn|ph|plc|"
    "pres|profs|prof|pvt|rd|rep|rev|sen|sept|sep|sgt|sq|sr|ste|st|supt|tel|tenn|thurs|thu|tues|tue|univ|va|vs|vt|"
    "wed|wis|wm|wyo"
)
_CAPITAL_ABBREVIATIONS = "Ark|Del|Ill|La|Mass|Miss|Ore|Pa|Tex|Wash"
_NUMBER_ABBREVIATIONS = "art|ca|figs|fig|nos|no|op|prop|pp"
# Words that begin a sentence: before them the full stop of "plan B. The" is one. Capitalized or in capitals only.
_STARTS = (
    "A About According Additionally After An As At But Earlier He Her Here However If In It Last Many More Now Once "
    "One Other Our She Since So Some Such That The Their Then There These They This We What When While Yet You"
)
_START = "|".join(sorted({w for word in _STARTS.split() for w in (word, word.upper()) if w not in _DROPPED}))

_W = r"(?:[^\W_]|[\u02b0-\u036f])"
_L = r"[^\W\d_]"
_H = r"[-\u2010\u2011]"
_END = rf"(?!{_W})"
_C = rf"(?:(?!n't{_END}){_W})"
"""A letter or digit of a word; the n of "n't" is none."""


def _rules() -> list[re.Pattern[str]]:
    dotted = rf"{_L}{_W}*(?:\.{_L}{_W}*)+"
    acronym = rf"(?:{_L}\.){{2,}}"
    lower = [
        # Words, with hyphens, slashes, underscores and dots inside.
        rf"{_C}+",
        rf"(?:{_W}+(?:[.,]{_W}+)?|(?:{_L}\.)+|(?:{_ABBREVIATIONS})\.)(?:{_H}(?:{acronym}|{_W}+(?:_{_W}+)*))+",
        rf"{_W}+(?:_{_W}+)+(?:{_H}{_W}+(?:_{_W}+)*)*",
        rf"{_W}+(?:{_H}{_L}+)*(?:/{_W}+(?:{_H}{_L}+)*){{1,2}}",
        rf"{dotted}|{_W}+\.{_L}{_END}",
        rf"{_L}{_W}*[!?]{_L}{_W}*",
        # A full stop that another mark follows stays with its word.
        rf"(?:{dotted}|{_W}+(?:{_H}{_W}+)*)\.(?=[,;:])",
        # Initials, acronyms and abbreviations.
        rf"{acronym}|ph\.d\.|(?:{_ABBREVIATIONS})\.|(?:{_NUMBER_ABBREVIATIONS})\.(?=\s*\d)",
        rf"{_L}\.(?!\s+(?-i:{_START}){_END})",
        # Contractions.
        rf"n't{_END}|'(?:s|m|d|ll|re|ve){_END}",
        rf"[dlno]'(?!t{_END}){_L}{{2,}}|[djl]'|(?:ol|dunkin|somethin)'(?!s{_END})",
        rf"{_L}{{2,}}(?<=[aeiouy])'[aeiou]{_L}*|(?:cap'n|nat'l|s'mores|c'mon|c'est|qu'il|e'er){_END}",
        r"'(?:em|till?|cause)|'t(?=is|was)|'n'|'n(?![\w\"])|'\d\ds?(?![\w'\"])",
        # Numbers, dates, fractions, telephone numbers.
        r"[-+]?(?:\d*(?:[.,:]\d+)+|\d+)",
        r"\d+(?:[-/]\d+){1,2}",
        r"\d+\s\d+/\d+",
        r"(?:\(\d{3}\)\s?|\d{3}\s)\d{3}[-\s]\d{4}(?!\d)",
        r"(?:us|hk|nz|au|ca|[acmrs])\$|[cf]#|c\+\+",
        # The web: addresses, handles, hashtags, tags.
        r"https?://[^\s\"<>|(){}]*[^\s\"<>|(){}.,!?-]",
        rf"(?:www\.)?{_L}{_W}*(?:[.-]{_W}+)*\.(?:com|net|org|edu)(?:/[^\s\"<>|()]*[^\s\"<>|().,!?;:'-])?{_END}",
        rf"{_W}(?:[\w.%+-]*{_W})?@{_W}+(?:[.-]{_W}+)*",
        rf"@{_L}\w*|\#{_L}+|&\#\d+;",
        r"</?[A-Za-z][\w-]*(?:\s[^<>]*)?/?>",
        # Smileys, and runs of marks that are one token.
        rf"(?:[:;=]-?[()]|:'\(|:[\[\]]|[:;]-?[dp]|=d){_END}|\^_\^",
        r"[!?]{2,}|\*{2,}|\#{2,}|@{2,}|_{2,}|<<|>>|-{5,}|-{2,4}|\.{3,}|''|``",
    ]
    exact = [
        r"[A-Z]+&[A-Z]+",
        rf"(?:{_CAPITAL_ABBREVIATIONS}|{_CAPITAL_ABBREVIATIONS.upper()}|[Mm]fg|[Mm]tg|[Pp]ty)\.",
        # A capital before an apostrophe begins a name.
        rf"[A-HJ-XZ]'{_L}{{2,}}",
        r":O(?![A-Za-z])",
    ]
    return [re.compile(rule, re.IGNORECASE) for rule in lower] + [re.compile(rule) for rule in exact]


_RULES = _rules()
# Words that are two to the Treebank: their first half is a token whatever longer match there is.
_HALVES = re.compile(
    rf"can(?=not{_END})|gon(?=na{_END})|wan(?=na{_END})|got(?=ta{_END})|lem(?=me{_END})|gim(?=me{_END})|y'(?=[^\W\ds])|ph\.d\.",
    re.IGNORECASE,
)
_SPACE = re.compile(r"\s*")

# A chunk between spaces that is one plain word, and no abbreviation or contraction: nothing around it matters.
_PLAIN = re.compile(r"([A-Za-z]{2,}(?:-[A-Za-z]+)*)('s)?[.,]?|[A-Za-z]")
_NOT_PLAIN = re.compile(
    rf"(?:{_ABBREVIATIONS}|{_CAPITAL_ABBREVIATIONS}|{_NUMBER_ABBREVIATIONS}|mfg|mtg|pty|cannot|gonna|wanna|gotta|lemme|gimme)",
    re.IGNORECASE,
)
_REMEMBERED = 200_000


class _PlainWords(dict):
    """From a chunk between spaces to its tokens where its surroundings cannot matter, `None` where they may."""

    def __missing__(self, chunk: str) -> str | None:
        match = _PLAIN.fullmatch(chunk)
        tokens = None
        if match and not (match.group(1) and _NOT_PLAIN.fullmatch(match.group(1))):
            tokens = chunk.rstrip(".,").lower()
            if match.group(2):
                tokens = tokens[:-2] + " 's"
        if len(self) < _REMEMBERED:
            self[chunk] = tokens
        return tokens


_plain_words = _PlainWords()


def tokenize(caption: str) -> str:
    """One caption as lower-cased Penn Treebank tokens without punctuation, joined by single spaces.

    Args:
        caption (`str`): The caption, in the case it was written in: some splits depend on it.

    Returns:
        `str`: The tokens, such as `"a man 's dog ca n't swim"`. Empty where the caption holds only punctuation. A
        token may hold a no-break space ("22 3/4"), as it does in the Java tool.
    """
    words = [_plain_words[chunk] for chunk in caption.split()]
    if None in words:
        return " ".join(_tokens(caption))
    return " ".join(words)  # type: ignore[arg-type]


def _tokens(caption: str) -> list[str]:
    if "&" in caption:
        caption = _ENTITY.sub(lambda match: _ENTITIES[match.group().lower()], caption)
    if not (caption.isascii() and caption.isprintable()):
        caption = _FIGURES.sub(r" \1 ", _UNREADABLE.sub(" ", caption.translate(_CHARACTERS)))
    tokens = []
    place, end = _SPACE.match(caption).end(), len(caption)  # type: ignore[union-attr]
    while place < end:
        half = _HALVES.match(caption, place)
        if half:
            stop = half.end()
        else:
            stop = max((match.end() for rule in _RULES if (match := rule.match(caption, place))), default=place + 1)
        token = caption[place:stop]
        place = _SPACE.match(caption, stop).end()  # type: ignore[union-attr]
        if token in _DROPPED or not token.strip(".") or token in ("--", "---", "----", "\u2010", "\u2011"):
            continue
        tokens.append(_written(token))
    return tokens


def _written(token: str) -> str:
    """A token as the Java tool prints it: lower-cased, brackets by name, inner spaces unbreakable."""
    if token in _WRITTEN:
        return _WRITTEN[token]
    if not token.isalnum():
        token = "".join(_BRACKETS.get(character, character) for character in token)
        token = re.sub(r"\s+", "\u00a0", token)
    return token.lower()


def tokenize_captions(captions: Iterable[str]) -> list[str]:
    """`tokenize` for each of `captions`."""
    return [tokenize(caption) for caption in captions]
