"""What all refiners share: order, duplicates, retries with the reason, composition, registration."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest

import blip_refine
from blip_refine import Refiner, RefineRequest, load_refiner
from blip_refine.errors import ConfigurationError, RefinerError
from blip_refine.refine import AnswerCache, Chain, FunctionRefiner, Proposal, as_refiner, available_refiners
from blip_refine.refine import base as base_module


class Scripted(Refiner):
    """Answers as told, and keeps what it was asked."""

    name = "scripted"

    def __init__(self, answers, **options):
        super().__init__(**options)
        self.answers, self.asked = list(answers), []

    def propose(self, requests, feedback):
        self.asked += list(zip([one.draft for one in requests], feedback, strict=True))
        return [Proposal(text, raw=text, tokens=5, cost=0.5, latency=1.0) for text in self._take(len(requests))]

    def _take(self, count):
        taken, self.answers = self.answers[:count], self.answers[count:]
        return taken


def test_answers_come_in_order_with_their_ids():
    requests = [RefineRequest(f"draft {k}", image_id=str(k)) for k in range(5)]
    results = Scripted([f"answer {k}" for k in range(5)]).refine(requests)
    assert [(one.image_id, one.draft, one.text) for one in results] == [
        (str(k), f"draft {k}", f"answer {k}") for k in range(5)
    ]
    assert load_refiner("rules").refine([]) == []


def test_equal_requests_are_asked_once_and_paid_once():
    refiner = Scripted(["A dog.", "A cat."])
    results = refiner.refine([RefineRequest("a dog", image_id="1"), "a cat", RefineRequest("a dog", image_id="3")])
    assert [draft for draft, _ in refiner.asked] == ["a dog", "a cat"]
    assert [one.text for one in results] == ["A dog.", "A cat.", "A dog."]
    assert [one.image_id for one in results] == ["1", "", "3"]
    assert sum(one.tokens for one in results) == 10 and sum(one.cost or 0 for one in results) == 1.0


def test_a_rejected_answer_is_asked_for_once_more_with_the_reason():
    refiner = Scripted(["A dog on a mat.", "A dog runs."], guards=True)
    result = refiner.refine(["a dog running"])[0]
    assert refiner.asked == [
        ("a dog running", None),
        ("a dog running", "facts: it adds the noun 'mat', which nothing supports"),
    ]
    assert result.accepted and result.text == "A dog runs." and result.attempts == 2
    assert result.tokens == 10 and result.cost == 1.0 and result.latency == 2.0


def test_after_the_second_rejection_the_draft_stands():
    refiner = Scripted(["A dog on a mat.", "A dog on a rug.", "never asked for"], guards=True)
    result = refiner.refine(["a dog running"])[0]
    assert not result.accepted and result.text == "a dog running"
    assert result.reason == "facts: it adds the noun 'rug', which nothing supports"
    assert result.raw == "A dog on a rug." and len(refiner.asked) == 2


def test_no_second_try_where_it_could_not_differ_or_is_not_wanted():
    once = Scripted(["A mat."], guards=True, retries=0)
    assert not once.refine(["a dog"])[0].accepted and len(once.asked) == 1
    same = Scripted(["A mat."], guards=True)
    same.asks_again = False
    assert not same.refine(["a dog"])[0].accepted and len(same.asked) == 1
    with pytest.raises(ConfigurationError, match="retries"):
        Scripted([], retries=-1)


def test_too_few_answers_are_an_error_that_names_the_refiner():
    with pytest.raises(RefinerError, match=r"'scripted' gave 1 answers to 2 requests"):
        Scripted(["only one"]).refine(["a", "b"])


def test_a_function_is_a_refiner():
    def shout(request):
        return None if "quiet" in request.draft else request.draft.upper()

    refiner = as_refiner(shout)
    assert refiner.name == "shout"
    loud, quiet = refiner.refine(["a dog", "a quiet dog"])
    assert loud.text == "A DOG" and loud.accepted
    assert quiet.text == "a quiet dog" and not quiet.accepted and quiet.reason == "no caption was given"
    with pytest.raises(ConfigurationError, match="returned a int"):
        FunctionRefiner(lambda request: 3).refine(["a"])
    with pytest.raises(ConfigurationError, match="not a refiner"):
        as_refiner(3)


def test_chains_hand_on_and_keep_the_first_draft():
    def exclaim(request):
        return request.draft.rstrip(".") + "!"

    chain = load_refiner("rules") >> exclaim
    result = chain.refine([RefineRequest("a dog dog", image_id="x")])[0]
    assert (result.draft, result.text, result.image_id) == ("a dog dog", "A dog!", "x")
    assert result.refiner == "rules > exclaim" and result.accepted
    assert result.reason == "rules: repaired: repetition, casing, final stop"
    assert isinstance(load_refiner("rules>consensus"), Chain)
    assert [one.name for one in (load_refiner("rules>consensus") >> "rules").refiners] == [
        "rules",
        "consensus",
        "rules",
    ]


def test_a_chain_goes_on_where_one_kept_its_draft():
    def refuses(request):
        return None

    result = (as_refiner(refuses) >> "rules").refine(["a dog dog"])[0]
    assert result.text == "A dog." and result.accepted
    assert "refuses: no caption was given" in result.reason
    result = (load_refiner("rules") >> refuses).refine(["a dog dog"])[0]
    assert result.text == "A dog." and result.accepted


def test_rules_clean_candidates_for_the_choice_that_follows():
    request = RefineRequest("a dog", ("a dog dog on a a beach", "a dog dog on a a beach", "a cat"))
    assert load_refiner("rules>consensus").refine([request])[0].text == "A dog on a beach."


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("poet", {}, "no refiner 'poet'; there are: bart, consensus, instruct, openai, rules"),
        ("rules>", {}, "empty part"),
        ("rules", {"temperature": 1}, "no option 'temperature'"),
        ("rules:large", {}, "has no model"),
        ("rules>consensus", {"base_url": "x"}, "no option 'base_url'"),
    ],
)
def test_what_cannot_be_built_is_said_plainly(name, options, message):
    with pytest.raises(ConfigurationError, match=message):
        load_refiner(name, **options)


def test_options_go_to_the_refiners_that_know_them():
    chain = load_refiner("rules>consensus", casing="lower", utility="rouge")
    assert chain.refiners[0].casing == "lower" and chain.refiners[1].utility == "rouge"


def test_entry_points_register_refiners(monkeypatch):
    point = EntryPoint("shout", "tests.refine.test_base:Scripted", base_module.ENTRY_POINTS)
    monkeypatch.setattr(
        base_module, "entry_points", lambda group: [point] if group == base_module.ENTRY_POINTS else []
    )
    assert "shout" in available_refiners()
    refiner = load_refiner("shout", answers=["A dog."])
    assert refiner.refine(["a dog"])[0].text == "A dog."


def test_an_unusable_request_is_refused():
    with pytest.raises(ConfigurationError, match="not with a int"):
        load_refiner("rules").refine([3])


def test_answers_are_kept_and_not_asked_again(tmp_path):
    path = tmp_path / "answers.sqlite"
    with Scripted(["A dog."], cache=path) as first:
        assert first.refine(["a dog"])[0].tokens == 5
    with Scripted([], cache=AnswerCache(path)) as second:
        result = second.refine(["a dog"])[0]
        assert second.asked == []
    assert result.text == "A dog." and result.cached and result.tokens == 0 and result.cost == 0.0


def test_a_failure_is_not_kept(tmp_path):
    class Failing(Scripted):
        def propose(self, requests, feedback):
            self.asked += requests
            return [Proposal(None, reason="the server is down")] * len(requests)

    with Failing([], cache=tmp_path / "answers.sqlite") as refiner:
        for _ in range(2):
            result = refiner.refine(["a dog"])[0]
            assert not result.accepted and result.reason == "the server is down" and result.text == "a dog"
        assert len(refiner.asked) == 2


def test_the_contract_is_what_the_package_exports():
    for name in ("Refiner", "load_refiner", "BartRefiner", "InstructRefiner", "OpenAIRefiner"):
        assert getattr(blip_refine, name).__module__.startswith("blip_refine.refine.")


def test_the_image_is_part_of_the_key_only_where_it_is_looked_at():
    refiner = Scripted([])
    one, other = RefineRequest("a dog", image=b"1"), RefineRequest("a dog", image=b"2")
    assert refiner.key(one) == refiner.key(other)
    refiner.looks_at_image = True
    assert refiner.key(one) != refiner.key(other)
    assert refiner.key(one) != refiner.key(one, "too long")
    assert refiner.key(one) != refiner.key(replace(one, candidates=("a cat",)))
    assert refiner.key(one) != refiner.key(replace(one, metadata={"place": "Lisbon"}))
    assert refiner.key(one) == refiner.key(replace(one, image_id="another name"))
