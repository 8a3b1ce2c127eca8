from __future__ import annotations

import pytest

from blip_refine.metrics import score_captions
from blip_refine.metrics.synsets import SynsetLexicon, synset_f1

pytest.importorskip("pycocoevalcap")


def one(prediction: str, *references: str) -> float:
    return float(synset_f1([prediction], [list(references)])[0])


def test_synonyms_and_inflections_agree():
    assert one("a couch", "the sofa") == 1.0
    assert one("three dogs running", "a dog runs") == pytest.approx(0.8)
    assert one("women", "a woman") == 1.0
    assert one("a fire hydrant", "a fireplug") == 1.0
    assert one("a cat", "a dog") == 0.0


def test_by_hand():
    # Content: {man, rides, horse} against {man, horse, beach}: 2 of 3 both ways.
    assert one("a man rides a horse", "a man with a horse", "the beach") == pytest.approx(2 / 3)


def test_empty_and_function_words_score_nothing():
    assert one("", "a dog") == 0.0 and one("it is on the", "a dog") == 0.0


def test_named_apart_from_spice():
    scores = score_captions({"1": "a couch"}, {"1": ["a sofa"]}, ["SynsetF1"])
    assert scores.corpus == {"SynsetF1": 1.0} and "synsetf1:wordnet3.0.meteor1.5" in scores.signature


def test_base_forms():
    lexicon = SynsetLexicon.load()
    for form, base in (
        ("geese", "goose"),
        ("running", "run"),
        ("boxes", "box"),
        ("ladies", "lady"),
        ("bigger", "big"),
    ):
        assert base in lexicon.base_forms(form)


@pytest.mark.slow
def test_agrees_with_people_better_than_bleu(test_data):
    import json

    stats = pytest.importorskip("scipy.stats")
    images = json.loads((test_data / "human_ratings" / "flickr8k_expert.json").read_text(encoding="utf-8"))
    predictions, references, ratings = {}, {}, {}
    for image_id, image in list(images.items())[:300]:
        for judgement in image["human_judgement"]:
            pair = f"{image_id}|{judgement['caption']}"
            predictions[pair], references[pair] = judgement["caption"], image["ground_truth"]
            ratings.setdefault(pair, []).append(judgement["rating"])
    scores = score_captions(predictions, references, ["Bleu_4", "SynsetF1"])
    judged = [rating for some in ratings.values() for rating in some]
    tau = {
        metric: stats.kendalltau(
            [values[pair] for pair, some in ratings.items() for _ in some], judged, variant="c"
        ).statistic
        for metric, values in scores.per_image.items()
    }
    assert tau["SynsetF1"] > tau["Bleu_4"] + 0.05
