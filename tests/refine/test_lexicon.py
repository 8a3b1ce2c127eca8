"""Lemmas, kinds and parts of speech of the words that captions are made of."""

from __future__ import annotations

import pytest

from blip_refine.refine.lexicon import ADJECTIVE, ADVERB, NOUN, VERB, lexicon, words_of


@pytest.mark.parametrize(
    ("form", "base"),
    [
        *(("dogs", "dog"), ("men", "man"), ("women", "woman"), ("children", "child"), ("knives", "knife")),
        *(("buses", "bus"), ("beaches", "beach"), ("puppies", "puppy"), ("feet", "foot"), ("sheep", "sheep")),
        *(("grass", "grass"), ("bus", "bus"), ("quokkas", "quokka"), ("firemen", "fireman")),
    ],
)
def test_singular(form, base):
    assert lexicon().singular(form) == base


def test_forms_of_verbs_and_adjectives():
    known = lexicon()
    for form, base in {"running": "run", "sat": "sit", "carries": "carry", "bigger": "big", "holding": "hold"}.items():
        assert base in known.lemmas(form)


@pytest.mark.parametrize(
    ("special", "general"), [("dog", "animal"), ("poodle", "dog"), ("bike", "vehicle"), ("woman", "person")]
)
def test_kinds_go_one_way(special, general):
    known = lexicon()
    assert known.senses(general) & known.hypernyms(known.senses(special))
    assert not known.senses(special) & known.hypernyms(known.senses(general, 1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a man walking a dog", [None, NOUN, VERB, None, NOUN]),
        ("a large brick building", [None, ADJECTIVE, NOUN, NOUN]),
        ("a man is building a wall", [None, NOUN, None, VERB, None, NOUN]),
        ("two dogs play happily", [ADJECTIVE, NOUN, VERB, ADVERB]),
        ("a walk in the park", [None, NOUN, None, None, NOUN]),
        ("a glorp", [None, NOUN]),
    ],
)
def test_parts_of_speech(text, expected):
    words = text.split()
    assert [lexicon().part_of_speech(words, place) for place in range(len(words))] == expected


def test_plurals_and_what_only_looks_like_one():
    known = lexicon()
    assert all(known.is_plural(word) for word in ("dogs", "men", "people", "benches"))
    assert not any(known.is_plural(word) for word in ("dog", "grass", "glasses", "jeans", "bus", "tennis"))


def test_words_of_a_caption():
    assert words_of("The dog's ball isn't red; it's a T-shirt!") == [
        "The",
        "dog",
        "ball",
        "is",
        "n't",
        "red",
        "it",
        "a",
        "T-shirt",
    ]
    assert words_of("") == []


def test_the_lexicon_is_the_one_that_the_script_makes():
    # The licence asks for its notice with every copy of the data.
    from importlib.resources import files

    notice = files("blip_refine.refine").joinpath("lexicon.LICENSE").read_text()
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in notice
    assert len(lexicon().entries) > 50_000
