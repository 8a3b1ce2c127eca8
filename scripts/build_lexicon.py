"""Make `blip_refine/refine/lexicon.tsv.gz`, the part of WordNet that the guards use, from WordNet's own files.

    python scripts/build_lexicon.py /usr/share/wordnet        # Debian: apt-get install wordnet-base

Kept: single words of all parts of speech with how often each occurs as noun, verb, adjective and adverb in WordNet's
sense-tagged texts; the first senses of nouns, verbs and adjectives with what they are kinds of; words derived
from each other; irregular forms. Left out: glosses, rare names of species and chemicals, other relations. The output
is the same, byte for byte, for the same input.
"""

from __future__ import annotations

import argparse
import gzip
import io
import re
from collections import defaultdict
from pathlib import Path

PARTS = ("noun", "verb", "adj", "adv")
SENSES = 5
VISIBLE = {4, 5, 6, 8, 11, 13, 14, 15, 17, 18, 19, 25}
"""Lexicographer files of what a picture can show: acts, animals, artifacts, bodies, events, food, groups, places,
natural objects, persons, phenomena, shapes. Plants and substances are many, and rarely what a caption names."""
WORD = re.compile(r"[a-z][a-z'-]*")


Synset = tuple[int, int]
"""Part of speech (place in `PARTS`) and offset."""


class Synsets:
    """What WordNet's files say of nouns, verbs, adjectives and adverbs.

    `kind`: lexicographer file; `is_name`: a name of one thing, or Latin; `above`: hypernyms, and for an adjective such
    as "huge" the one that it clusters around ("large"); `derived`: pairs of words, one derived from the other ("surf"
    and "surfer", "fog" and "foggy", "quickly" and "quick").
    """

    def __init__(self, folder: Path):
        self.kind: dict[Synset, int] = {}
        self.is_name: dict[Synset, bool] = {}
        self.above: dict[Synset, list[Synset]] = {}
        words: dict[Synset, list[str]] = {}
        links: list[tuple[Synset, int, Synset, int]] = []
        for number, part in enumerate(PARTS):
            for line in (folder / f"data.{part}").read_text(encoding="latin-1").splitlines():
                if line.startswith(" "):
                    continue
                fields = line.split(" | ")[0].split()
                synset, satellite = (number, int(fields[0])), fields[2] == "s"
                n_words = int(fields[3], 16)
                written = fields[4 : 4 + 2 * n_words : 2]
                words[synset] = [word.partition("(")[0].lower() for word in written]
                pointers = fields[4 + 2 * n_words :]
                above, instance = [], False
                for place in range(1, 1 + 4 * int(pointers[0]), 4):
                    symbol, offset, of, ends = pointers[place : place + 4]
                    target = ("nvar".index(of.replace("s", "a")), int(offset))
                    if symbol in ("@", "@i") or symbol == "&" and satellite:
                        above.append(target)
                        instance |= symbol == "@i"
                    elif symbol in ("+", "\\"):
                        links.append((synset, int(ends[:2], 16), target, int(ends[2:], 16)))
                self.kind[synset] = int(fields[1])
                self.is_name[synset] = instance or all(word[0].isupper() for word in written)
                self.above[synset] = above
        self.derived: dict[str, set[str]] = defaultdict(set)
        for synset, source, target, end in links:
            one, other = words[synset][source - 1], words[target][end - 1]
            if one != other:
                self.derived[one].add(other)
                self.derived[other].add(one)


def read_counts(folder: Path) -> dict[str, list[int]]:
    """How often a word occurs as each part of speech in the sense-tagged texts."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for line in (folder / "cntlist.rev").read_text(encoding="latin-1").splitlines():
        key, _, count = line.split()
        word, _, rest = key.partition("%")
        counts[word][{1: 0, 2: 1, 3: 2, 4: 3, 5: 2}[int(rest[0])]] += int(count)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wordnet", type=Path, help="the folder with data.noun, index.noun, cntlist.rev, ...")
    default = Path(__file__).parents[1] / "blip_refine" / "refine" / "lexicon.tsv.gz"
    parser.add_argument("--output", type=Path, default=default)
    arguments = parser.parse_args()

    synsets, counts = Synsets(arguments.wordnet), read_counts(arguments.wordnet)
    parts: dict[str, set[int]] = defaultdict(set)
    senses: dict[str, list[list[Synset]]] = defaultdict(lambda: [[], [], [], []])
    for number, part in enumerate(PARTS):
        for line in (arguments.wordnet / f"index.{part}").read_text(encoding="latin-1").splitlines():
            fields = line.split()
            if line.startswith(" ") or not WORD.fullmatch(fields[0]):
                continue
            parts[fields[0]].add(number)
            if part != "adv":
                senses[fields[0]][number] = [(number, int(field)) for field in fields[-int(fields[2]) :]][:SENSES]

    words, used = [], set()
    for word in sorted(parts):
        kept = senses[word]
        tagged = sum(counts[word]) if word in counts else 0
        visible = any(synsets.kind[sense] in VISIBLE and not synsets.is_name[sense] for sense in kept[0])
        # A word of one rare sense that no tagged text uses is a species, a chemical or a name: unknown words are
        # taken for nouns anyway.
        if not tagged and parts[word] == {0} and (not visible or len(word) > 14):
            continue
        proper = bool(kept[0]) and all(synsets.is_name[sense] for sense in kept[0])
        if proper and not tagged:
            continue
        words.append((word, parts[word], counts[word] if word in counts else [0] * 4, kept, proper))
        used.update(sense for of_part in kept for sense in of_part)
    waiting = list(used)
    while waiting:
        for above in synsets.above[waiting.pop()]:
            if above not in used:
                used.add(above)
                waiting.append(above)
    number_of = {synset: number for number, synset in enumerate(sorted(used))}

    lines = [
        "# From WordNet 3.0, Copyright 2006 by Princeton University; see lexicon.LICENSE. Made by build_lexicon.py."
    ]
    for synset in sorted(used):
        lines.append("s\t" + " ".join(str(number_of[above]) for above in synsets.above[synset]))
    known = {word for word, *_ in words}
    for word, which, tagged, kept, proper in words:
        seen = " ".join(str(tagged[part]) if part in which else "-" for part in range(4))
        numbers = "|".join(" ".join(str(number_of[sense]) for sense in of_part) for of_part in kept[:3]).rstrip("|")
        lines.append(f"w\t{word}\t{seen}\t{numbers}" + ("\tp" if proper else ""))
        if derived := sorted(synsets.derived[word] & known - {word}):
            lines.append(f"d\t{word}\t{' '.join(derived)}")
    for number, part in enumerate(PARTS):
        for line in (arguments.wordnet / f"{part}.exc").read_text(encoding="latin-1").splitlines():
            form, *bases = line.split()
            if WORD.fullmatch(form) and bases and bases[0] in known:
                lines.append(f"x\t{number}\t{form}\t{bases[0]}")

    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, compresslevel=9, filename="") as file:
        file.write(("\n".join(lines) + "\n").encode())
    arguments.output.write_bytes(buffer.getvalue())
    print(f"{len(words)} words, {len(used)} synsets, {len(buffer.getvalue()) / 1e3:.0f} kB: {arguments.output}")


if __name__ == "__main__":
    main()
