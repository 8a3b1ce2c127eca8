"""`blip-refine fetch`: a published dataset, or SPICE's parser, from its official place."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .output import output

if TYPE_CHECKING:
    from ..data.fetch.catalog import Part, Published
    from ..data.fetch.dataset import Fetched


def fetch(
    name: Annotated[
        str,
        typer.Argument(help="coco, flickr8k, flickr30k, nocaps, conceptual-captions, or spice (Stanford CoreNLP)."),
    ],
    folder: Annotated[
        Path | None, typer.Option("--output", "-o", help="The folder to write. Default: the dataset's name.")
    ] = None,
    parts: Annotated[
        str | None, typer.Option(help="Parts, separated by commas. --dry-run lists them. Default: the usual ones.")
    ] = None,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="You have read the licence and agree to it.")
    ] = False,
    images: Annotated[
        int | None, typer.Option(help="Only the first so many images of a list (nocaps, conceptual-captions).")
    ] = None,
    expect: Annotated[
        Path | None, typer.Option(help="fetched.json of another machine: refuse a file with another SHA-256.")
    ] = None,
    keep_archives: Annotated[
        bool, typer.Option("--keep-archives", help="Keep the zip files after they are unpacked.")
    ] = False,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Download listed images from private addresses, too.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print parts, sizes and licence, and stop.")] = False,
) -> None:
    """Download a dataset into a folder that --data-dir takes, or Stanford CoreNLP for SPICE.

    Stopped at any time, the same command goes on where it was. Example: blip-refine fetch flickr8k --output flickr8k
    """
    from ..data.fetch.catalog import published
    from ..data.fetch.dataset import fetch_dataset, read_expected, read_manifest
    from ..errors import ConfigurationError
    from ..metrics.spice import corenlp_folder

    one = published(name)
    wanted = [part.strip() for part in parts.split(",") if part.strip()] if parts is not None else None
    chosen = one.choose(wanted, name)
    if images is not None and not any(part.images for part in chosen.values()):
        raise ConfigurationError(f"--images is for lists of images, and {name} comes in whole archives: use --parts.")
    if allow_private and one.source != "conceptual_captions":
        raise ConfigurationError(f"--allow-private is for addresses that strangers wrote; {name} has none of these.")
    folder = folder or (corenlp_folder() if not one.source else Path(name.replace("_", "-").lower()))
    _describe(one, chosen, dry_run)
    if dry_run:
        output.result({"name": name, "licence": one.licence, "terms": one.terms, "parts": list(chosen)})
        return
    agreed = accept_license or bool(read_manifest(folder).get("licence_accepted")) or _ask(name)
    if not agreed:
        raise ConfigurationError(
            f"The licence of {name} must be agreed to. Read it at {one.terms}, and add --accept-license."
        )
    fetched = fetch_dataset(
        name,
        folder,
        accept_license=True,
        parts=list(chosen),
        images=images,
        keep_archives=keep_archives,
        expected=read_expected(expect) if expect else None,
        allow_private=allow_private,
        narrator=output,
    )
    _report(one, fetched)


def _describe(one: Published, chosen: dict[str, Part], whole: bool) -> None:
    from ..data.fetch.unpack import describe_bytes

    output.note(one.title)
    # A licence must be seen, also where notes are not wanted.
    show = output.line if whole else lambda text: typer.echo(text, err=True)
    show(f"Licence: {one.licence} {one.terms}")
    if not whole:
        return
    rows = []
    for name, part in one.parts.items():
        size = sum(file.bytes for file in part.files) + part.bytes_of_images
        rows.append([f"{'* ' if name in chosen else '  '}{name}", describe_bytes(size), part.about])
    output.table(["part", "download", "what"], rows, title="* would be fetched")


def _ask(name: str) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    return typer.confirm(f"Do you agree to the licence of {name}?", default=False, err=True)


def _report(one: Published, fetched: Fetched) -> None:
    from ..data.fetch.dataset import MANIFEST

    if fetched.images or fetched.failed:
        output.line(f"{fetched.images} images are here.")
    for what, reason in list(fetched.failed.items())[:10]:
        output.warning(f"{what}: {reason}")
    if one.source == "nocaps" and fetched.failed:
        output.warning(f"{len(fetched.failed)} images are missing. The same command tries them again.")
    output.line(f"Folder: {fetched.folder}")
    output.line(f"Sizes and checksums: {fetched.folder / MANIFEST}")
    result: dict[str, Any] = {"folder": str(fetched.folder), "files": fetched.files, "images": fetched.images}
    output.result({**result, "failed": fetched.failed})
    if (command := next_command(one.source, fetched)) is not None:
        output.next_command(command)


def next_command(source: str, fetched: Fetched) -> str | None:
    """What to type with what was fetched; `None` where a part is missing that everything needs."""
    if not source:
        return "blip-refine score PREDICTIONS REFERENCES --metrics SPICE"
    here, model = shlex.quote(str(fetched.folder)), "Salesforce/blip-image-captioning-base"
    data = f"--dataset {source} --data-dir {here}"
    parts = set(fetched.parts)
    if source == "coco":
        captions = {"karpathy", "annotations2014"} & parts
        trained = (captions and "train2014" in parts) or {"annotations2017", "train2017"} <= parts
        tested = "karpathy" in parts and "val2014" in parts
        validated = ("annotations2014" in parts and "val2014" in parts) or {"annotations2017", "val2017"} <= parts
        if not trained and not tested and not validated:
            return None
        if not trained:
            return f"blip-refine evaluate {model} {data} --split {'test' if tested else 'validation'}"
    if source == "nocaps":
        split, name = ("validation", "val") if "val" in parts else ("test", "test")
        # The server scores whole splits alone.
        whole = fetched.images and not fetched.failed and fetched.images in (4500, 10600, 15100)
        return f"blip-refine evaluate {model} {data} --split {split}" + (
            f" --submission nocaps_{name}.json" if whole else ""
        )
    if source == "conceptual_captions" and "train" not in parts:
        return f"blip-refine evaluate {model} {data} --split validation"
    if source.startswith("flickr") and parts != {"images", "captions"}:
        return None
    return f"blip-refine train --model {model} {data} --lora --learning-rate 1e-4 --output run"
