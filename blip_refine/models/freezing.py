"""What of a captioner is trained, and how fast: freezing, and learning rates that differ by depth."""

from __future__ import annotations

from torch import nn

from ..errors import ConfigurationError
from .families import base_model, text_layers, vision_layers


def freeze_vision_encoder(model: nn.Module) -> None:
    """Stop training the vision encoder, in place; an adapter on it too."""
    base_model(model).vision_model.requires_grad_(False)


def freeze_first_layers(model: nn.Module, *, vision: int = 0, text: int = 0) -> None:
    """Stop training the embeddings and the first layers, in place.

    Args:
        model (`nn.Module`): The captioner.
        vision (`int`, defaults to 0): How many layers of the vision encoder; with any of them its embeddings too.
        text (`int`, defaults to 0): How many layers of what writes the caption; with any of them its embeddings too.

    Raises:
        ConfigurationError: There are not so many layers.
    """
    for name, count, (embeddings, layers) in (
        ("vision encoder", vision, vision_layers(model)),
        ("text decoder", text, text_layers(model)),
    ):
        if not 0 <= count <= len(layers):
            raise ConfigurationError(f"The {name} has {len(layers)} layers; {count} of them cannot be frozen.")
        for module in [embeddings, *layers[:count]] if count else []:
            module.requires_grad_(False)


def learning_rate_factors(
    model: nn.Module, *, vision_factor: float = 1.0, layer_decay: float = 1.0
) -> dict[str, float]:
    """What the learning rate of each parameter is multiplied by.

    Args:
        model (`nn.Module`): The captioner.
        vision_factor (`float`, defaults to 1.0): For the vision encoder.
        layer_decay (`float`, defaults to 1.0): For each layer further from the output, in the encoder as in the
            decoder: the last layer keeps its rate, the one before has it times `layer_decay` (discriminative
            learning rates, Howard and Ruder, 2018), the embeddings once more.

    Returns:
        `dict[str, float]`: By the names of `model.named_parameters()`.
    """
    factors: dict[int, float] = {}
    vision = base_model(model).vision_model
    for parameter in vision.parameters():
        factors[id(parameter)] = vision_factor
    for embeddings, layers in (vision_layers(model), text_layers(model)):
        for depth, module in enumerate([*reversed(layers), embeddings]):
            for parameter in module.parameters():
                factors[id(parameter)] = factors.get(id(parameter), 1.0) * layer_decay**depth
    if layer_decay != 1.0:
        captioner = base_model(model)
        head = getattr(captioner, "text_decoder", captioner).get_output_embeddings()
        tied = {id(parameter) for parameter in head.parameters()} if head is not None else set()
        for name in tied:
            # Input embeddings that are also the output layer are as near to the output as a weight can be.
            factors[name] = 1.0
    return {name: factors.get(id(parameter), 1.0) for name, parameter in model.named_parameters()}
