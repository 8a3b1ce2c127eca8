"""What is saved with the weights: through stock loaders and back, and which of three wishes wins."""

from __future__ import annotations

import json
import shutil

import pytest
import transformers

from blip_refine import CaptionPipeline, load_captioner
from blip_refine.errors import ConfigurationError, ModelError
from blip_refine.models.decoding import DecodingOptions
from blip_refine.models.saved_defaults import (
    SavedDefaults,
    effective_decoding,
    read_defaults,
    save_defaults,
    saved_defaults,
    set_defaults,
    stock_arguments,
)

from ..conftest import STARTER

OPTIONS = [
    DecodingOptions(),
    DecodingOptions(num_beams=3, min_new_tokens=1, max_new_tokens=16, prompt="a picture of "),
    DecodingOptions(length_penalty=0.5, early_stopping=False, repetition_penalty=1.2, no_repeat_ngram_size=2),
    DecodingOptions.preset("creative", seed=3, temperature=0.7, top_k=7),
    DecodingOptions.preset("candidates", bad_words=("gun", "knife")),
    DecodingOptions.preset("fast", prompt="a photo of "),
]


@pytest.mark.parametrize("options", OPTIONS, ids=range(len(OPTIONS)))
def test_through_a_stock_loader_and_back(tiny_captioner, tmp_path, options, recwarn, caplog):
    model, processor = tiny_captioner()[:2]
    ids = {name: getattr(model.generation_config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    set_defaults(model, options, "a photo of {name}, ")
    model.save_pretrained(tmp_path / "ours")
    processor.save_pretrained(tmp_path / "ours")
    stock = transformers.BlipForConditionalGeneration.from_pretrained(tmp_path / "ours")
    stock.save_pretrained(tmp_path / "stock")
    assert not caplog.records and not [w for w in recwarn if "generation" in str(w.message).lower()]
    for folder in ("ours", "stock"):
        found = read_defaults(tmp_path / folder)
        assert (found.prompt, found.prompt_template, found.image_size) == (options.prompt, "a photo of {name}, ", 32)
        # What has no effect with one beam is not written.
        idle = {} if options.num_beams > 1 else {"early_stopping": options.early_stopping}
        assert found.options().with_changes(**idle) == options
        assert saved_defaults(stock) == found
        assert {
            name: json.loads((tmp_path / folder / "generation_config.json").read_text())[name] for name in ids
        } == ids


def test_beside_an_adapter(tmp_path):
    model, processor = load_captioner("starter", lora=True)
    set_defaults(model, DecodingOptions(num_beams=2, prompt="a photo of "))
    model.save_pretrained(tmp_path)
    save_defaults(model, tmp_path)
    again, _ = load_captioner(tmp_path)
    assert saved_defaults(again) == read_defaults(tmp_path) == saved_defaults(model)
    assert CaptionPipeline(again, processor).decoding == DecodingOptions(num_beams=2, prompt="a photo of ")


def test_an_adapter_has_its_own_defaults_and_not_those_of_its_base(tmp_path):
    base, processor = load_captioner("starter")
    set_defaults(base, DecodingOptions(prompt="of the base "))
    base.save_pretrained(tmp_path / "base")
    processor.save_pretrained(tmp_path / "base")
    model, _ = load_captioner(tmp_path / "base", lora=True)
    set_defaults(model, DecodingOptions(prompt="of the adapter "))
    model.save_pretrained(tmp_path / "adapter")
    save_defaults(model, tmp_path / "adapter")
    assert saved_defaults(load_captioner(tmp_path / "adapter")[0]).prompt == "of the adapter "
    assert saved_defaults(load_captioner(tmp_path / "base")[0]).prompt == "of the base "


def test_a_stranger_s_file_says_nothing_and_a_broken_one_is_refused(tmp_path):
    shutil.copytree(STARTER, tmp_path / "model")
    path = tmp_path / "model" / "generation_config.json"
    path.write_text(json.dumps({"num_beams": 9, "max_new_tokens": 3}))
    assert read_defaults(tmp_path / "model") is None
    assert CaptionPipeline.from_pretrained(tmp_path / "model").decoding == DecodingOptions()
    broken = [
        {"blip_refine": 3},
        {"blip_refine": {"prompt": 3}},
        {"blip_refine": {"prompt_template": "{name.__class__}"}},
        {"blip_refine": {"image_size": "384"}},
        {"blip_refine": {"decoding": []}},
        {"blip_refine": {}, "num_beams": "many"},
        {"blip_refine": {}, "num_beams": -1},
        {"blip_refine": {}, "early_stopping": "never"},
        {"blip_refine": {}, "num_beams": True},
    ]
    for content in broken:
        path.write_text(json.dumps(content))
        with pytest.raises(ModelError, match=r"generation_config\.json"):
            read_defaults(tmp_path / "model")
    path.write_text("{")
    with pytest.raises(ModelError):
        read_defaults(tmp_path / "model")
    assert read_defaults(tmp_path) is None


SAVED = SavedDefaults({"num_beams": 3, "max_new_tokens": 16}, "a picture of ", image_size=96)


def test_what_was_asked_for_wins_over_what_is_saved_and_that_over_the_library():
    own = DecodingOptions(num_beams=3, max_new_tokens=16, prompt="a picture of ")
    assert effective_decoding(None) == DecodingOptions()
    assert effective_decoding(SAVED) == own
    assert effective_decoding(SAVED, num_beams=4, prompt=None) == own.with_changes(num_beams=4)
    assert effective_decoding(SAVED, prompt="") == own.with_changes(prompt="")
    assert effective_decoding(SAVED, prompt="we see ") == own.with_changes(prompt="we see ")
    assert effective_decoding(SAVED, "fast") == DecodingOptions.preset("fast", prompt="a picture of ")
    assert effective_decoding(SAVED, "accurate", prompt="") == DecodingOptions()
    assert effective_decoding(SAVED, DecodingOptions(num_beams=2)) == DecodingOptions(
        num_beams=2, prompt="a picture of "
    )
    assert effective_decoding(SAVED, DecodingOptions(prompt="we see ")).prompt == "we see "
    for wrong in ({"beams": 3}, {"num_beams": 0}, {"seed": 3}):
        with pytest.raises(ConfigurationError):
            effective_decoding(SAVED, **wrong)
    with pytest.raises(ConfigurationError, match="preset"):
        effective_decoding(SAVED, "best")


def test_stock_generate_is_given_what_changes_something():
    assert stock_arguments(DecodingOptions()) == {
        "num_beams": 5, "max_new_tokens": 30, "early_stopping": True, "length_penalty": 1.0, "do_sample": False,
    }  # fmt: skip
    assert stock_arguments(DecodingOptions.preset("fast")) == {
        "num_beams": 1,
        "max_new_tokens": 20,
        "do_sample": False,
    }


def test_stock_generate_with_the_saved_decoding_gives_our_captions(tmp_path):
    from blip_refine import BlipCaptionDataset
    from blip_refine.data.images import load_image

    model, processor = load_captioner("starter")
    set_defaults(model, DecodingOptions(num_beams=3, max_new_tokens=16, min_new_tokens=2, prompt="a picture of "))
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    records = BlipCaptionDataset.from_source("scenes:everyday", split="test", count=6).records
    ours = [caption.text for caption in CaptionPipeline.from_pretrained(tmp_path, device="cpu")(records)]
    assert len(set(ours)) > 3 and all(text.startswith("a picture of ") for text in ours)

    saved = read_defaults(tmp_path)
    stock = transformers.BlipForConditionalGeneration.from_pretrained(tmp_path)
    loaded = transformers.BlipProcessor.from_pretrained(tmp_path)
    pictures = [load_image(record.image) for record in records]
    inputs = loaded(images=pictures, text=[saved.prompt] * len(pictures), return_tensors="pt")
    tokens = stock.generate(**inputs, **stock_arguments(saved.options()))
    assert loaded.batch_decode(tokens, skip_special_tokens=True) == ours
