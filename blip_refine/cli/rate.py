"""`blip-refine rate`: people rate the captions of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .output import output

if TYPE_CHECKING:
    from ..evaluation.human import RatingStudy
    from ..evaluation.human_summary import RatingSummary
    from ..evaluation.review_summary import ReviewSummary

LOOPBACK = ("127.0.0.1", "localhost", "::1")
FILES = {"rating": "ratings.sqlite", "review": "review.sqlite"}
NOTES = "review_notes.jsonl"


def rate(
    run: Annotated[Path, typer.Argument(help="The folder that train, evaluate, compare or demo wrote.")],
    database: Annotated[
        Path | None,
        typer.Option(help="Where answers are kept. Default: RUN/ratings.sqlite, or RUN/review.sqlite of a review."),
    ] = None,
    review: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Mark hallucination, repetition and omission on N random images, instead of rating.",
        ),
    ] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Summarize ratings and reviews; write RUN/human.json.")
    ] = False,
    exclude: Annotated[
        list[str] | None, typer.Option(help="With --summary: a rater to leave out; repeatable.")
    ] = None,
    systems: Annotated[str | None, typer.Option(help="Which systems, separated by commas; all by default.")] = None,
    captioner: Annotated[
        list[str] | None,
        typer.Option(help="NAME=CAPTIONER (hf:MODEL, openai:MODEL@URL, ...): caption and rate it too; repeatable."),
    ] = None,
    images: Annotated[int | None, typer.Option(min=1, help="How many images, drawn at random. Default: 100.")] = None,
    per_image: Annotated[int, typer.Option(min=1, help="By how many raters each image is rated.")] = 3,
    check_every: Annotated[int, typer.Option(min=0, help="An attention check after so many images; 0: none.")] = 10,
    preference: Annotated[bool, typer.Option("--preference", help="Also ask which caption is best.")] = False,
    raters: Annotated[str | None, typer.Option(help="Names, separated by commas: print a link for each.")] = None,
    seed: Annotated[int, typer.Option(help="Which images are drawn, and in which orders they are shown.")] = 0,
    host: Annotated[str, typer.Option(help="0.0.0.0: everyone who has a link.")] = LOOPBACK[0],
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="By default a free one from 7860 on.")] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Serve a page on which people rate or review captions, or summarize what they said."""
    from ..errors import ConfigurationError
    from ..evaluation.human import RatingStudy

    if captioner and summary:
        raise ConfigurationError("--captioner adds a system to a new study, and --summary reads one: leave it out.")
    if summary:
        if review is not None:
            raise ConfigurationError("--summary covers the ratings and the reviews of RUN: leave out --review.")
        _summarize_all(run, database, exclude or [])
        return
    if review is not None and images is not None:
        raise ConfigurationError("--review N says how many images are reviewed: leave out --images.")
    if review is not None and preference:
        raise ConfigurationError("A review does not ask which caption is best: leave out --preference.")
    kind = "rating" if review is None else "review"
    path = database or run / FILES[kind]
    if captioner and path.is_file():
        raise ConfigurationError(
            f"--captioner adds a system to a new study, and {path} is one already: give another --database."
        )
    from ..apps.gradio_page import end_in_order
    from ..apps.rate import build_rating_app, launch_rating_app

    names = [name.strip() for name in raters.split(",")] if raters else []
    tokens = bool(names) or host not in LOOPBACK
    if path.is_file():
        study = RatingStudy(path)
        if study.kind != kind and (review is not None or database is None):
            raise ConfigurationError(f"{path} is a study of kind {study.kind}: name another file with --database.")
        output.note(f"Going on with {path}: its images, systems and numbers stay as they are.")
    else:
        number = review or images or 100
        study = _begin(run, path, systems, number, per_image, check_every, seed, kind, captioner or [])
    if tokens and not names and not study.has_tokens():
        raise ConfigurationError(
            f"On {host} only raters with a link of their own get in: name them with --raters A,B."
        )
    end_in_order()
    page = build_rating_app(study, tokens=tokens, preference=preference)
    links = {name: f"?token={study.add_rater(name)}" for name in names}
    url = launch_rating_app(page, host=host, port=port, open_browser=open_page, block=False)
    if links:
        output.line("Each rater has a link of their own. It is shown this once; naming a rater again makes a new one:")
        for name, link in links.items():
            output.line(f"  {name}: {url}{link}")
    else:
        output.line(f"Page: {url}")
    output.line("Ctrl-C ends it; answers are kept, and the same command goes on.")
    output.result({"url": url, "links": {name: f"{url}{link}" for name, link in links.items()}})
    page.block_thread()


def _begin(
    run: Path,
    path: Path,
    systems: str | None,
    images: int,
    per_image: int,
    check_every: int,
    seed: int,
    kind: str = "rating",
    captioners: Sequence[str] = (),
) -> RatingStudy:
    import random

    from ..errors import ConfigurationError, DataError
    from ..evaluation.human import RatingStudy
    from ..report.results import read_run

    results = read_run(run)
    wanted = [name.strip() for name in systems.split(",")] if systems else results.system_names
    unknown = [name for name in wanted if name not in results.system_names]
    if unknown:
        raise ConfigurationError(f"There is no system {unknown[0]!r}; there are {', '.join(results.system_names)}.")
    shown = [one for one in results.examples if one.image is not None and all(name in one.systems for name in wanted)]
    if not shown:
        raise DataError(f"{run} keeps no pictures to rate: people can only judge captions of what they see.")
    drawn = random.Random(seed).sample(shown, min(images, len(shown)))
    rows = [
        {
            "image_id": one.image_id,
            "image": one.image.resolve() if one.image else None,
            "systems": {name: one.systems[name] for name in wanted},
        }
        for one in drawn
    ]
    if captioners:
        from ..evaluation.evaluator import parse_systems

        rows = _add_captioners(rows, captioners)
        wanted = [*wanted, *parse_systems(captioners)]
    output.note(f"A new {kind} of {len(rows)} images and {len(wanted)} systems in {path}.")
    return RatingStudy.create(path, rows, ratings_per_image=per_image, check_every=check_every, seed=seed, kind=kind)


def _add_captioners(rows: list[dict[str, Any]], captioners: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a study with captions of further captioners, made now. Images that one of them fails on are left
    out, and named."""
    from ..errors import CaptionerUnansweredError, ConfigurationError
    from ..evaluation.evaluator import NamedSystem, captions_of, is_file_of_predictions, parse_systems
    from ..records import CaptionRecord
    from .libraries import quieten_libraries

    quieten_libraries()
    named = parse_systems(captioners)
    taken = sorted(set(named) & set(rows[0]["systems"]))
    if taken:
        raise ConfigurationError(f"The run has a system {taken[0]!r} already: give --captioner another name.")
    files = [spec for spec in named.values() if is_file_of_predictions(spec)]
    if files:
        raise ConfigurationError(f"--captioner takes captioners, and {files[0]!r} is a file of captions.")
    loaded = {name: NamedSystem(spec) for name, spec in named.items()}
    records = [CaptionRecord(row["image"], (), row["image_id"]) for row in rows]
    for name, system in loaded.items():
        output.note(f"Captioning {len(records)} images with {system.model} ...")
        captions = captions_of(system, records)
        failed = {image_id: one.error for image_id, one in captions.items() if one.error is not None}
        for image_id, reason in failed.items():
            output.warning(f"{image_id} is left out: {reason}")
        rows = [
            {**row, "systems": {**row["systems"], name: captions[row["image_id"]].text}}
            for row in rows
            if row["image_id"] not in failed
        ]
        if not rows:
            raise CaptionerUnansweredError(f"{system.model} captioned none of the images: there is nothing to rate.")
        records = [record for record in records if record.image_id not in failed]
    return rows


def _summarize_all(run: Path, database: Path | None, exclude: list[str]) -> None:
    """Summarize one study, or all that the run folder holds, and write the summary and the card."""
    from ..errors import ConfigurationError, DataError
    from ..evaluation.human import RatingStudy
    from ..jsonlines import read_json_object, write_json

    paths = [database] if database is not None else [run / name for name in FILES.values() if (run / name).is_file()]
    studies = [RatingStudy(path) for path in paths or [run / FILES["rating"]]]
    raters = {name for study in studies for name in study.raters()}
    unknown = [name for name in exclude if name not in raters]
    if unknown and raters:
        raise ConfigurationError(f"--exclude {unknown[0]!r} names no rater; there are {', '.join(sorted(raters))}.")
    # A study that is summarized by itself leaves the other's part as it is.
    human, done = read_json_object(run / "human.json"), False
    for study in studies:
        try:
            if study.kind == "review":
                human = {**human, "review": _summarize_review(run, study, exclude)}
            else:
                kept = {"review": human["review"]} if "review" in human else {}
                human = {**_summarize_ratings(study, exclude), **kept}
            done = True
        except DataError as error:
            if len(studies) == 1 or (study is studies[-1] and not done):
                raise
            output.note(str(error))
    card = _card_as_made(run)
    write_json(run / "human.json", human)
    output.line(f"Summary: {run / 'human.json'}")
    if card is not None:
        from ..hub.card import write_model_card

        output.line(f"Card: {write_model_card(run)}")
    output.next_command(f"blip-refine report {run}")
    output.result(human)


def _summarize_ratings(study: RatingStudy, exclude: list[str]) -> dict[str, Any]:
    from ..evaluation.human import CRITERIA
    from ..evaluation.human_summary import summarize
    from ..metrics.agreement import describe_agreement

    found = summarize(study, exclude=exclude)
    rows = [
        [name, *(f"{held[one].mean:.2f} [{held[one].low:.2f}, {held[one].high:.2f}]" for one in CRITERIA)]
        for name, held in found.systems.items()
    ]
    title = f"{found.images} images, {found.ratings} ratings, 1 to 5 (95 % intervals over images)"
    output.table(["", *CRITERIA], rows, title=title)
    output.table(
        ["", "wins", "ties", "losses", "win rate", "quality", "p"],
        [
            [
                f"{duel.system} against {duel.baseline}",
                duel.wins,
                duel.ties,
                duel.losses,
                f"{duel.win_rate:.0%} [{duel.low:.0%}, {duel.high:.0%}]",
                f"{duel.difference:+.2f}",
                f"{duel.p_corrected:.4f}",
            ]
            for duel in found.duels
        ],
    )
    agreed = describe_agreement(found.alpha, found.alpha_undefined)
    output.line(f"Agreement of raters (Krippendorff's alpha, ordinal): {agreed}")
    _warn_of(found)
    return found.to_dict()


def _summarize_review(run: Path, study: RatingStudy, exclude: list[str]) -> dict[str, Any]:
    from ..evaluation.review_summary import summarize_review
    from ..jsonlines import write_jsonl
    from ..metrics.agreement import describe_agreement

    found = summarize_review(study, exclude=exclude)
    marks = list(next(iter(found.systems.values())))
    rows = [
        [name, *(f"{one.marked} of {one.captions} [{one.low:.0%}, {one.high:.0%}]" for one in held.values())]
        for name, held in found.systems.items()
    ]
    output.table(
        ["", *marks], rows, title=f"{found.images} images, {found.reviews} reviews: captions marked (95 % intervals)"
    )
    agreed = describe_agreement(found.alpha, found.alpha_undefined)
    output.line(f"Agreement of reviewers (Krippendorff's alpha, nominal): {agreed}")
    _warn_of(found)
    if found.notes:
        write_jsonl(run / NOTES, found.notes)
        output.line(f"Notes: {run / NOTES} ({len(found.notes)}; not published)")
    return found.to_dict()


def _card_as_made(run: Path) -> Path | None:
    """The run's model card, where it is as it was made: one that somebody changed is left alone, and that is said."""
    from ..hub.card import is_up_to_date

    path = run / "README.md"
    if not path.is_file() or not any((run / name).is_file() for name in ("config.json", "adapter_config.json")):
        return None
    if is_up_to_date(run, path):
        return path
    output.note(f"{path} is not as it was made, and is left alone; `blip-refine push` writes a new card.")
    return None


def _warn_of(found: RatingSummary | ReviewSummary) -> None:
    for report in found.raters:
        if report.anomalies and report.rater not in found.excluded:
            reasons = ", ".join(report.anomalies)
            output.warning(f"{report.rater}: {reasons}; leave out with --exclude {report.rater!r}")
