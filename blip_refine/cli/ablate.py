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
from .metric_options import SpiceImages, split_metrics
from .output import output
from .refine_options import (
    ApiKeyEnv,
    BaseUrl,
    Grounding,
    Instruction,
    Matching,
    MaxOutputTokens,
    Prices,
    ReasoningEffort,
    RefinerTemperature,
    SendImage,
    refiner_options,
    share_flags,
)

if TYPE_CHECKING:
    from ..evaluation.ablate import Ablation


def ablate(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(help="A run folder, an id on the Hub, 'starter', hf:MODEL or openai:MODEL@URL.")
    ],
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
    spice_images: SpiceImages = None,
    resamples: Annotated[int, typer.Option(min=10, help="Bootstrap resamples for each interval.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of resampling.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 16,
    instruction: Instruction = None,
    max_output_tokens: MaxOutputTokens = None,
    refiner_temperature: RefinerTemperature = None,
    reasoning_effort: ReasoningEffort = None,
    send_image: SendImage = False,
    grounding: Grounding = None,
    matching: Matching = None,
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = None,
    prices: Prices = None,
) -> None:
    """Caption and refine the same images in every way of a grid, and say which pays.

    The first decoding preset without a refiner is what the others are compared with. The same command goes on where an
    earlier one was stopped, and asks nothing twice. Each refiner gets the options that it knows.
    """
    from ..errors import RefinerUnansweredError

    # --guards is a dimension of the grid here.
    options = refiner_options({**locals(), "guards": None})
    from ..evaluation.ablate import make_grid, run_ablation
    from ..evaluation.ablated import SERVER_DECODING, AblatedCaptioner, default_decodings
    from ..refine.base import kinds_of
    from ..report.report import write_report
    from .data_options import source_options
    from .libraries import quieten_libraries

    decodings = default_decodings(model, decoding)
    refiners = list(dict.fromkeys(["none", *(refiner or [])]))
    names = split_metrics(metrics, spice_images)
    cells = make_grid(decodings, refiners, prompt or (), guards or ())
    asked = options
    if decodings == [SERVER_DECODING] and not any("openai" in kinds_of(one) for one in refiners):
        # They are the captioner's server's, and no refiner's.
        asked = {name: value for name, value in options.items() if name not in ("api_key_env", "prices")}
    share_flags(refiners, asked)
    quieten_libraries()
    data = source_options(context).load(dataset, split, images)
    output.note(f"{_count(len(cells), 'way')} of captioning {_count(len(data), 'image')}.")

    captioner = AblatedCaptioner(model, batch_size=batch_size, api_key_env=api_key_env, prices=options.get("prices"))
    found = run_ablation(
        captioner,
        data.records,
        cells,
        folder,
        metrics=names,
        spice_images=spice_images,
        resamples=resamples,
        seed=seed,
        batch_size=batch_size,
        refiner_options=asked,
        captioner=captioner.identity,
        on_cell=lambda cell: output.note(f"  {cell.name}"),
    )
    _print(found)
    output.line(f"Report: {write_report(folder)}")
    output.result(found.to_dict())
    if found.failed:
        told = " ".join(f"{one.cell.name!r} has no score: {one.reason}" for one in found.failed)
        raise RefinerUnansweredError(f"{told} The same command asks again; the other ways are in {folder}.")


def _print(found: Ablation) -> None:
    from ..refine.counts import describe_counts, measured_over

    rows = []
    for one in found.cells:
        over = measured_over(one.refinement)
        rows.append(
            [
                ("* " if one.best else "  ") + one.cell.name + (f"\n  ({over})" if over else ""),
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
        if one.refinement:
            output.line(f"{one.cell.name}, refined: {describe_counts(one.refinement)}.")
    for one in found.cells:
        if one.refinement.get("unanswered"):
            output.warning(
                f"{one.cell.name}: {measured_over(one.refinement)}; for the others the draft counts. The same command "
                "asks again."
            )
    for metric, reason in found.comparison.scores[found.comparison.systems[0]].unavailable.items():
        output.line(f"{metric} was not computed: {reason}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
