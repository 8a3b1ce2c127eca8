"""The choice among candidates: by hand, by brute force, and on real systems' captions."""

from __future__ import annotations

import json

import numpy as np
import pytest

from blip_refine import RefineRequest, load_refiner
from blip_refine.errors import ConfigurationError, RefinerError
from blip_refine.metrics import score_captions
from blip_refine.metrics.statistics import paired_bootstrap

POOL = ("a cat on a mat", "a dog on a beach", "a dog runs on a beach", "a brown dog on a beach")


def choose(pool, **options):
    return load_refiner("consensus", **options).refine([RefineRequest(pool[0], tuple(pool[1:]))])[0]


def test_the_odd_one_out_is_not_chosen():
    result = choose(POOL, utility="rouge")
    assert result.text == "a dog on a beach" and result.accepted
    assert result.reason.startswith("candidate 2 of 4")


def test_rouge_agreement_is_the_mean_over_single_references():
    # By brute force: the metric itself, each candidate against each as its only reference.
    means = []
    for one in POOL:
        scores = [score_captions({"x": one}, {"x": [other]}, ["ROUGE_L"]).corpus["ROUGE_L"] for other in POOL]
        means.append(np.mean(scores))
    assert choose(POOL, utility="rouge").text == POOL[int(np.argmax(means))]
    reason = choose(POOL, utility="rouge").reason
    assert f"{max(means):.3f}" in reason and f"{means[0]:.3f}" in reason


def test_cider_agreement_is_the_metric_with_all_candidates_as_references():
    pools = {"1": POOL, "2": ("two men play tennis", "men play a game", "two men on a court", "two men play tennis")}
    refiner = load_refiner("consensus", utility="cider")
    requests = [RefineRequest(pool[0], tuple(pool[1:]), image_id=name) for name, pool in pools.items()]
    results = {one.image_id: one for one in refiner.refine(requests)}
    references = {name: list(pool) for name, pool in pools.items()}
    for name, pool in pools.items():
        scores = []
        for text in pool:
            predictions = {key: references[key][0] for key in references} | {name: text}
            scores.append(score_captions(predictions, references, ["CIDEr"]).per_image["CIDEr"][name])
        assert results[name].text == pool[int(np.argmax(scores))]


def test_a_tie_keeps_the_draft():
    assert choose(("a dog", "a cat")).text == "a dog"
    assert choose(("a dog", "a dog", "a cat", "a cat")).text == "a dog"


def test_repeated_samples_are_votes():
    assert choose(("a red car", "a blue boat", "a blue boat", "a blue boat")).text == "a blue boat"


def test_one_candidate_and_no_draft():
    assert choose(("a dog",)).text == "a dog"
    assert choose(("", "a dog")).text == "a dog"
    empty = choose(("", " "))
    assert empty.text == "" and not empty.accepted
    assert choose(("a dog", "", "...")).text == "a dog"


def test_longest_length():
    assert choose(("a b c d e", "a b c d e f", "x"), max_words=1).text == "x"
    assert choose(("a b", "c d"), max_words=1).text == "a b"


def test_likelihood_decides_between_equals_and_is_checked():
    pool = ("a dog", "a cat")
    assert choose(pool, likelihood=lambda request, texts: [-2.0, -1.0]).text == "a cat"
    with pytest.raises(RefinerError, match="one finite number for each of the 2"):
        choose(pool, likelihood=lambda request, texts: [float("nan"), -1.0])
    with pytest.raises(RefinerError, match="one finite number"):
        choose(pool, likelihood=lambda request, texts: [-1.0])


def test_likelihoods_that_come_with_the_request_count():
    def choose_with(confidence, others):
        request = RefineRequest("a dog", ("a cat",), confidence, candidate_confidences=others)
        return load_refiner("consensus").refine([request])[0].text

    assert choose_with(-2.0, (-1.0,)) == "a cat"
    # Where one is unknown, none counts: a likelihood cannot be weighed against nothing.
    assert choose_with(None, (-1.0,)) == choose_with(-2.0, ()) == choose_with(-2.0, (float("-inf"),)) == "a dog"
    empty = RefineRequest("", ("a dog", "a cat"), -9.0, candidate_confidences=(-2.0, -1.0))
    assert load_refiner("consensus").refine([empty])[0].text == "a cat"


def test_two_images_with_the_same_texts_are_chosen_for_by_their_own_confidences():
    texts, likely, unlikely = ("a cat", "a boat"), (-9.0, -0.1), (-0.1, -9.0)
    requests = [RefineRequest("a dog", texts, -5.0, candidate_confidences=known) for known in (likely, unlikely)]
    assert [one.text for one in load_refiner("consensus").refine(requests)] == ["a boat", "a cat"]


def test_a_corpus_makes_the_choice_independent_of_the_batch():
    corpus = ["a dog on the beach", "a man on a bench", "two cats on a mat", "a red car on a street"]
    requests = [RefineRequest(POOL[0], POOL[1:]), RefineRequest("two men", ("men play", "two men play tennis"))]
    alone = [load_refiner("consensus", corpus=corpus).refine([one])[0].text for one in requests]
    assert [one.text for one in load_refiner("consensus", corpus=corpus).refine(requests)] == alone


@pytest.mark.parametrize("options", [{"utility": "bleu"}, {"corpus": "a dog"}])
def test_bad_options(options):
    with pytest.raises(ConfigurationError):
        load_refiner("consensus", **options)


def test_consensus_of_three_systems_beats_the_first_on_real_captions(test_data):
    folder = test_data / "metric_parity/flickr30k"
    names = ("nucleus_result_run_1", "flickr30k_in_domain_clipretrieval", "magic_result")
    systems = [{row["image_name"]: row for row in json.loads((folder / f"{name}.json").read_text())} for name in names]
    references = {name: row["captions"] for name, row in systems[0].items()}
    first = {name: row["prediction"] for name, row in systems[0].items()}
    requests = [
        RefineRequest(first[name], tuple(system[name]["prediction"] for system in systems[1:]), image_id=name)
        for name in references
    ]
    chosen = {one.image_id: one.text for one in load_refiner("consensus").refine(requests)}
    before = score_captions(first, references, ["CIDEr"]).statistics["CIDEr"]
    after = score_captions(chosen, references, ["CIDEr"]).statistics["CIDEr"]
    test = paired_bootstrap(before, after, resamples=500)
    assert test.difference > 0.05 and test.p_value < 0.01
