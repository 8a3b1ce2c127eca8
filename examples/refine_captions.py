"""Refine captions: with rules, by consensus of several samples, with a language model, and with one of your own.

    python examples/refine_captions.py --smoke                          # offline, seconds, no model
    python examples/refine_captions.py captions.jsonl --refiner "rules>openai:gpt-4o-mini" --output refined.jsonl
    python examples/refine_captions.py captions.jsonl --refiner "instruct:HuggingFaceTB/SmolLM2-1.7B-Instruct"

`captions.jsonl` holds a row `{"image_id": ..., "caption": ...}` an image, with `candidates` where there are several.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from blip_refine import RefineRequest, load_refiner
from blip_refine.refine import Guards, as_refiner
from blip_refine.refine.files import read_requests, write_refined


def smoke() -> None:
    print("rules: what decoders do to captions is put right")
    for result in load_refiner("rules").refine(
        ["arafed man in a red shirt standing next to a a car", "a dog dog on a beach and a"]
    ):
        print(f"  {result.draft!r} -> {result.text!r} ({result.reason})")

    print("consensus: of several samples, the one that agrees with the others")
    samples = ("a cat on a mat", "a dog on a beach", "a dog runs on a beach", "a brown dog on a beach")
    result = load_refiner("rules>consensus").refine([RefineRequest(samples[0], samples[1:])])[0]
    print(f"  {result.text!r} ({result.reason})")

    print("guards: what a model makes up does not get through")

    def poet(request: RefineRequest) -> str:
        return f"{request.draft.capitalize()}, in the light of a Tuscan evening."

    guarded = as_refiner(poet)
    guarded.guards = Guards()
    result = guarded.refine(["a red car on a road"])[0]
    print(f"  {result.raw!r} -> {result.text!r} ({result.reason})")
    assert result.text == "a red car on a road" and not result.accepted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captions", nargs="?", type=Path, help="JSON Lines with image_id and caption")
    parser.add_argument("--refiner", default="rules")
    parser.add_argument("--output", type=Path, default=Path("refined.jsonl"))
    parser.add_argument("--smoke", action="store_true", help="a few built-in captions, without any model")
    options = parser.parse_args()
    if options.smoke:
        smoke()
        return
    if options.captions is None:
        parser.error("give a file of captions, or --smoke")
    rows, requests = read_requests(options.captions, output=options.output)
    with load_refiner(options.refiner) as refiner:
        summary = write_refined(options.output, rows, refiner.refine(requests))
    print(f"{summary.changed} changed, {summary.unchanged} fine as they were, {sum(summary.kept.values())} kept:")
    for reason, count in summary.kept.items():
        print(f"  {count} {reason}")


if __name__ == "__main__":
    main()
