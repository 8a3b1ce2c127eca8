"""`write_report`: one HTML file that needs nothing else, and PNG plots, from the result files of a run alone."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

from .. import __version__
from ..data.split_names import images_of_split
from ..evaluation.captioner_facts import CAPTIONER_COLUMNS, captioner_row
from ..jsonlines import atomic_write
from ..metrics.agreement import describe_agreement
from ..metrics.paper_tables import missing_measures, tables_of
from ..metrics.paper_tables import shown as shown_number
from ..refine.counts import describe_counts, measured_over
from .charts import number
from .errors import fault_rows
from .gallery import build_cards
from .measure import Findings, measure
from .plots import write_plots
from .results import METRICS, is_number, read_run
from .samples import write_samples
from .sections import (
    ablation_chart,
    calibration_charts,
    distribution_charts,
    people_charts,
    score_charts,
    slice_charts,
    system_styles,
    training_charts,
)
from .story import comparison_of, sentence, tiles, verdict_of

TEMPLATES = Path(__file__).parent / "templates"


def write_report(run_folder: str | os.PathLike, max_pictures: int = 200, plots: bool = True) -> Path:
    """Write `report/index.html` and its PNG plots into a run folder.

    The page is one file: pictures, style and script are inside, nothing is loaded from anywhere. It is made from the
    result files alone (`docs/architecture.md`, "Files"); no model is loaded. What a run lacks, the page leaves out.

    Args:
        run_folder (`str` or `os.PathLike`): The folder that `train`, `evaluate` or `demo` wrote.
        max_pictures (`int`, defaults to 200): At most so many pictures in the gallery: those that gained and lost
            most, and the rest at equal distances. All images count in tables and charts.
        plots (`bool`, defaults to `True`): Whether to write the PNG plots and the annotated samples too.

    Returns:
        `Path`: The page.

    Raises:
        SourceNotFoundError: There is no such folder, or no result file in it.
        SourceFormatError: A result file is broken.
    """
    return write_findings(measure(read_run(run_folder)), max_pictures, plots)


def write_findings(findings: Findings, max_pictures: int = 200, plots: bool = True) -> Path:
    """As [`write_report`], of a run that has been measured already.

    Args:
        findings (`Findings`): What was found out about the run.
        max_pictures, plots: As in [`write_report`].
    """
    target = findings.run.folder / "report"
    page = render(findings, max_pictures)
    with atomic_write(target / "index.html") as file:
        file.write(page)
    if plots:
        write_plots(findings, target)
        write_samples(findings.run, target / "samples")
    return target / "index.html"


def render(findings: Findings, max_pictures: int = 200) -> str:
    """The page as text.

    Args:
        findings (`Findings`): What was found out about the run.
        max_pictures (`int`, defaults to 200): At most so many pictures in the gallery.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(number=number, comparison_of=comparison_of, verdict_of=verdict_of)
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    run = findings.run
    shown = tiles(run)
    measures = {system.name: {**system.scores, **system.measures} for system in run.systems}
    faults = fault_rows(findings)
    found = list(findings.errors.values())[-1].faults if findings.errors else {}
    cards = build_cards(run, run.headline_metric, max_pictures, found)
    return environment.get_template("report.html").render(
        run=run,
        version=__version__,
        name=run.folder.resolve().name,
        script=script,
        style=style,
        # Only this very script may run, whatever a caption tries to smuggle in.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        tiles=shown,
        sentence=sentence(run, shown),
        images=images_of_split(len(run.examples) or None, run.evaluation_split),
        styles=system_styles(run.system_names),
        metrics=[metric for metric in METRICS if any(metric in system.scores for system in run.systems)],
        unavailable={metric: reason for system in run.systems for metric, reason in system.unavailable.items()},
        refinement=[(one.name, describe_counts(one.refinement)) for one in run.systems if one.refinement],
        measured_over={one.name: over for one in run.systems if (over := measured_over(one.refinement))},
        captioners=[captioner_row(one.name, one.captioner) for one in run.systems if one.captioner],
        captioner_columns=CAPTIONER_COLUMNS,
        signatures=sorted({system.signature for system in run.systems if system.signature}),
        measure_tables=[table for table in tables_of(measures) if not table.title.startswith("Scores")],
        missing_measures=missing_measures(measures),
        losses=[
            (system.name, loss)
            for system in run.systems
            if is_number(loss := system.measures.get("test_loss", {}).get("nats_per_token"))
        ],
        best={
            metric: best
            for metric in METRICS
            if len(values := {round(one.scores[metric], 3) for one in run.systems if metric in one.scores}) > 1
            for best in [max(values)]
        },
        shown_number=shown_number,
        cards=cards,
        faults=faults,
        kinds=[row.kind for row in faults if any(fault.kind == row.kind for card in cards for fault in card.faults)],
        analyses=findings.errors,
        people_analysis=findings.people,
        warnings=findings.warnings,
        ablation=run.ablation,
        ablation_chart=ablation_chart(run.ablation),
        people=run.people,
        review=run.review,
        agreement=describe_agreement,
        people_charts=people_charts(run, run.people) if run.people else [],
        slice_charts=slice_charts(findings),
        calibration=findings.calibration,
        calibration_charts=calibration_charts(findings),
        curves=training_charts(run),
        score_charts=score_charts(run),
        distributions=distribution_charts(run),
        facts=[(key, value) for key, value in run.facts.items() if value not in (None, {}, [])],
    )
