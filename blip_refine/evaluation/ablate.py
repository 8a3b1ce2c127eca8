"""`run_ablation`: decoding presets x refiners x prompts x guards over the same drafts, and what each cell costs.

Drafts are made once for each way of decoding, answers of language models are asked once for each prompt, and what is
done is on the disk: the same call after an interruption goes on where it stopped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from ..caption_prompts import for_scoring
from ..errors import ConfigurationError, RefinerUnansweredError
from ..jsonlines import read_json_object, write_json
from ..metrics.families import check_spice_images
from ..metrics.score import metric_names, score_systems
from ..metrics.validation import check_references
from ..models.decoding_grid import expand_decodings
from ..records import CaptionRecord
from ..refine.base import Refiner, load_refiner
from ..refine.cache import AnswerCache
from ..refine.options import share_options
from .ablated import AblatedCaptioner
from .ablation_cells import (
    NO_REFINER,
    SERVER_DECODING,
    Cell,
    MadeCell,
    asks_model,
    build_refiner,
    has_prompt,
    make_cell,
)
from .ablation_drafts import DraftMaker, claim_folder
from .caption_set import OF_A_REFINER, diversity_of, diversity_row, loss_of
from .compare import HEADLINE_METRICS, SystemComparison, require_captions, score_against_first
from .evaluator import Captioner, write_results
from .significance import compare_scores


@dataclass(frozen=True, slots=True)
class CellResult:
    """What a cell gave and what it cost.

    Args:
        cell (`Cell`): Which.
        scores (`dict[str, float]`): Corpus scores.
        intervals (`dict[str, tuple[float, float]]`): Their 95 % bootstrap intervals.
        seconds (`float`): Seconds an image: captioning, and refining where there is a refiner.
        tokens (`float`): Tokens that refiners and captioners of other families read and wrote, per image.
        cost (`float`, *optional*): US dollars an image; `None` where prices are not known.
        changed (`float`): Share of drafts that the refiner changed.
        refinement (`Mapping[str, Any]`): What became of the drafts that the refiner was asked about
            ([`RefineCounts`]); empty without a refiner. Where nothing was answered (a server was down, ...), the draft
            counts, and the next call asks again.
        difference (`float`, *optional*): Headline score minus that of the first cell; `None` for the first cell.
        p_corrected (`float`, *optional*): Of this difference.
        best (`bool`): Whether no other cell is both at least as good and at least as fast, and better in one (the
            Pareto front of headline score and seconds).
    """

    cell: Cell
    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    seconds: float
    tokens: float
    cost: float | None
    changed: float
    refinement: Mapping[str, Any] = field(default_factory=dict)
    difference: float | None = None
    p_corrected: float | None = None
    best: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As an entry of `cells` in `ablation.json`; what is not known is left out."""
        value: dict[str, Any] = {
            **self.cell.to_dict(),
            "scores": self.scores,
            "intervals": {metric: {"low": low, "high": high} for metric, (low, high) in self.intervals.items()},
            "seconds": self.seconds,
            "tokens": self.tokens,
            "cost": self.cost,
            "changed": self.changed,
            "refinement": dict(self.refinement) or None,
            "difference": self.difference,
            "p_corrected": self.p_corrected,
            "best": self.best,
        }
        return {key: held for key, held in value.items() if held is not None}


@dataclass(frozen=True, slots=True)
class FailedCell:
    """A cell without captions, and so without scores: its refiner answered nothing.

    Args:
        cell (`Cell`): Which.
        reason (`str`): Why, as a sentence.
    """

    cell: Cell
    reason: str


@dataclass(frozen=True)
class Ablation:
    """A finished grid.

    Args:
        metric (`str`): The headline metric.
        cells (`tuple[CellResult, ...]`): In the order of the grid.
        comparison (`SystemComparison`): The same with captions, per-image scores and tests.
        failed (`tuple[FailedCell, ...]`): Cells that have no score. The next call asks their refiners again.
    """

    metric: str
    cells: tuple[CellResult, ...]
    comparison: SystemComparison
    failed: tuple[FailedCell, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The form of `ablation.json`."""
        value: dict[str, Any] = {
            "metric": self.metric,
            "images": len(self.comparison.references),
            "cells": [cell.to_dict() for cell in self.cells],
        }
        if self.failed:
            value["failed"] = [{"name": one.cell.name, "reason": one.reason} for one in self.failed]
        return value


def make_grid(
    decodings: Sequence[str] = ("accurate",),
    refiners: Sequence[str] = (NO_REFINER,),
    prompts: Sequence[str] = (),
    guards: Sequence[str] = (),
) -> list[Cell]:
    """All cells of a grid, each once. Prompts and guards vary only where the refiner asks a model.

    Args:
        decodings (`Sequence[str]`): Decoding presets, options, or grids of options; see [`expand_decodings`].
            `SERVER_DECODING` alone stands for that of a captioner behind a server.
        refiners (`Sequence[str]`): Names of refiners; "none" for the drafts themselves.
        prompts (`Sequence[str]`): Prompt templates; the refiner's own by default.
        guards (`Sequence[str]`): Guards, each entry one choice ("form,facts", "none"); the refiner's own by default.

    Raises:
        ConfigurationError: There is no decoding or no refiner, or a decoding that cannot be.
    """
    if not decodings or not refiners:
        raise ConfigurationError("A grid needs at least one decoding preset and one refiner ('none' is one).")
    cells: dict[Cell, None] = {}
    served = list(decodings) == [SERVER_DECODING]
    ways = list(decodings) if served else [choice.name for choice in expand_decodings(decodings)]
    for decoding, refiner in product(ways, refiners):
        chosen_prompts: Sequence[str | None] = prompts if prompts and has_prompt(refiner) else (None,)
        chosen_guards: Sequence[str | None] = guards if guards and asks_model(refiner) else (None,)
        for prompt, guard in product(chosen_prompts, chosen_guards):
            cells[Cell(decoding, refiner, prompt, guard)] = None
    return list(cells)


def run_ablation(
    captioners: Mapping[str, Captioner] | Callable[[str], Captioner],
    records: Sequence[CaptionRecord],
    cells: Sequence[Cell],
    folder: str | os.PathLike,
    *,
    metrics: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    batch_size: int = 16,
    refiner_options: Mapping[str, Any] | None = None,
    make_refiner: Callable[..., Refiner] = load_refiner,
    captioner: str = "",
    loss: bool = False,
    on_cell: Callable[[Cell], None] | None = None,
    spice_images: int | None = None,
) -> Ablation:
    """Caption and refine the same images in every way of a grid, score each, and write it all down.

    Args:
        captioners (`Mapping[str, Captioner]` or `Callable`): For each decoding preset what captions images; or a
            function from the preset's name to it, called only where drafts are missing. A captioner with a method
            `with_candidates(n)` ([`PipelineSystem`]) is asked for the candidates that a refiner needs.
        records (`Sequence[CaptionRecord]`): The images with their references.
        cells (`Sequence[Cell]`): The grid; the first cell with a score is what the others are compared with.
        folder (`str` or `os.PathLike`): Where drafts, answers and results are kept.
        metrics (`Sequence[str]`, *optional*): By default all of COCO's that can be computed.
        resamples (`int`, defaults to 1000): Bootstrap resamples for each interval.
        seed (`int`, defaults to 0): Of these.
        batch_size (`int`, defaults to 16): Images at once.
        refiner_options (`Mapping[str, Any]`, *optional*): Options of the refiners (`base_url`, ...); each gets those
            that it knows.
        make_refiner (`Callable`, defaults to [`load_refiner`]): Builds a refiner from its name and options.
        captioner (`str`, defaults to `""`): What tells this captioner from others, so that a folder is not continued
            with another one.
        loss (`bool`, defaults to `False`): Also compute the test loss ([`reference_loss`]), once: decoding does not
            change it.
        on_cell (`Callable`, *optional*): Called with each cell before it is made.
        spice_images (`int`, *optional*): Score SPICE on so many randomly drawn images only.

    Returns:
        `Ablation`: Also written as `ablation.json` and, for the report, as the result files of a run. A cell whose
            refiner answered nothing is in `failed`.

    Raises:
        ConfigurationError: The grid is empty, a metric or a refiner unknown, an option known to no refiner, or the
            folder holds an ablation of other images.
        MetricError: There are no images, or one has no reference.
        RefinerUnansweredError: Every cell has a refiner, and none of them answered anything. Drafts are kept.
    """
    if not cells or len(set(cells)) != len(cells):
        raise ConfigurationError("An ablation needs a grid of cells, each once.")
    names = metric_names(metrics)
    check_spice_images(names, spice_images)
    check_references({record.image_id: record.captions for record in records})
    refiners = list(dict.fromkeys(cell.refiner for cell in cells if cell.refiner != NO_REFINER))
    # A function of the caller's own knows by itself which options are for what it builds.
    own = make_refiner is not load_refiner
    options = dict.fromkeys(refiners, refiner_options or {}) if own else share_options(refiners, refiner_options or {})
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    claim_folder(folder, records, captioner)
    maker = DraftMaker(captioners, records, folder, batch_size)
    made: dict[Cell, MadeCell] = {}
    failed: list[FailedCell] = []
    kept_loss = folder / "drafts" / "test_loss.json"
    with AnswerCache(folder / "answers.sqlite") as cache:
        # What can be refused is refused before anything is captioned.
        built_for = {cell: build_refiner(cell, cache, options.get(cell.refiner, {}), make_refiner) for cell in cells}
        if isinstance(captioners, AblatedCaptioner):
            for built in built_for.values():
                if built is not None:
                    captioners.check_refiner(built.refiner)
        for cell, built in built_for.items():
            if on_cell is not None:
                on_cell(cell)
            drafts = maker.drafts(cell.decoding, 1 if built is None else built.refiner.needs_candidates)
            require_captions(cell.name, drafts.captions.values())
            if loss and not kept_loss.is_file():
                write_json(kept_loss, loss_of(maker.load(cell.decoding), records))
            maker.unload()  # a refiner may need the memory
            try:
                asked = options.get(cell.refiner, {})
                made[cell] = make_cell(cell, built, drafts, records, folder, batch_size, asked)
            except RefinerUnansweredError as error:
                failed.append(FailedCell(cell, str(error)))
            if built is not None:
                built.refiner.close()
    if not made:
        raise RefinerUnansweredError(f"{failed[0].reason} No way of captioning has a score.")
    kept = read_json_object(kept_loss) if loss else {}
    ablation = replace(_score(made, records, names, resamples, seed, spice_images, kept), failed=tuple(failed))
    write_results(
        folder,
        ablation.comparison.to_dict(),
        ablation.comparison.rows(),
        records,
        gains=ablation.comparison.gains(),
    )
    write_json(folder / "ablation.json", ablation.to_dict())
    return ablation


def _score(
    made: Mapping[Cell, MadeCell],
    records: Sequence[CaptionRecord],
    metrics: Sequence[str],
    resamples: int,
    seed: int,
    spice_images: int | None,
    loss: Mapping[str, Any],
) -> Ablation:
    skipped = {
        image_id: caption.error
        for one in made.values()
        for image_id, caption in one.captions.items()
        if caption.error is not None
    }
    references = {record.image_id: record.captions for record in records if record.image_id not in skipped}
    captions = {
        cell.name: {image_id: for_scoring(one.captions[image_id]) for image_id in references}
        for cell, one in made.items()
    }
    bootstrap = resamples if len(references) > 1 else 0
    texts = {name: {image_id: caption.text for image_id, caption in held.items()} for name, held in captions.items()}
    scores = score_systems(
        texts, references, metrics, allow_empty=True, bootstrap=bootstrap, seed=seed, spice_images=spice_images
    )
    tests = compare_scores(scores, pairs="baseline", resamples=resamples, seed=seed) if bootstrap else ()
    plain = {cell.name for cell in made if cell.refiner == NO_REFINER}
    comparison = SystemComparison(
        scores,
        tests,
        captions,
        references,
        score_against_first(texts, references, metrics, bootstrap=bootstrap, seed=seed),
        skipped,
        {cell.name: one.refinement for cell, one in made.items() if one.refinement},
        diversity={
            name: diversity_of(held) if name in plain else diversity_row(texts[name], why_one=OF_A_REFINER)
            for name, held in captions.items()
        },
        losses={name: dict(loss) for name in plain} if loss else {},
    )
    metric = comparison.headline_metric
    if metric is None:
        raise ConfigurationError(
            f"None of {', '.join(HEADLINE_METRICS)} was computed: there is nothing to compare by."
        )
    by_name = {test.system: test for test in tests if test.metric == metric}
    results = []
    for cell, one in made.items():
        test = by_name.get(cell.name)
        results.append(
            CellResult(
                cell=cell,
                scores=dict(scores[cell.name].corpus),
                intervals={name: (held.low, held.high) for name, held in scores[cell.name].intervals.items()},
                seconds=one.seconds,
                tokens=one.tokens,
                cost=one.cost,
                changed=one.changed,
                refinement=one.refinement,
                difference=test.difference if test else None,
                p_corrected=test.p_corrected if test else None,
            )
        )
    return Ablation(metric, tuple(mark_best(results, metric)), comparison)


def mark_best(cells: Sequence[CellResult], metric: str) -> list[CellResult]:
    """The cells with `best` set on those that no other cell beats in score and seconds together."""

    def beaten(one: CellResult) -> bool:
        return any(
            other.scores[metric] >= one.scores[metric]
            and other.seconds <= one.seconds
            and (other.scores[metric] > one.scores[metric] or other.seconds < one.seconds)
            for other in cells
        )

    return [replace(one, best=not beaten(one)) for one in cells]
