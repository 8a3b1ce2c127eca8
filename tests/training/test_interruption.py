"""Training that is killed, divided among processes, or short of memory."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from blip_refine.errors import ConfigurationError, ModelError
from blip_refine.training.checkpoints import INCOMPLETE, find_checkpoint, find_fault
from blip_refine.training.trainer import CaptionTrainer

from .test_trainer import arguments, scenes

ROOT = Path(__file__).resolve().parents[2]
RUN = Path(__file__).with_name("small_run.py")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


@pytest.mark.slow
def test_killed_in_the_middle_of_a_save_it_resumes_from_a_whole_checkpoint(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([sys.executable, RUN, whole], env=environment(), check=True, capture_output=True)
    process = subprocess.Popen(
        [sys.executable, RUN, killed, "--hang-in-save", "4"], env=environment(), stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    weights = killed / INCOMPLETE / "checkpoint-4" / "model.safetensors"
    while not weights.exists():
        assert process.poll() is None and time.monotonic() < deadline, "it did not reach the save"
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert weights.exists() and not (killed / "checkpoint-4").exists()
    assert find_checkpoint(killed, True)[0] == str(killed / "checkpoint-2")
    subprocess.run([sys.executable, RUN, killed, "--resume"], env=environment(), check=True, capture_output=True)
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


@pytest.mark.slow
def test_two_processes_give_the_gradient_of_one_and_score_each_image_once(tmp_path):
    results = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--master_port"]
        subprocess.run(
            [*command, str(29517 + os.getpid() % 1000), RUN, out, "--gradient", "--batch", str(4 // processes)],
            env=environment(), check=True, capture_output=True, timeout=300,
        )  # fmt: skip
        results.append((torch.load(out / "gradient.pt"), json.loads((out / "evaluation.json").read_text())))
    (one, evaluated), (two, evaluated_by_two) = results
    assert (one - two).norm() / one.norm() < 1e-5
    assert evaluated["images"] == evaluated_by_two["images"] == 5
    assert evaluated["captions"] == evaluated_by_two["captions"]
    assert evaluated["loss"] == pytest.approx(evaluated_by_two["loss"], rel=1e-5)


class Hungry(torch.nn.Module):
    """Fails as a GPU does, where a batch holds more than two images."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.config = inner, inner.config

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.inner, name)

    def forward(self, pixel_values=None, **inputs):
        if len(pixel_values) > 2:
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


def test_the_batch_size_can_be_found(tiny_captioner, tmp_path):
    model, processor = tiny_captioner()
    args = arguments(
        tmp_path, per_device_train_batch_size=8, auto_find_batch_size=True, save_strategy="no", max_steps=1,
        eval_strategy="no",
    )  # fmt: skip
    trainer = CaptionTrainer(Hungry(model), args, scenes("train", 8), processing_class=processor)
    trainer.train()
    assert trainer._train_batch_size <= 2 and trainer.state.global_step == 1
