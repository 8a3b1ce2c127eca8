"""What a model card says of who made a model, how, and where; only what the files of the run say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .citations import model_type_of
from .facts import RunFolder, is_number
from .provenance import is_embedded_starter, is_hub_id, is_local_path

LABELS = {
    "learning_rate": "learning rate (peak)",
    "per_device_train_batch_size": "images per device and step",
    "gradient_accumulation_steps": "gradient accumulation steps",
    "processes": "processes",
    "devices_per_process": "devices per process",
    "effective_batch_size": "effective batch size (images)",
    "num_train_epochs": "epochs",
    "steps": "optimizer steps",
    "optimizer": "optimizer",
    "betas": "betas",
    "epsilon": "epsilon",
    "momentum": "momentum",
    "scheduler": "learning rate schedule",
    "scheduler_options": "options of the schedule",
    "warmup_steps": "warm-up steps",
    "weight_decay": "weight decay",
    "label_smoothing": "label smoothing",
    "max_grad_norm": "gradient clipping (norm)",
    "seed": "seed",
    "data_seed": "seed of the data order",
    "precision": "precision",
    "image_size": "image size (pixels)",
    "prompt": "prompt",
    "max_txt_len": "longest caption in training (tokens)",
    "captions_per_image": "captions per image",
    "lora_kind": "adapter",
    "lora_rank": "LoRA rank",
    "lora_alpha": "LoRA alpha",
    "lora_dropout": "LoRA dropout",
    "lora_targets": "LoRA targets",
    "quantization": "quantization of the base",
}
"""Name in `run.json` to what the card calls it. Others are shown by their name."""

BASE_SIZES = {
    "starter": 96,
    "Salesforce/blip-image-captioning-base": 384,
    "Salesforce/blip-image-captioning-large": 384,
}
"""Side in pixels of the pictures that known bases take."""


def hyperparameter_facts(run: RunFolder) -> dict[str, Any]:
    """The hyperparameters of the run by the names of people."""
    facts: dict[str, Any] = {}
    told: dict[str, Any] = dict(run.facts.get("hyperparameters") or {})
    for name, value in told.items():
        if is_local_path(value):
            continue
        if name == "prompt" and not value:
            value = "none"
        elif name == "betas" and isinstance(value, list):
            value = " and ".join(str(one) for one in value)
        elif name == "lora_targets" and isinstance(value, list):
            value = ", ".join(map(str, value))
        facts[LABELS.get(name, name)] = value
    return facts


def energy_facts(run: RunFolder) -> dict[str, str]:
    """Energy and emissions of the training, or why there is no figure."""
    facts = {
        label: f"{run.energy[key]:.4g} {unit}"
        for key, label, unit in (("energy_kwh", "energy", "kWh"), ("co2_eq_kg", "emissions", "kg CO2 equivalent"))
        if key in run.energy
    }
    log = [row for row in run.training.get("log_history") or () if isinstance(row, Mapping)]
    failures = [str(row["energy_unavailable"]) for row in log if row.get("energy_unavailable")]
    if failures:
        reasons = "; ".join(dict.fromkeys(failures))
        facts["energy"] = f"{facts['energy']} at least: {reasons}" if "energy" in facts else f"not measured: {reasons}"
    # A training that was interrupted measured nothing that is kept: only what follows its checkpoint is in the sum.
    starts = [row["energy_from_step"] for row in log if is_number(row.get("energy_from_step"))]
    ends = [row["step"] for row in log if is_number(row.get("energy_kwh")) and is_number(row.get("step"))]
    if "energy" in facts and starts and min(starts) not in ends and not failures:
        facts["energy"] += f", from step {min(starts):g} on"
    return facts


def origin_facts(run: RunFolder, owner: str | None = None) -> dict[str, str]:
    """Who developed the model, and on what and where it was trained.

    Args:
        run (`RunFolder`): The files of the run.
        owner (`str`, *optional*): Whose repository it is published in; the developer if the run names nobody.
    """
    facts: dict[str, str] = {}
    developer = run.facts.get("developed_by") or owner
    if developer:
        facts["developed by"] = str(developer)
    return facts


def place_facts(run: RunFolder) -> dict[str, str]:
    """Where the training was computed, if the run says so."""
    pairs = (("cloud provider", run.facts.get("cloud_provider")), ("region", run.facts.get("region")))
    return {label: str(value) for label, value in pairs if value}


@dataclass(frozen=True, slots=True)
class PeftSnippet:
    """What the snippet for plain PEFT fills in.

    Args:
        base (`str`): A Python expression for the base model's name.
        note (`str`): A comment behind it; often empty.
        resized (`bool`): Whether the adapter takes pictures of another size than its base.
    """

    base: str
    note: str = ""
    resized: bool = False

    @property
    def reads_config(self) -> bool:
        """Whether `base` reads the adapter's configuration."""
        return self.base.startswith("PeftConfig")


def peft_snippet(run: RunFolder) -> PeftSnippet | None:
    """How an adapter of a BLIP is loaded with PEFT alone; `None` for whole models and other architectures."""
    if not run.adapter or model_type_of(run.base_model, run.adapter) != "blip":
        return None
    base = str(run.base_model)
    size = (run.facts.get("hyperparameters") or {}).get("image_size")
    known = BASE_SIZES.get("starter" if is_embedded_starter(base) else base)
    resized = is_number(size) and known is not None and size != known
    if is_embedded_starter(base):
        return PeftSnippet('"blip_refine/starter"', "  # in a clone of the repository", resized)
    if is_hub_id(base):
        return PeftSnippet(f'"{base}"', resized=resized)
    # A folder of somebody's machine: its name stands in the adapter's own configuration.
    return PeftSnippet("PeftConfig.from_pretrained(name).base_model_name_or_path")
