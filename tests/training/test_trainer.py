"""`CaptionTrainer` on real small models: what it evaluates, keeps, writes and survives."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import transformers

from blip_refine.data.dataset import BlipCaptionDataset
from blip_refine.data.sources.scenes import load_scenes
from blip_refine.errors import ConfigurationError, DataError, LeakageError
from blip_refine.metrics import score_captions
from blip_refine.models.captioner import load_captioner
from blip_refine.records import CaptionRecord
from blip_refine.training.arguments import RECIPES, CaptionTrainingArguments, _fastest_precision
from blip_refine.training.trainer import CaptionTrainer


def scenes(split: str, count: int, **changes) -> BlipCaptionDataset:
    return BlipCaptionDataset([replace(one, **changes) for one in load_scenes("everyday", split, count=count)])


def arguments(folder, **changes) -> CaptionTrainingArguments:
    settings = {
        "output_dir": str(folder),
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": False,
        "num_beams": 1,
        "max_new_tokens": 12,
        "logging_steps": 1,
        "disable_tqdm": True,
        "use_cpu": True,
        "precision": "fp32",
    }
    return CaptionTrainingArguments(**{**settings, **changes})


def test_the_defaults_are_those_of_the_field(tmp_path):
    args = CaptionTrainingArguments(str(tmp_path))
    expected = {
        "num_train_epochs": 4,
        "learning_rate": 5e-5,
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 8,
        "gradient_accumulation_steps": 2,
        "gradient_checkpointing": True,
        "freeze_vision": False,
        "logging_steps": 50,
        "save_total_limit": 2,
        "metric_for_best_model": "sacrebleu",
        "load_best_model_at_end": True,
        "max_txt_len": 40,
        "max_new_tokens": 30,
        "num_beams": 5,
        "length_penalty": 1.0,
        "early_stopping": True,
    }
    assert {name: getattr(args, name) for name in expected} == expected
    assert args.greater_is_better
    decoding = args.decoding
    assert (decoding.num_beams, decoding.max_new_tokens, decoding.early_stopping) == (5, 30, True)
    with pytest.raises(ConfigurationError, match="remove_unused_columns"):
        CaptionTrainingArguments(str(tmp_path), remove_unused_columns=True)


def test_a_run_keeps_the_best_checkpoint_and_loads_in_stock_transformers(tiny_captioner, tmp_path):
    model, processor = tiny_captioner()
    args = arguments(tmp_path, learning_rate=3e-3, num_train_epochs=3, metric_for_best_model="loss")
    trainer = CaptionTrainer(model, args, scenes("train", 12), scenes("validation", 6), processor)
    trainer.train()
    evaluations = [row for row in trainer.state.log_history if "eval_loss" in row]
    assert len(evaluations) == 3
    assert all({"eval_sacrebleu", "eval_CIDEr", "eval_loss"} <= set(row) for row in evaluations)
    assert evaluations[-1]["eval_loss"] < evaluations[0]["eval_loss"]
    assert trainer.state.best_metric == min(row["eval_loss"] for row in evaluations)
    assert "case:lc" in trainer.sacrebleu_signature

    trainer.save_model()
    stock = transformers.BlipForConditionalGeneration.from_pretrained(tmp_path).eval()
    transformers.BlipProcessor.from_pretrained(tmp_path)
    ours, _ = load_captioner(tmp_path)
    ids = torch.tensor([[model.config.text_config.bos_token_id, 5, 6]])
    pixels = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            stock(pixel_values=pixels, input_ids=ids).logits,
            ours(pixel_values=pixels, input_ids=ids).logits,
            atol=1e-5,
            rtol=1e-5,
        )


def test_evaluation_loss_is_the_mean_over_all_label_tokens(tiny_captioner, tmp_path):
    """Whatever the batch size, and equal to the stock model's loss over all rows at once."""
    data = scenes("validation", 5)
    data = BlipCaptionDataset([replace(one, captions=one.captions[: 1 + i]) for i, one in enumerate(data.records)])
    losses = []
    for size in (1, 2, 5):
        model, processor = tiny_captioner()
        trainer = CaptionTrainer(
            model,
            arguments(tmp_path, per_device_eval_batch_size=size),
            eval_dataset=data,
            processing_class=processor,
        )
        losses.append(trainer.evaluate()["eval_loss"])
    batch = trainer.data_collator([data[i] for i in range(5)])
    stock = transformers.BlipForConditionalGeneration(model.config)
    stock.load_state_dict(model.state_dict())
    with torch.no_grad():
        expected = stock(
            pixel_values=batch["pixel_values"].repeat_interleave(batch["caption_counts"], 0),
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            labels=batch["labels"],
        ).loss.item()
    assert losses == pytest.approx([expected] * 3, rel=1e-5)


def test_each_image_is_captioned_once_with_all_its_references(tiny_captioner, tmp_path):
    model, processor = tiny_captioner()
    data = scenes("validation", 5)
    seen = {}

    def compute(prediction):
        seen["captions"], seen["references"] = prediction.predictions, prediction.label_ids
        return {"mine": 1.5}

    trainer = CaptionTrainer(
        model, arguments(tmp_path), eval_dataset=data, processing_class=processor, compute_metrics=compute
    )
    metrics = trainer.evaluate()
    assert metrics["eval_mine"] == 1.5
    assert len(seen["captions"]) == 5
    assert seen["references"] == [list(record.captions) for record in data.records]


def test_evaluate_coco_writes_the_files_of_a_run(tiny_captioner, tmp_path):
    model, processor = tiny_captioner()
    trainer = CaptionTrainer(model, arguments(tmp_path), scenes("train", 4), processing_class=processor)
    result = trainer.evaluate_coco(scenes("test", 6), metrics=["Bleu", "CIDEr", "ROUGE_L"])
    written = json.loads((tmp_path / "coco_metrics.json").read_text())
    assert written["CIDEr"] == result.scores.corpus["CIDEr"] and written["signature"]
    assert set(written["systems"]) == {"after"} and written["images"] == 6
    rows = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert [row["image_id"] for row in rows] == [f"everyday-test-{i:05d}" for i in range(6)]
    assert all(len(row["references"]) == 5 and row["objects"] for row in rows)
    assert all((tmp_path / row["image"]).is_file() for row in rows)


def test_overlap_is_refused_or_marked(tiny_captioner, tmp_path):
    model, processor = tiny_captioner()
    train = scenes("train", 6)
    renamed = BlipCaptionDataset([replace(train.records[2], image_id="renamed.png"), *scenes("test", 2).records])
    with pytest.raises(LeakageError, match="'renamed.png' is 'everyday-train-00002'"):
        CaptionTrainer(model, arguments(tmp_path), train, renamed, processor)
    trainer = CaptionTrainer(model, arguments(tmp_path), train, processing_class=processor)
    with pytest.raises(LeakageError):
        trainer.evaluate_coco(renamed)
    allowed = CaptionTrainer(model, arguments(tmp_path, allow_overlap=True), train, renamed, processor)
    result = allowed.evaluate_coco(metrics=["Bleu", "CIDEr"])
    assert result.contaminated
    assert "measure memory" in json.loads((tmp_path / "coco_metrics.json").read_text())["contaminated"]


def test_broken_images_are_left_out_and_named(tiny_captioner, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 no photo")
    bad = CaptionRecord(str(broken), ("a photo",), "broken.jpg")
    model, processor = tiny_captioner()
    train = BlipCaptionDataset([*scenes("train", 5).records, bad])
    evaluation = BlipCaptionDataset([*scenes("validation", 3).records, replace(bad, image_id="also-broken.jpg")])
    trainer = CaptionTrainer(
        model, arguments(tmp_path / "out", num_train_epochs=1, allow_overlap=True), train, evaluation, processor
    )
    trainer.train()
    assert set(trainer.unreadable) == {"broken.jpg", "also-broken.jpg"}
    assert len(trainer._last_evaluation) == 3


def test_training_on_broken_images_alone_is_refused(tiny_captioner, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photo")
    bad = CaptionRecord(str(tmp_path / "broken.jpg"), ("a photo",), "broken.jpg")
    model, processor = tiny_captioner()
    for records in ([bad], [replace(bad, image_id=str(n), image=f"gone-{n}.jpg") for n in range(5)]):
        data = BlipCaptionDataset(records)
        trainer = CaptionTrainer(model, arguments(tmp_path / "out"), data, processing_class=processor)
        with pytest.raises(DataError, match="No training image can be decoded"):
            trainer.train()


def test_resuming_gives_the_weights_of_an_unbroken_run(tiny_captioner, tmp_path):
    data = scenes("train", 12)

    def train(folder, **changes):
        model, processor = tiny_captioner()
        args = arguments(folder, eval_strategy="no", save_strategy="steps", save_steps=2, save_total_limit=None)
        trainer = CaptionTrainer(model, args, data, processing_class=processor)
        trainer.train(**changes)
        return {name: value.clone() for name, value in trainer.model.state_dict().items()}

    whole = train(tmp_path / "whole")
    resumed = train(tmp_path / "whole", resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, msg=name)


def test_training_ends_early_when_nothing_improves(tiny_captioner, tmp_path):
    model, processor = tiny_captioner()
    args = arguments(
        tmp_path, num_train_epochs=9, learning_rate=0.0, metric_for_best_model="loss", early_stopping_patience=2
    )
    trainer = CaptionTrainer(model, args, scenes("train", 4), scenes("validation", 2), processor)
    trainer.train()
    assert trainer.state.epoch == 3


def test_any_metric_can_choose_the_best_model(tiny_captioner, tmp_path):
    model, processor = tiny_captioner()
    args = arguments(tmp_path, num_train_epochs=1, metric_for_best_model="rouge_l", early_stopping_patience=1)
    assert args.metric_for_best_model == "ROUGE_L" and args.greater_is_better
    trainer = CaptionTrainer(model, args, scenes("train", 4), scenes("validation", 3), processor)
    trainer.train()
    (row,) = [row for row in trainer.state.log_history if "eval_ROUGE_L" in row]
    assert trainer.state.best_metric == row["eval_ROUGE_L"]
    expected = score_captions(
        {one.record.image_id: one.caption for one in trainer._last_evaluation},
        {one.record.image_id: list(one.record.captions) for one in trainer._last_evaluation},
        metrics=["ROUGE_L"],
        allow_empty=True,
    )
    assert row["eval_ROUGE_L"] == pytest.approx(expected.corpus["ROUGE_L"])


@pytest.mark.parametrize(
    ("metric", "message"),
    [("CIDERR", "no metric_for_best_model 'CIDERR'; did you mean 'CIDEr'"), ("CLIPScore", "cannot be computed")],
)
def test_a_metric_that_will_not_be_there_is_refused_before_training(tiny_captioner, tmp_path, metric, message):
    model, processor = tiny_captioner()
    args = arguments(tmp_path, metric_for_best_model=metric)
    with pytest.raises(ConfigurationError, match=message):
        CaptionTrainer(model, args, scenes("train", 4), scenes("validation", 3), processor)
    own = CaptionTrainer(
        *(model, arguments(tmp_path, metric_for_best_model="mine", num_train_epochs=1), scenes("train", 4)),
        *(scenes("validation", 3), processor),
        compute_metrics=lambda prediction: {"mine": 2.5},
    )
    own.train()
    assert own.state.best_metric == 2.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size must be at least 1, not 0"),
        ({"num_train_epochs": -1}, "num_train_epochs must be above 0, not -1"),
        ({"learning_rate": -1e-5}, "learning_rate must be at least 0"),
        ({"early_stopping_patience": 0}, "early_stopping_patience must be at least 1"),
        ({"feature_dtype": "int8"}, "no feature_dtype 'int8'"),
        ({"precision": "half"}, "no precision 'half'; there are: auto, bf16, fp16, fp32"),
        ({"precision": "fp32", "bf16": True}, "bf16=True and precision='fp32' contradict"),
        ({"num_beams": 0}, "num_beams"),
        ({"captions_per_image": "two"}, "captions_per_image must be 'all' or at least 1, not 'two'"),
        ({"captions_per_image": "0"}, "captions_per_image must be 'all' or at least 1"),
    ],
)
def test_arguments_that_cannot_be_are_refused_at_once(tmp_path, changes, message):
    with pytest.raises(ConfigurationError, match=message):
        arguments(tmp_path, **changes)


def test_precision_suits_the_machine_and_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for amx, wanted, why in ((True, "bf16", "has AMX"), (False, "fp32", "without AMX")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda amx=amx: {"amx_bf16": amx}, raising=False)
        args = arguments(tmp_path, precision="auto")
        assert args.chosen_precision == wanted and why in args.why_precision
        assert arguments(tmp_path, precision="fp32").chosen_precision == "fp32"
    assert arguments(tmp_path, precision="bf16").why_precision == "as told"


def test_a_gpu_without_bfloat16_scales_the_loss_of_fp16(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for supported, wanted in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda supported=supported, **_: supported)
        assert _fastest_precision(use_cpu=False)[0] == wanted


def test_bfloat16_trains_on_the_cpu_as_float32_does(tiny_captioner, tmp_path):
    losses = []
    for precision in ("fp32", "bf16"):
        model, processor = tiny_captioner()
        args = arguments(tmp_path, precision=precision, max_steps=4, learning_rate=3e-3, save_strategy="no")
        trainer = CaptionTrainer(model, args, scenes("train", 4), processing_class=processor)
        trainer.train()
        assert next(model.parameters()).dtype == torch.float32, "autocast leaves the weights as they are"
        losses.append([row["loss"] for row in trainer.state.log_history if "loss" in row])
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.02)


def test_the_recipe_of_the_original(tmp_path):
    args = CaptionTrainingArguments.from_recipe("original-blip", str(tmp_path), num_train_epochs=1)
    assert (args.prompt, args.learning_rate, args.weight_decay) == ("a picture of ", 1e-5, 0.05)
    assert args.lr_scheduler_type == "cosine" and args.decoding.num_beams == 3 and args.num_train_epochs == 1
    # The original's lengths count the start token and the prompt's three.
    assert (args.decoding.min_new_tokens, args.decoding.max_new_tokens) == (5 - 4, 20 - 4)
    assert RECIPES["original-blip"]["image_size"] == 384
    with pytest.raises(ConfigurationError, match="no recipe 'blip'; there are: original-blip"):
        CaptionTrainingArguments.from_recipe("blip")


def test_label_smoothing_is_there_for_a_second_trainer(tiny_captioner, tmp_path):
    args = arguments(tmp_path, label_smoothing_factor=0.2)
    for _ in range(2):
        model, processor = tiny_captioner()
        CaptionTrainer(model, args, scenes("train", 4), processing_class=processor)
    assert args.label_smoothing_factor == 0.2


def test_loss_only_generates_nothing(tiny_captioner, tmp_path):
    model, processor = tiny_captioner()
    args = arguments(tmp_path, loss_only=True)
    assert args.metric_for_best_model == "loss"
    trainer = CaptionTrainer(model, args, scenes("train", 4), scenes("validation", 2), processor)
    metrics = trainer.evaluate()
    assert "eval_loss" in metrics and "eval_sacrebleu" not in metrics
    with pytest.raises(ConfigurationError, match="loss_only"):
        trainer.evaluate_coco()


def test_gradient_checkpointing_changes_no_gradient(tiny_captioner, tmp_path):
    norms = []
    for checkpointing in (False, True):
        model, processor = tiny_captioner()
        args = arguments(tmp_path, max_steps=1, gradient_checkpointing=checkpointing, save_strategy="no")
        trainer = CaptionTrainer(model, args, scenes("train", 4), processing_class=processor)
        trainer.train()
        norms.append(next(row["grad_norm"] for row in trainer.state.log_history if "grad_norm" in row))
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def test_without_a_processor_it_says_so(tiny_captioner, tmp_path):
    with pytest.raises(ConfigurationError, match="processing_class=processor"):
        CaptionTrainer(tiny_captioner()[0], arguments(tmp_path))
