"""`blip-refine refine`: captions in, better captions out, and for each that was kept the reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..records import RefinedCaption
    from .output import Output


def refine(
    captions: Annotated[Path, typer.Argument(help="JSON Lines with image_id and caption.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the refined captions go.")],
    refiner: Annotated[
        str, typer.Option(help="rules, consensus, bart, instruct:MODEL, openai:MODEL; 'a>b'.")
    ] = "rules",
    style: Annotated[str | None, typer.Option(help="Such as formal,max_words=12,alt-text,fr.")] = None,
    prompt: Annotated[str | None, typer.Option(help="correct, fuse, refine, or your template (.yaml).")] = None,
    variable: Annotated[list[str] | None, typer.Option("--var", help="name=value for your template.")] = None,
    guards: Annotated[str | None, typer.Option(help="form,facts,polarity (all by default), or none.")] = None,
    grounding: Annotated[str | None, typer.Option(help="A captioner that must not find it less likely.")] = None,
    matching: Annotated[str | None, typer.Option(help="A BLIP image-text matching checkpoint.")] = None,
    image_folder: Annotated[Path | None, typer.Option(help="Where each row's `image` is.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Answers already paid for; by default beside --output.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep no answers.")] = False,
    corpus: Annotated[Path | None, typer.Option(help="consensus: captions to learn common words from.")] = None,
    grammar: Annotated[bool, typer.Option("--grammar", help="rules: also use the grammar checker.")] = False,
    batch_size: Annotated[int | None, typer.Option(min=1, help="bart, instruct: captions at once.")] = None,
    base_url: Annotated[str | None, typer.Option(help="openai: another server, up to /v1. Default: OpenAI's.")] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="openai: the variable that holds the key. Default: OPENAI_API_KEY.")
    ] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="openai: calls at once. Default: 32.")] = None,
    timeout: Annotated[float | None, typer.Option(help="openai: seconds for one call. Default: 60.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="openai: stop after so many tokens. Default: no limit.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(help="openai: stop after so many dollars; needs --prices. Default: no limit.")
    ] = None,
    prices: Annotated[str | None, typer.Option(help="openai: dollars a million tokens, IN,OUT.")] = None,
    send_image: Annotated[bool, typer.Option("--send-image", help="openai: let the model see the picture.")] = False,
    batch: Annotated[bool, typer.Option("--batch", help="openai: one job of the Batch API.")] = False,
) -> None:
    """Improve captions. What a model makes up is not accepted: the draft stands, and the row says why."""
    from ..refine.base import load_refiner
    from ..refine.chain import Chain
    from ..refine.files import read_requests, write_refined
    from .output import output as sink
    from .refine_options import DEFAULT_CACHE, build_guards, parse_prices, parse_variables, read_corpus, uses_model

    rows, requests = read_requests(captions, image_folder, output)
    if cache is None and not no_cache and uses_model(refiner):
        cache = output.with_name(output.name + DEFAULT_CACHE)
    given = {
        "style": style,
        "prompt": prompt,
        "variables": parse_variables(variable),
        "guards": build_guards(guards, grounding, matching, requests),
        "cache": None if no_cache else cache,
        "corpus": None if corpus is None else read_corpus(corpus),
        "grammar": grammar or None,
        "batch_size": batch_size,
        "base_url": base_url,
        "api_key_env": api_key_env,
        "concurrency": concurrency,
        "timeout": timeout,
        "max_tokens": max_tokens,
        "max_cost": max_cost,
        "prices": parse_prices(prices),
        "send_image": send_image or None,
        "batch": batch or None,
    }
    chosen = load_refiner(refiner, **{name: value for name, value in given.items() if value is not None})
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
