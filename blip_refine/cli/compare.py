"""`blip-refine compare`: any number of systems on the same images, with intervals and tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .decoding_options import (
    LengthPenalty,
    Loss,
    MaxNewTokens,
    MinNewTokens,
    NoRepeatNgramSize,
    NumBeams,
    NumReturnSequences,
    Preset,
    Prompt,
    RepetitionPenalty,
    TableForm,
    Temperature,
    TopK,
    TopP,
    check_decoding,
    decoding_changes,
    naming_flags,
    with_seed,
)
from .output import output

if TYPE_CHECKING:
    from ..evaluation.compare import SystemComparison


def compare(
    references: Annotated[
        str, typer.Argument(help="A file of references, or a dataset (flickr8k, scenes:everyday, a folder, a Hub id).")
    ],
    systems: Annotated[
        list[str],
        typer.Argument(help="NAME=SYSTEM, the baseline first: a predictions file, a model, or 'model > refiner'."),
    ],
    data_dir: Annotated[str | None, typer.Option(help="Where the dataset's files are.")] = None,
    split: Annotated[str, typer.Option(help="Of the dataset: train, validation or test.")] = "test",
    images: Annotated[int | None, typer.Option(help="Only the first so many images of the dataset.")] = None,
    metrics: Annotated[str | None, typer.Option(help="Names, separated by commas; all by default.")] = None,
    folder: Annotated[Path | None, typer.Option("--output", "-o", help="Write result files and report here.")] = None,
    pairs: Annotated[str, typer.Option(help="Test 'all' pairs, or each against the first ('baseline').")] = "all",
    resamples: Annotated[int, typer.Option(min=10, help="Bootstrap resamples for each interval.")] = 1000,
    seed: Annotated[int, typer.Option(help="Random seed for the bootstrap and for sampling.")] = 0,
    decoding: Preset = None,
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
    common: Annotated[bool, typer.Option(help="Use the images that all have, instead of refusing.")] = False,
    single_reference: Annotated[bool, typer.Option(help="Also score against the first reference alone.")] = True,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 32,
) -> None:
    """Compare systems on the same images and references. Decoding flags hold for all systems that are models."""
    changes = decoding_changes(locals(), leave_out=["seed"])
    from ..evaluation.compare import compare_systems
    from ..evaluation.evaluator import is_file_of_predictions, parse_systems
    from .data_options import load_split
    from .libraries import quieten_libraries
    from .scores_table import check_table_form, print_tables

    check_table_form(table)
    named = parse_systems(systems)
    models = [system.partition(">")[0].strip() for system in named.values() if not is_file_of_predictions(system)]
    how = {"decoding": decoding, "prompt": changes.pop("prompt", None), "changes": changes}
    if models:
        for model in models:
            check_decoding(model, decoding, {**changes, "prompt": prompt})
        how["changes"] = with_seed(models[0], decoding, changes, seed)
    known: Any = references
    if Path(references).suffix.lower() not in (".jsonl", ".json"):
        quieten_libraries()  # Loads transformers, which files alone need not.
        known = load_split(references, split, data_dir=data_dir, limit=images)
    output.note(f"Comparing {', '.join(named)} ...")
    with naming_flags():
        found = compare_systems(
            named,
            known,
            metrics=[name.strip() for name in metrics.split(",")] if metrics else None,
            pairs=pairs,
            resamples=resamples,
            seed=seed,
            single_reference=single_reference,
            common_only=common,
            batch_size=batch_size,
            output_dir=folder,
            decoding={name: value for name, value in how.items() if value not in (None, {})},
            loss=loss and bool(models),
        )
    if table is None:
        print_comparison(found)
    else:
        print_tables(found.to_dict()["systems"], table)
    output.result(found.to_dict())
    if folder is not None:
        from ..report.report import write_report

        report = write_report(folder)
        (output.line if table is None else output.note)(f"Report: {report}")


def print_comparison(found: SystemComparison) -> None:
    """Scores of every system, then the tests of the headline metric, then the images that gained and lost most."""
    from ..metrics.score import COCO_METRICS
    from ..refine.counts import describe_counts, measured_over
    from .scores_table import print_measures

    shown = [metric for metric in COCO_METRICS if any(metric in scores.corpus for scores in found.scores.values())]
    rows = []
    for name, scores in found.scores.items():
        cells = []
        for metric in shown:
            interval = scores.intervals.get(metric)
            ends = f"\n{interval.low:.3f}-{interval.high:.3f}" if interval else ""
            cells.append(f"{scores.corpus[metric]:.3f}{ends}" if metric in scores.corpus else "")
        over = measured_over(found.refinement.get(name))
        rows.append([f"{name}\n({over})" if over else name, *cells])
    output.table(["", *shown], rows, title=f"{len(found.references)} images, all references (95 % intervals)")
    print_measures(found.to_dict()["systems"])
    tests = [test for test in found.tests if test.metric == found.headline_metric]
    if tests:
        rows = [
            [
                f"{test.system} against {test.baseline}",
                f"{test.difference:+.4f}",
                f"{test.low:+.4f} to {test.high:+.4f}",
                f"{test.p_corrected:.4f}",
                f"{test.wins} / {test.ties} / {test.losses}",
                test.verdict(),
            ]
            for test in tests
        ]
        title = f"{found.headline_metric}, paired tests (p corrected for {len(found.tests)} tests)"
        output.table(["", "difference", "95 %", "p", "better/same/worse", "verdict"], rows, title=title)
        _print_extremes(found)
    for metric, reason in found.scores[found.systems[-1]].unavailable.items():
        output.line(f"{metric} was not computed: {reason}")
    for name, counts in found.refinement.items():
        output.line(f"{name}, refined: {describe_counts(counts)}.")
    for image_id, reason in found.skipped.items():
        output.warning(f"{image_id} counts for no system: {reason}")


def _print_extremes(found: SystemComparison) -> None:
    first, last = found.systems[0], found.systems[-1]
    wanted = (last, first, found.headline_metric)
    test = next((one for one in found.tests if (one.system, one.baseline, one.metric) == wanted), None)
    if test is None:
        return
    for title, held in (("gained most", test.gained), ("lost most", test.lost)):
        rows = [
            [image_id, f"{gain:+.2f}", found.captions[first][image_id].text, found.captions[last][image_id].text]
            for image_id, gain in held
        ]
        if rows:
            output.table(["image", test.metric, first, last], rows, title=f"Images that {title}")
