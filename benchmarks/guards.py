"""How well guards tell faithful rewrites from inventions: `python benchmarks/guards.py words|pictures`.

words       The judged pairs of `tests/refine/judged`: precision and recall of `form`, `facts` and `polarity`, for each
            half and each kind of invention.
pictures    A refiner that is sent the picture, from a scripted server on loopback that speaks the OpenAI protocol. Its
            answers are human captions of the photo, captions of another photo, and captions of the photo with one fact
            swapped. `--coco FOLDER` holds `captions_val2017.json` and `val2017/`; drawn scenes are measured without.
            "before" holds what the model sees to the words of the draft; "unchecked" has no captioner; "checked" has
            the captioner that wrote the drafts.

Both write `benchmarks/results/guards.json`, each its own part.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

# The guards that are measured are those of this checkout, whatever is installed.
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from blip_refine.jsonlines import read_jsonl, write_json  # noqa: E402
from blip_refine.records import RefineRequest  # noqa: E402
from blip_refine.refine.facts import FactsGuard, PolarityGuard  # noqa: E402
from blip_refine.refine.guards import SEEN_MARGIN, Guards  # noqa: E402
from scripts.build_guard_pairs import inventions  # noqa: E402
from tests.refine.server import FakeModel, serving  # noqa: E402

PAIRS = ROOT / "tests" / "refine" / "judged" / "pairs.jsonl"
RESULTS = ROOT / "benchmarks" / "results" / "guards.json"
MARGINS = (0.5, 1.0, 2.0)


def share(part: int, whole: int) -> dict[str, Any]:
    return {"count": part, "of": whole, "share": round(part / whole, 4) if whole else None}


def judge(guards: Guards, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Precision and recall of rejecting inventions; how often each kind of row is rejected, and by which guard."""
    asked: Counter = Counter()
    rejected: Counter = Counter()
    by_guard: Counter = Counter()
    for row in rows:
        problem = guards.check(RefineRequest(row["draft"]), row["text"])
        for key in (row["label"], f"{row['label']}, {row['kind']}"):
            asked[key] += 1
            rejected[key] += problem is not None
        if problem is not None:
            by_guard[f"{row['label']}, {problem.partition(':')[0]}"] += 1
    caught, lost = rejected["inventing"], rejected["faithful"]
    return {
        "faithful rejected": share(lost, asked["faithful"]),
        "recall": share(caught, asked["inventing"]),
        "precision": share(caught, caught + lost),
        "rejected by kind": {key: share(rejected[key], asked[key]) for key in sorted(asked) if ", " in key},
        "rejected by guard": dict(sorted(by_guard.items())),
    }


def words() -> dict[str, Any]:
    rows = list(read_jsonl(PAIRS))
    guards = Guards(facts=FactsGuard(tagger="lexicon"), polarity=PolarityGuard(tagger="lexicon"))
    report = {half: judge(guards, [row for row in rows if row["half"] == half]) for half in ("tuned", "held out")}
    for half, found in report.items():
        print(half)
        for name in ("faithful rejected", "recall", "precision"):
            print(f"  {name}: {found[name]['count']} of {found[name]['of']}, {found[name]['share']:.1%}")
        for kind, one in found["rejected by kind"].items():
            print(f"    {kind}: {one['count']} of {one['of']} rejected")
    return report


def pictures(coco: Path | None, scenes: int) -> dict[str, Any]:
    from blip_refine import CaptionPipeline
    from blip_refine.data.sources.registry import load_source

    sets: dict[str, list[tuple[Any, list[str]]]] = {}
    if scenes:
        records = load_source("scenes:everyday", split="test")[:scenes]
        sets["drawn scenes"] = [(record.image, list(record.captions)) for record in records]
    if coco is not None:
        annotations = json.loads((coco / "captions_val2017.json").read_text(encoding="utf-8"))
        captions: dict[int, list[str]] = {}
        for one in annotations["annotations"]:
            captions.setdefault(one["image_id"], []).append(" ".join(one["caption"].split()))
        sets["COCO photos"] = [
            (coco / "val2017" / one["file_name"], captions[one["id"]]) for one in annotations["images"]
        ]
    pipeline = CaptionPipeline.from_pretrained("starter", num_workers=0)
    report: dict[str, Any] = {}
    for name, items in sets.items():
        drafts = [caption.text for caption in pipeline([image for image, _ in items])]
        report[name] = {"images": len(items), **ask(items, drafts, pipeline)}
    return report


def ask(items: Sequence[tuple[Any, list[str]]], drafts: Sequence[str], pipeline: Any) -> dict[str, Any]:
    """How often the answers of a scripted server are accepted."""
    from blip_refine.refine.grounding import captioner_likelihood
    from blip_refine.refine.guards import GroundingGuard
    from blip_refine.refine.openai import OpenAIRefiner

    rng = random.Random(0)
    answers: dict[str, list[str | None]] = {
        "human caption of the photo": [],
        "of another photo": [],
        "one fact swapped": [],
    }
    for place, (_, captions) in enumerate(items):
        true = captions[1]
        other = rng.choice([k for k in range(len(items)) if k != place])
        made = inventions("", true, random.Random(place))
        swapped = [kind for kind in ("object", "person", "place", "color", "count", "action") if kind in made]
        answers["human caption of the photo"].append(true)
        answers["of another photo"].append(items[other][1][1])
        answers["one fact swapped"].append(made[swapped[0]] if swapped else None)
    likelihood = captioner_likelihood(pipeline.model, pipeline.processor)
    checks: dict[str, tuple[Guards, Any]] = {
        "before": (Guards(holds_to_words=True), None),
        "unchecked": (Guards(), None),
        "checked": (Guards(), likelihood),
        **{
            f"checked, margin {m}": (replace(Guards(), grounding=GroundingGuard(likelihood, m)), None) for m in MARGINS
        },
    }
    report: dict[str, Any] = {"margin": SEEN_MARGIN}
    for check, (guards, captioner) in checks.items():
        for kind, texts in answers.items():
            asked = [k for k, text in enumerate(texts) if text is not None]
            # Two images may have one draft: the server tells them apart by the order of the calls.
            waiting = iter([texts[k] for k in asked])
            with serving(FakeModel(script=lambda draft, waiting=waiting: next(waiting))) as model:
                refiner = OpenAIRefiner(
                    "m", base_url=model.url, send_image=True, concurrency=1, retries=0, guards=guards
                )
                if captioner is not None:
                    refiner.use_captioner(captioner)
                results = [
                    refiner.refine([RefineRequest(drafts[k], image=items[k][0], image_id=str(k))])[0] for k in asked
                ]
            report.setdefault(check, {})[kind] = share(sum(one.accepted for one in results), len(asked))
        told = ", ".join(f"{kind} {one['share']:.1%} of {one['of']}" for kind, one in report[check].items())
        print(f"  {check}: accepted {told}", flush=True)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    parts.add_parser("words")
    seen = parts.add_parser("pictures")
    seen.add_argument("--coco", type=Path, help="a folder with captions_val2017.json and val2017/")
    seen.add_argument("--scenes", type=int, default=80)
    arguments = parser.parse_args()
    report = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    report[arguments.part] = words() if arguments.part == "words" else pictures(arguments.coco, arguments.scenes)
    write_json(RESULTS, report)


if __name__ == "__main__":
    main()
