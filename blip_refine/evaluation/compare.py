"""`compare_systems`: any number of captioners on the same images and references, with intervals and paired tests."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..captioners.spec import NO_CAPTION
from ..errors import CaptionerUnansweredError, ConfigurationError, MetricError
from ..metrics.families import check_spice_images
from ..metrics.matching import match_file_names
from ..metrics.score import CaptionScores, metric_names, score_systems
from ..metrics.validation import check_references
from ..records import Caption, CaptionRecord
from ..refine.counts import count_outcomes
from ..refine.options import share_options
from .caption_set import diversity_of, loss_of
from .evaluator import (
    NamedSystem,
    PipelineSystem,
    System,
    captions_of,
    is_file_of_predictions,
    read_references,
    refiner_of,
    write_results,
)
from .significance import PairedTest, choose_pairs, compare_scores

HEADLINE_METRICS = ("CIDEr", "Bleu_4", "METEOR", "ROUGE_L", "Bleu_1")
"""Which metric stands for a system where one number is shown: the first of these that was computed."""

SLOW_METRICS = ("SPICE",)
"""Computed with all references only."""


@dataclass(frozen=True)
class SystemComparison:
    """Systems on the same images and references.

    Args:
        scores (`dict[str, CaptionScores]`): System to its scores, in the order given; with intervals.
        tests (`tuple[PairedTest, ...]`): Every pair of systems in every metric, corrected for their number.
        captions (`dict[str, dict[str, Caption]]`): System to image id to what it said.
        references (`dict[str, tuple[str, ...]]`): Image id to what people wrote.
        single_reference (`dict[str, CaptionScores]`): System to its scores against the first reference of each image
            alone; empty where images have one reference anyway.
        skipped (`dict[str, str]`): Images that a system could not read, with the reason; they count for no system.
        diversity (`dict[str, dict]`): For each system how varied its captions are ([`diversity_row`]).
        losses (`dict[str, dict]`): For each system the test loss ([`reference_loss`]), where it was asked for.
        refinement (`dict[str, dict]`): For each system with a refiner, what became of its drafts ([`RefineCounts`]).
        captioners (`dict[str, dict]`): For each system that captioned here, how ([`PipelineSystem.facts`]).
    """

    scores: dict[str, CaptionScores]
    tests: tuple[PairedTest, ...]
    captions: dict[str, dict[str, Caption]] = field(repr=False)
    references: dict[str, tuple[str, ...]] = field(repr=False)
    single_reference: dict[str, CaptionScores] = field(default_factory=dict, repr=False)
    skipped: dict[str, str] = field(default_factory=dict)
    refinement: dict[str, dict[str, Any]] = field(default_factory=dict)
    captioners: dict[str, dict[str, Any]] = field(default_factory=dict)
    diversity: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    losses: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)

    @property
    def systems(self) -> tuple[str, ...]:
        """The names of the systems, in the order given."""
        return tuple(self.scores)

    @property
    def headline_metric(self) -> str | None:
        """The metric that stands for a system where one number is shown."""
        computed = {metric for scores in self.scores.values() for metric in scores.corpus}
        return next((metric for metric in HEADLINE_METRICS if metric in computed), None)

    def test(self, system: str, baseline: str, metric: str) -> PairedTest:
        """The paired test of two systems in one metric.

        Raises:
            ConfigurationError: No such test was made.
        """
        for test in self.tests:
            if (test.system, test.baseline, test.metric) == (system, baseline, metric):
                return test
        raise ConfigurationError(f"{system!r} was not tested against {baseline!r} in {metric!r}.")

    def gains(self, metric: str | None = None) -> dict[str, float]:
        """Image id to the score of the last system minus that of the first; empty for a single system.

        Args:
            metric (`str`, *optional*): By default the headline metric.
        """
        metric = metric or self.headline_metric
        if len(self.scores) < 2 or metric is None:
            return {}
        first, last = self.scores[self.systems[0]].per_image, self.scores[self.systems[-1]].per_image
        if metric not in first or metric not in last:
            return {}
        return {image_id: score - first[metric][image_id] for image_id, score in last[metric].items()}

    def rows(self) -> list[dict[str, Any]]:
        """The rows of `predictions.jsonl`, in the order of the references."""
        final = self.systems[-1]
        rows = []
        for image_id, references in self.references.items():
            row: dict[str, Any] = {
                "image_id": image_id,
                "caption": self.captions[final][image_id].text,
                "references": list(references),
                "systems": {name: captions[image_id].text for name, captions in self.captions.items()},
                "scores": {
                    name: {
                        metric: round(values[image_id], 6)
                        for metric, values in scores.per_image.items()
                        if image_id in values  # SPICE may have been scored on some of the images
                    }
                    for name, scores in self.scores.items()
                },
            }
            # A refiner has no confidence of its own: it is the captioner's, in the draft that was refined.
            known = [captions[image_id].confidence for captions in reversed(self.captions.values())]
            confidence = next((value for value in known if value is not None), None)
            if confidence is not None:
                row["confidence"] = confidence
            rows.append(row)
        return rows

    def to_dict(self) -> dict[str, Any]:
        """The form of `coco_metrics.json`: the last system's scores, then all `systems`, then `comparisons`."""
        systems = {}
        for name, scores in self.scores.items():
            systems[name] = scores.to_dict()
            if name in self.single_reference:
                systems[name]["single_reference"] = self.single_reference[name].to_dict()
            for key, held in (
                ("refinement", self.refinement),
                ("captioner", self.captioners),
                ("diversity", self.diversity),
                ("test_loss", self.losses),
            ):
                if name in held:
                    systems[name][key] = held[name]
        value = {**self.scores[self.systems[-1]].to_dict(), "images": len(self.references), "systems": systems}
        if self.tests:
            value["comparisons"] = [test.to_dict() for test in self.tests]
        if self.skipped:
            value["skipped"] = self.skipped
        return value


def compare_systems(
    systems: Mapping[str, System],
    references: str | os.PathLike | Mapping[str, Sequence[str]] | Iterable[CaptionRecord],
    *,
    metrics: Sequence[str] | None = None,
    pairs: str | Sequence[tuple[str, str]] = "all",
    resamples: int = 1000,
    trials: int | None = None,
    seed: int = 0,
    single_reference: bool = True,
    common_only: bool = False,
    batch_size: int = 32,
    output_dir: str | os.PathLike | None = None,
    refiner_options: Mapping[str, Any] | None = None,
    spice_images: int | None = None,
    decoding: Mapping[str, Any] | None = None,
    loss: bool = False,
) -> SystemComparison:
    """Score systems on the same images and references, and test every difference.

    Args:
        systems (`Mapping[str, System]`): Name to system, the baseline first: a file of predictions, a model (a
            folder, a Hub id, "starter", `"hf:MODEL"` or `"openai:MODEL@URL"`; `"model > refiner"` for refined
            captions), captions by image id, or anything that is called with a list of images and answers with a list
            of captions.
        references (`str`, `os.PathLike`, `Mapping` or `Iterable[CaptionRecord]`): What people wrote: a JSON Lines file
            with `image_id` and `captions`, the same in memory, or a dataset. Models need a dataset: it has the images.
        metrics (`Sequence[str]`, *optional*): By default all of COCO's that can be computed.
        pairs (`str` or `Sequence[tuple[str, str]]`, defaults to `"all"`): Which systems to test against each other;
            see [`compare_scores`].
        resamples (`int`, defaults to 1000): Bootstrap resamples for each interval.
        trials (`int`, *optional*): Random swaps for each p-value; by default at least 10,000.
        seed (`int`, defaults to 0): Of both.
        single_reference (`bool`, defaults to `True`): Score against the first reference alone too.
        common_only (`bool`, defaults to `False`): Use the images that all systems and the references share, instead
            of refusing sets that differ.
        batch_size (`int`, defaults to 32): Images handed to a model at once.
        output_dir (`str` or `os.PathLike`, *optional*): Where to write `coco_metrics.json`, `predictions.jsonl` and
            pictures, from which `write_report` makes its page.
        refiner_options (`Mapping[str, Any]`, *optional*): Options of [`load_refiner`] for the systems with a refiner
            behind `>`; each gets those that it knows.
        spice_images (`int`, *optional*): Score SPICE on so many randomly drawn images only.
        decoding (`Mapping[str, Any]`, *optional*): How all systems that decode here do it: `decoding`, `changes` and
            `prompt` of [`CaptionPipeline`]. By default each as it is saved with it.
        loss (`bool`, defaults to `False`): Also compute the test loss of every model ([`reference_loss`]).

    Returns:
        `SystemComparison`: Scores, tests, captions.

    Raises:
        ConfigurationError: There is no system, a model and no images, or an unknown metric or pair.
        RefinerUnansweredError: The refiner of a system answers nothing.
        MetricError: Systems and references are not about the same images, or an image has no reference.

    Example:
        ```python
        >>> from blip_refine import compare_systems
        >>> references = {"1.jpg": ["a dog runs"], "2.jpg": ["a red ball"], "3.jpg": ["two cats sleep"]}
        >>> before = {"1.jpg": "a cat", "2.jpg": "a ball", "3.jpg": "two cats"}
        >>> after = {"1.jpg": "a dog runs", "2.jpg": "a red ball", "3.jpg": "two cats sleep"}
        >>> comparison = compare_systems({"before": before, "after": after}, references, metrics=["Bleu", "CIDEr"])
        >>> comparison.test("after", "before", "Bleu_1").wins
        3
        ```
    """
    if not systems:
        raise ConfigurationError("There is no system to compare; give at least one.")
    # What can be refused is refused before hours are spent on captions.
    names = metric_names(metrics)
    check_spice_images(names, spice_images)
    choose_pairs(list(systems), pairs)
    options_of = share_options(
        [refiner for system in systems.values() if (refiner := refiner_of(system))], refiner_options or {}
    )
    records, known = _references(references)
    if not common_only:
        check_references(known)
    if records:
        # Refiners that do not answer are found out before anything is captioned.
        systems = {
            name: NamedSystem(str(system), options_of.get(refiner_of(str(system)) or ""), decoding)
            if isinstance(system, (str, os.PathLike)) and not is_file_of_predictions(system)
            else system
            for name, system in systems.items()
        }
    if decoding and not any(isinstance(system, NamedSystem) and system.decoding for system in systems.values()):
        raise ConfigurationError("No system is a model that decodes: leave out the options of decoding.")
    captions: dict[str, dict[str, Caption]] = {}
    captioners: dict[str, dict[str, Any]] = {}
    losses: dict[str, dict[str, Any]] = {}
    for name, system in systems.items():
        if isinstance(system, NamedSystem):
            system = system.load()
        if loss:
            losses[name] = loss_of(system, records)
        said = captions_of(system, records, batch_size=batch_size)
        if isinstance(system, PipelineSystem):
            require_captions(name, said.values())
            captioners[name] = system.facts(said.values())
        count_outcomes(said.values()).require_answers(f"The refiner of {name!r}", "nothing was scored")
        captions[name] = match_file_names(said, known)
    if common_only:
        shared = set(known).intersection(*captions.values())
        if not shared:
            raise MetricError("The systems and the references have no image in common: their image ids differ.")
        known = {image_id: texts for image_id, texts in known.items() if image_id in shared}
        captions = {
            name: {image_id: caption for image_id, caption in held.items() if image_id in shared}
            for name, held in captions.items()
        }
    skipped = {
        image_id: caption.error
        for held in captions.values()
        for image_id, caption in held.items()
        if caption.error is not None
    }
    if skipped:
        known = {image_id: texts for image_id, texts in known.items() if image_id not in skipped}
        captions = {
            name: {image_id: caption for image_id, caption in held.items() if image_id not in skipped}
            for name, held in captions.items()
        }
        if not known:
            raise MetricError(f"Not one image could be captioned; the first: {next(iter(skipped.values()))}")
    resampled = resamples if len(known) > 1 else 0
    texts = {name: _texts(held) for name, held in captions.items()}
    scores = score_systems(
        texts, known, names, allow_empty=True, bootstrap=resampled, seed=seed, spice_images=spice_images
    )
    single = {}
    if single_reference:
        single = score_against_first(texts, known, names, bootstrap=resampled, seed=seed)
    tests: tuple[PairedTest, ...] = ()
    if resampled and len(scores) > 1:
        tests = compare_scores(scores, pairs=pairs, resamples=resamples, trials=trials, seed=seed)
    counts = {name: count_outcomes(held.values()) for name, held in captions.items()}
    refinement = {name: one.to_dict() for name, one in counts.items() if one.asked}
    diversity = {name: diversity_of(held) for name, held in captions.items()}
    comparison = SystemComparison(
        scores, tests, captions, known, single, skipped, refinement, captioners, diversity=diversity, losses=losses
    )
    if output_dir is not None:
        write_results(output_dir, comparison.to_dict(), comparison.rows(), records or (), gains=comparison.gains())
    return comparison


def require_captions(name: str, captions: Iterable[Caption]) -> None:
    """Refuse a captioner of which every caption failed for a reason that does not lie in the images.

    Raises:
        CaptionerUnansweredError: It gave no caption at all.
    """
    held = list(captions)
    failed = [one.error for one in held if one.error is not None]
    if failed and len(failed) == len(held) and any(text.startswith(NO_CAPTION) for text in failed):
        reason = next(text for text in failed if text.startswith(NO_CAPTION))
        raise CaptionerUnansweredError(
            f"The captioner of {name!r} gave none of the {len(held)} captions ({reason.rstrip('.')}): nothing was "
            "scored."
        )


def score_against_first(
    systems: Mapping[str, Mapping[str, str]],
    references: Mapping[str, Sequence[str]],
    metrics: Sequence[str],
    *,
    bootstrap: int = 0,
    seed: int = 0,
) -> dict[str, CaptionScores]:
    """Scores against the first reference of each image alone; empty where images have one reference anyway.

    Args:
        systems (`Mapping[str, Mapping[str, str]]`): System to image id to caption.
        references (`Mapping[str, Sequence[str]]`): Image id to references.
        metrics (`Sequence[str]`): Of these, all but SPICE.
        bootstrap (`int`, defaults to 0): Resamples for intervals; 0 for none.
        seed (`int`, defaults to 0): Of these.
    """
    fast = [name for name in metrics if name not in SLOW_METRICS]
    if not fast or not any(len(group) > 1 for group in references.values()):
        return {}
    first = {image_id: group[:1] for image_id, group in references.items()}
    return score_systems(systems, first, fast, allow_empty=True, bootstrap=bootstrap, seed=seed)


def _texts(captions: Mapping[str, Caption]) -> dict[str, str]:
    return {image_id: caption.text for image_id, caption in captions.items()}


def _references(source: Any) -> tuple[list[CaptionRecord] | None, dict[str, Any]]:
    """The images, where there are any, and their references, unchecked."""
    if isinstance(source, (str, os.PathLike)):
        return None, read_references(source)
    if isinstance(source, Mapping):
        # One caption that is no list is left as it is, to be refused: as a tuple it would be its letters.
        return None, {str(k): texts if isinstance(texts, str) else tuple(texts) for k, texts in source.items()}
    records = list(getattr(source, "records", source))
    if not all(isinstance(record, CaptionRecord) for record in records):
        raise ConfigurationError("References are a file, captions by image id, or a dataset of CaptionRecord.")
    return records, {record.image_id: record.captions for record in records}
