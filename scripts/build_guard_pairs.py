"""Make `tests/refine/judged/pairs.jsonl`, the judged pairs that the guards are measured on.

    python scripts/build_guard_pairs.py

A row is a photo of COCO, a draft (a human caption of it), a rewrite, whether the rewrite is faithful or inventing,
what it invents, and which half it belongs to. Faithful rewrites were written by hand, or are other human captions that
were judged one by one. Inventions are made here: one fact of a faithful rewrite is swapped, or one is added. The half
depends on the photo alone. The output is the same, byte for byte, for the same input.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "refine" / "judged"
PER_REWRITE = 2

OBJECTS = [
    "dog cat horse sheep cow elephant bear giraffe zebra goat seagull ostrich monkey".split(),
    "motorcycle bicycle bus taxi truck train plane boat car scooter".split(),
    "bench bed desk table couch chair shelf".split(),
    "bowl plate cup vase tray basket box".split(),
    "banana pizza cake broccoli carrot rice sandwich chicken apple noodle bread".split(),
    "skateboard surfboard kite frisbee racket bat umbrella".split()
    + "laptop phone camera suitcase book fork clock hammer".split(),
    "toilet sink bathtub stove refrigerator mirror cabinet lamp".split(),
]
PERSONS = {"man": "woman", "woman": "man", "men": "women", "women": "men", "boy": "girl", "girl": "boy"}
COUNTS = "two three four five six seven".split()
COLORS = "red blue green yellow white black brown pink orange gray purple".split()
PLACES = "beach street sidewalk field park kitchen bedroom bathroom road forest slope lake court city garage".split()
ATTRIBUTES = [
    "young old elderly".split(),
    "wooden metal plastic glass".split(),
    "male female".split(),
    "shiny rusty".split(),
    "snowy sandy rocky".split(),
    "bearded bald".split(),
]
SIZES = {
    "small": "large huge",
    "little": "large huge",
    "large": "small tiny",
    "big": "small tiny",
    "tall": "small short",
}
ADDED_ATTRIBUTES = "happy old beautiful broken wet famous tired dirty colorful empty".split()
ACTIONS = {
    "ride": "rides riding",
    "hold": "holds holding",
    "sit": "sits sitting",
    "stand": "stands standing",
    "fly": "flies flying",
    "watch": "watches watching",
    "eat": "eats eating",
    "play": "plays playing",
    "walk": "walks walking",
    "run": "runs running",
    "look": "looks looking",
    "jump": "jumps jumping",
    "drive": "drives driving",
    "pet": "pets petting",
    "wait": "waits waiting",
    "smile": "smiles smiling",
    "swing": "swings swinging",
    "pose": "poses posing",
    "cut": "cuts cutting",
    "carry": "carries carrying",
    "wash": "washes washing",
    "paint": "paints painting",
    "throw": "throws throwing",
    "sleep": "sleeps sleeping",
    "repair": "repairs repairing",
    "dance": "dances dancing",
}
NEARLY_ALIKE = [{"look", "watch"}, {"stand", "wait", "pose", "sit"}, {"hold", "carry"}, {"ride", "drive"}]
DETAILS = (
    " near a fence| with a smile| on a sunny day| at sunset| in the rain| under a cloudy sky| wearing a hat"
    "| while talking on the phone| in front of a crowd| next to a tree| in Paris| during a storm| with a dog"
    "| for a birthday party| and laughing| at a wedding"
).split("|")
PLURALS = {"sheep": "sheep", "bus": "buses", "bench": "benches", "couch": "couches", "box": "boxes"}
PLURALS |= {"sandwich": "sandwiches", "man": "men", "woman": "women", "child": "children", "person": "people"}


def plural(word: str) -> str:
    return PLURALS.get(word, word + "s")


def swap(text: str, old: str, new: str) -> str:
    """`text` with its first `old` replaced; capitals, and the article before it, follow."""

    def put(match: re.Match) -> str:
        article, word = match.group(1) or "", match.group(2)
        if article.strip().lower() in ("a", "an"):
            right = "an" if new[0] in "aeiou" else "a"
            article = (right.capitalize() if article[0].isupper() else right) + " "
        return article + (new.capitalize() if word[0].isupper() else new)

    return re.sub(rf"\b((?:an?|the) )?({re.escape(old)})\b", put, text, count=1, flags=re.IGNORECASE)


def inventions(draft: str, text: str, rng: random.Random) -> dict[str, str]:
    """For each kind of invention that can be made of `text`, one."""
    words = re.findall(r"[a-z]+", text.lower())
    taken = f"{draft} {text}".lower()
    made: dict[str, str] = {}

    def choose(options: list[str]) -> str | None:
        fresh = [one for one in options if one.rstrip("e")[:5] not in taken]
        return rng.choice(fresh) if fresh else None

    for group in OBJECTS:
        for one in group:
            for old, form in ((plural(one), plural), (one, str)):
                if old in words and "object" not in made and (new := choose(group)):
                    made["object"] = swap(text, old, form(new))
    for old, new in PERSONS.items():
        if old in words and new not in re.findall(r"[a-z]+", draft.lower()):
            made.setdefault("person", swap(text, old, new))
    for old in COUNTS:
        if old in words and (new := choose(COUNTS)):
            made.setdefault("count", swap(text, old, new))
    if "count" not in made:
        found = re.match(
            r"(?:A|An) ((?:\w+ )?)(man|woman|dog|cat|bear|skier|horse|banana|phone|bowl|plate|bus)\b", text
        )
        if found:
            rest = re.sub(r"^ is\b", " are", text[found.end() :])
            made["count"] = f"{rng.choice(('Two', 'Three', 'Several'))} {found[1]}{plural(found[2])}{rest}"
    for old in COLORS:
        if old in words and (new := choose(COLORS)):
            made.setdefault("color", swap(text, old, new))
    for group in ATTRIBUTES:
        for old in group:
            if old in words and (new := choose(group)):
                made.setdefault("attribute", swap(text, old, new))
    for old, others in SIZES.items():
        if old in words and (new := choose(others.split())):
            made.setdefault("attribute", swap(text, old, new))
    for old in PLACES:
        others = [one for one in PLACES if {one, old} not in ({"street", "road"}, {"field", "park"})]
        if old in words and (new := choose(others)) and f" {old}" in text:
            made.setdefault("place", swap(text, old, new))
    forms = [(base, old, k) for base, both in ACTIONS.items() for k, old in enumerate((base, *both.split()))]
    for verb, old, k in forms:
        alike = {one for group in NEARLY_ALIKE if verb in group for one in group}
        if (
            old in words
            and old not in ("cut", "pet")
            and (base := choose([one for one in ACTIONS if one not in alike]))
        ):
            made.setdefault("action", swap(text, old, (base, *ACTIONS[base].split())[k]))
    nouns = [one for group in OBJECTS for one in group] + list(PERSONS) + ["skier", "skateboarder", "child", "person"]
    for old in nouns:
        for before in ("a ", "A ", "the ", "The "):
            if f"{before}{old}" in text:
                if new := choose(COLORS if old not in PERSONS else ADDED_ATTRIBUTES):
                    kind = "added color" if new in COLORS else "added attribute"
                    made.setdefault(kind, swap(text, old, f"{new} {old}"))
                if new := choose(ADDED_ATTRIBUTES):
                    made.setdefault("added attribute", swap(text, old, f"{new} {old}"))
                break
    fresh = [one for one in DETAILS if one.split()[-1] not in taken]
    made["added detail"] = text.rstrip(".") + rng.choice(fresh) + "."
    return {kind: one for kind, one in made.items() if one != text}


def read(path: Path) -> list[tuple[int, str, str, str]]:
    """(photo, draft, "=" or "!", text) of each judged line."""
    rows = []
    photo, draft = 0, ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        if line[0] in "=!":
            rows.append((photo, draft, line[0], line[2:].strip()))
        else:
            number, _, draft = line.partition("\t")
            photo, draft = int(number), " ".join(draft.split())
    return rows


def half(photo: int) -> str:
    """ "tuned" or "held out": by the photo alone."""
    return "held out" if hashlib.sha256(str(photo).encode()).digest()[0] % 2 else "tuned"


def main() -> None:
    used: dict[str, int] = {}
    rows = []
    for photo, draft, mark, text in read(FOLDER / "human.txt"):
        label, kind = ("faithful", "human caption") if mark == "=" else ("inventing", "human caption")
        rows.append((photo, draft, text, label, kind))
    for photo, draft, _, text in read(FOLDER / "rewrites.txt"):
        rows.append((photo, draft, text, "faithful", "rewrite"))
        made = inventions(draft, text, random.Random(f"{photo} {text}"))
        # The kinds that were made least often come first: rare ones are not lost among added details.
        for kind in sorted(made, key=lambda kind: used.get(kind, 0))[:PER_REWRITE]:
            used[kind] = used.get(kind, 0) + 1
            rows.append((photo, draft, made[kind], "inventing", kind))
    names = ("photo", "draft", "text", "label", "kind", "half")
    lines = [json.dumps(dict(zip(names, (*row, half(row[0])), strict=True)), ensure_ascii=False) for row in rows]
    (FOLDER / "pairs.jsonl").write_text("\n".join(dict.fromkeys(lines)) + "\n", encoding="utf-8")
    print(f"{len(lines)} pairs, {sum(row[3] == 'faithful' for row in rows)} faithful: {FOLDER / 'pairs.jsonl'}")


if __name__ == "__main__":
    main()
