"""What became of each caption is counted, and a refiner that answered nothing is an error before it is a result."""

from __future__ import annotations

import socket

import pytest

from blip_refine import RefineRequest, load_refiner
from blip_refine.errors import ConfigurationError, ModelError, RefinerUnansweredError
from blip_refine.records import Caption
from blip_refine.refine import CircuitBreaker, as_refiner
from blip_refine.refine.base import kinds_of, split_name
from blip_refine.refine.captions import refine_captions
from blip_refine.refine.counts import RefineCounts, count_outcomes, describe_counts, measured_over

from .server import FakeModel, serving


def dead_url() -> str:
    """The address of a port on loopback that nothing listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{held.getsockname()[1]}/v1"


def drafts(*texts: str) -> list[Caption]:
    return [Caption(text, text, image_id=str(place)) for place, text in enumerate(texts)]


def test_rejections_of_one_kind_are_one_reason():
    counts = RefineCounts()
    for reason in (
        "grounding: the captioner finds it less likely: -9.36 a token, the draft -0.21",
        "grounding: the captioner finds it less likely: -6.37 a token, the draft -0.20",
        "matching: it matches the picture less: 0.10, the draft 0.90",
        "form: it is too long: 9 words, at most 8",
        "form: it has too many sentences: 3",
        "polarity: it makes one of several: 'dog'",
        "facts: it adds the noun 'mat', which nothing supports",
    ):
        counts.count("rejected", reason)
    assert counts.to_dict()["rejected"] == {
        "grounding: the captioner finds it less likely": 2,
        "matching: it matches the picture less": 1,
        "form: it is too long": 1,
        "form: it has too many sentences": 1,
        "polarity: it makes one of several": 1,
        "facts: it adds the noun": 1,
    }


def test_every_outcome_is_counted_by_reason():
    def behave(call):
        return "lie" if "lie" in call.draft else "error" if "down" in call.draft else "answer"

    with serving(FakeModel(behave)) as model:
        refiner = load_refiner("openai:m", base_url=model.url, max_retries=0, retries=0)
        asked = drafts("a dog on a beach", "A cat.", "a lie on a mat", "a man down a hill", "")
        refined = refine_captions(refiner, asked)
    assert [one.outcome for one in refined] == ["changed", "unchanged", "rejected", "unanswered", "kept"]
    counts = count_outcomes([*refined, Caption("", "", error="no picture")])
    row = counts.to_dict()
    assert (row["asked"], row["changed"], row["unchanged"]) == (5, 1, 1)
    assert sum(row["rejected"].values()) == 1 and row["kept"] == {"the draft is empty": 1}
    assert list(row["unanswered"].values()) == [1] and "an error on our side" in next(iter(row["unanswered"]))
    assert describe_counts(row).startswith("5 captions: 1 changed, 1 unchanged, 1 rejected (")
    assert measured_over(row) == "4 of 5 answered" and measured_over({"asked": 5}) is None
    counts.require_answers("openai:m")  # some answers are enough
    assert Caption.from_dict(refined[3].to_dict()).outcome == "unanswered"


def test_a_chain_with_a_silent_member_is_unanswered_also_where_the_others_changed_the_draft():
    refiner = load_refiner("rules>openai:m", base_url=dead_url(), max_retries=0)
    breaker = CircuitBreaker(failures=1)
    refined = refine_captions(refiner, drafts("a dog dog", "a cat"), breaker=breaker)
    assert [one.text for one in refined] == ["A dog.", "A cat."] and breaker.is_open
    assert all(one.outcome == "unanswered" and "openai:m: " in one.reason for one in refined)
    with pytest.raises(RefinerUnansweredError, match="rules > openai:m answered none of the 2 captions"):
        count_outcomes(refined).require_answers(refiner.name)


def test_a_refiner_that_keeps_drafts_is_no_failure():
    breaker = CircuitBreaker(failures=1)
    refined = refine_captions(as_refiner(lambda request: None), drafts("a dog"), breaker=breaker)
    assert refined[0].outcome == "kept" and not breaker.is_open
    count_outcomes(refined).require_answers("nobody")
    assert refine_captions(load_refiner("rules"), drafts("", ""))[0].outcome == "kept"


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [("unauthorized", "Incorrect API key provided"), ("error", "an error on our side")],
)
def test_a_server_that_refuses_is_found_out_by_one_question(behaviour, message, monkeypatch):
    monkeypatch.setenv("KEY_OF_A_TEST", "sk-test-0123456789SECRET")
    with serving(FakeModel(lambda call: behaviour)) as model:
        refiner = load_refiner("rules>openai:m", base_url=model.url, api_key_env="KEY_OF_A_TEST", max_retries=0)
        with pytest.raises(RefinerUnansweredError, match=message) as refused:
            refiner.check()
        assert len(model.calls) == 1
    said = str(refused.value)
    assert "KEY_OF_A_TEST" in said and "SECRET" not in said and model.url in said and refused.value.exit_code == 1


def test_what_is_out_of_reach_is_said_before():
    with pytest.raises(
        RefinerUnansweredError, match=r"openai:m does not answer at http://127.0.0.1:\d+/v1: Connection"
    ):
        load_refiner("openai:m", base_url=dead_url(), max_retries=0).check()
    with pytest.raises(ModelError, match="'/nowhere/bart' cannot be loaded"):
        load_refiner("bart:/nowhere/bart").check()
    load_refiner("rules>consensus").check()
    with serving() as model:
        load_refiner("openai:m", base_url=model.url).check()
        assert len(model.calls) == 1


def test_options_stand_behind_a_name():
    assert split_name("bart:a,b/c,mode=single,num_beams=2") == ("bart", "a,b/c", {"mode": "single", "num_beams": 2})
    assert split_name("openai:m,send_image=true") == ("openai", "m", {"send_image": True})
    assert split_name(" rules ") == ("rules", "", {}) and kinds_of("rules>bart,mode=single") == ["rules", "bart"]
    refiner = load_refiner("openai:m,send_image=true,concurrency=3", base_url="http://127.0.0.1:9/v1")
    assert refiner.send_image and refiner.looks_at_image and refiner.concurrency == 3
    with pytest.raises(ConfigurationError, match="'rules' has no option 'mode'"):
        load_refiner("rules,mode=single")
    with pytest.raises(ConfigurationError, match="`mode` is 'fuse' or 'single', not 'both'"):
        load_refiner("bart:x,mode=both")


def test_a_refiner_says_how_many_candidates_it_needs():
    needs = {name: load_refiner(name).needs_candidates for name in ("rules", "bart:x", "bart:x,mode=single")}
    assert needs == {"rules": 1, "bart:x": 5, "bart:x,mode=single": 1}
    assert load_refiner("rules>bart:x").needs_candidates == 5
    assert load_refiner("bart:x,most_candidates=3").needs_candidates == 3
    assert RefineRequest("a dog").candidates == ()
