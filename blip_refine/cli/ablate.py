"""`blip-refine ablate`: every way of decoding and refining, over the same images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
    naming_flags,
    with_seed,
)
from .output import output

if TYPE_CHECKING:
    from ..evaluation.ablate import Ablation
    from ..metrics.paper_tables import PaperTable


def ablate(
    model: Annotated[str, typer.Argument(help="A run folder, an id on the Hub, or 'starter'.")],
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
    data_dir: Annotated[str | None, typer.Option(help="Where the dataset's files are.")] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "validation",
    images: Annotated[int | None, typer.Option(help="Only the first so many images.")] = None,
    metrics: Annotated[str | None, typer.Option(help="Names, separated by commas; all by default.")] = None,
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
    base_url: Annotated[str | None, typer.Option(help="Server of 'openai' refiners.")] = None,
    api_key_env: Annotated[str | None, typer.Option(help="Environment variable with its key.")] = None,
    prices: Annotated[str | None, typer.Option(help="IN,OUT: US dollars for a million tokens.")] = None,
) -> None:
    """Caption and refine the same images in every way of a grid, and say which pays.

    Decoding flags (--max-new-tokens, --prompt ...) hold for all ways; --decoding varies. The first decoding without a
    refiner is what the others are compared with. The same command goes on where an earlier one was stopped, and asks
    nothing twice.
    """
    given = locals()
    fixed = {name: given[name] for name in FLAGS if name != "seed" and given[name] is not None}
    from ..errors import ConfigurationError
    from ..evaluation.ablate import make_grid, run_ablation
    from ..evaluation.evaluator import PipelineSystem
    from ..models.decoding_grid import expand_decodings
    from ..models.saved_defaults import with_sampling
    from ..pipeline import CaptionPipeline
    from ..report.report import write_report
    from .data_options import load_split
    from .libraries import quieten_libraries
    from .refine_options import parse_prices
    from .scores_table import check_table_form, print_tables

    decodings, refiners = decoding or ["accurate"], list(dict.fromkeys(["none", *(refiner or [])]))
    check_table_form(table)
    choices = expand_decodings(decodings)
    cells = make_grid(decodings, refiners, refiner_prompt or (), guards or ())
    prompt = fixed.pop("prompt", None)
    changes: dict[str, dict[str, Any]] = {}
    for choice in choices:
        asked = [part.partition("=")[0] for part in choice.name.split() if "=" in part]
        twice = [name for name in asked if name in fixed]
        if twice:
            raise ConfigurationError(f"{twice[0]} is in --decoding {choice.name!r} and a flag: give it once.")
        merged = with_sampling({**fixed, **{name: choice.changes[name] for name in asked}})
        check_decoding(model, choice.preset, {**merged, "prompt": prompt})
        changes[choice.name] = merged if "seed" in merged else with_seed(model, choice.preset, merged, seed)
    known = {"base_url": base_url, "api_key_env": api_key_env, "prices": parse_prices(prices)}
    options = {name: value for name, value in known.items() if value is not None}
    quieten_libraries()
    data = load_split(dataset, split, data_dir=data_dir, limit=images)
    assert data is not None
    output.note(f"{_count(len(cells), 'way')} of captioning {_count(len(data), 'image')}.")

    presets = {choice.name: choice.preset for choice in choices}

    def captioner(name: str):
        how = {"decoding": presets[name], "changes": changes[name], "prompt": prompt}
        with naming_flags():
            return PipelineSystem(CaptionPipeline.from_pretrained(model, batch_size=batch_size, **how))

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
        captioner=" ".join([_identity(model), *_fixed_parts(changes, fixed, prompt)]),
        loss=loss,
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


def _fixed_parts(changes: Mapping[str, Mapping[str, Any]], fixed: Mapping[str, Any], prompt: str | None) -> list[str]:
    """What flags say of all drafts of a folder, so that it is not continued with other flags."""
    seeds = {one["seed"] for name, one in changes.items() if "seed" in one and "seed=" not in name}
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


def _identity(model: str) -> str:
    """The model's name, and for a folder what tells its weights from those of an earlier training into it."""
    files = sorted([*Path(model).glob("*.safetensors"), *Path(model).glob("generation_config.json")])
    return " ".join([model, *(f"{path.name}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in files)])


def _print(found: Ablation) -> None:
    from .scores_table import print_measures

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
    print_measures(found.comparison.to_dict()["systems"])
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
