"""FSDP (version 2): the captioner divided among processes as one unit, and whole again for evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def is_divided(model: nn.Module) -> bool:
    """Whether FSDP, of either version, has divided the weights of a model."""
    from torch.distributed import fsdp

    return isinstance(model, (fsdp.FullyShardedDataParallel, getattr(fsdp, "FSDPModule", ())))


def divide(model: nn.Module, plugin: Any) -> None:
    """Divide a model among all processes as one unit, in place, where accelerate is asked to wrap no layers.

    Left to itself, accelerate makes the word embeddings a unit of their own. BLIP's output layer shares their weights
    and its bias with other modules, which torch does not allow across units. What is divided already, accelerate
    leaves as it is.

    Args:
        model (`nn.Module`): The captioner; it moves to the process's device.
        plugin (`FullyShardedDataParallelPlugin`, *optional*): How; `None` leaves the model whole.
    """
    if plugin is None or plugin.fsdp_version != 2 or plugin.auto_wrap_policy is not None or is_divided(model):
        return
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    fully_shard(
        model,
        reshard_after_forward=plugin.reshard_after_forward,
        mp_policy=plugin.mixed_precision_policy or MixedPrecisionPolicy(),
        offload_policy=plugin.cpu_offload,
    )


@contextmanager
def whole_weights(model: nn.Module) -> Iterator[None]:
    """For the time of a `with`, each process has all the weights of a model that FSDP (version 2) has divided.

    Decoding takes another number of steps in each process, and gathering weights at each of them would leave the
    processes waiting for one another. Nothing is done to a model that is not divided.

    Args:
        model (`nn.Module`): The captioner, as it is trained.
    """
    try:
        from torch.distributed.fsdp import FSDPModule
    except ImportError:  # a release of torch without version 2
        yield
        return
    divided = [module for module in model.modules() if isinstance(module, FSDPModule)]
    if len(divided) > 1:
        _make_root(divided[0])
    for module in divided:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for module in divided:
            module.set_reshard_after_forward(True, recurse=False)
            module.reshard()


def _make_root(model: Any) -> None:
    """Let FSDP know which module is the outermost: the first that runs takes itself for it, and decoding starts with
    an inner one. A method that does nothing is run as a `forward` of the model."""
    from torch.distributed.fsdp import register_fsdp_forward_method

    model.begin_evaluation = lambda: None
    register_fsdp_forward_method(model, "begin_evaluation")
    try:
        with torch.no_grad():
            model.begin_evaluation()
    finally:
        del model.begin_evaluation
