"""BLIP-2 and InstructBLIP through the same trainer as BLIP, without the mistakes that it does not make with BLIP."""

from __future__ import annotations

import pytest
import torch
import transformers

from blip_refine.data.collator import IGNORED
from blip_refine.errors import ConfigurationError, LeakageError, ModelError
from blip_refine.models.adapters import add_lora, attached_parameters
from blip_refine.models.blip2_text import LanguageModelText
from blip_refine.models.captioner import check_image_size, load_captioner
from blip_refine.models.decoding import DecodingOptions, generate_captions
from blip_refine.models.families import base_model, family_of, text_layers, vision_layers
from blip_refine.training.trainer import CaptionTrainer

from ..training.test_trainer import arguments, scenes
from .family_models import KINDS, make_family

STOCK = {
    "Blip2ForConditionalGeneration": transformers.Blip2ForConditionalGeneration,
    "InstructBlipForConditionalGeneration": transformers.InstructBlipForConditionalGeneration,
}


def batch_of(model, processor, images: int = 2, prompt: str = "") -> dict[str, torch.Tensor]:
    trainer = CaptionTrainer(model, arguments("unused", prompt=prompt), processing_class=processor, eval_dataset=None)
    data = scenes("train", images)
    batch = trainer.data_collator([data[i] for i in range(images)])
    return {name: value for name, value in batch.items() if name != "indices"}


@pytest.mark.parametrize("kind", KINDS)
def test_one_encode_gives_the_loss_and_gradient_of_the_stock_model(kind):
    ours, processor = make_family(kind)
    ours = ours.double()
    stock = STOCK[type(ours).__name__](ours.config).eval().double()
    stock.load_state_dict(ours.state_dict())
    batch = batch_of(ours, processor, prompt="a drawing of ")
    counts = batch.pop("caption_counts")
    batch["pixel_values"] = batch["pixel_values"].double()
    mine = ours(**batch, caption_counts=counts, loss_only=True)
    assert mine.logits is None
    alone = {
        name: value.repeat_interleave(counts, 0) if len(value) == len(counts) else value
        for name, value in batch.items()
    }
    labels = alone.pop("labels")
    if ours.config.use_decoder_only_language_model:
        logits = stock(**alone).logits[:, :-1]
        theirs = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
    else:
        theirs = stock(**alone, labels=labels).loss
    mine.loss.backward()
    theirs.backward()
    assert abs(mine.loss - theirs) / theirs < 1e-6
    one, other = (
        torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]) for model in (ours, stock)
    )
    # BLIP-2 keeps its Q-Former in float32 when loading; made from a configuration everything is in float64 here.
    assert (one - other).norm() / other.norm() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_training_reads_what_decoding_starts_from(kind):
    model, processor = make_family(kind)
    text = LanguageModelText(model, processor, "a drawing of ")
    encoded = text.encode(["a red ball", "two small fish in the snow"], images=1)
    beginning = text.beginning
    assert encoded["input_ids"][:, : len(beginning)].tolist() == [beginning] * 2
    labels = encoded["labels"]
    if model.config.use_decoder_only_language_model:
        assert (labels[:, : len(beginning)] == IGNORED).all()
        assert beginning[len(text.image_ids)] == model.config.text_config.bos_token_id
        assert encoded["attention_mask"][0, -1] == 0 and encoded["attention_mask"][0, 0] == 1
    learned = [token for token in labels[0].tolist() if token != IGNORED]
    assert processor.tokenizer.decode(learned[:-1]) == "a red ball" and learned[-1] == text.end_id
    with pytest.raises(ConfigurationError, match="no room for a caption"):
        LanguageModelText(model, processor, "a very long prompt that never ends", max_txt_len=5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_does_not_depend_on_accumulation_and_captions_come_from_pixels(kind, tmp_path):
    norms = []
    for batch, accumulation in ((4, 1), (1, 4)):
        model, processor = make_family(kind)
        args = arguments(
            tmp_path, max_steps=1, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation,
            save_strategy="no", max_grad_norm=1e9,
        )  # fmt: skip
        trainer = CaptionTrainer(model, args, scenes("train", 4), scenes("validation", 3), processor)
        trainer.train()
        norms.append(next(row["grad_norm"] for row in trainer.state.log_history if "grad_norm" in row))
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)
    metrics = trainer.evaluate()
    # Random weights know nothing of the captions; a leak of the reference would score above 40 (see test_traps).
    assert metrics["eval_sacrebleu"] < 5 and len(trainer._last_evaluation) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_smoothing_padding_masked_labels_and_overlap_are_as_with_blip(kind, tmp_path):
    model, processor = make_family(kind)
    processor.tokenizer.padding_side = "left"
    args = arguments(tmp_path, label_smoothing_factor=0.2)
    trainer = CaptionTrainer(model, args, scenes("train", 3), scenes("validation", 2), processor)
    items = [scenes("train", 3)[i] for i in range(3)]
    batch = trainer.data_collator(items)
    assert (batch["attention_mask"][:, 0] == 1).all() and (batch["labels"] == IGNORED).any()
    ends = [row[row != IGNORED][-1].item() for row in batch["labels"]]
    assert set(ends) == {LanguageModelText(model, processor).end_id}, "every caption ends with the end token"
    model.train()
    smoothed = trainer.compute_loss(model, dict(batch))
    outputs = model(**trainer._model_inputs(dict(batch)))
    logits, labels = outputs.logits, batch["labels"]
    if model.config.use_decoder_only_language_model:
        logits, labels = logits[:, :-1], labels[:, 1:]
    expected = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, label_smoothing=0.2
    )
    torch.testing.assert_close(smoothed, expected, atol=1e-4, rtol=1e-4)
    assert not torch.isclose(smoothed, outputs.loss, rtol=1e-5)
    # -100 reaches no tokenizer: references are texts, predictions are captions.
    found = trainer.predict(scenes("validation", 2))
    assert found.label_ids == [list(record.captions) for record in scenes("validation", 2).records]
    with pytest.raises(LeakageError):
        CaptionTrainer(model, arguments(tmp_path), scenes("train", 3), scenes("train", 1), processor)


@pytest.mark.parametrize("kind", ["blip-2 opt", "instructblip t5"])
def test_lora_trains_language_model_and_qformer_and_loads_again(kind, tmp_path):
    model, processor = make_family(kind)
    model.save_pretrained(tmp_path / "base")
    processor.save_pretrained(tmp_path / "base")
    model, processor = load_captioner(tmp_path / "base", lora={"r": 4})
    names = attached_parameters(model)
    assert any("language_model" in name for name in names) and any("qformer" in name for name in names)
    assert not any("vision_model" in name for name in names)
    args = arguments(tmp_path / "out", max_steps=2, learning_rate=1e-2, save_strategy="no", freeze_vision=True)
    trainer = CaptionTrainer(model, args, scenes("train", 4), processing_class=processor)
    trainer.train()
    trainer.save_model(str(tmp_path / "adapter"))
    again, again_processor = load_captioner(tmp_path / "adapter")
    pixels = torch.rand(2, 3, 32, 32)
    options = DecodingOptions(num_beams=2, max_new_tokens=6)
    before = generate_captions(model, processor, pixels, options)
    after = generate_captions(again, again_processor, pixels, options)
    assert [one.tokens for one in before] == [one.tokens for one in after]
    only = add_lora(make_family(kind)[0], {"parts": ["qformer"]})
    assert all("qformer" in name for name in attached_parameters(only))
    with pytest.raises(ModelError, match="no part 'text'"):
        add_lora(make_family(kind)[0], {"parts": ["text"]})


@pytest.mark.parametrize("kind", KINDS)
def test_our_decoding_is_the_stock_generate(kind):
    model, processor = make_family(kind)
    pixels = torch.rand(3, 3, 32, 32)
    for beams in (1, 3):
        ours = generate_captions(model, processor, pixels, DecodingOptions(num_beams=beams, max_new_tokens=7))
        text = LanguageModelText(model, processor)
        ids = torch.tensor([text.beginning] * 3)
        inputs = {"pixel_values": pixels, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
        stock = model.generate(
            **inputs, **text.qformer_inputs(3), num_beams=beams, max_new_tokens=7, early_stopping=beams > 1,
            do_sample=False, eos_token_id=text.end_id, pad_token_id=text.pad_id,
        )  # fmt: skip
        for one, row in zip(ours, stock.tolist(), strict=True):
            new = list(one.tokens[0])
            position = len(row) - len(row[-len(new) :]) if text.end_id not in row[1:] else None
            assert str(new).strip("[]") in str(row), (position, new, row)


def test_sizes_and_layers(tiny_captioner):
    model, processor = make_family("blip-2 t5")
    processor.image_processor.size = {"height": 48, "width": 48}
    with pytest.raises(ModelError, match="48x48.*32x32"):
        check_image_size(model, processor)
    for kind in KINDS:
        model, _ = make_family(kind)
        assert len(vision_layers(model)[1]) == len(text_layers(model)[1]) == 2
        assert family_of(add_lora(model)).model_type == kind.split()[0]
    blip, _ = tiny_captioner()
    assert family_of(blip).title == "BLIP" and base_model(torch.nn.DataParallel(blip)) is blip
    with pytest.raises(ModelError, match="not one of the captioners"):
        family_of(torch.nn.Linear(2, 2))
