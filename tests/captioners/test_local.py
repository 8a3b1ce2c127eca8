"""`hf:MODEL`: tiny captioners of every family, against stock `generate` and `forward`."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from blip_refine import CaptionPipeline
from blip_refine.captioners.spec import load_captioner_stream
from blip_refine.errors import ConfigurationError, ModelError
from blip_refine.models.decoding import DecodingOptions
from blip_refine.models.other_captioners import load_other_captioner
from blip_refine.models.other_decoding import caption_pictures, model_inputs

from .other_models import CHATS, KINDS
from .vision_server import COLORS

PICTURES = [
    Image.linear_gradient("L").resize((90, 70)).convert("RGB"),
    Image.new("RGB", (60, 60), COLORS["red"]),
    Image.new("RGB", (70, 50), COLORS["blue"]),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beams", [1, 3])
def test_captions_are_those_of_stock_generate(kind, beams, other):
    captioner = load_other_captioner(str(other(kind)))
    prompt = captioner.default_prompt
    found = caption_pictures(captioner, PICTURES, prompt, DecodingOptions(num_beams=beams, max_new_tokens=9))
    stock = AutoModelForImageTextToText.from_pretrained(other(kind)).eval()
    for picture, one in zip(PICTURES, found, strict=True):
        inputs = model_inputs(captioner, [picture], prompt)
        inputs.pop("token_type_ids", None)
        with torch.inference_mode():
            tokens = stock.generate(
                **inputs, num_beams=beams, max_new_tokens=9, do_sample=False, early_stopping=beams > 1
            )[0]
        text = captioner.tokenizer.decode(tokens, skip_special_tokens=True)
        assert one.decoded.texts[0] and text.endswith(one.decoded.texts[0])
        assert tokens.tolist()[-len(one.decoded.tokens[0]) :] == list(one.decoded.tokens[0])
    assert len({one.decoded.texts[0] for one in found}) > 1, "the pictures make no difference"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beams", [1, 3])
def test_confidence_is_what_the_model_gives_the_tokens(kind, beams, other):
    captioner = load_other_captioner(str(other(kind)))
    prompt = captioner.default_prompt
    options = DecodingOptions(num_beams=beams, num_return_sequences=beams, max_new_tokens=6)
    (found,) = caption_pictures(captioner, PICTURES[:1], prompt, options)
    model = captioner.model
    assert len(found.decoded.texts) == beams
    for tokens, confidence in zip(found.decoded.tokens, found.decoded.log_probs, strict=True):
        inputs = dict(model_inputs(captioner, PICTURES[:1], prompt))
        inputs.pop("token_type_ids", None)
        new = torch.tensor([tokens])
        if model.config.is_encoder_decoder:
            start = (
                getattr(model.config, "decoder_start_token_id", None)
                or model.config.text_config.decoder_start_token_id
            )
            inputs["decoder_input_ids"] = torch.cat([torch.tensor([[start]]), new], dim=1)
            before = 1
        else:
            text = inputs.get("input_ids", torch.tensor([[captioner.tokenizer.cls_token_id]]))
            inputs["input_ids"] = torch.cat([text, new], dim=1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            if "mm_token_type_ids" in inputs:
                inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(new)], dim=1)
            before = text.shape[1]
        with torch.inference_mode():
            logits = model(**inputs).logits
        # GIT's states of the picture come first.
        rows = logits[0, -(before + len(tokens)) :][before - 1 : -1].log_softmax(-1)
        expected = rows.gather(1, new[0][:, None]).mean()
        assert confidence == pytest.approx(float(expected), abs=2e-4)


@pytest.mark.parametrize("decoding", ["fast", "accurate"])
def test_blip_says_here_what_ours_says(decoding):
    """Stock `generate` of the starter, with its confidence, is our decoding of it."""
    ours = CaptionPipeline.from_pretrained("starter", decoding=decoding)(PICTURES)
    stock = list(load_captioner_stream("hf:starter", decoding=decoding).stream(PICTURES))
    assert [one.text for one in ours] == [one.text for one in stock]
    for one, same in zip(ours, stock, strict=True):
        assert one.confidence == pytest.approx(same.confidence, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_captioner_captions_in_batches_and_records_what_it_is(kind, other, photos):
    (photos / "broken.jpg").write_bytes(b"no picture")
    captioner = load_captioner_stream(f"hf:{other(kind)}", changes={"max_new_tokens": 7}, batch_size=2)
    found = {one.image_id.rpartition("/")[2]: one for one in captioner.stream(photos)}
    assert found["broken.jpg"].error and "broken.jpg" in found["broken.jpg"].error
    for name in ("red.jpg", "green.jpg", "blue.jpg"):
        one = found[name]
        assert one.text and one.error is None and one.confidence < 0
        # Chat models and Florence-2 read the picture's places and the prompt as tokens, too.
        assert one.tokens > 7 if kind in (*CHATS, "florence2") else one.tokens == 7
    facts = captioner.describe()
    assert facts["model"] == f"hf:{other(kind)}" and facts["decoding"]["max_new_tokens"] == 7
    default = {"florence2": "<CAPTION>"}.get(kind, "Describe this image in one short sentence.")
    assert facts.get("prompt") == (default if kind in (*CHATS, "florence2") else None)


@pytest.mark.parametrize("kind", ["git", "florence2", "qwen2_vl"])
def test_prompts(kind, other):
    plain = load_captioner_stream(f"hf:{other(kind)}", changes={"max_new_tokens": 6})
    asked = load_captioner_stream(f"hf:{other(kind)},prompt=a red picture of", changes={"max_new_tokens": 6})
    assert asked.settings() != plain.settings()
    texts = [[one.text for one in captioner.stream(PICTURES)] for captioner in (plain, asked)]
    assert texts[0] != texts[1] and not any("red picture of" in text for text in texts[1])
    # An image's own prompt wins, and the others keep theirs.
    mixed = list(plain.stream(PICTURES, prompts=["a red picture of", plain.prompt, "a red picture of"]))
    assert [one.text for one in mixed] == [texts[1][0], texts[0][1], texts[1][2]]


def test_a_family_without_prompts(other):
    with pytest.raises(ConfigurationError, match="takes no prompt"):
        load_captioner_stream(f"hf:{other('vision-encoder-decoder')},prompt=a photo of")


def test_refiners_get_their_candidates(other):
    captioner = load_captioner_stream(f"hf:{other('git')}", changes={"max_new_tokens": 6}, refiner="consensus")
    alone = load_captioner_stream(f"hf:{other('git')}", changes={"max_new_tokens": 6})
    for one, draft in zip(captioner.stream(PICTURES), alone.stream(PICTURES), strict=True):
        assert one.outcome in ("changed", "unchanged") and len(set(one.candidates)) >= 4
        assert one.draft == draft.text and one.confidence == pytest.approx(draft.confidence, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoding": "candidates"}, "does not have it"),
        ({"decoding": "slow"}, "no decoding preset 'slow'"),
        ({"image_gain": True}, "--image-gain has no effect"),
        ({"exact_decoding": False}, "--fast-jpeg has no effect"),
        ({"changes": {"num_beams": 0}}, "at least 1"),
    ],
)
def test_options_that_cannot_be(options, message, other):
    with pytest.raises(ConfigurationError, match=message):
        load_captioner_stream(f"hf:{other('git')}", **options)


def test_sampling_has_a_seed(other):
    def texts(seed: int) -> list[str]:
        options = DecodingOptions.preset("creative", seed=seed, max_new_tokens=8)
        captioner = load_captioner_stream(f"hf:{other('git')}", decoding=options)
        return [one.text for one in captioner.stream(PICTURES)]

    assert texts(1) == texts(1) != texts(2)


def test_a_model_that_samples_by_default_does_not(other):
    """Qwen2-VL's generation_config.json samples."""
    captioner = load_captioner_stream(f"hf:{other('qwen2_vl')}")
    torch.manual_seed(0)
    first = [one.text for one in captioner.stream(PICTURES)]
    torch.manual_seed(1)
    assert first == [one.text for one in captioner.stream(PICTURES)]


def test_pickled_weights_are_read_safely(other, tmp_path):
    folder = tmp_path / "git"
    shutil.copytree(other("git"), folder)
    weights = AutoModelForImageTextToText.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    texts = [
        [one.text for one in load_captioner_stream(f"hf:{place}").stream(PICTURES)] for place in (other("git"), folder)
    ]
    assert texts[0] == texts[1]


def test_missing_weights_are_refused(other, tmp_path):
    """transformers would fill them with random numbers."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "git"
    shutil.copytree(other("git"), folder)
    weights = load_file(folder / "model.safetensors")
    removed = next(name for name in weights if "visual_projection" in name or "attention" in name)
    del weights[removed]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lacks 1 weights"):
        load_captioner_stream(f"hf:{folder}")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "bert"}, "'bert' model, which transformers cannot ask for the caption"),
        (
            {"model_type": "their_own", "auto_map": {"AutoConfig": "theirs.Config"}},
            "code of its own, which is never run",
        ),
        ({"model_type": "their_own"}, "Cannot load"),
    ],
)
def test_models_that_are_no_captioners(config, message, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "theirs.py").write_text("import pathlib; pathlib.Path('ran').touch()\nclass Config: pass\n")
    with pytest.raises(ModelError, match=message):
        load_captioner_stream(f"hf:{tmp_path}")
    assert not (tmp_path / "ran").exists()


def test_no_such_model(tmp_path):
    with pytest.raises(ModelError, match="nobody/nothing"):
        load_captioner_stream("hf:nobody/nothing")
