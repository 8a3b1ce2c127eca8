"""SageMaker's training entry point: `python -m blip_refine.apps.sagemaker.train` inside of the container.

Hyperparameters are those of `CaptionTrainingArguments`, those in `OWN`, which `blip-refine train` has as well, the
options of the refiner (`refine.options.RUN_OPTIONS`) and those of [`SourceOptions`] (`image_dir`, `ratios`, ...). The
channels `train`, `validation` and `test` hold captioned images in any form of `load_source`; one channel alone is
split by image. A spot stop costs at most what was done since the last save: the next start goes on from it.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...data.source_options import OPTION_NAMES, SourceOptions
from ...errors import BlipRefineError, ConfigurationError
from ...refine.base import Refiner, load_refiner
from ...refine.options import RUN_OPTIONS, share_options
from .environment import JobEnvironment, parse_flag, read_environment
from .metric_lines import final_names, metric_line

logger = logging.getLogger("blip_refine.sagemaker")

OWN = ("model", "dataset", "lora", "dora", "quantization", "merge", "refiner", "metrics", "image_size")
SPLITS = ("train", "validation", "test")
CHECKPOINT_FILES = ("trainer_state.json", "optimizer.pt", "scheduler.pt")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors")
NOT_PACKED = ("checkpoint-*", "training_args.bin", "*.pt", "*.part")


class LogNarrator:
    """Tells a log what goes on, one line each."""

    def heading(self, text: str) -> None:
        logger.info("== %s", text)

    def note(self, text: str = "") -> None:
        logger.info("%s", text)

    def warning(self, text: str) -> None:
        logger.warning("%s", text)

    def progress(self, description: str, total: int | None = None, *, in_bytes: bool = False) -> Any:
        from contextlib import nullcontext

        logger.info("%s (%s)", description, "of unknown length" if total is None else total)
        return nullcontext(lambda n=1: None)


def train(environment: JobEnvironment | None = None) -> Path:
    """Run one training job.

    Args:
        environment ([`JobEnvironment`], *optional*): By default as the container says.

    Returns:
        `Path`: The folder that is packed as the model.

    Raises:
        ConfigurationError: A hyperparameter that is unknown or cannot be, or no data.
    """
    environment = environment or read_environment()
    values = dict(environment.hyperparameters)
    own = {name: values.pop(name, None) for name in OWN}
    refiner = make_refiner(own["refiner"], {name: values.pop(name) for name in RUN_OPTIONS if name in values})
    options = SourceOptions.parse({name: values.pop(name, None) for name in OPTION_NAMES})
    loading = parse_own(own)
    parts, dataset = load_channels(environment, own["dataset"], options)
    args = parse_arguments(values, environment.checkpoints)
    from ...finetune import finetune

    checkpoint = last_whole_checkpoint(environment.checkpoints)
    logger.info("Going on from %s", checkpoint.name) if checkpoint else logger.info("Starting afresh")
    model_channel = environment.channels.get("model")
    run = finetune(
        own["model"] or (str(model_channel) if model_channel else "starter"),
        args,
        parts["train"],
        parts.get("validation"),
        parts.get("test"),
        dataset=dataset,
        refiner=refiner,
        **loading,
        resume_from_checkpoint=str(checkpoint) if checkpoint else None,
        narrator=LogNarrator(),
        callbacks=[_metric_printer()],
    )
    if "after" in run.systems:
        line = metric_line(run.systems["after"].scores.corpus, final_names(run.evaluation_split or "test"))
        if line is not None:
            logger.info("%s", line)
    return pack(run.folder, environment.model_dir)


def make_refiner(name: str | None, values: Mapping[str, str]) -> Refiner | None:
    """The refiner that hyperparameters describe; `None` without one.

    Raises:
        ConfigurationError: A hyperparameter cannot act, or has a value that cannot be.
    """
    kinds: dict[str, Any] = {
        "max_output_tokens": int,
        "refiner_temperature": float,
        "send_image": lambda text: parse_flag("send_image", text),
        "prices": lambda text: tuple(float(part) for part in text.split(",")),
    }
    options = {}
    for key, text in values.items():
        try:
            options[RUN_OPTIONS[key]] = kinds.get(key, str)(text)
        except ConfigurationError:
            raise
        except ValueError:
            raise ConfigurationError(f"The hyperparameter {key!r} cannot be {text!r}.") from None
    called = {option: f"The hyperparameter {key!r}" for key, option in RUN_OPTIONS.items()}
    shared = share_options([name] if name else [], options, called.__getitem__)
    return load_refiner(name, **shared[name]) if name else None


def _metric_printer() -> Any:
    """A callback that prints the metrics of a step when the Trainer logs them."""
    from transformers import TrainerCallback

    class MetricPrinter(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            line = metric_line(logs or {}, step=state.global_step)
            if line is not None and state.is_world_process_zero:
                logger.info("%s", line)

    return MetricPrinter()


def parse_own(own: Mapping[str, str | None]) -> dict[str, Any]:
    """Keywords of `finetune` from the hyperparameters that are not training arguments.

    Args:
        own (`Mapping[str, str | None]`): Text by name, of `OWN`.

    Raises:
        ConfigurationError: A value that cannot be.
    """
    from ...metrics.families import metric_names
    from ...models.adapters import QUANTIZATIONS

    dora = parse_flag("dora", own["dora"])
    lora: bool | str = "dora" if dora else parse_flag("lora", own["lora"])
    quantization, size = own["quantization"] or None, own["image_size"] or None
    if quantization is not None and quantization not in QUANTIZATIONS:
        raise ConfigurationError(
            f"The hyperparameter quantization is {' or '.join(map(repr, QUANTIZATIONS))}, not {quantization!r}."
        )
    merge = parse_flag("merge", own["merge"])
    if merge and not lora:
        raise ConfigurationError("There is nothing to merge without an adapter: set lora or dora to 'true'.")
    if size is not None and not size.isdecimal():
        raise ConfigurationError(f"The hyperparameter image_size is a number of pixels, not {size!r}.")
    metrics = [name.strip() for name in (own["metrics"] or "").split(",") if name.strip()] or None
    if metrics is not None:
        metric_names(metrics)  # refuses what is unknown before anything is loaded
    return {
        "lora": lora,
        "quantization": quantization,
        "merge": merge,
        "metrics": metrics,
        "image_size": None if size is None else int(size),
    }


def parse_arguments(values: Mapping[str, str], output: Path) -> Any:
    """[`CaptionTrainingArguments`] from text, saving into the folder that is kept in step with S3."""
    from dataclasses import fields

    from transformers import HfArgumentParser

    from ...training.arguments import CaptionTrainingArguments

    known = {field.name for field in fields(CaptionTrainingArguments) if field.init}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigurationError(f"There is no hyperparameter {unknown[0]!r}; see `blip-refine train --help-all`.")
    settings = {"disable_tqdm": "true", **_place(), **values, "output_dir": str(output)}
    flags = [part for name, value in settings.items() for part in (f"--{name}", value)]

    class Parser(HfArgumentParser):
        def error(self, message: str):
            raise ConfigurationError(f"A hyperparameter cannot be: {message}.")

    (args,) = Parser(CaptionTrainingArguments, allow_abbrev=False).parse_args_into_dataclasses(
        args=flags, look_for_args_file=False
    )
    return args


def _place() -> dict[str, str]:
    """Where the platform says that the job runs, for card and `run.json`."""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return {"region": region, "cloud_provider": "AWS"} if region else {}


def load_channels(
    environment: JobEnvironment, dataset: str | None, options: SourceOptions | None = None
) -> tuple[dict[str, Any], str]:
    """The data of a job, by split, and what it is called.

    Args:
        environment ([`JobEnvironment`]): With the channels.
        dataset (`str`, *optional*): The hyperparameter: a source, where there is no channel.
        options ([`SourceOptions`], *optional*): How the data are read.

    Raises:
        ConfigurationError: There is no `train` channel and no `dataset`, or an option that cannot act.
    """
    from ...data.dataset import BlipCaptionDataset

    options = options or SourceOptions()
    given = {name: environment.channels[name] for name in SPLITS if name in environment.channels}
    if not given and not dataset:
        raise ConfigurationError(
            "There is nothing to train on: give the job a channel 'train', or the hyperparameter 'dataset'."
        )
    if given and "train" not in given:
        raise ConfigurationError(f"There is no channel 'train', only {', '.join(given)}.")
    if given and options.data_dir is not None:
        raise ConfigurationError("The channels hold the data: leave out data_dir=.", arguments=("data_dir",))
    if len(given) < 2:
        return options.load_parts(str(given["train"]) if given else str(dataset)), dataset or "sagemaker-channel"
    if options.ratios is not None:
        raise ConfigurationError(
            f"The channels {', '.join(given)} are the splits: leave out ratios=.", arguments=("ratios",)
        )
    parts = {name: BlipCaptionDataset.from_source(str(at), **options.arguments) for name, at in given.items()}
    return parts, dataset or "sagemaker-channel"


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is complete: a spot stop can cut the copy to S3 in the middle of one."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    for path in sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")), reverse=True):
        if all((path / name).is_file() for name in CHECKPOINT_FILES) and any(
            (path / name).is_file() for name in WEIGHTS
        ):
            return path
        logger.warning("%s is not complete and is left out", path.name)
    return None


def pack(run_folder: Path, model_dir: Path) -> Path:
    """Copy what belongs to the model: no checkpoints, no pickled files."""
    shutil.copytree(run_folder, model_dir, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*NOT_PACKED))
    return model_dir


def _as_hyperparameter(name: str, value: str | None) -> str:
    return f"the hyperparameter {name!r}" if name in OPTION_NAMES else f"the hyperparameter option {name}=..."


def main() -> None:
    """Run the job; a failure is written where the console shows it, and ends with another code than 0."""
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
    environment = read_environment()
    try:
        train(environment)
    except Exception as error:
        plain = isinstance(error, BlipRefineError)
        environment.failure.parent.mkdir(parents=True, exist_ok=True)
        text = error.spelled(_as_hyperparameter) if isinstance(error, BlipRefineError) else str(error)
        environment.failure.write_text(text if plain else traceback.format_exc(), encoding="utf-8")
        logger.error("%s", text, exc_info=not plain)
        sys.exit(2 if plain else 1)


if __name__ == "__main__":
    main()
