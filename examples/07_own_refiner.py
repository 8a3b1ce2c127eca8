"""Refiners: those that come with the package, and one of your own, behind guards.

    python examples/07_own_refiner.py --smoke                           # offline, seconds, no model
    python examples/07_own_refiner.py captions.jsonl --refiner "rules>openai:gpt-4o-mini" --output refined.jsonl
    python examples/07_own_refiner.py captions.jsonl --catalog catalog.csv --output refined.jsonl

`captions.jsonl` holds a row `{"image_id": ..., "caption": ...}` per image, with `candidates` if there are several.
`catalog.csv` has the columns `image_id` and `name`: this shop's own refiner puts the name of the product in.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from blip_refine import BlipRefineError, Refiner, RefineRequest, load_refiner
from blip_refine.refine import Guards, Proposal, as_refiner
from blip_refine.refine.files import read_requests, write_refined


class CatalogRefiner(Refiner):
    """Puts a product's name before its caption. Captions of unknown images stay as they are.

    Args:
        names (`Mapping[str, str]`): Image id to the product's name.
    """

    name = "catalog"
    asks_again = False  # the same request gives the same answer

    def __init__(self, names: Mapping[str, str]):
        super().__init__()
        self.names = names

    def propose(self, requests: Sequence[RefineRequest], feedback: Sequence[str | None]) -> list[Proposal]:
        proposals = []
        for request in requests:
            name = self.names.get(request.image_id)
            if name is None:
                proposals.append(Proposal(None, reason="not in the catalog", keeps_draft=True))
            else:
                proposals.append(Proposal(f"{name}: {request.draft}", raw=request.draft))
        return proposals


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

    print("one of your own, after the rules")
    shop = load_refiner("rules") >> CatalogRefiner({"7.jpg": "Trail Runner 3"})
    for result in shop.refine(
        [RefineRequest("a a red shoe", image_id="7.jpg"), RefineRequest("a blue shoe", image_id="8.jpg")]
    ):
        print(f"  {result.draft!r} -> {result.text!r}")

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
    parser.add_argument("--catalog", type=Path, help="a CSV with image_id and name")
    parser.add_argument("--output", type=Path, default=Path("refined.jsonl"))
    parser.add_argument("--smoke", action="store_true", help="a few built-in captions, without any model")
    options = parser.parse_args()
    if options.smoke:
        smoke()
        return
    if options.captions is None:
        parser.error("give a file of captions, or --smoke")
    rows, requests = read_requests(options.captions, output=options.output)
    refiner = load_refiner(options.refiner)
    if options.catalog is not None:
        with open(options.catalog, newline="", encoding="utf-8") as file:
            refiner = refiner >> CatalogRefiner({row["image_id"]: row["name"] for row in csv.DictReader(file)})
    with refiner:
        summary = write_refined(options.output, rows, refiner.refine(requests))
    print(f"{summary.changed} changed, {summary.unchanged} fine as they were, {sum(summary.kept.values())} kept:")
    for reason, count in summary.kept.items():
        print(f"  {count} {reason}")


if __name__ == "__main__":
    try:
        main()
    except BlipRefineError as error:
        raise SystemExit(f"Error: {error}") from error
