"""Groups of parameters that learn at different rates."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from torch import nn

from ..errors import ConfigurationError
from ..models.freezing import learning_rate_factors


def set_learning_rates(
    optimizer: Any, model: nn.Module, learning_rate: float, vision_learning_rate: float | None, layer_decay: float
) -> None:
    """Divide an optimizer's groups so that each parameter has its own learning rate. Call it before the first step.

    Args:
        optimizer (`torch.optim.Optimizer`): Its groups are replaced; weight decay and all else stay.
        model (`nn.Module`): The captioner.
        learning_rate (`float`): Of what nothing else is said of.
        vision_learning_rate (`float`, *optional*): Of the vision encoder.
        layer_decay (`float`): See [`learning_rate_factors`].

    Raises:
        ConfigurationError: A rate is not positive.
    """
    if vision_learning_rate is not None and vision_learning_rate < 0 or not 0 < layer_decay <= 1:
        raise ConfigurationError(
            f"vision_learning_rate ({vision_learning_rate}) must not be negative, and layer_lr_decay ({layer_decay}) "
            "lies above 0 and at most at 1."
        )
    if vision_learning_rate is None:
        vision_factor = 1.0
    elif learning_rate == 0:
        raise ConfigurationError("vision_learning_rate needs a learning_rate above 0 to be a share of.")
    else:
        vision_factor = vision_learning_rate / learning_rate
    factors = learning_rate_factors(model, vision_factor=vision_factor, layer_decay=layer_decay)
    factor_of = {id(parameter): factors[name] for name, parameter in model.named_parameters()}
    groups = []
    for group in optimizer.param_groups:
        parts: dict[float, list[nn.Parameter]] = defaultdict(list)
        for parameter in group["params"]:
            parts[factor_of.get(id(parameter), 1.0)].append(parameter)
        for factor, parameters in sorted(parts.items(), reverse=True):
            groups.append({**group, "params": parameters, "lr": group["lr"] * factor})
    optimizer.param_groups[:] = groups
