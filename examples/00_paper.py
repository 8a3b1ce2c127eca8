"""Base, fine-tuned, and fine-tuned with a refiner: the table of a paper, and whether its claim holds on your data.

    python examples/00_paper.py --smoke                                 # offline, a minute: shows that it runs
    python examples/00_paper.py --model Salesforce/blip-image-captioning-base \\
        --dataset flickr8k --data-dir flickr8k/ --refiner bart --output paper       # for real

The claim: fine-tuning and refining raise BLEU by 15 to 20 % and CIDEr by 20 to 25 %. Whatever comes out is printed.
"""

from __future__ import annotations

import argparse

from blip_refine import BlipCaptionDataset, CaptionTrainingArguments
from blip_refine.errors import BlipRefineError, MetricError
from blip_refine.evaluation.claims import check_claim
from blip_refine.evaluation.significance import compare_scores
from blip_refine.finetune import finetune
from blip_refine.refine.counts import describe_counts

CLAIMS = {"Bleu_4": (0.15, 0.20), "CIDEr": (0.20, 0.25)}
TABLE = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "CIDEr", "SPICE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--dataset", default="scenes:adventure")
    parser.add_argument("--data-dir")
    parser.add_argument("--refiner", default="rules")
    parser.add_argument("--output", default="paper")
    parser.add_argument("--smoke", action="store_true", help="a few drawn pictures, two epochs, no Java")
    options = parser.parse_args()
    few = {"count": 32} if options.smoke else {}

    def split(name: str) -> BlipCaptionDataset:
        return BlipCaptionDataset.from_source(options.dataset, split=name, data_dir=options.data_dir, **few)

    smoke = {"num_train_epochs": 2, "learning_rate": 1e-4, "gradient_checkpointing": False, "num_beams": 2}
    run = finetune(
        options.model,
        CaptionTrainingArguments(options.output, **(smoke if options.smoke else {})),
        split("train"),
        split("validation"),
        split("test"),
        dataset=options.dataset,
        refiner=options.refiner,
        metrics=["Bleu", "ROUGE_L", "CIDEr"] if options.smoke else None,
    )
    scores = {name: evaluation.scores for name, evaluation in run.systems.items()}
    shown = [metric for metric in TABLE if any(metric in one.corpus for one in scores.values())]
    print(f"{'':10}" + "".join(f"{metric:>22}" for metric in shown))
    for name, one in scores.items():
        cells = []
        for metric in shown:
            ends = one.intervals.get(metric)
            interval = f" [{ends.low:.3f}, {ends.high:.3f}]" if ends else ""
            cells.append(f"{one.corpus[metric]:.3f}{interval}")
        print(f"{name:10}" + "".join(f"{cell:>22}" for cell in cells))
    for name, evaluation in run.systems.items():
        if evaluation.refinement:
            print(f"{name}: {describe_counts(evaluation.refinement)}")
    for metric, reason in scores["after"].unavailable.items():
        print(f"{metric} was not computed: {reason}")

    print("\nPaired tests (p corrected for all of them):")
    for test in compare_scores(scores):
        if test.metric in CLAIMS:
            difference = f"{test.difference:+.3f} [{test.low:+.3f}, {test.high:+.3f}]"
            print(f"  {test.system} against {test.baseline}, {test.metric}: {difference}, "
                  f"p {test.p_corrected:.4f}: {test.verdict()}")  # fmt: skip

    print(f"\nThe claim, on {len(run.systems['before'].images)} images of {options.dataset}:")
    for system in ("after", "refined"):
        for metric, claimed in CLAIMS.items():
            before, statistics = scores["before"].statistics[metric], scores[system].statistics[metric]
            try:
                print(f"  {system} over before, {check_claim(before, statistics, claimed).sentence()}")
            except MetricError as error:
                print(f"  {system} over before, {metric}: {error}")
    if options.smoke:
        print("Four steps on 32 drawings are too few to gain anything: this showed that it runs.")
    print(f"\nReport: {run.report}")


if __name__ == "__main__":
    try:
        main()
    except BlipRefineError as error:
        raise SystemExit(f"Error: {error}") from error
