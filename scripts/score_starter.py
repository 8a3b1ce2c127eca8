"""Score the embedded starter on scenes of its own domain that it was not trained on.

    python scripts/score_starter.py                      # 500 scenes, writes the files that MODEL_CARD.md is made from
    python scripts/score_starter.py --model /tmp/starter --images 100 --dry-run

Writes `coco_metrics.json` and `run.json` beside the weights.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from blip_refine.data.dataset import BlipCaptionDataset
from blip_refine.data.sources.scene_captions import NUMBERS, plural
from blip_refine.data.sources.scene_drawing import COLORS
from blip_refine.data.sources.scenes import DOMAINS, load_scenes
from blip_refine.evaluation.run_facts import RunFacts
from blip_refine.evaluation.systems import CaptionedImage, evaluate_predictions
from blip_refine.finetune import describe_decoding
from blip_refine.jsonlines import write_json
from blip_refine.models.captioner import count_parameters
from blip_refine.pipeline import CaptionPipeline

STARTER = Path(__file__).resolve().parent.parent / "blip_refine" / "starter"


def named(caption: str, domain: str = "everyday") -> set[tuple[str, str]]:
    """The (colour, thing) pairs that a caption names: "two small red fish" names ("red", "fish")."""
    things = {form: name for name in DOMAINS[domain].things for form in (name, plural(name))}
    pattern = rf"\b({'|'.join(COLORS)}) ({'|'.join(sorted(things, key=len, reverse=True))})\b"
    return {(color, things[form]) for color, form in re.findall(pattern, caption)}


def _share(found: list[bool]) -> str:
    return f"{100 * sum(found) / len(found):.1f} % of {len(found)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=STARTER)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--dry-run", action="store_true", help="print the scores and write nothing")
    arguments = parser.parse_args()

    test = BlipCaptionDataset(load_scenes("everyday", "test", count=arguments.images))
    pipeline = CaptionPipeline.from_pretrained(str(arguments.model), batch_size=50)
    captions = list(pipeline.stream(test.records))
    images = [
        CaptionedImage(record, caption.text, caption.confidence)
        for record, caption in zip(test.records, captions, strict=True)
    ]
    evaluation = evaluate_predictions(images)
    truth = [{(thing.color, thing.name) for thing in record.objects} for record in test.records]
    right = [named(caption.text) == wanted for caption, wanted in zip(captions, truth, strict=True)]
    counted = [
        NUMBERS[record.objects[0].count] in caption.text.split()
        for record, caption in zip(test.records, captions, strict=True)
        if record.objects[0].count > 1
    ]
    for caption, record, good in list(zip(captions, test.records, right, strict=True))[:12]:
        print("right" if good else "WRONG", "|", caption.text, "|", record.captions[0])
    print({name: round(value, 3) for name, value in evaluation.scores.corpus.items()}, evaluation.scores.unavailable)
    print(
        f"all things and colours right: {sum(right) / len(right):.3f}; "
        f"numbers right: {sum(counted) / len(counted):.3f}"
    )
    if arguments.dry_run:
        return
    write_json(arguments.model / "coco_metrics.json", evaluation.row)
    total, _ = count_parameters(pipeline.model)
    RunFacts(
        dataset="scenes:everyday",
        splits={"test": {"images": len(test), "captions": 5 * len(test)}},
        overlap="none: the scenes of training and of evaluation are drawn from different seeds",
        decoding=describe_decoding(pipeline.decoding),
        parameters=total,
        hardware=None,
        versions=None,
        extra={
            "findings": {
                "captions that name exactly the right things in the right colours": _share(right),
                "captions of groups that say the right number": _share(counted),
            }
        },
    ).write(arguments.model)


if __name__ == "__main__":
    main()
