"""Training divided among processes: the gradient of one, each image scored once, and configurations that are right."""

from __future__ import annotations

import importlib
import json
import sys

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from torch import nn

from .processes import DIVIDED, ROOT, RUN, finish, free_port, start
from .small_run import run

CONFIGS = ROOT / "examples" / "configs"


@pytest.mark.slow
def test_two_processes_give_the_gradient_of_one_and_score_each_image_once(tmp_path):
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", CONFIGS / "ddp.yaml"]
    two_processes = start(*launch, "--main_process_port", free_port(), RUN, tmp_path / "2", "--gradient", "--batch", 2)
    run(tmp_path / "1", gradient=True, batch=4)
    finish(two_processes)
    (one, evaluated), (two, evaluated_by_two) = (
        (torch.load(folder / "gradient.pt"), json.loads((folder / "evaluation.json").read_text()))
        for folder in (tmp_path / "1", tmp_path / "2")
    )
    assert evaluated["processes"] == 1 and evaluated_by_two["processes"] == 2
    assert (one - two).norm() / one.norm() < 1e-5
    assert len(evaluated["captions"]) == len({name for name, _ in evaluated["captions"]}) == 5
    assert evaluated["captions"] == evaluated_by_two["captions"]
    assert evaluated["loss"] == pytest.approx(evaluated_by_two["loss"], rel=1e-5)


@pytest.mark.slow
def test_a_model_divided_by_fsdp_trains_and_captions_as_a_whole_one(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port()]
    finish(start(*torchrun, DIVIDED, tmp_path / "found.json"))
    for found in json.loads((tmp_path / "found.json").read_text()):
        assert found["share"] < 0.6, "each process keeps about half of the weights"
        assert found["gradient"] < 1e-5 and found["gradient with checkpointing"] < 1e-5
        assert found["captions_before"] and found["captions_after"]


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_the_example_configurations_are_what_accelerate_reads(name):
    config = load_config_from_file(str(CONFIGS / f"{name}.yaml"))
    assert config.num_processes == 2 and not config.use_cpu
    assert config.distributed_type == {"ddp": "MULTI_GPU", "fsdp": "FSDP"}[name]


def test_the_layers_that_fsdp_wraps_are_those_of_the_models(tiny_captioner):
    settings = yaml.safe_load((CONFIGS / "fsdp.yaml").read_text())["fsdp_config"]
    from accelerate import FullyShardedDataParallelPlugin

    names = settings["fsdp_transformer_layer_cls_to_wrap"].split(",")
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=settings["fsdp_version"],
        auto_wrap_policy=settings["fsdp_auto_wrap_policy"],
        transformer_cls_names_to_wrap=names,
        state_dict_type=settings["fsdp_state_dict_type"],
    )
    model, _ = tiny_captioner()
    plugin.set_auto_wrap_policy(model)
    found = {type(module).__name__ for module in model.modules()}
    assert set(names) <= found
    lists = [child for child in model.modules() if isinstance(child, nn.ModuleList)]
    assert all(type(layer).__name__ in names for layers in lists for layer in layers)
    modules = {"Blip2EncoderLayer": "blip_2", "Blip2QFormerLayer": "blip_2", "OPTDecoderLayer": "opt", "T5Block": "t5"}
    for other, module in modules.items():
        assert other in (CONFIGS / "fsdp.yaml").read_text()
        assert hasattr(importlib.import_module(f"transformers.models.{module}.modeling_{module}"), other)
