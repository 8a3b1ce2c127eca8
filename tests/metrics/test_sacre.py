from __future__ import annotations

import pytest
from sacrebleu.metrics import BLEU

from blip_refine.errors import MetricError
from blip_refine.metrics import bleu_reports, corpus_sacrebleu

PREDICTIONS = ["a man rides a brown horse on the beach", "two dogs play with a red ball"]
REFERENCES = [
    ["A man rides a brown horse.", "A man on a horse on the beach"],
    ["two dogs play with a ball in the park"],
]


def test_equal_to_sacrebleu_with_streams():
    streams = [["A man rides a brown horse.", REFERENCES[1][0]], [REFERENCES[0][1], None]]
    metric = BLEU(lowercase=True)
    expected = metric.corpus_score(PREDICTIONS, streams).score
    score, signature = corpus_sacrebleu(PREDICTIONS, REFERENCES)
    assert score == pytest.approx(expected) and 0 < score < 100
    assert signature == str(metric.get_signature()) and "case:lc" in signature


def test_case_counts_only_where_asked():
    lower = corpus_sacrebleu(["a dog runs in the park"], [["A DOG runs in the park"]])
    cased = corpus_sacrebleu(["a dog runs in the park"], [["A DOG runs in the park"]], lowercase=False)
    assert lower[0] == pytest.approx(100) and cased[0] < 70 and "case:mixed" in cased[1]


def test_nesting_by_stream_is_refused_where_it_can_be_seen():
    """The wrong nesting gives another number without an error in sacreBLEU itself."""
    three = ["a b c d e", "f g h i j", "k l m n o"]
    with pytest.raises(MetricError, match="one list an image, not one list a reference number"):
        corpus_sacrebleu(three, [["a b c d e", "f g h i j", "k l m n o"]])


def test_first_and_all_references_are_told_apart():
    reports = bleu_reports(PREDICTIONS, REFERENCES)
    assert reports["all"].score > reports["first"].score
    assert reports["all"].references == "all" and reports["first"].signature.startswith("nrefs:1|")
    assert set(bleu_reports(["a"], [["a"]])) == {"all"}


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([], [], "no predictions"),
        (["a"], ["a"], "list of lists"),
        (["a"], [[]], "1 images have no reference"),
        (["a"], [["a"], ["b"]], "1 predictions for the references of 2"),
        ("a", [["a"]], "predictions must be a list of strings"),
        (["a"], [[None]], "list of lists of strings"),
    ],
)
def test_bad_input(predictions, references, message):
    with pytest.raises(MetricError, match=message):
        corpus_sacrebleu(predictions, references)
