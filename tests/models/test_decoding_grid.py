"""Grids of decoding options as text."""

from __future__ import annotations

import pytest

from blip_refine.errors import ConfigurationError
from blip_refine.models.decoding_grid import expand_decodings


def names(*texts):
    return [choice.name for choice in expand_decodings(texts)]


def test_all_combinations_each_once():
    assert names("max_new_tokens=8,9 num_beams=2,3") == [
        "max_new_tokens=8 num_beams=2", "max_new_tokens=8 num_beams=3",
        "max_new_tokens=9 num_beams=2", "max_new_tokens=9 num_beams=3",
    ]  # fmt: skip
    assert names("accurate", "accurate", "fast,accurate max-new-tokens=7") == [
        "accurate", "fast max_new_tokens=7", "accurate max_new_tokens=7",
    ]  # fmt: skip


def test_a_length_penalty_makes_no_cells_where_it_does_not_act():
    found = names("num_beams=1,3,5 length_penalty=0.8,1,1.2")
    assert len(found) == 7 and found[0] == "num_beams=1" and "num_beams=5 length_penalty=1.2" in found


def test_a_name_says_how_to_decode():
    [choice] = expand_decodings(["accurate num_beams=3 length_penalty=0.8"])
    assert choice.preset == "accurate" and choice.changes == {"num_beams": 3, "length_penalty": 0.8}
    [sampled] = expand_decodings(["top_p=0.9 num_return_sequences=5"])
    assert sampled.changes == {"num_beams": 1, "top_p": 0.9, "num_return_sequences": 5, "do_sample": True}
    for name in names("creative", "top_k=5,6 early_stopping=true"):
        assert [one.name for one in expand_decodings([name])] == [name]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_beams=1,x", "num_beams takes a whole number, not 'x'"),
        ("num_beams=", "num_beams takes a whole number, not ''"),
        ("do_sample=maybe", "takes true or false"),
        ("beams=3", "There is no decoding option 'beams'"),
        ("slow", "There is no decoding preset 'slow'"),
        ("num_beams=2 num_beams=3", "given twice"),
        ("num_beams=2 num_return_sequences=3", "cannot be: 2 beams cannot give 3"),
        ("", "such as 'accurate'"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(text, message):
    with pytest.raises(ConfigurationError, match=message) as refused:
        expand_decodings([text])
    assert "\n" not in str(refused.value)
