"""`write_model_card`: the page of a model, from the files of its run alone.

Every number on it was measured and stands in a file of the run folder. What was not measured is left out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..jsonlines import atomic_write
from .facts import METRICS, RunFolder, is_number, read_run_folder
from .markdown import code, escape, facts_table, table
from .provenance import STARTER, License, find_base, find_data, inherit_license, is_hub_id, is_local_path, public_name

TEMPLATE = Path(__file__).parent / "model_card_template.md"

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


def write_model_card(
    run_folder: str | os.PathLike,
    *,
    model_id: str | None = None,
    output: str | os.PathLike | None = None,
    license: str | None = None,
    pictures: bool | None = None,
) -> Path:
    """Write the model card of a run folder.

    Args:
        run_folder (`str` or `os.PathLike`): What `train` or `demo` left behind.
        model_id (`str`, *optional*): The model's name on the Hub, `owner/name`, for the title and the snippets;
            without one the snippets load the folder they stand in.
        output (`str` or `os.PathLike`, *optional*): Where to write; by default `README.md` in the run folder.
        license (`str`, *optional*): The licence, as the Hub spells it; by default what base and data leave.
        pictures (`bool`, *optional*): Whether samples are shown with their pictures; by default where the data are not
            known to forbid it.

    Returns:
        `Path`: The card.

    Raises:
        SourceNotFoundError: There is no such folder, or no model in it.
        SourceFormatError: A file of it is broken.
    """
    path = Path(output) if output is not None else Path(run_folder) / "README.md"
    text = render_model_card(
        run_folder, model_id=model_id, license=license, pictures=pictures, relative_to=path.parent
    )
    with atomic_write(path) as file:
        file.write(text)
    return path


def is_up_to_date(
    run_folder: str | os.PathLike,
    output: str | os.PathLike,
    *,
    model_id: str | None = None,
    license: str | None = None,
) -> bool:
    """Whether the card at `output` is what `write_model_card` would write now."""
    path = Path(output)
    text = render_model_card(run_folder, model_id=model_id, license=license, relative_to=path.parent)
    return path.is_file() and path.read_text(encoding="utf-8") == text


def render_model_card(
    run_folder: str | os.PathLike,
    *,
    model_id: str | None = None,
    license: str | None = None,
    pictures: bool | None = None,
    relative_to: str | os.PathLike | None = None,
) -> str:
    """The card as text. See [`write_model_card`]; `relative_to` is the folder that links to pictures start from."""
    run = read_run_folder(run_folder)
    return render_card(run, model_id=model_id, license=license, pictures=pictures, relative_to=relative_to or run.path)


def render_card(
    run: RunFolder,
    *,
    model_id: str | None = None,
    license: str | None = None,
    pictures: bool | None = None,
    relative_to: str | os.PathLike,
) -> str:
    """The card of a run folder that has been read. See [`render_model_card`]."""
    import jinja2

    model_id = model_id or _embedded_id(run.path)
    terms = inherit_license(run.base_model, run.dataset, license or run.facts.get("license"))
    origin = find_data(run.dataset)
    if pictures is None:
        pictures = origin is None or origin.redistributable
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.globals.update(escape=escape, code=code, table=table, facts_table=facts_table)
    body = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        metadata=card_data(run, model_id, terms).to_yaml(),
        title=(model_id or run.path.resolve().name).split("/")[-1],
        name=model_id or ".",
        in_package=model_id == STARTER,
        run=run,
        adapter=bool(run.adapter),
        base=_base_name(run),
        dataset=public_name(run.dataset) if run.dataset else None,
        data_origin=origin,
        model_facts=model_facts(run),
        summary=score_summary(run),
        results=results_table(run),
        notes=result_notes(run),
        findings=_public(run.facts.get("findings")),
        comparisons=comparison_rows(run),
        samples=sample_rows(run, choose_samples(run) if pictures else (), Path(relative_to)),
        data_facts=data_facts(run),
        training_facts=training_facts(run),
        pretraining_facts=pretraining_facts(run),
        decoding=_public(run.facts.get("decoding")),
        hyperparameters=_public(run.facts.get("hyperparameters")),
        terms=terms,
        version=(run.facts.get("versions") or {}).get("blip_refine"),
    )
    return "\n".join(line.rstrip() for line in body.split("\n")).rstrip() + "\n"


def card_data(run: RunFolder, model_id: str | None, terms: License) -> Any:
    """The card's metadata.

    Args:
        run (`RunFolder`): The files of the run.
        model_id (`str`, *optional*): The model's name on the Hub.
        terms (`License`): Its licence.

    Returns:
        [`huggingface_hub.ModelCardData`]
    """
    from huggingface_hub import EvalResult, ModelCardData

    origin, base = find_data(run.dataset), run.base_model
    datasets = [name for name in (run.facts.get("dataset_id"), run.dataset) if is_hub_id(name)]
    if not datasets and origin and origin.hub_id and run.facts.get("dataset_from_hub"):
        datasets = [origin.hub_id]
    title = (model_id or run.path.resolve().name).split("/")[-1]
    results = [
        EvalResult(
            task_type="image-to-text",
            task_name="Image captioning",
            dataset_type=datasets[0] if datasets else _slug(public_name(run.dataset or "captions")),
            dataset_name=origin.name if origin else public_name(run.dataset or "captions"),
            dataset_split=run.facts.get("evaluation_split"),
            metric_type=hub_name,
            metric_name=label,
            metric_value=round(float(value), 4),
        )
        for label, hub_name, value in _weights_scores(run)
    ]
    kind = "adapter" if run.adapter else "finetune"
    known_base = base if is_hub_id(base) else None
    language = run.facts.get("language") or (origin.language if origin else None)
    return ModelCardData(
        language=language,
        library_name="peft" if run.adapter else "transformers",
        pipeline_tag="image-to-text",
        tags=["image-captioning", "blip", "blip_refine"] + (["lora"] if run.adapter else []),
        base_model=known_base,
        base_model_relation=kind if known_base else None,
        datasets=datasets[:1] or None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        model_name=title,
        eval_results=results or None,
        co2_eq_emissions=_emissions(run),
        **terms.metadata,
    )


def _weights_scores(run: RunFolder) -> list[tuple[str, str, float]]:
    row = run.scores.get(run.weights_system or "", {})
    # Numbers over images that were trained on are no result; the page tells them, the leaderboard must not.
    if row.get("contaminated"):
        return []
    return [(label, hub_name, row[name]) for name, (label, hub_name) in METRICS.items() if is_number(row.get(name))]


def _emissions(run: RunFolder) -> dict[str, Any] | None:
    grams = run.facts.get("co2_eq_kg")
    if not is_number(grams):
        return None
    return {
        "emissions": round(1000 * float(grams), 3),
        "source": "codecarbon",
        "training_type": "pre-training" if run.pretraining else "fine-tuning",
        **({"hardware_used": run.facts["hardware"]} if run.facts.get("hardware") else {}),
    }


def _slug(name: str) -> str:
    return (
        "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name.lower()).strip("-") or "data"
    )


def _embedded_id(path: Path) -> str | None:
    return STARTER if path.resolve() == Path(__file__).resolve().parent.parent / STARTER else None


def _base_name(run: RunFolder) -> str | None:
    if not run.base_model:
        return None
    origin = find_base(run.base_model)
    return origin.name if origin else code(public_name(run.base_model))


def _public(values: Any) -> dict[str, Any]:
    """Settings without those that name a place on somebody's machine."""
    return {name: value for name, value in dict(values or {}).items() if not is_local_path(value)}


def score_summary(run: RunFolder) -> str | None:
    """What the scores are over, in a sentence."""
    if not run.scores:
        return None
    images, references = run.evaluated_images, run.references_per_image
    parts = [f"On {images} held-out images" if images else "On held-out images"]
    split = run.facts.get("evaluation_split")
    if split:
        parts.append(f"of the split {code(split)}")
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
        rows.append([escape(system), *cells])
    return table(["", *(METRICS[name][0] for name in measured)], rows)


def _score_cell(row: Mapping[str, Any], name: str) -> str:
    if not is_number(row.get(name)):
        return ""
    ends = (row.get("intervals") or {}).get(name) or {}
    text = f"{row[name]:.3f}"
    if is_number(ends.get("low")) and is_number(ends.get("high")):
        text += f" [{ends['low']:.3f}, {ends['high']:.3f}]"
    return text


def result_notes(run: RunFolder) -> list[str]:
    """How the scores came about, and what a reader must know about them; Markdown."""
    notes: list[str] = []
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
        picture = f'<img src="{_url(link)}" width="160" alt="{_attribute(sample.row.get("caption", ""))}">'
        cells = [escape(captions.get(system, sample.row.get("caption", ""))) for system in systems]
        references = sample.row.get("references") or [""]
        rows.append([picture, *cells, *([escape(references[0])] if with_references else [])])
    heads = ["", *map(escape, systems), *(["a reference"] if with_references else [])]
    return table(heads, rows, right=len(heads))


def _url(path: str) -> str:
    from urllib.parse import quote

    return quote(path)


def _attribute(text: Any) -> str:
    import html

    return html.escape(" ".join(str(text).split()), quote=True).replace("|", "&#124;")


def model_facts(run: RunFolder) -> dict[str, Any]:
    """Size and shape of the model."""
    text, vision = run.config.get("text_config") or {}, run.config.get("vision_config") or {}
    facts: dict[str, Any] = {}
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
    for key, label, unit in (("energy_kwh", "energy", "kWh"), ("co2_eq_kg", "emissions", "kg CO2 equivalent")):
        if is_number(run.facts.get(key)):
            facts[label] = f"{run.facts[key]:.4g} {unit}"
    if run.facts.get("hardware"):
        facts["hardware"] = run.facts["hardware"]
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
