"""`blip-refine ablate`: every way of decoding and refining, over the same images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .data_options import (
    CaptionColumn,
    DataDir,
    DownloadDir,
    IdColumn,
    ImageColumn,
    ImageDir,
    Option,
    PromptColumn,
    Ratios,
    SplitColumn,
    SplitLists,
)
from .output import output

if TYPE_CHECKING:
    from ..evaluation.ablate import Ablation


def ablate(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A run folder, an id on the Hub, or 'starter'.")],
    dataset: Annotated[str, typer.Option(help="flickr8k, coco, scenes:everyday, a folder, a file, a Hub id.")],
    folder: Annotated[Path, typer.Option("--output", "-o", help="Where everything is kept.")] = Path("ablation"),
    decoding: Annotated[list[str] | None, typer.Option(help="A decoding preset; repeatable.")] = None,
    refiner: Annotated[list[str] | None, typer.Option(help="A refiner, or 'none'; repeatable.")] = None,
    prompt: Annotated[list[str] | None, typer.Option(help="A prompt template; repeatable.")] = None,
    guards: Annotated[list[str] | None, typer.Option(help="Guards ('form,facts', 'none'); repeatable.")] = None,
    data_dir: DataDir = None,
    image_dir: ImageDir = None,
    download_dir: DownloadDir = None,
    split_lists: SplitLists = None,
    image_column: ImageColumn = None,
    caption_column: CaptionColumn = None,
    id_column: IdColumn = None,
    split_column: SplitColumn = None,
    prompt_column: PromptColumn = None,
    ratios: Ratios = None,
    option: Option = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "validation",
    images: Annotated[int | None, typer.Option(help="Only the first so many images.")] = None,
    metrics: Annotated[str | None, typer.Option(help="Names, separated by commas; all by default.")] = None,
    resamples: Annotated[int, typer.Option(min=10, help="Bootstrap resamples for each interval.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of resampling.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 16,
    base_url: Annotated[str | None, typer.Option(help="Server of 'openai' refiners.")] = None,
    api_key_env: Annotated[str | None, typer.Option(help="Environment variable with its key.")] = None,
    prices: Annotated[str | None, typer.Option(help="IN,OUT: US dollars for a million tokens.")] = None,
) -> None:
    """Caption and refine the same images in every way of a grid, and say which pays.

    The first decoding preset without a refiner is what the others are compared with. The same command goes on where an
    earlier one was stopped, and asks nothing twice.
    """
    from ..evaluation.ablate import make_grid, run_ablation
    from ..evaluation.evaluator import PipelineSystem
    from ..pipeline import CaptionPipeline
    from ..report.report import write_report
    from .data_options import source_options
    from .libraries import quieten_libraries
    from .refine_options import parse_prices

    decodings, refiners = decoding or ["accurate"], list(dict.fromkeys(["none", *(refiner or [])]))
    cells = make_grid(decodings, refiners, prompt or (), guards or ())
    given = {"base_url": base_url, "api_key_env": api_key_env, "prices": parse_prices(prices)}
    options = {name: value for name, value in given.items() if value is not None}
    quieten_libraries()
    data = source_options(context).load(dataset, split, images)
    output.note(f"{_count(len(cells), 'way')} of captioning {_count(len(data), 'image')}.")

    def captioner(preset: str):
        return PipelineSystem(CaptionPipeline.from_pretrained(model, decoding=preset, batch_size=batch_size))

    found = run_ablation(
        captioner,
        data.records,
        cells,
        folder,
        metrics=[name.strip() for name in metrics.split(",")] if metrics else None,
        resamples=resamples,
        seed=seed,
        batch_size=batch_size,
        refiner_options=options,
        captioner=_identity(model),
        on_cell=lambda cell: output.note(f"  {cell.name}"),
    )
    _print(found)
    output.line(f"Report: {write_report(folder)}")
    output.result(found.to_dict())


def _identity(model: str) -> str:
    """The model's name, and for a folder what tells its weights from those of an earlier training into it."""
    files = sorted([*Path(model).glob("*.safetensors"), *Path(model).glob("generation_config.json")])
    return " ".join([model, *(f"{path.name}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in files)])


def _print(found: Ablation) -> None:
    rows = []
    for one in found.cells:
        rows.append(
            [
                ("* " if one.best else "  ") + one.cell.name,
                f"{one.scores[found.metric]:.3f}",
                "" if one.difference is None else f"{one.difference:+.3f}",
                "" if one.p_corrected is None else f"{one.p_corrected:.4f}",
                f"{1000 * one.seconds:.0f}",
                f"{one.tokens:.0f}",
                "?" if one.cost is None else f"{1000 * one.cost:.2f}",
                f"{one.changed:.0%}",
            ]
        )
    columns = ["", found.metric, "difference", "p", "ms", "tokens", "$/1000", "changed"]
    title = f"{_count(len(found.comparison.references), 'image')}; ms and tokens are for one image"
    output.table(columns, rows, title=title)
    output.line("* no other way is both at least as good and at least as fast.")
    for one in found.cells:
        if one.unanswered:
            output.warning(
                f"{one.cell.name}: {_count(one.unanswered, 'question')} without an answer; there the draft counts. "
                "The same command asks again."
            )
    for metric, reason in found.comparison.scores[found.comparison.systems[0]].unavailable.items():
        output.line(f"{metric} was not computed: {reason}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
