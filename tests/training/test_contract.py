"""What `CaptionTrainer` relies on beyond the Trainer's documentation. It breaks here first, and says what to do."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import accelerate
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import Seq2SeqTrainer, Trainer, TrainerCallback
from transformers.trainer_utils import rotate_checkpoints

import blip_refine
from blip_refine.training.saving import SavingTrainer
from blip_refine.training.trainer import CaptionTrainer

from .test_trainer import arguments, scenes

WHAT_TO_DO = (
    f"transformers {transformers.__version__} saves checkpoints otherwise. Adapt SavingTrainer._save_checkpoint "
    "(blip_refine/training/saving.py), which has them written under .incomplete/ and then renamed."
)
OVERRIDDEN = {"_save_checkpoint"}
"""The private methods of the Trainer that are overridden, with what they are relied on for below."""


def private_names(kind: type) -> set[str]:
    return {name for name in dir(kind) if name.startswith("_") and not name.startswith("__")}


def test_no_other_private_method_of_the_trainer_is_overridden_or_called():
    stock = private_names(Seq2SeqTrainer) - private_names(object)
    own = {name for cls in CaptionTrainer.__mro__ if cls.__module__.startswith("blip_refine") for name in vars(cls)}
    assert own & stock == OVERRIDDEN
    called = set()
    for path in Path(blip_refine.__file__).parent.rglob("*.py"):
        if path.parent.name in ("training", "hub"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            called |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert called & stock <= OVERRIDDEN, "use what is public instead, or add a contract test"
    assert not called & {*private_names(accelerate.Accelerator), "_models", "_optimizers", "_dataloaders"}


def test_save_checkpoint_is_called_and_defined_as_it_is_overridden():
    assert list(inspect.signature(Trainer._save_checkpoint).parameters) == ["self", "model", "trial"], WHAT_TO_DO
    assert inspect.signature(SavingTrainer._save_checkpoint).parameters.keys() == {"self", "model", "trial"}
    expected = ["output_dir", "save_total_limit", "best_model_checkpoint", "use_mtime"]
    assert set(expected) <= inspect.signature(rotate_checkpoints).parameters.keys(), WHAT_TO_DO


class Watched(Seq2SeqTrainer):
    """The stock Trainer, with a look at what saving reads and calls."""

    calls: list[str]

    def save_model(self, output_dir=None, _internal_call=False):
        self.calls.append(f"save_model {output_dir}")
        super().save_model(output_dir, _internal_call)

    def push_to_hub(self, *args, **options):
        raise AssertionError(f"push_to_hub=False is not respected. {WHAT_TO_DO}")


class LastCalls(TrainerCallback):
    def __init__(self, calls):
        self.calls = calls

    def on_save(self, args, state, control, **_):
        self.calls.append("on_save")


def test_save_checkpoint_writes_below_output_dir_and_all_of_it_before_on_save(tiny_captioner, tmp_path):
    """Whatever `args.output_dir` is at that moment: that is how a checkpoint comes to lie under `.incomplete/`."""
    ours, processor = tiny_captioner()
    model = torch.nn.Module()
    model.weight = torch.nn.Parameter(torch.zeros(2))
    model.forward = lambda x: {"loss": (x * model.weight).sum()}
    calls: list[str] = []
    args = transformers.Seq2SeqTrainingArguments(
        str(tmp_path / "run"), max_steps=1, use_cpu=True, report_to=[], disable_tqdm=True, save_strategy="no"
    )
    trainer = Watched(model, args, train_dataset=[{"x": torch.ones(2)}], callbacks=[LastCalls(calls)])
    trainer.calls = calls
    trainer.train()
    args.output_dir = str(tmp_path / "elsewhere")
    trainer._save_checkpoint(model, None)
    checkpoint = tmp_path / "elsewhere" / "checkpoint-1"
    assert calls == [f"save_model {checkpoint}"], WHAT_TO_DO
    written = {path.name for path in checkpoint.iterdir()}
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"} <= written, WHAT_TO_DO
    assert not (tmp_path / "run" / "checkpoint-1").exists(), WHAT_TO_DO


def test_the_trainer_saves_by_that_method_and_then_calls_on_save(tiny_captioner, tmp_path):
    model, processor = tiny_captioner()
    seen = []

    class Saves(TrainerCallback):
        def on_save(self, args, state, control, **_):
            folder = Path(args.output_dir)
            whole = folder / f"checkpoint-{state.global_step}" / "trainer_state.json"
            seen.append((whole.exists(), args.output_dir, args.push_to_hub))

    args = arguments(tmp_path, num_train_epochs=1, save_strategy="epoch", eval_strategy="no")
    CaptionTrainer(model, args, scenes("train", 4), processing_class=processor, callbacks=[Saves()]).train()
    assert seen == [(True, str(tmp_path), False)], WHAT_TO_DO


def test_tied_weights_are_not_reported_as_missing(tiny_captioner, tmp_path, caplog):
    """And others are: by a hook that torch calls whenever a checkpoint is loaded."""
    model, processor = tiny_captioner()
    args = arguments(tmp_path, num_train_epochs=1, save_strategy="epoch", eval_strategy="no")
    CaptionTrainer(model, args, scenes("train", 4), processing_class=processor).train()
    checkpoint = tmp_path / "checkpoint-1"
    for lost in ((), ("vision_model.post_layernorm.bias",)):
        weights = load_file(checkpoint / "model.safetensors")
        kept = {name: value for name, value in weights.items() if name not in lost}
        save_file(kept, checkpoint / "model.safetensors", {"format": "pt"})
        caplog.clear()
        transformers.logging.enable_propagation()
        model, processor = tiny_captioner()
        trainer = CaptionTrainer(model, args, scenes("train", 4), processing_class=processor)
        trainer.train(resume_from_checkpoint=str(checkpoint))
        transformers.logging.disable_propagation()
        said = {record.getMessage() for record in caplog.records if "missing keys" in record.getMessage()}
        assert len(said) == len(lost) and all(name in text for name in lost for text in said)
