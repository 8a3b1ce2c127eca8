"""What scoring costs: `python benchmarks/metrics.py PREDICTIONS.json`.

PREDICTIONS.json is a list of `{image_name, captions, prediction}`, such as 4,982 images with five references each.

Stock is `pycocoevalcap` as its own `COCOEvalCap` runs it: the Java tokenizer over references and predictions, then
BLEU, ROUGE-L and CIDEr, all in one process, alternating with ours. Both elapsed time and processor time (children
included) are written down: on a machine that is busy elsewhere only the latter compares. Outputs are compared, image
by image.

Three questions:
  score       references and predictions as text to scores
  re-score    a second system against the same references: ours with prepared references, the stock way with its tokens
              of the references kept (which it has no means to keep by itself)
  bootstrap   10,000 paired bootstrap resamples of CIDEr between two systems
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from blip_refine.jsonlines import atomic_write, write_json
from blip_refine.metrics import PreparedReferences, score_captions
from blip_refine.metrics import tokenizer as tokenizer_module
from blip_refine.metrics.statistics import paired_bootstrap

RESULTS = Path(__file__).resolve().parent / "results"
METRICS = ("Bleu", "ROUGE_L", "CIDEr")
RESAMPLES = 10_000


def stock_tokens(captions: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Tokens by the Java tokenizer."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    return PTBTokenizer().tokenize({k: [{"caption": caption} for caption in v] for k, v in captions.items()})


def stock_scores(references: Mapping[str, Any], predictions: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Per-image scores by pycocoevalcap on tokens."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    bleu = Bleu(4).compute_score(references, predictions, verbose=0)[1]
    found = {f"Bleu_{n + 1}": np.array(values) for n, values in enumerate(bleu)}
    found["ROUGE_L"] = Rouge().compute_score(references, predictions)[1]
    found["CIDEr"] = Cider().compute_score(references, predictions)[1]
    return found


def measure(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Elapsed seconds, processor seconds (children included), and the result."""

    def processor() -> float:
        used = os.times()
        return used.user + used.system + used.children_user + used.children_system

    begun, used = time.perf_counter(), processor()
    result = work()
    return time.perf_counter() - begun, processor() - used, result


def alternate(ours: Callable[[], Any], stock: Callable[[], Any], rounds: int) -> dict[str, Any]:
    """Medians of both, run in turn; and the last result of each."""
    times: dict[str, list[tuple[float, float]]] = {"ours": [], "stock": []}
    last: dict[str, Any] = {}
    for _ in range(rounds):
        for name, work in (("stock", stock), ("ours", ours)):
            elapsed, used, last[name] = measure(work)
            times[name].append((elapsed, used))
    row: dict[str, Any] = {"rounds": rounds}
    for name, values in times.items():
        row[f"{name}_s"] = statistics.median(elapsed for elapsed, _ in values)
        row[f"{name}_cpu_s"] = statistics.median(used for _, used in values)
    row["ratio"] = row["ours_s"] / row["stock_s"]
    row["cpu_ratio"] = row["ours_cpu_s"] / row["stock_cpu_s"]
    return {**row, "_last": last}


def largest_difference(ours: Any, stock: Mapping[str, np.ndarray]) -> float:
    return max(float(np.abs(np.array(list(ours.per_image[name].values())) - stock[name]).max()) for name in stock)


def cold_score(predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> Any:
    """Ours without any memory of words seen before, as in a process of its own."""
    tokenizer_module._plain_words.clear()
    return score_captions(predictions, references, METRICS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rows = json.loads(options.predictions.read_text(encoding="utf-8"))
    predictions = {row["image_name"]: row["prediction"] for row in rows}
    references = {row["image_name"]: row["captions"] for row in rows}
    one = {image_id: [caption] for image_id, caption in predictions.items()}

    score = alternate(
        lambda: cold_score(predictions, references),
        lambda: stock_scores(stock_tokens(references), stock_tokens(one)),
        options.rounds,
    )
    score["largest_difference"] = largest_difference(score["_last"]["ours"], score["_last"]["stock"])

    prepared = PreparedReferences(references)
    score_captions(predictions, prepared, METRICS)
    kept, tokens = stock_tokens(references), stock_tokens(one)
    again = alternate(
        lambda: score_captions(predictions, prepared, METRICS), lambda: stock_scores(kept, tokens), options.rounds
    )
    again["largest_difference"] = largest_difference(again["_last"]["ours"], again["_last"]["stock"])

    ids = list(predictions)
    other = {image_id: references[image_id][0] for image_id in ids}
    rest = PreparedReferences({image_id: references[image_id][1:] for image_id in ids})
    a = score_captions(predictions, rest, ["CIDEr"]).statistics["CIDEr"]
    b = score_captions(other, rest, ["CIDEr"]).statistics["CIDEr"]
    measured = [measure(lambda: paired_bootstrap(a, b, RESAMPLES, seed=0)) for _ in range(options.rounds)]
    found = measured[-1][2]
    bootstrap = {
        "resamples": RESAMPLES,
        "ours_s": statistics.median(elapsed for elapsed, _, _ in measured),
        "ours_cpu_s": statistics.median(used for _, used, _ in measured),
        "difference": found.difference,
        "interval": [found.low, found.high],
        "p_value": found.p_value,
    }

    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=RESULTS, capture_output=True, text=True).stdout.strip()
    result = {
        "images": len(ids),
        "captions": sum(map(len, references.values())),
        "score": {k: v for k, v in score.items() if k != "_last"},
        "re-score": {k: v for k, v in again.items() if k != "_last"},
        "bootstrap": bootstrap,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, shared with other work",
        "load_at_end": os.getloadavg()[0],
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("blip_refine", "numpy", "pycocoevalcap")},
        "commit": commit,
    }
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / "metrics.json", result)
    text = report(result)
    with atomic_write(RESULTS / "metrics.md") as file:
        file.write(text)
    print(text)


def report(result: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        "# What scoring costs",
        "",
        f"{result['images']:,} images, {result['captions']:,} references; BLEU-1 to 4, ROUGE-L and CIDEr. Medians.",
        "",
        "| question | ours, CPU | stock, CPU | ours/stock, CPU | ours, elapsed | stock, elapsed "
        "| largest difference |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in ("score", "re-score"):
        row = result[name]
        lines.append(
            f"| {name} | {row['ours_cpu_s']:.2f} s | {row['stock_cpu_s']:.2f} s | {row['cpu_ratio']:.3f} "
            f"| {row['ours_s']:.2f} s | {row['stock_s']:.2f} s | {row['largest_difference']:.1e} |"
        )
    boot = result["bootstrap"]
    lines += [
        "",
        f"{boot['resamples']:,} paired bootstrap resamples of CIDEr: {boot['ours_cpu_s']:.2f} s CPU, "
        f"{boot['ours_s']:.2f} s elapsed.",
        "",
        f"Machine: {result['machine']} (load {result['load_at_end']:.1f}); threads {result['threads']}; Python "
        f"{result['python']}; {', '.join(f'{k} {v}' for k, v in result['versions'].items())}; commit "
        f"{result['commit'][:9]}.",
        "",
        "Stock: `pycocoevalcap` with its Java tokenizer. On a machine that other work keeps busy, only the processor",
        "time compares. Re-scoring gives the stock way its own tokens of both sides, which it cannot keep by itself,",
        "and leaves its tokenizer out; ours tokenizes the predictions within its time.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
