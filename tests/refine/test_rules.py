"""Each kind of fault with its repair, and what must stay as it is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blip_refine import RefineRequest, load_refiner
from blip_refine.errors import ConfigurationError
from blip_refine.refine import cleanup
from blip_refine.refine.guards import Guards

REPAIRS = {
    # repeated words and phrases
    "a dog dog on a a beach": "A dog on a beach.",
    "a man standing in a field in a field": "A man standing in a field.",
    "a man and a man and a man and a man": "A man.",
    "people with blue bags and blue bags": "People with blue bags.",
    "a cat, a cat, a cat, a cat on a bed": "A cat on a bed.",
    "A man. A man.": "A man.",
    "the the the the dog": "The dog.",
    # two things of a kind are two things
    "a man and a man": "A man and a man.",
    "a black dog and a black dog running": "A black dog and a black dog running.",
    "a red tuk tuk": "A red tuk tuk.",
    # decoder artefacts
    "arafed man in a red shirt": "A man in a red shirt.",
    "arafed image of a cat": "An image of a cat.",
    "araffe standing in the grass": "A giraffe standing in the grass.",
    "there are two araffes standing in the grass": "There are two giraffes standing in the grass.",
    "arafed people on a bus": "People on a bus.",
    "the arafed dog": "The dog.",
    "a man [SEP] </s> walking <|im_end|>": "A man walking.",
    # articles
    "a orange on an table": "An orange on a table.",
    "an unicorn in an hour": "A unicorn in an hour.",
    "a honest man in an uniform": "An honest man in a uniform.",
    "an european car and a umbrella": "A european car and an umbrella.",
    "a the man": "The man.",
    "an SUV next to a x-ray": "An SUV next to an x-ray.",
    # spacing
    "a man in a t - shirt , smiling": "A man in a t-shirt, smiling.",
    "a woman ' s hat": "A woman's hat.",
    "a skate ##board": "A skateboard.",
    "a  dog\u200b \n runs": "A dog runs.",
    "illustration : : boats in blue": "Illustration: boats in blue.",
    "a red car , : in town": "A red car, in town.",
    "a white shirt , .": "A white shirt.",
    # dangling ends
    "a man walking with a": "A man walking.",
    "two men in jeans and": "Two men in jeans.",
    "a boy with a man in a blue": "A boy with a man.",
    "A man standing in the": "A man standing.",
    "A man is.": "A man.",
    # ends that are none
    "A pink shirt is hanging off": "A pink shirt is hanging off.",
    "a boy looks up": "A boy looks up.",
    "a painting of a woman with a hat on": "A painting of a woman with a hat on.",
    "a wall painted in blue": "A wall painted in blue.",
    # casing
    "A MAN RIDING A HORSE": "A man riding a horse.",
    "a sign. it says stop!": "A sign. It says stop!",
}


@pytest.mark.parametrize(("draft", "expected"), REPAIRS.items(), ids=list(REPAIRS))
def test_repairs(draft, expected):
    assert load_refiner("rules").refine([draft])[0].text == expected


def test_the_record_names_the_repairs():
    result = load_refiner("rules").refine([RefineRequest("a dog dog runs", image_id="7")])[0]
    assert result.accepted and result.draft == "a dog dog runs" and result.image_id == "7"
    assert result.reason == "repaired: repetition, casing, final stop"
    assert load_refiner("rules").refine(["A dog runs."])[0].reason is None


@pytest.mark.parametrize("draft", ["", "   ", "\u200b"])
def test_an_empty_draft_stays_and_is_said_to_be_empty(draft):
    result = load_refiner("rules").refine([draft])[0]
    assert result.text == draft
    assert result.accepted is False or draft == "\u200b"


def test_style_decides_on_the_final_stop():
    assert load_refiner("rules", style="catalogue").refine(["a red chair."])[0].text == "A red chair"
    assert load_refiner("rules", style="alt-text").refine(["a red chair"])[0].text == "A red chair."
    assert load_refiner("rules", casing="lower", final_stop=False).refine(["A red chair."])[0].text == "a red chair"
    assert load_refiner("rules", casing="keep", final_stop=None).refine(["a red Chair"])[0].text == "a red Chair"


@pytest.mark.parametrize("options", [{"casing": "upper"}, {"final_stop": "maybe"}, {"style": "baroque"}])
def test_bad_options_are_refused(options):
    with pytest.raises(ConfigurationError):
        load_refiner("rules", **options)


WORDS = st.lists(
    st.sampled_from("a an the dog man red blue and in with on of , . - ' is two arafed beach [SEP] A I".split()),
    min_size=1,
    max_size=14,
).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(WORDS)
def test_repairing_twice_changes_nothing_more(text):
    rules = load_refiner("rules")
    once = rules.clean(text)[0]
    assert rules.clean(once)[0] == once
    assert once.strip()


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_survived(text):
    result = load_refiner("rules").refine([text])[0]
    assert isinstance(result.text, str)
    assert result.text.strip() or not text.strip() or not cleanup.clean_characters(text)


def test_rules_add_nothing_to_real_captions(test_data):
    rows = json.loads((test_data / "metric_parity/flickr30k/nucleus_result_run_1.json").read_text())
    requests = [RefineRequest(row["prediction"]) for row in rows]
    results = load_refiner("rules").refine(requests)
    guards = Guards()
    assert not [one for one in results if guards.check(RefineRequest(one.draft), one.text)]
    assert sum(one.text != one.draft for one in results) > 100
    unfinished = [one.text for one in results if one.text.rstrip(".").split()[-1] in ("a", "the", "and", "of", "with")]
    assert not unfinished


def test_harper_repairs_agreement_and_leaves_words_alone():
    pytest.importorskip("harper")
    rules = load_refiner("rules", grammar=True)
    assert rules.refine(["He hold a ball"])[0].text == "He holds a ball."
    for text in (
        "Two men work on a roof, one wearing a hat.",
        "A man in a wetsuit.",
        "A couple walks in a black shirt.",
    ):
        assert rules.refine([text])[0].text == text


def test_without_harper_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "harper", None)
    with pytest.raises(ConfigurationError, match=r"blip_refine\[grammar\]"):
        load_refiner("rules", grammar=True)
