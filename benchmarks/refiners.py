"""What refiners do to captions, measured: `python benchmarks/refiners.py captions|consensus|server`.

captions    Real, fluent, often wrong captions (a file of `{image_name, captions, prediction}`) before and after
            `rules` and a local chat model, with and without guards: CIDEr, METEOR, BLEU-4 with intervals and paired
            tests, nouns that the draft does not have, repetition, lints of a grammar checker.
consensus   `consensus` over several predictions an image, against the first of them: systems from files, and samples
            of the starter on drawn scenes.
server      500 requests against a server on loopback with 50 ms latency and 10 % errors: one at a time, and many.

Each writes `benchmarks/results/refiners_<name>.json`, with machine, versions and commit.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from blip_refine.jsonlines import write_json
from blip_refine.metrics import score_captions
from blip_refine.metrics.statistics import paired_bootstrap
from blip_refine.records import RefinedCaption, RefineRequest
from blip_refine.refine import Refiner, load_refiner
from blip_refine.refine.facts import FactsGuard
from blip_refine.refine.guards import Guards

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
RESAMPLES = 2000
METRICS = ("CIDEr", "METEOR", "Bleu_4")


def circumstances() -> dict[str, Any]:
    """Machine, versions and commit, for the result file."""
    versions = {}
    for package in ("blip_refine", "torch", "transformers", "openai", "harper-py", "spacy", "numpy"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "python": platform.python_version(),
        "versions": versions,
        "commit": commit,
    }


# captions -----------------------------------------------------------------------------------------------------------


def read_predictions(path: Path) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Drafts and references of a file of predictions."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return {row["image_name"]: row["prediction"] for row in rows}, {row["image_name"]: row["captions"] for row in rows}


def repeats(text: str) -> bool:
    """Whether up to four words are said twice in a row, or two to four words three times anywhere."""
    words = [word.strip(".,").lower() for word in text.split()]
    for size in range(1, 5):
        grams = [tuple(words[k : k + size]) for k in range(len(words) - size + 1)]
        if any(grams[k] == grams[k + size] for k in range(len(grams) - size)):
            return True
        if size > 1 and any(grams.count(gram) > 2 for gram in set(grams)):
            return True
    return False


class Judge:
    """Counts what cannot be read off the references. Nouns by spaCy where it is given, which the guards do not use."""

    def __init__(self, pipeline: str | None):
        from blip_refine.refine.grammar import GrammarChecker

        self.grammar = GrammarChecker()
        self.facts = FactsGuard(numbers=False, colours=False, names=False, tagger="lexicon")
        self.spacy = None
        if pipeline:
            import spacy

            self.spacy = spacy.load(pipeline, disable=["parser", "ner"])

    def new_nouns(self, draft: str, text: str) -> bool:
        """Whether `text` has a noun that the draft has not in any form: strictly, by spaCy's lemmas."""
        if self.spacy is None or text == draft:
            return False
        known = {token.lemma_.lower() for token in self.spacy(draft.lower())} | {
            token.lower_ for token in self.spacy(draft.lower())
        }
        # In lower case on both sides: a capital makes the tagger take a word for a name.
        return any(
            token.pos_ in ("NOUN", "PROPN") and token.lemma_.lower() not in known and token.lower_ not in known
            for token in self.spacy(text.lower())
        )

    def unsupported(self, draft: str, text: str) -> bool:
        """Whether `text` has a noun that the draft does not support, kinds of things allowed: the guard's own rule."""
        return bool(self.facts.invented(RefineRequest(draft), text))


def describe(
    drafts: Mapping[str, str], texts: Mapping[str, str], references: Mapping[str, list[str]], judge: Judge
) -> dict[str, Any]:
    """All figures of one system."""
    scores = score_captions(texts, references, list(METRICS), allow_empty=True, bootstrap=RESAMPLES)
    before = score_captions(drafts, references, list(METRICS), allow_empty=True)
    row: dict[str, Any] = {"captions": len(texts), "changed": sum(texts[k] != drafts[k] for k in texts)}
    for name in METRICS:
        if name not in scores.statistics:
            row[name] = {"unavailable": scores.unavailable[name]}
            continue
        interval = scores.intervals[name]
        row[name] = {"value": scores.corpus[name], "low": interval.low, "high": interval.high}
        test = paired_bootstrap(before.statistics[name], scores.statistics[name], resamples=RESAMPLES)
        row[name].update(difference=test.difference, p=test.p_value, from_=test.low, to=test.high)
    row["new_noun_rate_spacy"] = sum(judge.new_nouns(drafts[k], texts[k]) for k in texts) / len(texts)
    row["unsupported_noun_rate"] = sum(judge.unsupported(drafts[k], texts[k]) for k in texts) / len(texts)
    row["repetition_rate"] = sum(repeats(text) for text in texts.values()) / len(texts)
    row["unfinished_rate"] = sum(text.split()[-1].lower() in UNFINISHED for text in texts.values()) / len(texts)
    row["grammar_lints_per_100"] = 100 * sum(judge.grammar.count(text) for text in texts.values()) / len(texts)
    row["mean_words"] = statistics.mean(len(text.split()) for text in texts.values())
    return row


UNFINISHED = {
    "a",
    "an",
    "the",
    "and",
    "with",
    "of",
    "in",
    "his",
    "their",
    "while",
    "is",
    "are",
    "to",
    "at",
    "from",
    "or",
}


def reasons(results: Sequence[RefinedCaption]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in results:
        if not one.accepted:
            name = (one.reason or "").partition(":")[0]
            counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def captions(arguments: argparse.Namespace) -> None:
    drafts, references = read_predictions(arguments.file)
    if arguments.limit and arguments.limit < len(drafts):
        kept = random.Random(0).sample(sorted(drafts), arguments.limit)
        drafts, references = {k: drafts[k] for k in kept}, {k: references[k] for k in kept}
    judge = Judge(arguments.spacy)
    requests = [RefineRequest(text, image_id=name) for name, text in drafts.items()]
    systems: dict[str, dict[str, Any]] = {"drafts": describe(drafts, drafts, references, judge)}

    def run(name: str, refiner: Refiner) -> None:
        started = time.perf_counter()
        results = refiner.refine(requests)
        seconds = time.perf_counter() - started
        texts = {one.image_id: one.text for one in results}
        rejected = reasons(results)
        systems[name] = {
            **describe(drafts, texts, references, judge),
            # Of this run: answers that a cache held already cost no time now.
            "seconds": seconds,
            "answers_from_cache": sum(one.cached for one in results),
            "rejected": rejected,
            "rejected_rate": sum(rejected.values()) / len(results),
            "refiner": refiner.name,
        }
        print(f"{name}: {seconds:.0f} s, {rejected}", flush=True)
        examples = [one for one in results if one.text != one.draft][:5]
        systems[name]["examples"] = [[one.draft, one.text] for one in examples] if arguments.examples else []

    run("rules", load_refiner("rules"))
    if arguments.model:
        guards = Guards(facts=FactsGuard(tagger="lexicon"))
        guards = replace(guards, polarity=replace(guards.polarity, tagger="lexicon"))
        options: dict[str, Any] = {"batch_size": arguments.batch_size, "dtype": arguments.dtype}
        # One model and one cache of its answers: guards choose among the same answers.
        bare = load_refiner(f"instruct:{arguments.model}", guards=False, cache=arguments.cache, **options)
        run("instruct, no guards", bare)
        guarded = load_refiner(f"instruct:{arguments.model}", guards=guards, cache=arguments.cache, **options)
        guarded._loaded = bare._loaded
        run("instruct, guards", guarded)
        run("rules > instruct, guards", load_refiner("rules") >> guarded)
    report = {"file": arguments.file.name, "systems": systems, "resamples": RESAMPLES, **circumstances()}
    write_json(RESULTS / "refiners_captions.json", report)
    print_captions(systems)


def print_captions(systems: Mapping[str, Mapping[str, Any]]) -> None:
    columns = ("", *METRICS, "CIDEr against drafts", "new nouns", "repetition", "unfinished", "lints/100", "rejected")
    print("\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for name, row in systems.items():
        cells = [name]
        for metric in METRICS:
            value = row[metric]
            cells.append(
                f"{value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
                if "value" in value
                else "unavailable"
            )
        cider = row["CIDEr"]
        cells.append("" if name == "drafts" else f"{cider['difference']:+.4f}, p = {cider['p']:.3f}")
        cells += [f"{row[key]:.1%}" for key in ("new_noun_rate_spacy", "repetition_rate", "unfinished_rate")]
        cells += [f"{row['grammar_lints_per_100']:.1f}", f"{row.get('rejected_rate', 0):.1%}"]
        print("| " + " | ".join(cells) + " |")


# consensus ----------------------------------------------------------------------------------------------------------


def compare_consensus(
    pools: Mapping[str, Sequence[str]],
    references: Mapping[str, list[str]],
    corpus: Sequence[str] | None = None,
    likelihoods: Mapping[str, Sequence[float]] | None = None,
) -> dict[str, Any]:
    """The first candidate of each image against what `consensus` chooses, for each way to measure agreement."""
    first = {name: pool[0] for name, pool in pools.items()}
    before = score_captions(first, references, ["CIDEr", "Bleu_4", "ROUGE_L"], bootstrap=RESAMPLES)
    requests = [RefineRequest(pool[0], tuple(pool[1:]), image_id=name) for name, pool in pools.items()]
    if likelihoods:
        requests = [
            replace(one, confidence=likelihoods[name][0], candidate_confidences=tuple(likelihoods[name][1:]))
            for one in requests
            for name in (one.image_id,)
        ]
    report: dict[str, Any] = {
        "images": len(pools),
        "candidates": statistics.mean(map(len, pools.values())),
        "first": {name: vars(interval) for name, interval in before.intervals.items()},
    }
    generator = random.Random(0)
    drawn = {name: generator.choice(list(pool)) for name, pool in pools.items()}
    report["random"] = score_captions(drawn, references, ["CIDEr"]).corpus
    for utility in ("cider", "rouge", "both"):
        started = time.perf_counter()
        results = load_refiner("consensus", utility=utility, corpus=corpus).refine(requests)
        seconds = time.perf_counter() - started
        texts = {one.image_id: one.text for one in results}
        after = score_captions(texts, references, ["CIDEr", "Bleu_4", "ROUGE_L"], bootstrap=RESAMPLES)
        tests = {
            name: vars(paired_bootstrap(before.statistics[name], after.statistics[name], resamples=RESAMPLES))
            for name in after.statistics
        }
        report[utility] = {
            "scores": {name: vars(interval) for name, interval in after.intervals.items()},
            "against_first": tests,
            "seconds": seconds,
        }
        cider = tests["CIDEr"]
        print(
            f"  {utility}: CIDEr {cider['a']:.4f} -> {cider['b']:.4f} ({cider['difference']:+.4f} "
            f"[{cider['low']:+.4f}, {cider['high']:+.4f}], p = {cider['p_value']:.4f}), {seconds:.2f} s",
            flush=True,
        )
    return report


def consensus(arguments: argparse.Namespace) -> None:
    report: dict[str, Any] = {"resamples": RESAMPLES, **circumstances()}
    if arguments.files:
        systems = [read_predictions(path) for path in arguments.files]
        names = list(systems[0][0])
        pools = {name: [drafts[name] for drafts, _ in systems] for name in names}
        title = " + ".join(path.stem for path in arguments.files)
        print(title)
        report["files"] = {"systems": title, **compare_consensus(pools, systems[0][1])}
    if arguments.scenes:
        print(f"starter, {arguments.samples} samples an image, {arguments.scenes} scenes")
        pools, likelihoods, references, corpus = sample_scenes(arguments.scenes, arguments.samples)
        print(" against the first as sampled:")
        generator = random.Random(0)
        shuffled = {name: generator.sample(pool, len(pool)) for name, pool in pools.items()}
        report["scenes, any first"] = compare_consensus(shuffled, references, corpus)
        print(" against the one that the captioner finds likeliest:")
        report["scenes, likeliest first"] = compare_consensus(pools, references, corpus)
        print(" against the same, with the captioner's likelihoods given to consensus:")
        report["scenes, likeliest first, likelihoods"] = compare_consensus(pools, references, corpus, likelihoods)
    write_json(RESULTS / "refiners_consensus.json", report)


def sample_scenes(
    count: int, samples: int
) -> tuple[dict[str, list[str]], dict[str, list[float]], dict[str, list[str]], list[str]]:
    """Sampled captions of the starter on held-out scenes, the likeliest first; their mean token log-probabilities;
    references; training captions."""
    import torch

    from blip_refine.data.images import load_image
    from blip_refine.data.sources import load_source
    from blip_refine.models.captioner import load_captioner
    from blip_refine.models.decoding import DecodingOptions, generate_captions

    records = load_source("scenes:everyday", split="test")[:count]
    corpus = [text for one in load_source("scenes:everyday", split="train")[:2000] for text in one.captions]
    model, processor = load_captioner("starter")
    options = DecodingOptions(do_sample=True, num_return_sequences=samples, num_beams=1, seed=0)
    pools: dict[str, list[str]] = {}
    likelihoods: dict[str, list[float]] = {}
    with torch.inference_mode():
        for start in range(0, len(records), 16):
            batch = records[start : start + 16]
            pictures = [load_image(record.image) for record in batch]
            pixels = processor.image_processor(images=pictures, return_tensors="pt").pixel_values
            for record, found in zip(batch, generate_captions(model, processor, pixels, options), strict=True):
                likeliest_first = sorted(zip(found.log_probs, found.texts, strict=True), key=lambda pair: -pair[0])
                pools[record.image_id] = [text for _, text in likeliest_first]
                likelihoods[record.image_id] = [value for value, _ in likeliest_first]
    return pools, likelihoods, {record.image_id: list(record.captions) for record in records}, corpus


# server -------------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def server(arguments: argparse.Namespace) -> None:
    import openai

    requests = [RefineRequest(f"a man number {k} on a beach", image_id=str(k)) for k in range(arguments.requests)]
    expected = [f"A man number {k} on a beach." for k in range(arguments.requests)]
    port, script = free_port(), ROOT / "tests" / "refine" / "server.py"
    command = [sys.executable, str(script), str(port), str(arguments.latency), str(arguments.errors)]
    process = subprocess.Popen(command)
    times: dict[str, list[float]] = {"one": [], "many": []}
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        url = f"http://127.0.0.1:{port}/v1"
        load_refiner("openai:m", base_url=url).refine(requests[:8])  # The first call of a process pays for imports.
        for number in range(arguments.repeats):
            for name, concurrency in (("many", arguments.concurrency), ("one", 1)):
                if name == "one" and number >= arguments.repeats_of_one:
                    continue
                refiner = load_refiner("openai:m", base_url=url, concurrency=concurrency)
                started = time.perf_counter()
                results = refiner.refine(requests)
                times[name].append(time.perf_counter() - started)
                assert [one.text for one in results] == expected, "an answer is lost, or on another's request"
                print(f"  {name}: {times[name][-1]:.2f} s", flush=True)
    finally:
        process.terminate()
        process.wait()
    ratio = statistics.median(times["one"]) / statistics.median(times["many"])
    print(f"{ratio:.1f} times as fast with {arguments.concurrency} calls at once")
    settings = {key: value for key, value in vars(arguments).items() if isinstance(value, (int, float))}
    report = {"seconds": times, "ratio": ratio, "settings": settings, "openai": openai.__version__, **circumstances()}
    write_json(RESULTS / "refiners_server.json", report)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    one = parts.add_parser("captions")
    one.add_argument("file", type=Path)
    one.add_argument("--model", help="a chat model: folder, Hub id or .gguf file")
    one.add_argument("--limit", type=int, help="a random subset of so many captions")
    one.add_argument("--batch-size", type=int, default=32)
    one.add_argument("--dtype", default="float32")
    one.add_argument("--cache", type=Path, help="keep answers here, and go on from there")
    one.add_argument("--spacy", help="a spaCy pipeline that counts nouns, independent of the guards")
    one.add_argument("--examples", action="store_true", help="write a few captions into the results")
    two = parts.add_parser("consensus")
    two.add_argument("files", type=Path, nargs="*", help="predictions of several systems for the same images")
    two.add_argument("--scenes", type=int, default=0, help="so many drawn scenes, captioned by the starter")
    two.add_argument("--samples", type=int, default=8)
    three = parts.add_parser("server")
    three.add_argument("--requests", type=int, default=500)
    three.add_argument("--latency", type=float, default=0.05)
    three.add_argument("--errors", type=float, default=0.1)
    three.add_argument("--concurrency", type=int, default=128)
    three.add_argument("--repeats", type=int, default=3)
    three.add_argument("--repeats-of-one", type=int, default=3)
    arguments = parser.parse_args()
    {"captions": captions, "consensus": consensus, "server": server}[arguments.part](arguments)


if __name__ == "__main__":
    main()
