"""`blip-refine compare`: any number of systems on the same images, with intervals and tests."""

from __future__ import annotations

from collections.abc import Mapping
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
from .metric_options import SpiceImages, split_metrics
from .output import output
from .refine_options import (
    ApiKeyEnv,
    BaseUrl,
    Grounding,
    GuardNames,
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
    from ..evaluation.compare import SystemComparison


def compare(
    context: typer.Context,
    references: Annotated[
        str, typer.Argument(help="A file of references, or a dataset (flickr8k, scenes:everyday, a folder, a Hub id).")
    ],
    systems: Annotated[
        list[str],
        typer.Argument(
            help="NAME=SYSTEM, the baseline first: a predictions file, a model, hf:MODEL, openai:MODEL@URL, or "
            "'model > refiner'."
        ),
    ],
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
    split: Annotated[
        str | None,
        typer.Option(
            help="Of the dataset: train, validation or test. Default: test or, if there is none, validation."
        ),
    ] = None,
    images: Annotated[int | None, typer.Option(help="Only the first so many images of the dataset.")] = None,
    metrics: Annotated[str | None, typer.Option(help="Names, separated by commas; all by default.")] = None,
    spice_images: SpiceImages = None,
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
    instruction: Instruction = None,
    max_output_tokens: MaxOutputTokens = None,
    refiner_temperature: RefinerTemperature = None,
    reasoning_effort: ReasoningEffort = None,
    send_image: SendImage = False,
    guards: GuardNames = None,
    grounding: Grounding = None,
    matching: Matching = None,
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = None,
    prices: Prices = None,
) -> None:
    """Compare systems on the same images and references. Decoding flags hold for all systems that decode here."""
    options = refiner_options(locals())
    changes = decoding_changes(locals(), leave_out=["seed"])
    from ..captioners.spec import is_other, is_served, split_refiner
    from ..data.source_options import OPTION_NAMES
    from ..evaluation.compare import compare_systems
    from ..evaluation.evaluator import is_file_of_predictions, parse_systems, refiner_of
    from .data_options import refuse_flags, source_options, tell_split
    from .libraries import quieten_libraries
    from .scores_table import check_table_form, print_tables

    check_table_form(table)
    named = parse_systems(systems)
    share_flags([refiner_of(system) for system in named.values()], options)
    names = split_metrics(metrics, spice_images)
    models = [split_refiner(system)[0] for system in named.values() if not is_file_of_predictions(system)]
    own = [model for model in models if not is_other(model)]
    how = {"decoding": decoding, "prompt": changes.pop("prompt", None), "changes": changes}
    for model in own:
        check_decoding(model, decoding, {**changes, "prompt": prompt})
    decoded = own or [model for model in models if not is_served(model)]
    if decoded:
        how["changes"] = with_seed("starter" if is_other(decoded[0]) else decoded[0], decoding, changes, seed)
    known: Any = references
    scored: str | None = None
    if Path(references).suffix.lower() not in (".jsonl", ".json"):
        quieten_libraries()  # Loads transformers, which files alone need not.
        known = source_options(context).load(references, split, images)
        scored = tell_split(references, known, split)
    else:
        refuse_flags(context, (*OPTION_NAMES, "split", "images"), f"{references} is a file of references.")
    output.note(f"Comparing {', '.join(named)} ...")
    with naming_flags():
        found = compare_systems(
            named,
            known,
            metrics=names,
            spice_images=spice_images,
            pairs=pairs,
            resamples=resamples,
            seed=seed,
            single_reference=single_reference,
            common_only=common,
            batch_size=batch_size,
            output_dir=folder,
            refiner_options=options,
            decoding={name: value for name, value in how.items() if value not in (None, {})},
            loss=loss and bool(own),
        )
    if table is None:
        print_comparison(found, scored)
    else:
        print_tables(found.to_dict()["systems"], table)
    output.result({**found.to_dict(), **({"split": scored} if scored else {})})
    if folder is not None:
        from ..report.report import write_report

        report = write_report(folder)
        (output.line if table is None else output.note)(f"Report: {report}")


def print_comparison(found: SystemComparison, split: str | None = None) -> None:
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
    of = f" of the {split} split" if split else ""
    output.table(["", *shown], rows, title=f"{len(found.references)} images{of}, all references (95 % intervals)")
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
    print_captioners(found.captioners)
    for name, counts in found.refinement.items():
        output.line(f"{name}, refined: {describe_counts(counts)}.")
    for image_id, reason in found.skipped.items():
        output.warning(f"{image_id} counts for no system: {reason}")


def print_captioners(captioners: Mapping[str, Mapping[str, Any]]) -> None:
    """A table of who captioned, and what it took per image."""
    from ..evaluation.captioner_facts import CAPTIONER_COLUMNS, captioner_row

    if captioners:
        rows = [captioner_row(name, facts) for name, facts in captioners.items()]
        output.table(
            CAPTIONER_COLUMNS, rows, title="Captioners (seconds and tokens per image, dollars per 1,000 images)"
        )


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
