"""What `run.json` says of a training is what the Trainer used, whether it was asked for or not."""

from __future__ import annotations

import json

import pytest
import torch

from blip_refine.cli.arguments_from import parse_training_arguments
from blip_refine.evaluation.run_facts import describe_hardware
from blip_refine.hub.card import render_model_card
from blip_refine.models.captioner import load_captioner
from blip_refine.training.hyperparameters import changed_arguments, used_hyperparameters
from blip_refine.training.trainer import CaptionTrainer

from .test_trainer import arguments, scenes


def train(folder, *, lora=False, optimizers=(None, None), model=None, **changes) -> CaptionTrainer:
    if model is None:
        model, processor = load_captioner("starter", lora=lora)
    else:
        model, processor = model
    changes = {"eval_strategy": "no", "save_strategy": "no", **changes}
    trainer = CaptionTrainer(
        model, arguments(folder, **changes), scenes("train", 6), None, processor, optimizers=optimizers
    )
    trainer.train()
    trainer.save_model()
    trainer.save_state()
    return trainer


def test_every_hyperparameter_is_told_defaults_included(tmp_path):
    trainer = train(
        tmp_path,
        lora={"r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "use_dora": True},
        per_device_train_batch_size=2,
        gradient_accumulation_steps=3,
        num_train_epochs=2,
        learning_rate=3e-4,
        warmup_steps=0.5,
        weight_decay=0.02,
        label_smoothing_factor=0.1,
        lr_scheduler_type="cosine",
        prompt="a picture of ",
        developed_by="Ada",
        region="eu-west-1",
        cloud_provider="AWS",
    )
    facts = json.loads((tmp_path / "run.json").read_text())
    told = facts["hyperparameters"]
    group = trainer.optimizer.param_groups[0]
    expected = {
        "learning_rate": group["initial_lr"],
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 3,
        "processes": 1,
        "effective_batch_size": 6,
        "num_train_epochs": 2,
        "steps": trainer.state.global_step,
        "optimizer": "AdamW",
        "betas": list(group["betas"]),
        "epsilon": group["eps"],
        "scheduler": "cosine",
        "warmup_steps": 1,
        "weight_decay": 0.02,
        "label_smoothing": 0.1,
        "max_grad_norm": 1.0,
        "seed": 42,
        "precision": trainer.args.chosen_precision,
        "image_size": 96,
        "prompt": "a picture of ",
        "lora_rank": 4,
        "lora_alpha": 8,
        "lora_dropout": 0.1,
        "lora_kind": "DoRA",
    }
    assert {name: told[name] for name in expected} == expected
    assert told["steps"] == 2 and "query" in told["lora_targets"]
    assert not {"developed_by", "label_smoothing_factor", "lr_scheduler_type", "output_dir"} & set(told)
    assert (facts["developed_by"], facts["region"], facts["cloud_provider"]) == ("Ada", "eu-west-1", "AWS")
    # Whatever else was asked for, and nothing that was not.
    assert told["max_new_tokens"] == trainer.args.max_new_tokens and told["gradient_checkpointing"] is False
    assert not {"report_to", "fsdp", "accelerator_config", "length_penalty"} & set(told)
    assert trainer.evaluate(scenes("validation", 2))["eval_loss"] > 0, "the trainer can still be used"
    card = render_model_card(tmp_path)
    for said in (
        "| learning rate (peak) | 0.0003 |",
        "| effective batch size (images) | 6 |",
        "| optimizer | AdamW |",
        "| betas | 0.9 and 0.999 |",
        "| learning rate schedule | cosine |",
        "| warm-up steps | 1 |",
        "| label smoothing | 0.1 |",
        "| gradient clipping (norm) | 1.0 |",
        "| seed | 42 |",
        "| image size (pixels) | 96 |",
        "| prompt | a picture of |",
        "| LoRA rank | 4 |",
        "| adapter | DoRA |",
        "| developed by | Ada |",
        "| region | eu-west-1 |",
    ):
        assert said in card, said
    assert str(tmp_path) not in card and "More Information Needed" not in card


def test_the_command_line_reports_what_was_asked_for_alone(tmp_path):
    flags = ["--output-dir", str(tmp_path), "--learning-rate", "1e-4", "--use-cpu"]
    args, _ = parse_training_arguments(flags, None, {})
    assert set(changed_arguments(args)) == {"learning_rate", "use_cpu", "precision"}
    args, _ = parse_training_arguments([*flags, "--include-num-input-tokens-seen", "true"], None, {})
    assert changed_arguments(args)["include_num_input_tokens_seen"] == "all"


def test_defaults_are_told_too(tiny_captioner, tmp_path):
    trainer = train(tmp_path, model=tiny_captioner(), max_steps=3)
    told = used_hyperparameters(trainer)
    assert told["steps"] == 3 and told["num_train_epochs"] == trainer.state.num_train_epochs
    assert told["weight_decay"] == 0 and told["warmup_steps"] == 0 and told["scheduler"] == "linear"
    assert told["prompt"] == "" and told["label_smoothing"] == 0 and "lora_rank" not in told
    assert "| prompt | none |" in render_model_card(tmp_path)
    assert "developed by" not in render_model_card(tmp_path)


def test_an_optimizer_that_was_handed_over_is_told_and_not_the_arguments(tiny_captioner, tmp_path):
    model, processor = tiny_captioner()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25, momentum=0.5, weight_decay=0.125)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    trainer = train(tmp_path, model=(model, processor), optimizers=(optimizer, scheduler), learning_rate=1e-5)
    told = used_hyperparameters(trainer)
    assert (told["optimizer"], told["learning_rate"], told["momentum"], told["weight_decay"]) == (
        "SGD",
        0.25,
        0.5,
        0.125,
    )
    assert told["scheduler"] == "StepLR" and "betas" not in told and "warmup_steps" not in told


@pytest.mark.skipif(torch.cuda.is_available(), reason="names the CPU where no GPU is seen")
def test_the_hardware_has_a_name_and_a_count():
    count, _, rest = describe_hardware().partition(" CPU cores (")
    assert int(count) >= 1 and rest
    assert describe_hardware(cpu=True) == describe_hardware()
