"""Make `blip_refine/refine/lexicon.tsv.gz`, the part of WordNet that the guards use, from WordNet's own files.

    python scripts/build_lexicon.py /usr/share/wordnet        # Debian: apt-get install wordnet-base

Kept: single words of all parts of speech with how often each occurs as noun, verb, adjective and adverb in WordNet's
sense-tagged texts; the first senses of nouns with their hypernyms; irregular forms. Left out: glosses, rare names
of species and chemicals, other relations. The output is the same, byte for byte, for the same input.
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


def read_synsets(folder: Path) -> dict[int, tuple[int, bool, list[int]]]:
    """Noun synsets: lexicographer file, whether it is a name (of one thing, or Latin), hypernyms."""
    synsets = {}
    for line in (folder / "data.noun").read_text(encoding="latin-1").splitlines():
        if line.startswith(" "):
            continue
        fields = line.split(" | ")[0].split()
        n_words = int(fields[3], 16)
        pointers = fields[4 + 2 * n_words :]
        above, instance = [], False
        for place in range(1, 1 + 4 * int(pointers[0]), 4):
            if pointers[place] in ("@", "@i") and pointers[place + 2] == "n":
                above.append(int(pointers[place + 1]))
                instance |= pointers[place] == "@i"
        instance |= all(word[0].isupper() for word in fields[4 : 4 + 2 * n_words : 2])
        synsets[int(fields[0])] = (int(fields[1]), instance, above)
    return synsets


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

    synsets, counts = read_synsets(arguments.wordnet), read_counts(arguments.wordnet)
    parts: dict[str, set[int]] = defaultdict(set)
    senses: dict[str, list[int]] = {}
    for number, part in enumerate(PARTS):
        for line in (arguments.wordnet / f"index.{part}").read_text(encoding="latin-1").splitlines():
            fields = line.split()
            if line.startswith(" ") or not WORD.fullmatch(fields[0]):
                continue
            parts[fields[0]].add(number)
            if part == "noun":
                senses[fields[0]] = [int(field) for field in fields[-int(fields[2]) :]]

    words, used = [], set()
    for word in sorted(parts):
        kept = senses.get(word, [])[:SENSES]
        tagged = sum(counts[word]) if word in counts else 0
        visible = any(synsets[sense][0] in VISIBLE and not synsets[sense][1] for sense in kept)
        # A word of one rare sense that no tagged text uses is a species, a chemical or a name: unknown words are
        # taken for nouns anyway.
        if not tagged and parts[word] == {0} and (not visible or len(word) > 14):
            continue
        proper = bool(kept) and all(synsets[sense][1] for sense in kept)
        if proper and not tagged:
            continue
        words.append((word, parts[word], counts[word] if word in counts else [0] * 4, kept, proper))
        used.update(kept)
    waiting = list(used)
    while waiting:
        for above in synsets[waiting.pop()][2]:
            if above not in used:
                used.add(above)
                waiting.append(above)
    number_of = {synset: number for number, synset in enumerate(sorted(used))}

    lines = [
        "# From WordNet 3.0, Copyright 2006 by Princeton University; see lexicon.LICENSE. Made by build_lexicon.py."
    ]
    for synset in sorted(used):
        lines.append("s\t" + " ".join(str(number_of[above]) for above in synsets[synset][2]))
    known = {word for word, *_ in words}
    for word, which, tagged, kept, proper in words:
        seen = " ".join(str(tagged[part]) if part in which else "-" for part in range(4))
        lines.append(
            f"w\t{word}\t{seen}\t{' '.join(str(number_of[sense]) for sense in kept)}" + ("\tp" if proper else "")
        )
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
