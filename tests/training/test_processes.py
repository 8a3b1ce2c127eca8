"""Training divided among processes: the gradient of one, each image scored once, and configurations that are right."""

from __future__ import annotations

import importlib
import json
import sys

import pytest
import torch
import yaml
from accelerate import FullyShardedDataParallelPlugin
from accelerate.commands.config.config_args import load_config_from_file

from blip_refine.models.captioner import load_captioner

from .processes import DIVIDED, ROOT, RUN, finish, free_port, start
from .small_run import run

CONFIGS = ROOT / "examples" / "configs"


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One step of a single process with all the images."""
    folder = tmp_path_factory.mktemp("alone")
    run(folder, gradient=True, batch=4)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_give_the_gradient_of_one_and_score_each_image_once(alone, tmp_path, kind):
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", CONFIGS / "ddp.yaml"]
    command = [*launch, "--main_process_port", free_port(), RUN, tmp_path, "--gradient", "--batch", 2]
    finish(start(*command, *(["--divided"] if kind == "fsdp" else [])))
    (one, evaluated, weights), (two, evaluated_by_two, weights_of_two) = (
        (
            torch.load(folder / "gradient.pt"),
            json.loads((folder / "evaluation.json").read_text()),
            load_captioner(folder)[0].state_dict(),
        )
        for folder in (alone, tmp_path)
    )
    assert evaluated["processes"] == 1 and evaluated_by_two["processes"] == 2
    assert (one - two).norm() / one.norm() < 1e-5
    assert len(evaluated["captions"]) == len({name for name, _ in evaluated["captions"]}) == 5
    assert evaluated["captions"] == evaluated_by_two["captions"]
    for moment in ("loss", "after"):
        assert evaluated[moment] == pytest.approx(evaluated_by_two[moment], rel=1e-4)
    assert evaluated["after"] != pytest.approx(evaluated["loss"], rel=1e-4), "the step did nothing"
    # What is saved is whole, and not in parts.
    for name, value in weights.items():
        torch.testing.assert_close(weights_of_two[name], value, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["root", "layers"])
def test_a_model_divided_by_fsdp_trains_and_captions_as_a_whole_one(tmp_path, how):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port()]
    finish(start(*torchrun, DIVIDED, tmp_path / "found.json", how))
    for found in json.loads((tmp_path / "found.json").read_text()):
        assert found["share"] < 0.6, "each process keeps about half of the weights"
        assert found["gradient"] < 1e-5 and found["gradient with checkpointing"] < 1e-5
        assert found["captions_before"] and found["captions_after"]


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_the_example_configurations_are_what_accelerate_reads(name):
    config = load_config_from_file(str(CONFIGS / f"{name}.yaml"))
    assert config.num_processes == 2 and not config.use_cpu
    assert config.distributed_type == {"ddp": "MULTI_GPU", "fsdp": "FSDP"}[name]


def test_the_configuration_divides_the_captioner_as_one_unit(tiny_captioner):
    text = (CONFIGS / "fsdp.yaml").read_text()
    settings = yaml.safe_load(text)["fsdp_config"]
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=settings["fsdp_version"],
        auto_wrap_policy=settings["fsdp_auto_wrap_policy"],
        state_dict_type=settings["fsdp_state_dict_type"],
    )
    plugin.set_auto_wrap_policy(tiny_captioner()[0])
    assert plugin.auto_wrap_policy is None and not settings["fsdp_activation_checkpointing"]
    for other, module in {"OPTDecoderLayer": "opt", "T5Block": "t5"}.items():
        assert other in text
        assert hasattr(importlib.import_module(f"transformers.models.{module}.modeling_{module}"), other)
