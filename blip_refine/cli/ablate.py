"""`blip-refine ablate`: every way of decoding and refining, over the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from .decoding_options import (
    FLAGS,
    LengthPenalty,
    Loss,
    MaxNewTokens,
    MinNewTokens,
    NoRepeatNgramSize,
    NumBeams,
    NumReturnSequences,
    Prompt,
    RepetitionPenalty,
    TableForm,
    Temperature,
    TopK,
    TopP,
    check_decoding,
    with_seed,
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
    from ..metrics.paper_tables import PaperTable


def ablate(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(help="A run folder, an id on the Hub, 'starter', hf:MODEL or openai:MODEL@URL.")
    ],
    dataset: Annotated[str, typer.Option(help="flickr8k, coco, scenes:everyday, a folder, a file, a Hub id.")],
    folder: Annotated[Path, typer.Option("--output", "-o", help="Where everything is kept.")] = Path("ablation"),
    decoding: Annotated[
        list[str] | None,
        typer.Option(
            help="A preset, options, or a grid of options ('num_beams=1,3,5 length_penalty=0.8,1'); repeatable."
        ),
    ] = None,
    refiner: Annotated[list[str] | None, typer.Option(help="A refiner, or 'none'; repeatable.")] = None,
    refiner_prompt: Annotated[
        list[str] | None, typer.Option(help="A prompt template of the refiner; repeatable.")
    ] = None,
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
    seed: Annotated[int, typer.Option(help="Random seed for the bootstrap and for sampling.")] = 0,
    num_beams: NumBeams = None,
    max_new_tokens: MaxNewTokens = None,
    min_new_tokens: MinNewTokens = None,
    length_penalty: LengthPenalty = None,
    repetition_penalty: RepetitionPenalty = None,
    no_repeat_ngram_size: NoRepeatNgramSize = None,
    top_k: TopK = None,
    top_p: TopP = None,
    temperature: Temperature = None,
    num_return_sequences: NumReturnSequences = None,
    prompt: Prompt = None,
    loss: Loss = True,
    table: TableForm = None,
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

    Decoding flags (--max-new-tokens, --prompt ...) hold for all ways; --decoding varies. The first decoding without a
    refiner is what the others are compared with. The same command goes on where an earlier one was stopped, and asks
    nothing twice. Each refiner gets the options that it knows.
    """
    given = locals()
    # --guards is a dimension of the grid here.
    options = refiner_options({**given, "guards": None})
    fixed = {name: given[name] for name in FLAGS if name != "seed" and given[name] is not None}
    from ..captioners.spec import CaptionerSpec, is_other, is_served, refuse_decoding
    from ..errors import ConfigurationError, RefinerUnansweredError
    from ..evaluation.ablate import make_grid, run_ablation
    from ..evaluation.ablated import AblatedCaptioner
    from ..evaluation.ablation_cells import SERVER_DECODING, unused_choices
    from ..refine.base import kinds_of
    from ..report.report import write_report
    from .data_options import source_options
    from .libraries import quieten_libraries
    from .scores_table import check_table_form, print_tables

    check_table_form(table)
    names = split_metrics(metrics, spice_images)
    prompt = fixed.pop("prompt", None)
    if is_served(model):
        refuse_decoding(CaptionerSpec.parse(model), [*(["decoding"] if decoding else []), *fixed])
    ways = {} if is_served(model) else _ways_of_decoding(model, decoding or ["accurate"], fixed, prompt, seed)
    refiners = list(dict.fromkeys(["none", *(refiner or [])]))
    unused = unused_choices(refiners, refiner_prompt or (), guards or ())
    if unused:
        flag = {"prompts": "--refiner-prompt", "guards": "--guards"}[unused]
        raise ConfigurationError(
            f"{flag} acts on no refiner of this grid: add one that asks a language model (--refiner openai:MODEL), or "
            "leave it out."
        )
    cells = make_grid(list(ways) or [SERVER_DECODING], refiners, refiner_prompt or (), guards or ())
    asked = options
    if is_served(model) and not any("openai" in kinds_of(one) for one in refiners):
        # They are the captioner's server's, and no refiner's.
        asked = {name: value for name, value in options.items() if name not in ("api_key_env", "prices")}
    share_flags(refiners, asked)
    quieten_libraries()
    data = source_options(context).load(dataset, split, images)
    output.note(f"{_count(len(cells), 'way')} of captioning {_count(len(data), 'image')}.")

    captioner = AblatedCaptioner(
        model, ways, prompt=prompt, batch_size=batch_size, api_key_env=api_key_env, prices=options.get("prices")
    )
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
        captioner=" ".join([captioner.identity, *_fixed_parts(ways, fixed, prompt)]),
        loss=loss and not is_other(model),
        on_cell=lambda cell: output.note(f"  {cell.name}"),
    )
    report = write_report(folder)
    if table is None:
        _print(found)
        output.line(f"Report: {report}")
    else:
        print_tables(found.comparison.to_dict()["systems"], table, [_costs(found)])
        output.note(f"Report: {report}")
    output.result(found.to_dict())
    if found.failed:
        told = " ".join(f"{one.cell.name!r} has no score: {one.reason}" for one in found.failed)
        raise RefinerUnansweredError(f"{told} The same command asks again; the other ways are in {folder}.")


def _ways_of_decoding(
    model: str, decodings: Sequence[str], fixed: Mapping[str, Any], prompt: str | None, seed: int
) -> dict[str, dict[str, Any]]:
    """For each way of decoding of a grid `decoding` and `changes` of [`CaptionPipeline`].

    Raises:
        ConfigurationError: An entry of the grid cannot be, or says what a flag says.
    """
    from ..captioners.spec import is_other
    from ..errors import ConfigurationError
    from ..models.decoding_grid import expand_decodings
    from ..models.saved_defaults import with_sampling

    ways: dict[str, dict[str, Any]] = {}
    checked = "starter" if is_other(model) else model  # other families have no saved decoding of ours
    for choice in expand_decodings(decodings):
        asked = [part.partition("=")[0] for part in choice.name.split() if "=" in part]
        twice = [name for name in asked if name in fixed]
        if twice:
            raise ConfigurationError(f"{twice[0]} is in --decoding {choice.name!r} and a flag: give it once.")
        merged = with_sampling({**fixed, **{name: choice.changes[name] for name in asked}})
        check_decoding(checked, choice.preset, {**merged, "prompt": None if is_other(model) else prompt})
        changes = merged if "seed" in merged else with_seed(checked, choice.preset, merged, seed)
        ways[choice.name] = {"decoding": choice.preset, "changes": changes}
    return ways


def _fixed_parts(ways: Mapping[str, Mapping[str, Any]], fixed: Mapping[str, Any], prompt: str | None) -> list[str]:
    """What flags say of all drafts of a folder, so that it is not continued with other flags."""
    seeds = {way["changes"]["seed"] for name, way in ways.items() if "seed" in way["changes"] and "seed=" not in name}
    held = {**fixed, **({} if prompt is None else {"prompt": prompt}), **({"seed": max(seeds)} if seeds else {})}
    return [f"{name}={value!r}" for name, value in sorted(held.items())]


def _costs(found: Ablation) -> PaperTable:
    from ..metrics.paper_tables import PaperTable, Value

    rows = {
        one.cell.name: [
            Value(1000 * one.seconds),
            Value(one.tokens),
            None if one.cost is None else Value(1000 * one.cost),
            Value(one.changed),
        ]
        for one in found.cells
    }
    columns = ("ms per image", "tokens per image", "$ per 1000", "changed")
    return PaperTable("What it costs", columns, rows, no_best=frozenset(columns))


def _print(found: Ablation) -> None:
    from ..refine.counts import describe_counts, measured_over
    from .scores_table import print_measures

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
    print_measures(found.comparison.to_dict()["systems"])
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
