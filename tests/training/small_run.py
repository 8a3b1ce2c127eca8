"""A small training in this process, or in one of its own to be killed or run by several: `small_run.py FOLDER`."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import torch
import yaml
from accelerate import DistributedType, FullyShardedDataParallelPlugin, PartialState
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from blip_refine.data.dataset import BlipCaptionDataset
from blip_refine.data.sources.scenes import load_scenes
from blip_refine.models.captioner import load_captioner
from blip_refine.training.arguments import CaptionTrainingArguments
from blip_refine.training.trainer import CaptionTrainer

CONFIGS = Path(__file__).resolve().parents[2] / "examples" / "configs"


class HangingTrainer(CaptionTrainer):
    """Stops after the weights of a checkpoint are written and before its optimizer is."""

    hang_in_save: int | None = None

    def _save_optimizer_and_scheduler(self, output_dir):
        if self.state.global_step == self.hang_in_save:
            time.sleep(600)
        super()._save_optimizer_and_scheduler(output_dir)


class DividedTrainer(HangingTrainer):
    """Divides the weights as `accelerate launch --config_file examples/configs/fsdp.yaml` has it on GPUs.

    accelerate takes FSDP for GPUs alone, and here it is told that these processes are some.
    """

    def create_accelerator_and_postprocess(self):
        super().create_accelerator_and_postprocess()
        settings = yaml.safe_load((CONFIGS / "fsdp.yaml").read_text())["fsdp_config"]
        self.accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
            **{name.removeprefix("fsdp_"): value for name, value in settings.items() if name != "fsdp_version"},
            fsdp_version=settings["fsdp_version"],
        )
        for state in (self.accelerator.state, PartialState()):
            state.distributed_type = DistributedType.FSDP
        self.is_fsdp_enabled = True


def whole(value: torch.Tensor) -> torch.Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value


class KeepGradient(TrainerCallback):
    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        # Those of divided weights are gathered by all processes together.
        gradients = [whole(p.grad).flatten().clone() for p in model.parameters() if p.grad is not None]
        if state.is_world_process_zero:
            torch.save(torch.cat(gradients), Path(args.output_dir, "gradient.pt"))


def run(
    folder: Path,
    resume: bool = False,
    hang_in_save: int | None = None,
    gradient: bool = False,
    batch: int = 2,
    divided: bool = False,
) -> None:
    """Leaves `gradient.pt` and the weights of one step and `evaluation.json`, or checkpoints and `final.pt` of six."""
    torch.manual_seed(0)
    model, processor = load_captioner("starter")
    # Dropout draws other numbers in each process: without it the gradients can be compared.
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    args = CaptionTrainingArguments(
        str(folder),
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=2,
        gradient_accumulation_steps=1,
        gradient_checkpointing=False,
        max_steps=1 if gradient else 6,
        eval_strategy="no",
        save_strategy="no" if gradient else "steps",
        save_steps=2,
        save_total_limit=None,
        max_grad_norm=0,
        num_beams=1,
        max_new_tokens=8,
        samples_to_log=0,
        disable_tqdm=True,
        use_cpu=True,
        precision="fp32",
        ddp_backend="gloo" if "WORLD_SIZE" in os.environ else None,
    )
    folder.mkdir(parents=True, exist_ok=True)
    trainer = (DividedTrainer if divided else HangingTrainer)(
        model,
        args,
        # Four images are one batch, in whatever order processes draw them.
        BlipCaptionDataset(load_scenes("everyday", "train", count=4 if gradient else 8)),
        BlipCaptionDataset(load_scenes("everyday", "validation", count=5)) if gradient else None,
        processor,
        callbacks=[KeepGradient()] if gradient else None,
    )
    trainer.hang_in_save = hang_in_save
    if gradient:
        found = trainer.evaluate()
        captions = [[one.record.image_id, one.caption] for one in trainer._last_evaluation]
        trainer.train()
        after = trainer.evaluate()["eval_loss"]
        trainer.save_model()
        if trainer.is_world_process_zero():
            row = {"processes": args.world_size, "captions": captions, "loss": found["eval_loss"], "after": after}
            (folder / "evaluation.json").write_text(json.dumps(row))
    else:
        trainer.train(resume_from_checkpoint=True if resume else None)
        torch.save(trainer.model.state_dict(), folder / "final.pt")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--hang-in-save", type=int)
    parser.add_argument("--gradient", action="store_true")
    parser.add_argument("--divided", action="store_true")
    parser.add_argument("--batch", type=int, default=2)
    run(**vars(parser.parse_args()))
