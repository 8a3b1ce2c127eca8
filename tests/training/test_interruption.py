"""Training that is killed, divided among processes, or short of memory."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time

import pytest
import torch

from blip_refine.errors import ConfigurationError, ModelError
from blip_refine.training.checkpoints import INCOMPLETE, find_checkpoint, find_fault
from blip_refine.training.trainer import CaptionTrainer

from .processes import RUN, finish, start
from .small_run import run
from .test_trainer import arguments, scenes


@pytest.mark.posix
@pytest.mark.slow
def test_killed_in_the_middle_of_a_save_it_resumes_from_a_whole_checkpoint(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(sys.executable, RUN, killed, "--hang-in-save", "4")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the other process: sums in another order would become other weights
    run(whole)
    torch.set_num_threads(threads)
    deadline = time.monotonic() + 120
    weights = killed / INCOMPLETE / "checkpoint-4" / "model.safetensors"
    while not weights.exists():
        assert process.poll() is None and time.monotonic() < deadline, "it did not reach the save"
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    assert weights.exists() and not (killed / "checkpoint-4").exists()
    assert find_checkpoint(killed, True)[0] == str(killed / "checkpoint-2")
    finish(start(sys.executable, RUN, killed, "--resume"))
    assert not (killed / INCOMPLETE).exists() or not list((killed / INCOMPLETE).iterdir())
    one, other = (torch.load(folder / "final.pt") for folder in (whole, killed))
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, msg=name)


def test_half_a_checkpoint_is_never_taken_for_whole(tiny_captioner, tmp_path):
    model, processor = tiny_captioner()
    args = arguments(tmp_path, save_strategy="steps", save_steps=1, eval_strategy="no", max_steps=2)
    trainer = CaptionTrainer(model, args, scenes("train", 4), processing_class=processor)
    with pytest.raises(ConfigurationError, match="no whole checkpoint"):
        trainer.train(resume_from_checkpoint=True)
    trainer.train()
    good = tmp_path / "checkpoint-2"
    assert find_fault(good) is None
    for name, part in (
        ("model.safetensors", "breaks off"),
        ("optimizer.pt", "optimizer.pt breaks off"),
        ("trainer_state.json", "breaks off"),
    ):
        half = tmp_path / "checkpoint-9"
        shutil.copytree(good, half)
        data = (half / name).read_bytes()
        (half / name).write_bytes(data[: len(data) // 2])
        assert part in str(find_fault(half))
        found, passed_over = find_checkpoint(tmp_path, True)
        assert found == str(good) and "checkpoint-9" in passed_over[0]
        with pytest.raises(ModelError, match="cannot be resumed from"):
            trainer.train(resume_from_checkpoint=str(half))
        shutil.rmtree(half)
    state = json.loads((good / "trainer_state.json").read_text())
    assert INCOMPLETE not in json.dumps(state)


class Hungry(torch.nn.Module):
    """Fails as a GPU does, where a batch holds more than so many images."""

    def __init__(self, inner, images=2):
        super().__init__()
        self.images = images
        self.inner, self.config = inner, inner.config

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.inner, name)

    def forward(self, pixel_values=None, **inputs):
        if len(pixel_values) > self.images:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.inner(pixel_values=pixel_values, **inputs)


def test_when_memory_runs_out_it_says_what_to_change(tiny_captioner, tmp_path):
    model, processor = tiny_captioner()
    args = arguments(tmp_path, per_device_train_batch_size=4, save_strategy="no", eval_strategy="no")
    trainer = CaptionTrainer(Hungry(model), args, scenes("train", 8), processing_class=processor)
    with pytest.raises(ConfigurationError) as refused:
        trainer.train()
    said = str(refused.value)
    assert "--gradient-checkpointing true" in said
    assert "--per-device-train-batch-size 2 --gradient-accumulation-steps 2" in said
    assert "--lora" in said and "--freeze-vision" in said


def test_a_model_that_no_batch_fits_is_said_to_be_one(tiny_captioner, tmp_path):
    model, processor = tiny_captioner()
    args = arguments(
        tmp_path, per_device_train_batch_size=1, auto_find_batch_size=True, save_strategy="no", eval_strategy="no"
    )
    hungry = Hungry(model, images=0)
    with pytest.raises(ConfigurationError, match="does not fit into memory.*--lora"):
        CaptionTrainer(hungry, args, scenes("train", 2), processing_class=processor).train()


def test_the_batch_size_can_be_found(tiny_captioner, tmp_path):
    model, processor = tiny_captioner()
    args = arguments(
        tmp_path, per_device_train_batch_size=3, auto_find_batch_size=True, save_strategy="no", max_steps=1,
        eval_strategy="no",
    )  # fmt: skip
    trainer = CaptionTrainer(Hungry(model), args, scenes("train", 8), processing_class=processor)
    trainer.train()
    assert trainer._train_batch_size in (1, 2) and trainer.state.global_step == 1
