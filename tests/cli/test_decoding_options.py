"""The decoding flags of the commands: one set, one rule, sentences that name flags."""

from __future__ import annotations

import pytest

from blip_refine.cli.decoding_options import check_decoding, decoding_changes, in_flags, with_seed
from blip_refine.errors import ConfigurationError
from blip_refine.models.saved_defaults import SavedDefaults, effective_decoding


def test_what_was_not_given_changes_nothing():
    assert decoding_changes({"num_beams": None, "model": "starter", "prompt": ""}) == {"prompt": ""}
    assert decoding_changes({"num_beams": 3, "seed": 4}, leave_out=["seed"]) == {"num_beams": 3}


@pytest.mark.parametrize("name", ["top_k", "top_p", "temperature"])
def test_sampling_is_turned_on_by_what_acts_on_it(name):
    assert decoding_changes({name: 1}) == {name: 1, "do_sample": True, "num_beams": 1}
    assert decoding_changes({name: 1, "num_beams": 4})["num_beams"] == 4


def test_one_beam_drops_the_length_penalty_of_the_model_and_not_that_of_the_user():
    saved = SavedDefaults({"num_beams": 5, "length_penalty": 1.4})
    assert effective_decoding(saved, num_beams=1).length_penalty == 1.0
    assert effective_decoding(saved, num_beams=2).length_penalty == 1.4
    with pytest.raises(ConfigurationError, match="no effect with one beam"):
        effective_decoding(saved, num_beams=1, length_penalty=1.4)


@pytest.mark.parametrize(
    ("model", "preset", "changes", "message"),
    [
        ("starter", None, {"seed": 3}, "--seed has no effect without sampling: add --top-p"),
        ("starter", "accurate", {"top_p": 2.0, "do_sample": True}, "--top-p is a probability"),
        (
            "starter",
            "candidates",
            {"top_k": 5, "do_sample": True, "num_beams": 1},
            "--decoding candidates, or --top-k",
        ),
        ("starter", None, {"num_beams": 2, "num_return_sequences": 3}, "raise --num-beams or lower"),
        ("owner/model", None, {"min_new_tokens": 9, "max_new_tokens": 5}, "--min-new-tokens (9) is above"),
        ("owner/model", None, {"length_penalty": 2.0, "num_beams": 1}, "--length-penalty has no effect"),
    ],
)
def test_contradictions_are_refused_before_a_model_is_loaded(model, preset, changes, message):
    with pytest.raises(ConfigurationError) as refused:
        check_decoding(model, preset, changes)
    assert message in str(refused.value) and "`" not in str(refused.value)


def test_what_only_the_saved_options_of_a_model_on_the_hub_can_decide_is_left_to_them():
    assert check_decoding("owner/model", None, {"seed": 3, "min_new_tokens": 50, "num_return_sequences": 8}) is None


def test_a_seed_is_set_where_tokens_are_drawn():
    assert with_seed("starter", "creative", {}, 7) == {"seed": 7}
    assert with_seed("starter", "fast", {"max_new_tokens": 5}, 7) == {"max_new_tokens": 5}


def test_messages_name_flags():
    assert in_flags("`num_beams` and `bad_words`") == "--num-beams and `bad_words`"
