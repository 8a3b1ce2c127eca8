"""Each guard: what it lets through, what it rejects and why, and how it is switched and tuned."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from blip_refine import RefineRequest
from blip_refine.errors import ConfigurationError, MissingExtraError, RefinerError
from blip_refine.refine.facts import FactsGuard, PolarityGuard
from blip_refine.refine.guards import FormGuard, GroundingGuard, Guards, MatchingGuard, as_guards
from blip_refine.refine.support import analyse, spacy_pipeline_installed

GUARDS = Guards(facts=FactsGuard(tagger="lexicon"), polarity=PolarityGuard(tagger="lexicon"))

FINE = [
    ("a dog running on the beach", "A dog is running on the beach."),
    ("a dog running on the beach", "An animal runs on the beach."),
    ("two woman sitting at a table", "Two women are sitting at a table."),
    ("two women sitting at a table", "Two ladies are sitting at a table."),
    ("a man riding a bike", "A man rides a bicycle."),
    ("a man and a woman in a park", "People in a park."),
    ("a boy in a gray shirt", "A boy in a grey shirt."),
    ("a couple of dogs", "Two dogs."),
    ("3 dogs", "Three dogs."),
    ("a man without a hat", "A man with no hat."),
    ("a man in a tee shirt", "A man in a tee-shirt."),
    ("a group of people walking", "A group of people is walking."),
    ("dogs playing", "The dogs play."),
    ("a young boy jumping", "A young child is jumping."),
    ("people playing soccer in a field", "In a field, people are playing soccer."),
]

WRONG = [
    ("a woman sitting", "A couple of women sitting.", "facts", "'couple'"),
    ("a dog on grass", "A poodle on grass.", "facts", "'poodle'"),
    ("a person", "A man.", "facts", "'man'"),
    ("a dog on grass", "A dog on grass near a tree.", "facts", "'tree'"),
    ("a dog runs", "A brown dog runs.", "facts", "the colour 'brown'"),
    ("a red car", "A blue car.", "facts", "the colour 'blue'"),
    ("two dogs run", "Three dogs run.", "facts", "the number 'Three'"),
    ("two dogs run", "2 dogs run at 7.", "facts", "the number '7'"),
    ("a man walks", "A man named John walks.", "facts", "the name 'John'"),
    ("a man in a city", "A man in Paris.", "facts", "'Paris'"),
    ("a tower", "The Eiffel tower.", "facts", "'Eiffel'"),
    ("two cats", "HACKED", "facts", "'HACKED'"),
    ("a man walks", "A quokka walks.", "facts", "'quokka'"),
    ("a man with a hat", "A man without a hat.", "polarity", "adds the negation 'without'"),
    ("a man without a hat", "A man with a hat.", "polarity", "loses the negation 'without'"),
    ("a man is smiling", "A man isn't smiling.", "polarity", "adds the negation"),
    ("a dog runs", "Dogs run.", "polarity", "several of one: 'Dogs'"),
    ("two men walk", "A man walks.", "polarity", "one of several: 'man'"),
    ("a woman walks", "People walk.", "polarity", "several of one"),
    ("two men and three women", "Three men and two women.", "polarity", "counts something else"),
    ("a man on a bench", "The image shows a man on a bench.", "form", "talks about the image"),
    ("a man on a bench", "Un homme est assis sur un banc.", "form", "not in English"),
    ("a man", "\u0427\u0435\u043b\u043e\u0432\u0435\u043a", "form", "script"),
    ("a man stands on the street", "Man.", "form", "too short"),
    ("a man", "A man who is a man and a man who is a man.", "form", "too long"),
    ("a man runs here and there", "A man. He runs. He runs here.", "form", "too many sentences: 3"),
    ("a man", "A\nman", "form", "several lines"),
    ("a man", "42", "form", "no words"),
]


@pytest.mark.parametrize(("draft", "text"), FINE, ids=[text for _, text in FINE])
def test_what_says_no_more_passes(draft, text):
    assert GUARDS.check(RefineRequest(draft), text) is None


@pytest.mark.parametrize(("draft", "text", "guard", "reason"), WRONG, ids=[text for _, text, *_ in WRONG])
def test_what_says_more_or_other_is_rejected_by_its_guard(draft, text, guard, reason):
    said = GUARDS.check(RefineRequest(draft), text)
    assert said is not None and said.startswith(f"{guard}: ") and reason in said
    assert replace(GUARDS, **{guard: None}).check(RefineRequest(draft), text) != said, "a guard can be switched off"


def test_candidates_and_metadata_are_support():
    text = "A brown dog named Rex runs in Lisbon."
    assert GUARDS.check(RefineRequest("a dog runs", image_id="1"), text) is not None
    request = RefineRequest(
        "a dog runs", ("a brown dog runs in a city",), metadata={"pet": {"name": "Rex"}, "city": "Lisbon"}
    )
    assert GUARDS.check(request, text) is None


def test_every_draft_passes_its_own_guards(test_data):
    for name in ("flickr30k", "mscoco"):
        rows = json.loads((test_data / f"metric_parity/{name}/nucleus_result_run_1.json").read_text())[:1000]
        # COCO's samples hold lines in capitals and lines without a word that is one: the form guard may object.
        guards = replace(GUARDS, form=None) if name == "mscoco" else GUARDS
        rejected = [
            row["prediction"] for row in rows if guards.check(RefineRequest(row["prediction"]), row["prediction"])
        ]
        assert not rejected


def test_a_noun_put_into_a_real_caption_is_found(test_data):
    rows = json.loads((test_data / "metric_parity/flickr30k/nucleus_result_run_1.json").read_text())[:300]
    missed = []
    for row in rows:
        draft = row["prediction"].rstrip(".")
        if "giraffe" in draft or "animal" in draft:
            continue
        for added in (" with a giraffe.", " near a lighthouse.", " in Madrid."):
            if GUARDS.facts.check(RefineRequest(draft), draft + added) is None:
                missed.append(draft + added)
    assert not missed


def test_parts_of_the_facts_guard_are_switched_one_by_one():
    cases = {
        "nouns": ("a dog", "A dog and a cat."),
        "numbers": ("dogs", "Seven dogs."),
        "colours": ("a dog", "A black dog."),
        "names": ("a dog", "A dog in Zanzibar."),
    }
    for part, (draft, text) in cases.items():
        guard = FactsGuard(tagger="lexicon")
        assert guard.check(RefineRequest(draft), text)
        off = replace(guard, **{part: False}, nouns=False) if part == "names" else replace(guard, **{part: False})
        assert off.check(RefineRequest(draft), text) is None, part
    happy = RefineRequest("a dog runs")
    assert FactsGuard(tagger="lexicon", adjectives=False).check(happy, "A happy dog runs.") is None
    assert "'happy'" in FactsGuard(tagger="lexicon").check(happy, "A happy dog runs.")
    assert FactsGuard(tagger="lexicon", kinds=False).check(RefineRequest("a dog"), "An animal.")
    assert FactsGuard(tagger="lexicon", allow=frozenset({"scene"})).check(happy, "A scene: a dog runs.") is None


def test_quantity_and_negation_are_switched_one_by_one():
    assert PolarityGuard(tagger="lexicon", negation=False).check(RefineRequest("a dog"), "No dog.") is None
    assert PolarityGuard(tagger="lexicon", quantity=False).check(RefineRequest("a dog"), "Dogs.") is None


def test_form_is_tuned():
    request = RefineRequest("a dog runs on the sand")
    assert FormGuard(max_words=3).check(request, "A dog runs on sand.") == "it is too long: 5 words, at most 3"
    assert FormGuard(min_ratio=0.9).check(request, "A dog runs.") == "it is too short: 3 words for a draft of 6"
    assert FormGuard(about_the_image=True).check(request, "The image shows a dog.") is None
    assert FormGuard(language=None).check(request, "Ein Hund rennt am Strand.") is None


@pytest.mark.parametrize(
    ("language", "good", "bad"),
    [
        ("fr", "Un chien court sur la plage.", "A dog is running on the beach."),
        (
            "ru",
            "\u0421\u043e\u0431\u0430\u043a\u0430 \u0431\u0435\u0436\u0438\u0442.",
            "A dog is running on the beach.",
        ),
        ("ja", "\u72ac\u304c\u8d70\u3063\u3066\u3044\u308b\u3002", "A dog is running on the beach."),
        ("ar", "\u0643\u0644\u0628 \u064a\u062c\u0631\u064a", "A dog is running on the beach."),
    ],
)
def test_translations_are_checked_for_their_language(language, good, bad):
    guards = GUARDS.in_language(language)
    request = RefineRequest("a dog running on the beach")
    assert guards.check(request, good) is None
    assert guards.check(request, bad).startswith("form: ")


def test_a_translation_still_invents_no_number():
    request = RefineRequest("two dogs running on the beach")
    guards = GUARDS.in_language("fr")
    assert guards.check(request, "2 chiens courent sur la plage.") is None
    assert "the number '5'" in guards.check(request, "5 chiens courent sur la plage.")


def test_grounding_compares_with_the_draft():
    scores = {"a dog": -1.0, "A dog.": -1.2, "A wolf.": -3.0}
    guard = GroundingGuard(lambda request, texts: [scores[text] for text in texts], margin=0.5)
    seen = RefineRequest("a dog", image=b"x")
    assert guard.check(seen, "A dog.") is None
    assert guard.check(seen, "A wolf.") == "the captioner finds it less likely: -3.00 a token, the draft -1.00"
    assert guard.check(RefineRequest("a dog"), "A wolf.") is None, "without an image nothing can be said"
    guards = Guards(facts=None, grounding=guard)
    assert guards.check(seen, "A wolf.").startswith("grounding: ")


def test_matching_compares_with_the_draft():
    scores = {"a dog": 0.9, "A dog.": 0.85, "A wolf.": 0.1, "A pet.": 0.7}
    guard = MatchingGuard(lambda request, texts: [scores[text] for text in texts])
    seen = RefineRequest("a dog", image=b"x")
    assert guard.check(seen, "A dog.") is None
    assert guard.check(seen, "A wolf.") and guard.check(seen, "A pet.")


@pytest.mark.parametrize("values", [[-1.0], [float("nan"), -1.0]])
def test_a_scorer_that_lies_is_an_error(values):
    with pytest.raises(RefinerError, match="one number for each of 2"):
        GroundingGuard(lambda request, texts: values).check(RefineRequest("a dog", image=b"x"), "A dog.")


def test_guards_by_name():
    assert as_guards(True) == Guards() and as_guards(False) is None and as_guards(None) is None
    only = as_guards("form, facts")
    assert only.form and only.facts and only.polarity is None
    assert as_guards("none").check(RefineRequest("a dog"), "A purple elephant.") is None
    with pytest.raises(ConfigurationError, match="no guard 'style'; there are: form, facts, polarity"):
        as_guards("style")
    with pytest.raises(ConfigurationError, match="needs a model"):
        as_guards("grounding")
    with pytest.raises(ConfigurationError, match="not a int"):
        as_guards(3)


def test_spacy_tags_where_it_is_installed():
    if not spacy_pipeline_installed():
        pytest.skip("spaCy's en_core_web_sm is not installed")
    guard = FactsGuard(tagger="en_core_web_sm")
    assert guard.check(RefineRequest("a dog runs"), "A dog runs with a frisbee.")
    assert guard.check(RefineRequest("a dog running"), "A dog runs.") is None


def test_a_missing_spacy_is_said(monkeypatch):
    import sys

    analyse.cache_clear()
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(MissingExtraError, match=r"blip_refine\[spacy\]"):
        FactsGuard(tagger="no_such_pipeline").check(RefineRequest("a dog"), "A dog.")
