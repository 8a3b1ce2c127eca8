"""`write_model_card`: the page of a model, from the files of its run alone.

Every number on it was measured and stands in a file of the run folder. What was not measured is left out.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..installation import REPOSITORY, install_command
from ..jsonlines import atomic_write
from . import card_tables as tables
from .card_facts import hyperparameter_facts, peft_snippet
from .card_review import review_note, review_rows
from .citations import find_citations
from .facts import METRICS, RunFolder, is_number, read_run_folder
from .markdown import code, escape, facts_table, table
from .provenance import STARTER, License, find_base, find_data, inherit_license, is_hub_id, is_local_path, public_name
from .stock_decoding import stock_decoding

TEMPLATE = Path(__file__).parent / "model_card_template.md"


def write_model_card(
    run_folder: str | os.PathLike,
    *,
    model_id: str | None = None,
    output: str | os.PathLike | None = None,
    license: str | None = None,
    developed_by: str | None = None,
    pictures: bool | None = None,
) -> Path:
    """Write the model card of a run folder.

    Args:
        run_folder (`str` or `os.PathLike`): What `train` or `demo` left behind.
        model_id (`str`, *optional*): The model's name on the Hub, `owner/name`, for the title and the snippets;
            without one the snippets load the folder they stand in.
        output (`str` or `os.PathLike`, *optional*): Where to write; by default `README.md` in the run folder.
        license (`str`, *optional*): The licence, as the Hub spells it; by default what base and data leave.
        developed_by (`str`, *optional*): Who made the model; by default what `run.json` says, then the owner in
            `model_id`, and nobody without one.
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
        run_folder,
        model_id=model_id,
        license=license,
        developed_by=developed_by,
        pictures=pictures,
        relative_to=path.parent,
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
    developed_by: str | None = None,
    pictures: bool | None = None,
    relative_to: str | os.PathLike | None = None,
) -> str:
    """The card as text. See [`write_model_card`]; `relative_to` is the folder that links to pictures start from."""
    run = read_run_folder(run_folder)
    return render_card(
        run,
        model_id=model_id,
        license=license,
        developed_by=developed_by,
        pictures=pictures,
        relative_to=relative_to or run.path,
    )


def render_card(
    run: RunFolder,
    *,
    model_id: str | None = None,
    license: str | None = None,
    developed_by: str | None = None,
    pictures: bool | None = None,
    relative_to: str | os.PathLike,
) -> str:
    """The card of a run folder that has been read. See [`render_model_card`]."""
    import jinja2

    owner = model_id.split("/")[0] if model_id and "/" in model_id else None
    model_id = model_id or _embedded_id(run.path)
    if developed_by:
        run = replace(run, facts={**run.facts, "developed_by": developed_by})
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
        stock_name=f"blip_refine/{STARTER}" if model_id == STARTER else model_id or ".",
        stock=stock_decoding(run.facts.get("decoding")),
        peft=peft_snippet(run),
        repository=REPOSITORY,
        install_command=install_command(),
        run=run,
        adapter=bool(run.adapter),
        base=_base_name(run),
        dataset=public_name(run.dataset) if run.dataset else None,
        data_origin=origin,
        model_facts=tables.model_facts(run, owner),
        summary=tables.score_summary(run),
        results=tables.results_table(run),
        notes=tables.result_notes(run),
        measures=tables.measure_tables(run),
        errors=tables.error_rows(run),
        truth_known=any(row.get("objects") is not None for row in run.predictions),
        people_judged=bool(run.errors.get("people")),
        people=tables.people_rows(run),
        people_note=tables.people_note(run),
        review=review_rows(run),
        review_note=review_note(run),
        findings=_public(run.facts.get("findings")),
        comparisons=tables.comparison_rows(run),
        samples=tables.sample_rows(run, tables.choose_samples(run) if pictures else (), Path(relative_to)),
        data_facts=tables.data_facts(run),
        training_facts=tables.training_facts(run),
        pretraining_facts=tables.pretraining_facts(run),
        decoding=_public(run.facts.get("decoding")),
        hyperparameters=hyperparameter_facts(run),
        citations=find_citations(run.base_model, run.dataset, run.config, run.adapter),
        terms=terms,
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
            dataset_split=run.facts.get("evaluation_split") or run.metrics.get("evaluation_split"),
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
    if "co2_eq_kg" not in run.energy:
        return None
    return {
        "emissions": round(1000 * run.energy["co2_eq_kg"], 3),
        "source": "codecarbon",
        "training_type": "pre-training" if run.pretraining else "fine-tuning",
        **({"geographical_location": run.facts["region"]} if run.facts.get("region") else {}),
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
