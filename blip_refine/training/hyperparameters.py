"""What a training was told: every hyperparameter that decides the result, as the Trainer really used it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..evaluation.run_facts import RunFacts, describe_hardware
from ..models.adapters import count_parameters
from ..models.families import base_model
from .arguments import CaptionTrainingArguments

if TYPE_CHECKING:
    from .trainer import CaptionTrainer

UNREPORTED = (
    *("output_dir", "logging_dir", "run_name", "hub_token", "hub_model_id", "deepspeed_plugin", "disable_tqdm"),
    # Facts of the run, not of the training; they have fields of their own.
    *("developed_by", "region", "cloud_provider"),
)

# Values of these that mean nothing was asked for: the parser of the command line changes their defaults.
UNSET = {"debug": [], "include_num_input_tokens_seen": "no"}


def training_facts(trainer: CaptionTrainer, seconds: float | None = None) -> RunFacts:
    """What is known of a run when its training has ended.

    Args:
        trainer ([`CaptionTrainer`]): After `train`.
        seconds (`float`, *optional*): How long the training took.
    """
    args = trainer.args
    total, trained = count_parameters(trainer.model)
    config = base_model(trainer.model).config
    return RunFacts(
        base_model=getattr(config, "name_or_path", None) or None,
        hyperparameters=used_hyperparameters(trainer),
        parameters=total,
        trainable_parameters=trained,
        seconds=seconds,
        hardware=describe_hardware(cpu=args.device.type == "cpu"),
        developed_by=args.developed_by,
        region=args.region or args.energy_country,
        cloud_provider=args.cloud_provider,
    )


def used_hyperparameters(trainer: CaptionTrainer) -> dict[str, Any]:
    """The hyperparameters of a training that has run, defaults included.

    Args:
        trainer ([`CaptionTrainer`]): After `train`.

    Returns:
        `dict`: The learning rate, batch sizes, epochs and steps, optimizer, scheduler, regularization, seed,
        precision, image size, prompt and adapter, read from the optimizer, the scheduler and the model where they
        hold them; then every other argument that differs from its default.
    """
    args = trainer.args
    told = {
        **_optimization(trainer),
        "label_smoothing": args.label_smoothing_factor,
        "max_grad_norm": args.max_grad_norm,
        "seed": args.seed,
        **({} if args.data_seed is None else {"data_seed": args.data_seed}),
        "precision": args.chosen_precision,
        "image_size": base_model(trainer.model).config.vision_config.image_size,
        **({"prompt": args.prompt or ""} if args.prompt_template is None else {}),
        "max_txt_len": args.max_txt_len,
        "captions_per_image": args.captions_per_image,
        **_adapter(trainer.model),
    }
    # The names of these stand above in another form.
    said_above = {"label_smoothing_factor", "max_steps", "optim", "lr_scheduler_type", "lr_scheduler_kwargs", "bf16"}
    said_above |= {"fp16", "warmup_ratio", "adam_beta1", "adam_beta2", "adam_epsilon"}
    rest = {name: value for name, value in changed_arguments(args).items() if name not in {*told, *said_above}}
    return {**told, **rest}


def _optimization(trainer: CaptionTrainer) -> dict[str, Any]:
    args, state = trainer.args, trainer.state
    # accelerate wraps both.
    optimizer: Any = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
    per_process = state.train_batch_size or args.train_batch_size
    rates = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
    decays = [group.get("weight_decay", 0.0) for group in optimizer.param_groups]
    own_optimizer, own_scheduler = trainer.own_optimizers
    scheduler = getattr(trainer.lr_scheduler, "scheduler", trainer.lr_scheduler)
    told: dict[str, Any] = {
        # An optimizer that was handed over has its own rate, whatever the arguments say.
        "learning_rate": max(rates) if own_optimizer else args.learning_rate,
        "per_device_train_batch_size": per_process // max(1, args.n_gpu),
        "gradient_accumulation_steps": args.gradient_accumulation_steps,
        "processes": args.world_size,
        **({"devices_per_process": args.n_gpu} if args.n_gpu > 1 else {}),
        "effective_batch_size": per_process * args.gradient_accumulation_steps * args.world_size,
        "num_train_epochs": args.num_train_epochs if args.max_steps <= 0 else state.num_train_epochs,
        "steps": state.max_steps,
        "optimizer": type(optimizer).__name__,
    }
    for name, label in (("betas", "betas"), ("eps", "epsilon"), ("momentum", "momentum")):
        if name in optimizer.defaults:
            value = optimizer.defaults[name]
            told[label] = list(value) if isinstance(value, tuple) else value
    if own_scheduler:
        told["scheduler"] = type(scheduler).__name__
    else:
        told["scheduler"] = getattr(args.lr_scheduler_type, "value", str(args.lr_scheduler_type))
        if args.lr_scheduler_kwargs:
            told["scheduler_options"] = dict(args.lr_scheduler_kwargs)
        told["warmup_steps"] = args.get_warmup_steps(state.max_steps)
    return {**told, "weight_decay": max(decays)}


def _adapter(model: Any) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for config in getattr(model, "peft_config", {}).values():
        targets = config.target_modules
        told = {
            "lora_rank": config.r,
            "lora_alpha": config.lora_alpha,
            "lora_dropout": config.lora_dropout,
            "lora_targets": targets if isinstance(targets, str) else sorted(targets or ()),
            "lora_kind": "DoRA" if getattr(config, "use_dora", False) else "LoRA",
        }
    quantized = getattr(base_model(model).config, "quantization_config", None)
    if quantized is not None:
        bits = quantized if isinstance(quantized, Mapping) else quantized.to_dict()
        told["quantization"] = "4bit" if bits.get("load_in_4bit") else "8bit" if bits.get("load_in_8bit") else "yes"
    return told


def changed_arguments(args: CaptionTrainingArguments) -> dict[str, Any]:
    """The training arguments that were given another value than their default, without paths and secrets."""
    changed = {}
    for name in args.asked_for:
        value = getattr(args, name)
        if name not in UNREPORTED and (name not in UNSET or value != UNSET[name]):
            changed[name] = value if isinstance(value, (bool, int, float, str, list)) else str(value)
    # "auto" is another precision on another machine.
    return {**changed, "precision": args.chosen_precision}
