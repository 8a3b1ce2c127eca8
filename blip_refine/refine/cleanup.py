"""What can be put right in a caption without understanding it, one small function for each kind of fault.

Every function takes and returns a caption, and leaves a caption without its fault as it is. None of them adds a word
that says something: an article is the most they write.
"""

from __future__ import annotations

import re
import unicodedata

SPECIAL_TOKENS = re.compile(
    r"\[(?:CLS|SEP|PAD|UNK|MASK|DEC|ENC)\]|</?s>|<(?:pad|unk|mask|bos|eos)>|<\|[^|<>]{1,40}\|>", re.IGNORECASE
)
"""What a tokenizer's decoder leaves behind when special tokens are not skipped."""

ARTEFACT = re.compile(r"\b(?:(a|an|the)\s+)?(araff?(?:e|ed|eed|es|ing)?)\b(?!')\s*", re.IGNORECASE)
"""The non-word that BLIP-large puts in front of things ("arafed man in a red shirt")."""

ARTICLES = {"a", "an", "the"}
DETERMINERS = ARTICLES | {
    *("his", "her", "its", "their", "my", "your", "our", "this", "that", "these", "those", "some", "another"),
    *("each", "every", "no", "any"),
}
PREPOSITIONS = {
    *("of", "in", "with", "from", "at", "for", "to", "into", "onto", "near", "beside", "between", "among", "against"),
    *("beneath", "underneath", "under", "above", "behind", "below", "upon", "toward", "towards", "inside", "outside"),
    *("on", "by", "over", "through", "across", "along", "around", "past", "up", "down", "off", "out", "like", "than"),
    *("during", "atop", "amid", "alongside"),
}
CONJUNCTIONS = {"and", "or", "but", "while", "as", "that", "which", "who", "where", "when", "because", "if", "nor"}
AUXILIARIES = {"is", "are", "was", "were", "be", "being", "has", "have", "having"}

QUANTITIES = {"two", "three", "four", "five", "six", "several", "many", "some", "few", "people", "men", "women"}
NO_NOUN = DETERMINERS | PREPOSITIONS | CONJUNCTIONS | AUXILIARIES | {"next", "sitting", "standing"}

CANNOT_END = {"a", "an", "the", "his", "its", "their", "my", "your", "our", "every", "another"} | {
    *(
        "of",
        "with",
        "from",
        "at",
        "for",
        "to",
        "into",
        "onto",
        "beside",
        "between",
        "among",
        "against",
        "upon",
        "than",
    ),
    *("toward", "towards", "atop", "amid", "during", "alongside", "and", "or", "but", "while", "as", "which", "who"),
    *("because", "if", "nor", "is", "are", "was", "were", "be", "being"),
}
"""Words after which something always has to follow. "on", "up", "by", "her" can end a sentence ("a jacket on")."""

COLOURS = {
    *("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "gray", "grey", "tan"),
    *("beige", "gold", "golden", "silver", "maroon", "navy", "turquoise", "teal", "cyan", "magenta", "violet"),
    *("lavender", "crimson", "scarlet", "burgundy", "khaki", "cream", "olive", "indigo", "blond", "blonde"),
}
ADJECTIVES = COLOURS | {
    *("large", "big", "small", "little", "tiny", "huge", "tall", "short", "long", "old", "young", "new", "colorful"),
    *("colourful", "bright", "dark", "striped", "plaid", "wooden", "grassy", "snowy", "sandy", "rocky", "busy", "wet"),
    *("dirty", "muddy", "crowded", "open", "empty", "blurry", "male", "female", "several", "many", "two", "three"),
}
"""Words that need a noun after them when a determiner stands in front ("in a blue")."""

SAID_TWICE = {"bye", "choo", "cha", "yo", "pom", "tuk", "tut", "knock", "night", "hush", "go", "chop", "dum"}
"""Words that English doubles on purpose."""

VOWEL_SOUND = re.compile(
    r"(?:[aeiou]|h(?:our|eir|onest|onou?r)|x-ray|(?:mp3|mri|nba|nfl|nhl|sms|suv|lcd|led|atm|mlb)\b)", re.I
)
CONSONANT_SOUND = re.compile(
    r"(?:uni(?!n|m)|use|usual|util|eu|ewe|once\b|one\b|one-|ufo|u-|u\.|us\b|uk\b|ukulele)", re.I
)


def clean_characters(text: str) -> str:
    """Unicode in one form, no control characters, no special tokens, one space between words."""
    text = unicodedata.normalize("NFC", text)
    text = SPECIAL_TOKENS.sub(" ", text)
    text = "".join(" " if unicodedata.category(char) in ("Cc", "Zl", "Zp", "Zs") else char for char in text)
    text = re.sub(r"[\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]", "", text)
    return " ".join(text.split())


def fix_spacing(text: str) -> str:
    """Spaces where they belong around punctuation, and word pieces put together ("t - shirt", "man ' s", "##ing")."""
    text = re.sub(r"\s+##(?=\w)", "", text)
    text = re.sub(r"(?<=\w)\s+-\s+(?=\w)", "-", text)
    text = re.sub(r"(?<=\w)\s*'\s*(?=(?:s|t|re|ve|ll|d|m)\b)", "'", text)
    text = re.sub(r"\s+([,.;:!?)\]}])", r"\1", text)
    text = re.sub(r"([(\[{])\s+", r"\1", text)
    text = re.sub(r"([,;])(?=[^\W\d])", r"\1 ", text)
    text = re.sub(r"([,;:])(?:\s*[,;:])+", r"\1", text)
    text = re.sub(r"[,;:]\s*(?=[.!?]+(?:\s|$))", "", text)
    text = re.sub(r"\.{2,}", lambda match: "..." if len(match[0]) == 3 else ".", text)
    text = re.sub(r"([!?])\1+", r"\1", text)
    return " ".join(text.split())


def drop_artefacts(text: str) -> str:
    """Without "arafed" and its kin; the article that it swallowed is put back ("arafed man" -> "a man").

    Where no noun follows, the non-word is the noun: a misspelt "giraffe" of the captions that BLIP learned from.
    """

    def replacement(match: re.Match[str]) -> str:
        article, artefact = match[1] or "", match[2].lower()
        following = re.match(r"[\w'-]+", text[match.end() :])
        word = following[0].lower() if following else ""
        if not word or word in NO_NOUN or word.endswith("ing"):
            if artefact.endswith(("ed", "ing")):
                return article + " "
            noun = "giraffes" if artefact.endswith("s") else "giraffe"
            return f"{article or ('a' if noun == 'giraffe' and not match.start() else '')} {noun} "
        if article.lower() == "the":
            return article + " "
        if _is_plural(word) or word in QUANTITIES:
            return ""
        return "a " if article or match.start() == 0 else ""

    return " ".join(ARTEFACT.sub(replacement, text).split())


def _is_plural(word: str) -> bool:
    return word in {"people", "men", "women", "children"} or (
        word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3
    )


def collapse_repeats(text: str, longest: int = 8) -> str:
    """Words and phrases said twice in a row are said once: "a dog dog", "in a field in a field".

    Two equal phrases joined by "and" or a comma are one, too, unless they may be two things: "a man and a man" stays,
    "a man and a man and a man" does not, for that is a decoder in a loop.
    """
    words = text.split()
    # Joined ones from the shortest: "a man" three times, and not "a man and a man" twice.
    for size in range(1, min(longest, len(words) // 2) + 1):
        words = _collapse_joined(words, size)
    for size in range(min(longest, len(words) // 2), 0, -1):
        words = _collapse_adjacent(words, size)
    return " ".join(words)


def _plain(word: str) -> str:
    return word.strip(".,;:!?\"'()").lower()


def _collapse_adjacent(words: list[str], size: int) -> list[str]:
    place = 0
    while place + 2 * size <= len(words):
        first = [_plain(word) for word in words[place : place + size]]
        second = [_plain(word) for word in words[place + size : place + 2 * size]]
        meant = size == 1 and (first[0] in SAID_TWICE or not first[0].isalpha())
        # A full stop in between is the matter of `drop_repeated_sentences`.
        ended = words[place + size - 1][-1:] in ".!?"
        if first == second and all(first) and not meant and not ended:
            # The second one stays: it carries the punctuation of what follows. The capital is the first one's.
            words = words[:place] + _with_case_of(words[place], words[place + size :])
        else:
            place += 1
    return words


def _with_case_of(model: str, words: list[str]) -> list[str]:
    return [words[0][:1].upper() + words[0][1:], *words[1:]] if model[:1].isupper() else words


def _collapse_joined(words: list[str], size: int) -> list[str]:
    place = 0
    while place + 2 * size + 1 <= len(words):
        phrase = [_plain(word) for word in words[place : place + size]]
        end = place + size
        copies = 1
        while (
            end + size + 1 <= len(words)
            and _plain(words[end]) == "and"
            and [_plain(word) for word in words[end + 1 : end + 1 + size]] == phrase
        ):
            end += size + 1
            copies += 1
        one_thing = phrase[0] in {"a", "an", "one", "another"} or size == 1
        if copies >= 3 or (copies == 2 and not one_thing and all(phrase)):
            words = words[:place] + _with_case_of(words[place], words[end - size :])
        place += 1
    return words


def drop_repeated_sentences(text: str) -> str:
    """Sentences that were said already, and the parts of a list that were."""
    sentences = re.split(r"(?<=[.!?])\s+", text)
    kept: list[str] = []
    for sentence in sentences:
        if _plain(sentence) not in {_plain(other) for other in kept}:
            kept.append(sentence)
    parts: list[str] = []
    for part in " ".join(kept).split(", "):
        plain = _plain(part)
        if plain not in {_plain(other) for other in parts} or plain.startswith(("a ", "an ", "one ")):
            parts.append(part)
        elif parts and part[-1:] in ".!?" and parts[-1][-1:] not in ".!?":
            parts[-1] += part[-1]
    return ", ".join(parts)


def fix_articles(text: str) -> str:
    """ "a" or "an" by the sound that follows, and one article where there are two ("a the man")."""
    text = re.sub(r"\b(?:a|an)\s+(the|an?|his|her|their|its)\b(?=\s)", r"\1", text, flags=re.IGNORECASE)
    text = re.sub(r"\bthe\s+an?\b(?=\s)", "the", text, flags=re.IGNORECASE)

    def right(match: re.Match[str]) -> str:
        article, word = match[1], match[3]
        vowel = bool(VOWEL_SOUND.match(word)) and not CONSONANT_SOUND.match(word)
        # Single capital letters are spelt out: "an L-shaped sofa", "a T-shirt".
        if re.match(r"[A-Za-z](?:-|$)", word):
            vowel = word[0].lower() in "aefhilmnorsx"
        wanted = "an" if vowel else "a"
        return (wanted.capitalize() if article[0].isupper() else wanted) + match[2] + word

    return re.sub(r"\b([Aa]n?)(\s+[\"'(]?)([A-Za-z][\w'-]*)", right, text)


def cut_dangling_end(text: str) -> str:
    """Without the words at the end that wait for another one ("... and a man in a blue")."""
    stop = re.search(r"[.!?]+$", text)
    words = (text[: stop.start()] if stop else text).split()
    whole = list(words)
    cut = False
    while len(words) > 1:
        last = _plain(words[-1])
        before = _plain(words[-2])
        if last in ADJECTIVES and before in {"a", "an"} and len(words) > 2:
            words = words[:-2]
        elif last in CANNOT_END or (last == "in" and not stop):
            words = words[:-1]
        elif cut and last in PREPOSITIONS | AUXILIARIES | CONJUNCTIONS:
            words = words[:-1]
        else:
            break
        cut = True
    if len(words) < 2:
        words = whole
    if words == whole:
        return text
    return " ".join(words).rstrip(",;: -") + (stop[0] if stop else "")


def set_casing(text: str, casing: str) -> str:
    """`casing`: `"sentence"` (a capital at the start; the rest as it is, unless all is in capitals), `"lower"`,
    `"keep"`."""
    if casing == "keep" or not text:
        return text
    if casing == "lower":
        return text.lower()
    letters = [char for char in text if char.isalpha()]
    if len(letters) > 3 and all(char.isupper() for char in letters) and len(text.split()) > 1:
        text = text.lower()
    text = re.sub(r"\bi\b(?=[' ]|$)", "I", text)
    text = re.sub(r"(?<=[.!?] )([a-z])", lambda match: match[1].upper(), text)
    return re.sub(r"^([\"'(]*)(\w)", lambda match: match[1] + match[2].upper(), text)


def set_final_stop(text: str, final_stop: bool | None) -> str:
    """`True` ends the caption with a full stop if nothing else ends it, `False` takes a full stop away, `None` keeps
    what is there."""
    if final_stop is None or not text:
        return text
    if final_stop:
        text = text.rstrip(",;:- ")
        return text if re.search(r"[.!?\u3002\u2026]['\")]*$", text) else text + "."
    return text if text.endswith("...") else text.rstrip(". ")
