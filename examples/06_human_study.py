"""A human study: people rate the captions of several systems, blind, and agreement and intervals are computed.

    python examples/06_human_study.py --smoke               # offline, seconds: scripted raters show that it runs
    blip-refine compare flickr8k --data-dir flickr8k/ base=Salesforce/blip-image-captioning-base tuned=run -o study
    python examples/06_human_study.py study --raters ann,bob,cleo                                    # for real

Each rater gets a link. Captions are shown in changing order and without the name of their system. When the raters are
done, `blip-refine rate study --summary` says what they found, and writes it into report and card.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from blip_refine import BlipRefineError
from blip_refine.data.sources import load_source
from blip_refine.evaluation.human import CRITERIA, RatingStudy
from blip_refine.evaluation.human_summary import summarize


def smoke(folder: Path) -> None:
    """A study of captions that are right and captions of other pictures, rated by a script."""
    records = load_source("scenes:everyday", split="test", count=24)
    others = load_source("scenes:adventure", split="test", count=24)
    items = [
        {"image_id": record.image_id, "systems": {"wrong": other.captions[0], "right": record.captions[0]}}
        for record, other in zip(records, others, strict=True)
    ]
    study = RatingStudy.create(folder / "ratings.sqlite", items, ratings_per_image=2, check_every=0)
    truth = {item["systems"]["right"] for item in items}
    for rater in ("ann", "bob"):
        chance = random.Random(rater)
        while (task := study.next_task(rater)) is not None:
            scores = [chance.choice((4, 5) if caption in truth else (1, 2, 3)) for caption in task.captions]
            study.save(task.task, rater, [dict.fromkeys(CRITERIA, score) for score in scores])
    found = summarize(study)
    print(f"{found.images} images, {found.ratings} ratings, all made up by a script")
    for system, criteria in found.systems.items():
        print(f"{system:6}", ", ".join(f"{name} {one.mean:.2f}" for name, one in criteria.items()))
    duel = found.duels[0]
    print(f"{duel.system} against {duel.baseline}: {duel.difference:+.2f}, corrected p = {duel.p_corrected:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, help="a folder that compare, evaluate or train wrote")
    parser.add_argument("--raters", default="", help="names, separated by commas; each gets a link")
    parser.add_argument("--images", type=int, default=100, help="images to rate, drawn at random")
    parser.add_argument("--smoke", action="store_true", help="drawn pictures and scripted raters")
    options = parser.parse_args()
    if options.smoke:
        with tempfile.TemporaryDirectory() as folder:
            smoke(Path(folder))
        return
    if options.run is None:
        parser.error("name the folder of a run, or give --smoke")
    command = [sys.executable, "-m", "blip_refine", "rate", str(options.run), "--images", str(options.images)]
    raise SystemExit(subprocess.call([*command, *(["--raters", options.raters] if options.raters else [])]))


if __name__ == "__main__":
    try:
        main()
    except BlipRefineError as error:
        raise SystemExit(f"Error: {error}") from error
