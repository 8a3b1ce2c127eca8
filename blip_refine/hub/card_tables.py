"""The tables of a model card, each made from what a run folder says; empty or `None` where it says nothing."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..data.split_names import images_of_split
from ..metrics.agreement import describe_agreement
from ..metrics.paper_tables import format_tables, missing_measures, tables_of
from ..refine.counts import describe_counts, measured_over
from .card_facts import energy_facts, origin_facts, place_facts
from .facts import METRICS, RunFolder, is_number
from .markdown import code, escape, table

SAMPLES = 6
"""How many pictures the card shows: at equal distances over the evaluated images, not picked for their captions."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture of the card with what was said of it.

    Args:
        picture (`Path`): The file, inside the run folder.
        row (`Mapping[str, Any]`): Its row of `predictions.jsonl`.
    """

    picture: Path
    row: Mapping[str, Any]


def score_summary(run: RunFolder) -> str | None:
    """What the scores are over, in a sentence."""
    if not run.scores:
        return None
    images, references = run.evaluated_images, run.references_per_image
    split = run.facts.get("evaluation_split") or run.metrics.get("evaluation_split")
    parts = [f"On {images_of_split(images or None, split, '`{}`')}"]
    if split == "test":
        parts.append("of the split `test`")
    if references:
        parts.append(f"with {references} reference caption{'' if references == '1' else 's'} each")
    return " ".join(parts)


def results_table(run: RunFolder) -> str | None:
    """All systems by all metrics that were computed, with intervals."""
    measured = [name for name in METRICS if any(is_number(row.get(name)) for row in run.scores.values())]
    if not measured:
        return None
    rows = []
    for system, row in run.scores.items():
        cells = [_score_cell(row, name) for name in measured]
        over = measured_over(row.get("refinement"))
        rows.append([escape(f"{system} ({over})" if over else system), *cells])
    return table(["", *(METRICS[name][0] for name in measured)], rows)


def _score_cell(row: Mapping[str, Any], name: str) -> str:
    if not is_number(row.get(name)):
        return ""
    ends = (row.get("intervals") or {}).get(name) or {}
    text = f"{row[name]:.3f}"
    if is_number(ends.get("low")) and is_number(ends.get("high")):
        text += f" [{ends['low']:.3f}, {ends['high']:.3f}]"
    return text


def measure_tables(run: RunFolder) -> list[str]:
    """Scores against one reference, diversity and test loss, in Markdown, with what could not be computed."""
    parts = [format_tables([one], "markdown") for one in tables_of(run.scores) if not one.title.startswith("Scores")]
    losses = {name: (row.get("test_loss") or {}).get("nats_per_token") for name, row in run.scores.items()}
    said = ", ".join(f"{escape(name)} {loss:.3f}" for name, loss in losses.items() if is_number(loss))
    if said:
        parts.append(f"Test loss (nats per token of the references; lower is better): {said}.")
    return parts + [escape(sentence) for sentence in missing_measures(run.scores)]


def result_notes(run: RunFolder) -> list[str]:
    """How the scores came about, and what a reader must know about them; Markdown."""
    notes: list[str] = []
    if run.facts.get("evaluation_note"):
        notes.append(f"**{escape(run.facts['evaluation_note'])}**")
    rows = list(run.scores.values())
    ends = next((end for row in rows for end in (row.get("intervals") or {}).values()), None)
    if ends:
        level = f"{100 * ends['level']:g} % " if is_number(ends.get("level")) else ""
        drawn = f" ({ends['resamples']} resamples, seed {ends.get('seed')})" if ends.get("resamples") else ""
        notes.append(f"In brackets: {level}bootstrap interval over images{drawn}.")
    notes += [
        f"Signature: {code(text)}"
        for text in dict.fromkeys(str(row["signature"]) for row in rows if row.get("signature"))
    ]
    for text in dict.fromkeys(str(row["contaminated"]) for row in rows if row.get("contaminated")):
        notes.append(f"**Contaminated:** {escape(text)}.")
    notes += [
        f"{escape(system)}: {escape(describe_counts(row['refinement']))}."
        for system, row in run.scores.items()
        if row.get("refinement")
    ]
    unavailable = {name: reason for row in rows for name, reason in (row.get("unavailable") or {}).items()}
    notes += [f"{escape(name)} was not computed: {escape(reason)}" for name, reason in unavailable.items()]
    notes += [escape(text) for text in dict.fromkeys(text for row in rows for text in row.get("warnings") or ())]
    return notes


def comparison_rows(run: RunFolder) -> str | None:
    """The paired tests between systems, as a table."""
    rows = []
    for test in run.metrics.get("comparisons") or ():
        if not (isinstance(test, Mapping) and is_number(test.get("difference")) and test.get("metric") in METRICS):
            continue
        p_value = test.get("p_corrected", test.get("p_value"))
        interval = f" [{test['low']:+.3f}, {test['high']:+.3f}]" if is_number(test.get("low")) else ""
        rows.append(
            [
                escape(f"{test.get('system')} against {test.get('baseline')}"),
                METRICS[test["metric"]][0],
                f"{test['difference']:+.3f}{interval}",
                f"{p_value:.4f}" if is_number(p_value) else "",
            ]
        )
    return table(["", "metric", "difference", "p"], rows, right=2) if rows else None


def choose_samples(run: RunFolder, count: int = SAMPLES) -> tuple[Sample, ...]:
    """Evaluated images with pictures, at equal distances over all of them.

    Args:
        run (`RunFolder`): The files of the run.
        count (`int`, defaults to 6): At most so many.
    """
    shown = []
    for row in run.predictions:
        name = row.get("image")
        if not isinstance(name, str):
            continue
        picture = (run.path / name).resolve()
        if picture.is_relative_to(run.path.resolve()) and picture.is_file():
            shown.append(Sample(picture, row))
    if len(shown) <= count:
        return tuple(shown)
    return tuple(shown[round(place * (len(shown) - 1) / (count - 1))] for place in range(count))


def sample_rows(run: RunFolder, samples: tuple[Sample, ...], start: Path) -> str | None:
    """Pictures with the captions of every system and a reference, as a table."""
    if not samples:
        return None
    systems = list(run.scores) or ["caption"]
    with_references = any(sample.row.get("references") for sample in samples)
    rows = []
    for sample in samples:
        captions = sample.row.get("systems") or {"caption": sample.row.get("caption", "")}
        link = os.path.relpath(sample.picture, start.resolve()).replace(os.sep, "/")
        picture = f'<img src="{quote(link)}" width="160" alt="{_attribute(sample.row.get("caption", ""))}">'
        cells = [escape(captions.get(system, sample.row.get("caption", ""))) for system in systems]
        references = sample.row.get("references") or [""]
        rows.append([picture, *cells, *([escape(references[0])] if with_references else [])])
    heads = ["", *map(escape, systems), *(["a reference"] if with_references else [])]
    return table(heads, rows, right=len(heads))


def _attribute(text: Any) -> str:
    return html.escape(" ".join(str(text).split()), quote=True).replace("|", "&#124;")


def model_facts(run: RunFolder, owner: str | None = None) -> dict[str, Any]:
    """Who developed the model, and its size and shape.

    Args:
        run (`RunFolder`): The files of the run.
        owner (`str`, *optional*): Whose repository it is published in.
    """
    text, vision = run.config.get("text_config") or {}, run.config.get("vision_config") or {}
    facts: dict[str, Any] = {**origin_facts(run, owner)}
    parameters = run.facts.get("parameters", run.pretraining.get("parameters"))
    if is_number(parameters):
        facts["parameters"] = f"{parameters:,}"
    trained = run.facts.get("trainable_parameters")
    if is_number(trained):
        facts["of which trained"] = f"{trained:,}"
    if run.config.get("model_type"):
        facts["architecture"] = run.config["model_type"]
    if vision.get("image_size"):
        facts["picture size"] = f"{vision['image_size']} x {vision['image_size']} pixels"
        facts["vision encoder"] = f"{vision.get('num_hidden_layers')} layers, width {vision.get('hidden_size')}"
    if text.get("vocab_size"):
        facts["text decoder"] = f"{text.get('num_hidden_layers')} layers, width {text.get('hidden_size')}"
        facts["vocabulary"] = f"{text['vocab_size']:,} tokens"
    if run.adapter:
        facts |= {"adapter": f"LoRA, rank {run.adapter.get('r')}, alpha {run.adapter.get('lora_alpha')}"}
    return facts


def data_facts(run: RunFolder) -> dict[str, Any]:
    """Splits, fingerprint and overlap check."""
    facts: dict[str, Any] = {}
    for name, size in (run.facts.get("splits") or {}).items():
        parts = [f"{size[key]:,} {key}" for key in ("images", "captions") if is_number(size.get(key))]
        if parts:
            facts[str(name)] = ", ".join(parts)
    if run.facts.get("fingerprint"):
        facts["fingerprint"] = run.facts["fingerprint"]
    if run.facts.get("overlap"):
        facts["overlap of training and evaluation"] = run.facts["overlap"]
    return facts


def training_facts(run: RunFolder) -> dict[str, Any]:
    """Time, hardware, energy, versions and how training went."""
    facts: dict[str, Any] = {}
    log = [row for row in run.training.get("log_history") or () if isinstance(row, Mapping)]
    for name, label in (("global_step", "optimizer steps"), ("epoch", "epochs")):
        if is_number(run.training.get(name)) and run.training[name]:
            facts[label] = f"{run.training[name]:g}"
    for key, label in (("loss", "training loss"), ("eval_loss", "validation loss")):
        values = [row[key] for row in log if is_number(row.get(key))]
        if values:
            facts[label] = f"{values[0]:.3f} at first, {values[-1]:.3f} at last"
    if is_number(run.facts.get("seconds")):
        facts["time"] = _duration(run.facts["seconds"])
    facts |= energy_facts(run)
    if run.facts.get("hardware"):
        facts["hardware"] = run.facts["hardware"]
    facts |= place_facts(run)
    facts |= {str(name): value for name, value in (run.facts.get("versions") or {}).items()}
    return facts


_PRETRAINING_LABELS = {
    "script": "made by", "data": "data", "seed": "seed", "steps": "steps",
    "cooldown_steps": "cooldown steps", "images_per_step": "images a step",
    "captions_per_image": "captions an image", "learning_rate": "peak learning rate", "warmup_steps": "warm-up steps",
    "precision": "precision", "hardware": "hardware", "note": "note",
}  # fmt: skip


def pretraining_facts(run: RunFolder) -> dict[str, Any]:
    """How a model was trained from nothing."""
    record = run.pretraining
    facts = {label: record[name] for name, label in _PRETRAINING_LABELS.items() if name in record}
    for name, label in (("seconds", "time"), ("cpu_seconds", "processor time")):
        if is_number(record.get(name)):
            facts[label] = _duration(record[name])
    log = [row for row in record.get("log") or () if isinstance(row, Mapping)]
    for name, label in (("loss", "last training loss"), ("validation_loss", "last validation loss")):
        values = [row[name] for row in log if is_number(row.get(name))]
        if values:
            facts[label] = f"{values[-1]:.4f}"
    return facts | {str(name): value for name, value in (record.get("versions") or {}).items()}


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def error_rows(run: RunFolder) -> str | None:
    """How often each fault was found in the captions of each system, and in what people wrote."""
    found = {**(run.errors.get("systems") or {}), "a reference": run.errors.get("people")}
    systems = {str(name): row for name, row in found.items() if isinstance(row, Mapping) and row.get("faults")}
    kinds = list(dict.fromkeys(kind for row in systems.values() for kind in row["faults"]))
    if not kinds:
        return None
    rows = [[escape(kind), *(_share(row["faults"].get(kind)) for row in systems.values())] for kind in kinds]
    for key, label in (
        ("shared_captions", "said of several images"),
        ("three_or_more_elements", "three things or more"),
    ):
        if all(is_number(row.get(key)) for row in systems.values()):
            rows.append([label, *(f"{100 * row[key]:.1f} %" for row in systems.values())])
    return table(["share of captions", *map(escape, systems)], rows)


def _share(rate: Any) -> str:
    if not isinstance(rate, Mapping) or not is_number(rate.get("share")):
        return ""
    text = f"{100 * rate['share']:.1f} %"
    if is_number(rate.get("low")) and is_number(rate.get("high")):
        text += f" [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"
    return text


def people_rows(run: RunFolder) -> str | None:
    """Mean ratings by people."""
    systems = {str(name): row for name, row in (run.people.get("systems") or {}).items() if isinstance(row, Mapping)}
    criteria = list(dict.fromkeys(criterion for row in systems.values() for criterion in row))
    if not criteria:
        return None
    rows = [[escape(name), *(_rating(row.get(criterion)) for criterion in criteria)] for name, row in systems.items()]
    return table(["", *map(escape, criteria)], rows)


def _rating(rating: Any) -> str:
    if not isinstance(rating, Mapping) or not is_number(rating.get("mean")):
        return ""
    return f"{rating['mean']:.2f} [{rating['low']:.2f}, {rating['high']:.2f}]"


def people_note(run: RunFolder) -> str | None:
    """How many people's ratings there are, and how far the raters agree."""
    if not run.people.get("systems"):
        return None
    parts = [
        f"{run.people[key]:,} {label}"
        for key, label in (("ratings", "ratings of captions"), ("images", "images"))
        if is_number(run.people.get(key))
    ]
    if run.people.get("raters"):
        excluded = run.people.get("excluded") or ()
        count = sum(one.get("rater") not in excluded for one in run.people["raters"])
        parts.append(f"{count} rater{'' if count == 1 else 's'}")
    alpha = {
        str(name): value
        for name, value in (run.people.get("alpha") or {}).items()
        if value is None or is_number(value)
    }
    agreed = describe_agreement(alpha, run.people.get("alpha_undefined") or {})
    text = ", ".join(parts) + "; 1 (worst) to 5 (best), with 95 % intervals."
    return text + (f" Agreement between raters (Krippendorff's alpha): {escape(agreed)}." if agreed else "")
