"""Which objects a caption names: COCO's eighty categories with the words people use for them, or any list of names."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, SourceFormatError, SourceNotFoundError
from ..jsonlines import read_jsonl
from .tokenizer import tokenize

_IRREGULAR = {
    "men": "man", "women": "woman", "children": "child", "people": "person", "persons": "person", "mice": "mouse",
    "geese": "goose", "feet": "foot", "teeth": "tooth", "knives": "knife", "wolves": "wolf", "calves": "calf",
    "loaves": "loaf", "leaves": "leaf", "shelves": "shelf", "scarves": "scarf", "halves": "half", "wives": "wife",
    "oxen": "ox", "cacti": "cactus", "buses": "bus", "gentlemen": "gentleman", "firemen": "fireman",
    "policemen": "policeman", "snowmen": "snowman", "fishermen": "fisherman", "movies": "movie", "cookies": "cookie",
    "selfies": "selfie", "ties": "tie", "pies": "pie", "brownies": "brownie", "smoothies": "smoothie",
    "veggies": "veggie", "doggies": "doggie", "horses": "horse", "houses": "house", "vases": "vase", "roses": "rose",
    "noses": "nose", "purses": "purse", "nurses": "nurse", "cases": "case", "suitcases": "suitcase",
    "briefcases": "briefcase", "bookcases": "bookcase", "mooses": "moose", "axes": "axe", "potatoes": "potato",
    "tomatoes": "tomato", "heroes": "hero", "shoes": "shoe", "canoes": "canoe", "toes": "toe",
}  # fmt: skip
_UNCHANGED = frozenset(("bus", "glass", "grass", "scissors", "skis", "gas", "dress", "cactus", "moss", "bass"))


def singular(word: str) -> str:
    """The singular of an English noun; a word that is none is usually left as it is."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in _UNCHANGED or len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes", "zes")):
        return word[:-2]
    return word[:-1]


@dataclass(frozen=True)
class ObjectVocabulary:
    """The names by which captions may mention objects.

    Args:
        names (`Mapping[str, str | None]`): What a caption may say (singular, one or more words) to the object that it
            means; `None` for what only looks like one ("train station" is no train). The longest match wins.
        before (`Mapping[str, frozenset[str]]`, *optional*): Names that count only where one of these words follows, or
            nothing at all: "an orange on a plate", but not "an orange cat".
    """

    names: Mapping[str, str | None]
    before: Mapping[str, frozenset[str]] | None = None

    @classmethod
    def of(cls, objects: Iterable[str], synonyms: Mapping[str, Sequence[str]] | None = None) -> ObjectVocabulary:
        """A vocabulary of these objects, with further names of some of them.

        Args:
            objects (`Iterable[str]`): Names of objects.
            synonyms (`Mapping[str, Sequence[str]]`, *optional*): Object to its other names.

        Raises:
            ConfigurationError: One name for two objects.
        """
        names: dict[str, str | None] = {}
        for thing in objects:
            for name in (thing, *(synonyms or {}).get(thing, ())):
                key = " ".join(map(singular, tokenize(name).split()))
                if names.setdefault(key, thing) != thing:
                    raise ConfigurationError(f"{name!r} cannot stand for both {names[key]!r} and {thing!r}.")
        return cls(names)

    @classmethod
    @lru_cache(maxsize=1)
    def coco(cls) -> ObjectVocabulary:
        """COCO's eighty categories (Lin et al. 2014), each with the words that captions use for it.

        The words were collected for this library. They are fewer than those of Rohrbach et al. 2018, whose list says
        "person" for every profession; scores of the two lists are close and not equal.
        """
        content = json.loads(files("blip_refine.metrics").joinpath("coco_objects.json").read_text(encoding="utf-8"))
        vocabulary = cls.of(content["objects"], content["objects"])
        nothing = {name: None for name in content["not_objects"]}
        follows = {name: frozenset(words) for name, words in content["only_before"].items()}
        return cls({**vocabulary.names, **nothing}, follows)

    @cached_property
    def _longest(self) -> int:
        return max((len(name.split()) for name in self.names), default=0)

    @cached_property
    def objects(self) -> frozenset[str]:
        """Every object that a caption can be found to name."""
        return frozenset(thing for thing in self.names.values() if thing is not None)

    def mentions(self, caption: str) -> list[str]:
        """The objects that a caption names, in its order; one that it names twice comes twice.

        Args:
            caption (`str`): The caption, as it was written.
        """
        words = tokenize(caption.replace("-", " ")).split()
        bases = [singular(word) for word in words]
        found, place = [], 0
        while place < len(words):
            for length in range(min(self._longest, len(words) - place), 0, -1):
                name = " ".join(bases[place : place + length])
                if name in self.names and self._counts(name, words, place, length):
                    thing = self.names[name]
                    if thing is not None:
                        found.append(thing)
                    place += length
                    break
            else:
                place += 1
        return found

    def _counts(self, name: str, words: Sequence[str], place: int, length: int) -> bool:
        follows = (self.before or {}).get(name)
        if follows is None or words[place + length - 1] != name.split()[-1]:
            return True  # A plural ("oranges") is no colour.
        return place + length == len(words) or words[place + length] in follows


def read_objects(path: str | os.PathLike) -> tuple[dict[str, list[str]], ObjectVocabulary]:
    """Read what is truly in pictures, and the vocabulary to look for it with.

    Args:
        path (`str` or `os.PathLike`): COCO's `instances_*.json`, or JSON Lines with `image_id` and `objects` (names,
            or `{"name": ...}`), as `predictions.jsonl` of a run folder has them.

    Returns:
        `tuple[dict[str, list[str]], ObjectVocabulary]`: Image id to its objects; COCO's categories, or all
        names of the file.

    Raises:
        SourceNotFoundError: There is no such file.
        SourceFormatError: It holds something else.
    """
    if Path(path).suffix == ".json":
        return _read_instances(Path(path)), ObjectVocabulary.coco()
    truth: dict[str, list[str]] = {}
    for number, row in enumerate(read_jsonl(path), 1):
        if "image_id" not in row or not isinstance(row.get("objects"), list):
            raise SourceFormatError(f"{os.fspath(path)}, row {number}: expected `image_id` and a list `objects`.")
        truth[str(row["image_id"])] = list(_names(row["objects"], f"{os.fspath(path)}, row {number}"))
    return truth, ObjectVocabulary.of(sorted({name for names in truth.values() for name in names}))


def _names(objects: Sequence[Any], where: str) -> Iterator[str]:
    for thing in objects:
        name = thing.get("name") if isinstance(thing, Mapping) else thing
        if not isinstance(name, str):
            raise SourceFormatError(f"{where}: an object is a name or has one, found {thing!r:.60}.")
        yield name


def _read_instances(path: Path) -> dict[str, list[str]]:
    if not path.is_file():
        raise SourceNotFoundError(f"There is no file {str(path)!r}.")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        categories = {row["id"]: row["name"] for row in content["categories"]}
        # An image without any instance is known to be empty, which is not the same as unknown.
        truth: dict[str, list[str]] = {str(image["id"]): [] for image in content["images"]}
        for row in content["annotations"]:
            truth.setdefault(str(row["image_id"]), []).append(categories[row["category_id"]])
    except (ValueError, KeyError, TypeError) as error:
        raise SourceFormatError(f"{path} is not COCO's instances file ({type(error).__name__}: {error}).") from error
    return truth
