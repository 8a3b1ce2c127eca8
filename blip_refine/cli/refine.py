"""`blip-refine refine`: captions in, better captions out, and for each that was kept the reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigurationError
from .refine_options import (
    DEFAULT_CACHE,
    ApiKeyEnv,
    BaseUrl,
    Grounding,
    GuardNames,
    Instruction,
    Matching,
    MaxOutputTokens,
    Prices,
    ReasoningEffort,
    RefinerName,
    RefinerTemperature,
    SendImage,
    check_images,
    make_refiner,
    parse_variables,
    read_corpus,
    refiner_options,
    share_flags,
    uses_model,
)

if TYPE_CHECKING:
    from ..records import RefinedCaption
    from .output import Output


def refine(
    captions: Annotated[Path, typer.Argument(help="JSON Lines with image_id and caption.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the refined captions go.")],
    refiner: RefinerName = "rules",
    style: Annotated[str | None, typer.Option(help="Such as formal,max_words=12,alt-text,fr.")] = None,
    prompt: Annotated[str | None, typer.Option(help="correct, fuse, refine, or your template (.yaml).")] = None,
    variable: Annotated[list[str] | None, typer.Option("--var", help="name=value for your template.")] = None,
    instruction: Instruction = None,
    max_output_tokens: MaxOutputTokens = None,
    refiner_temperature: RefinerTemperature = None,
    reasoning_effort: ReasoningEffort = None,
    send_image: SendImage = False,
    guards: GuardNames = None,
    grounding: Grounding = None,
    matching: Matching = None,
    image_folder: Annotated[Path | None, typer.Option(help="Where each row's `image` is.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Answers already paid for; by default beside --output.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep no answers.")] = False,
    corpus: Annotated[Path | None, typer.Option(help="consensus: captions to learn common words from.")] = None,
    grammar: Annotated[bool, typer.Option("--grammar", help="rules: also use the grammar checker.")] = False,
    batch_size: Annotated[int | None, typer.Option(min=1, help="bart, instruct: captions at once.")] = None,
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = None,
    prices: Prices = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="openai: calls at once. Default: 32.")] = None,
    timeout: Annotated[float | None, typer.Option(help="openai: seconds for one call. Default: 60.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="openai: stop after so many tokens in all. Default: no limit.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(help="openai: stop after so many dollars; needs --prices. Default: no limit.")
    ] = None,
    batch: Annotated[bool, typer.Option("--batch", help="openai: one job of the Batch API.")] = False,
) -> None:
    """Improve captions. What a model makes up is not accepted: the draft stands, and the row says why."""
    options = refiner_options(locals())
    from ..refine.chain import Chain
    from ..refine.files import read_requests, write_refined
    from .output import output as sink

    if cache is not None and no_cache:
        raise ConfigurationError("--cache keeps answers and --no-cache keeps none: give one of them.")
    if cache is None and not no_cache and uses_model(refiner or ""):
        cache = output.with_name(output.name + DEFAULT_CACHE)
    given = {
        "style": style,
        "prompt": prompt,
        "variables": parse_variables(variable),
        "cache": cache,
        "corpus": None if corpus is None else read_corpus(corpus),
        "grammar": grammar or None,
        "batch_size": batch_size,
        "concurrency": concurrency,
        "timeout": timeout,
        "max_tokens": max_tokens,
        "max_cost": max_cost,
        "batch": batch or None,
    }
    options |= {name: value for name, value in given.items() if value is not None}
    share_flags([refiner], options)
    rows, requests = read_requests(captions, image_folder, output)
    check_images(options, requests)
    chosen = make_refiner(refiner, options)
    if chosen is None:
        raise ConfigurationError("--refiner none would change nothing; name a refiner.")
    stages: list[tuple[str, list[RefinedCaption]]] = []
    with chosen, sink.progress(f"Refining with {chosen.name}", total=len(requests)) as advance:
        for stage in getattr(chosen, "refiners", [chosen]):
            stage.on_answer = advance
        if isinstance(chosen, Chain):
            chosen.on_stage = lambda stage, answers: stages.append((stage.name, answers))
        results = chosen.refine(requests)
    _tell_failures(stages or [(chosen.name, results)], sink)
    summary = write_refined(output, rows, results)
    sink.table(("", "captions"), summary.table())
    if summary.tokens:
        cost = "" if summary.cost is None else f", ${summary.cost:.4f}"
        sink.line(f"{summary.tokens} tokens{cost}; {summary.cached} answers were known already.")
    sink.line(f"Refined captions: {output}")
    sink.next_command(f"blip-refine compare REFERENCES drafts={captions} refined={output}")
    sink.result({"output": str(output), **summary.to_dict()})


def _tell_failures(stages: Sequence[tuple[str, list[RefinedCaption]]], sink: Output) -> None:
    """Say where a refiner gave no answer: behind other refiners, nobody would see it in the captions.

    Raises:
        RefinerUnansweredError: A refiner answered nothing at all. A file of drafts would pass for refined captions.
    """
    from ..refine.counts import count_outcomes

    for name, results in stages:
        counts = count_outcomes(results)
        counts.require_answers(name, "no file was written")
        for reason, count in counts.unanswered.items():
            sink.warning(f"{name} did not answer for {count} of {counts.asked} captions: {reason}.")
