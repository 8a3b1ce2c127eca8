"""BLEU, ROUGE-L and CIDEr against the reference implementation, and against scores computed by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from blip_refine.metrics import DocumentFrequencies, PreparedReferences, score_captions
from blip_refine.metrics.ngrams import ReferenceIndex
from blip_refine.metrics.rouge import rouge_l

from .captions import PREDICTIONS, REFERENCES, random_captions

NATIVE = ("Bleu", "ROUGE_L", "CIDEr")


def reference_scores(predictions: dict[str, str], references: dict[str, list[str]]) -> dict[str, tuple[float, list]]:
    """Corpus and per-image scores of pycocoevalcap, which are pure Python, on captions that are tokens already."""
    bleu = pytest.importorskip("pycocoevalcap.bleu.bleu")
    rouge, cider = (pytest.importorskip(f"pycocoevalcap.{name}.{name}") for name in ("rouge", "cider"))
    one = {image_id: [caption] for image_id, caption in predictions.items()}
    corpus, per_image = bleu.Bleu(4).compute_score(references, one, verbose=0)
    found = {f"Bleu_{n + 1}": (corpus[n], per_image[n]) for n in range(4)}
    found["ROUGE_L"] = rouge.Rouge().compute_score(references, one)
    found["CIDEr"] = cider.Cider().compute_score(references, one)
    return found


@pytest.mark.parametrize("seed", range(6))
def test_equal_to_pycocoevalcap_on_equal_tokens(seed):
    predictions, references = random_captions(seed)
    ours = score_captions(predictions, references, NATIVE)
    for name, (corpus, per_image) in reference_scores(predictions, references).items():
        assert ours.corpus[name] == pytest.approx(float(corpus), abs=1e-12), name
        got = np.array(list(ours.per_image[name].values()))
        assert np.abs(got - np.array(per_image)).max() < 1e-12, name


def test_equal_to_pycocoevalcap_where_captions_are_odd():
    predictions = {"a": "", "b": "dog", "c": "22\u00a03/4 inch", "d": "dog dog dog dog dog", "e": "kite", "f": "a b"}
    references = {
        "a": ["a dog", "a"], "b": ["dog"], "c": ["22\u00a03/4 inch", "a 3/4"], "d": ["dog"], "e": ["a", "b", "c"],
        "f": ["b a", "a b c d e f g h i j k l m n o p q r s t u v w x y z"],
    }  # fmt: skip
    ours = score_captions(predictions, references, NATIVE, allow_empty=True)
    for name, (corpus, per_image) in reference_scores(predictions, references).items():
        assert ours.corpus[name] == pytest.approx(float(corpus), abs=1e-12), name
        assert np.abs(np.array(list(ours.per_image[name].values())) - np.array(per_image)).max() < 1e-12, name


GOLD = {
    "magic_mscoco_magic_result": "mscoco/magic_result",
    "magic_flickr30k_magic_result": "flickr30k/magic_result",
    "magic_flickr30k_nucleus_result_run_1": "flickr30k/nucleus_result_run_1",
    "magic_flickr30k_flickr30k_in_domain_clipretrieval": "flickr30k/flickr30k_in_domain_clipretrieval",
}


def parity_set(test_data, name: str) -> tuple[dict[str, str], dict[str, list[str]], dict]:
    rows = json.loads((test_data / "metric_parity" / f"{GOLD[name]}.json").read_text(encoding="utf-8"))
    gold = json.loads((test_data / "metric_parity" / "gold" / f"{name}.json").read_text(encoding="utf-8"))
    predictions = {row["image_name"]: row["prediction"] for row in rows}
    assert len(predictions) == len(rows) == gold["summary"]["n_images"]
    return predictions, {row["image_name"]: row["captions"] for row in rows}, gold


@pytest.mark.parametrize("name", GOLD)
def test_end_to_end_on_published_predictions(test_data, name):
    predictions, references, gold = parity_set(test_data, name)
    ours = score_captions(predictions, references, NATIVE)
    for metric, value in ours.corpus.items():
        assert value == pytest.approx(gold["summary"][metric], abs=1e-6), metric
        got = np.array(list(ours.per_image[metric].values()))
        assert np.abs(got - np.array(gold["per_image"][metric])).max() < 1e-9, metric


@pytest.mark.java
@pytest.mark.slow
@pytest.mark.parametrize("name", ["magic_mscoco_magic_result", "magic_flickr30k_nucleus_result_run_1"])
def test_meteor_of_published_predictions(test_data, name):
    predictions, references, gold = parity_set(test_data, name)
    ours = score_captions(predictions, references, ["METEOR"])
    assert not ours.unavailable
    got, expected = np.array(list(ours.per_image["METEOR"].values())), np.array(gold["per_image"]["METEOR"])
    off = [image_id for image_id, far in zip(predictions, np.abs(got - expected) > 1e-9, strict=True) if far]
    # Gold was tokenized as one text: one reference, "... Wii U.", lost its full stop to the caption after it.
    allowed = {"magic_mscoco_magic_result": ["COCO_val2014_000000557130.jpg"]}.get(name, [])
    assert off == allowed
    assert ours.corpus["METEOR"] == pytest.approx(gold["summary"]["METEOR"], abs=1e-5 if allowed else 1e-9)
    if name == "magic_mscoco_magic_result":
        native = score_captions(predictions, references, NATIVE).corpus
        row = [native["Bleu_1"], native["Bleu_4"], ours.corpus["METEOR"], native["ROUGE_L"], native["CIDEr"]]
        assert [f"{value:.3f}"[1:] for value in row] == [".568", ".129", ".174", ".399", ".493"]  # As published.


@pytest.mark.java
@pytest.mark.slow
def test_correlation_with_people(test_data):
    """Kendall's tau-c over the 16,992 judgements of Flickr8k-Expert, within 0.3 of what is published."""
    stats = pytest.importorskip("scipy.stats")
    images = json.loads((test_data / "human_ratings" / "flickr8k_expert.json").read_text(encoding="utf-8"))
    predictions, references, ratings = {}, {}, {}
    for image_id, image in images.items():
        for judgement in image["human_judgement"]:
            pair = f"{image_id}|{judgement['caption']}"
            predictions[pair], references[pair] = judgement["caption"], image["ground_truth"]
            ratings.setdefault(pair, []).append(judgement["rating"])
    assert sum(map(len, ratings.values())) == 16_992
    scores = score_captions(predictions, references, ["Bleu_1", "Bleu_4", "ROUGE_L", "METEOR", "CIDEr"])
    published = {"Bleu_1": 32.3, "Bleu_4": 30.8, "ROUGE_L": 32.3, "METEOR": 41.8, "CIDEr": 43.9}
    judged = [rating for pair in ratings.values() for rating in pair]
    for metric, value in published.items():
        given = [scores.per_image[metric][pair] for pair, some in ratings.items() for _ in some]
        assert 100 * stats.kendalltau(given, judged, variant="c").statistic == pytest.approx(value, abs=0.3), metric


def test_scores_by_hand():
    scores = score_captions(
        {"1": "a dog runs", "2": "two boats"}, {"1": ["a dog runs"], "2": ["two red boats"]}, NATIVE
    )
    # 5 of 5 words, one word short of 6: 1 * exp(1 - 6 / 5). Then 2 of 3 pairs: sqrt(1 * 2 / 3).
    assert scores.corpus["Bleu_1"] == pytest.approx(math.exp(1 - 6 / 5), abs=1e-8)
    assert scores.corpus["Bleu_2"] == pytest.approx(math.sqrt(2 / 3) * math.exp(1 - 6 / 5), abs=1e-8)
    # Two words in common: precision 1, recall 2/3.
    assert scores.per_image["ROUGE_L"]["2"] == pytest.approx(2.44 * (2 / 3) / (2 / 3 + 1.44))
    assert scores.per_image["CIDEr"]["1"] == pytest.approx(7.5)  # Four words would be needed for 10.


def test_many_systems_share_prepared_references():
    prepared = PreparedReferences(REFERENCES)
    other = {image_id: "a kite and a dog" for image_id in REFERENCES}
    for predictions in (PREDICTIONS, other, PREDICTIONS):
        shared = score_captions(predictions, prepared, NATIVE)
        alone = score_captions(predictions, REFERENCES, NATIVE)
        assert shared.corpus == alone.corpus and shared.per_image == alone.per_image
    assert prepared["kite.jpg"] == tuple(REFERENCES["kite.jpg"]) and list(prepared) == list(REFERENCES)


def test_long_predictions_go_the_long_way():
    text = " ".join(f"w{n}" for n in range(300))
    index = ReferenceIndex([[text], ["a"]])
    assert rouge_l(index, index.read([text, "a"])).tolist() == pytest.approx([1.0, 1.0])
    half = " ".join(f"w{n}" for n in range(0, 300, 2))
    score = rouge_l(index, index.read([half, "a"]))[0]
    assert score == pytest.approx(2.44 * 0.5 / (0.5 + 1.44))


def test_cider_of_one_image_is_unavailable_not_zero():
    scores = score_captions({"1": "a dog"}, {"1": ["a dog"]}, NATIVE)
    assert "CIDEr" not in scores.corpus and "only one image" in scores.unavailable["CIDEr"]
    assert scores.corpus["Bleu_1"] == pytest.approx(1.0, abs=1e-6)


def test_frozen_document_frequencies(tmp_path):
    predictions, references = random_captions(3)
    frequencies = DocumentFrequencies.from_references(references)
    frequencies.save(tmp_path / "df.json.gz")
    loaded = DocumentFrequencies.load(tmp_path / "df.json.gz")
    assert loaded == frequencies and loaded.fingerprint == frequencies.fingerprint
    counted = score_captions(predictions, references, ["CIDEr", "CIDEr-plain"])
    frozen = score_captions(predictions, references, ["CIDEr", "CIDEr-plain"], document_frequencies=loaded)
    for name in ("CIDEr", "CIDEr-plain"):
        assert list(frozen.per_image[name].values()) == pytest.approx(
            list(counted.per_image[name].values()), abs=1e-12
        )
    assert f"df-frozen.60.{loaded.fingerprint}" in frozen.signature and "df-these" in counted.signature
    # One image alone now scores as it does among all, and few images are no longer warned of.
    image_id = next(iter(predictions))
    single = score_captions(
        {image_id: predictions[image_id]}, {image_id: references[image_id]}, ["CIDEr"], document_frequencies=loaded
    )
    assert single.corpus["CIDEr"] == pytest.approx(counted.per_image["CIDEr"][image_id], abs=1e-12)
    assert not any("says little" in warning for warning in single.warnings)


def test_cider_d_is_what_coco_calls_cider_and_the_plain_one_has_no_penalty():
    predictions, references = random_captions(4)
    scores = score_captions(predictions, references, ["CIDEr", "CIDEr-D", "CIDEr-plain"])
    assert scores.per_image["CIDEr"] == scores.per_image["CIDEr-D"]
    assert all(plain >= scores.per_image["CIDEr"][k] - 1e-12 for k, plain in scores.per_image["CIDEr-plain"].items())
    assert scores.corpus["CIDEr-plain"] > scores.corpus["CIDEr"]
