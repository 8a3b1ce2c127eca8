"""Where a model comes from: its base, its data, and the licence that it inherits from them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

STARTER = "starter"


@dataclass(frozen=True, slots=True)
class Origin:
    """A base model or a data set whose terms are known.

    Args:
        name (`str`): What people call it.
        license (`str`): As the Hub spells it; "other" where it has no name there.
        terms (`str`): The licence in words.
        hub_id (`str`, *optional*): Its repository on the Hub.
        commercial (`bool`, defaults to `True`): Whether commercial use is allowed.
        redistributable (`bool`, defaults to `True`): Whether its pictures may be shown on a public page.
        language (`str`, *optional*): ISO 639-1 code of its captions.
    """

    name: str
    license: str
    terms: str
    hub_id: str | None = None
    commercial: bool = True
    redistributable: bool = True
    language: str | None = None


_BSD = ("bsd-3-clause", "BSD 3-Clause")

KNOWN_BASES = {
    STARTER: Origin("the small BLIP that blip_refine brings along (`starter`)", *_BSD, language="en"),
    **{
        hub_id: Origin(f"`{hub_id}`", *_BSD, hub_id=hub_id, language="en")
        for hub_id in ("Salesforce/blip-image-captioning-base", "Salesforce/blip-image-captioning-large")
    },
}
"""Captioners that people start from."""

_FLICKR = "non-commercial research and education; the photos belong to their Flickr authors"
_COCO = "captions under CC BY 4.0; each photo under the terms that its author chose on Flickr"

KNOWN_DATA = {
    "scenes": Origin("drawn scenes", *_BSD, language="en"),
    "flickr8k": Origin("Flickr8k", "other", _FLICKR, "ariG23498/flickr8k", False, False, "en"),
    "flickr30k": Origin("Flickr30k", "other", _FLICKR, None, False, False, "en"),
    "coco": Origin(
        "COCO captions", "cc-by-4.0", _COCO, hub_id="yerevann/coco-karpathy", redistributable=False, language="en"
    ),
}
"""Data whose terms are known, by the names of `load_source`."""


def is_hub_id(name: Any) -> bool:
    """Whether `name` is an `owner/name` of the Hub and not a folder that lies here."""
    return isinstance(name, str) and _HUB_ID.fullmatch(name) is not None and not os.path.exists(name)


def is_local_path(name: Any) -> bool:
    """Whether `name` is a place on somebody's machine: nothing that a page on the Hub should tell."""
    if not isinstance(name, str) or "\n" in name:
        return False
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or name.startswith(("~", "./", "../", "\\")):
        return True
    return not is_hub_id(name) and ("/" in name or "\\" in name) and os.path.exists(name)


def public_name(name: str) -> str:
    """What a page may call a model or a data set: its name on the Hub, or the last part of its path."""
    if is_embedded_starter(name):
        return STARTER
    return re.split(r"[\\/]", name.rstrip("\\/"))[-1] if is_local_path(name) else name


def is_embedded_starter(name: str) -> bool:
    """Whether `name` is "starter" or the path of the checkpoint inside this package."""
    if name == STARTER:
        return True
    return is_local_path(name) and Path(name).resolve() == (Path(__file__).resolve().parent.parent / "starter")


def find_base(name: str | None) -> Origin | None:
    """The base model, where its terms are known."""
    return KNOWN_BASES.get(public_name(name)) if name else None


def find_data(name: str | None) -> Origin | None:
    """The data, where its terms are known. A copy under another name (`owner/flickr8k-resized`) keeps their limits."""
    if not name:
        return None
    public = public_name(name).lower()
    known = KNOWN_DATA.get(public.split(":")[0]) or next(
        (origin for origin in KNOWN_DATA.values() if public == (origin.hub_id or "").lower()), None
    )
    words = re.split(r"[^a-z0-9]+", public)
    copies = (origin for word, origin in KNOWN_DATA.items() if word in words and not origin.commercial)
    return known or next(copies, None)


@dataclass(frozen=True, slots=True)
class License:
    """What may be done with a model.

    Args:
        metadata (`dict`): `license`, `license_name`, `license_link` of the card; empty where it is not known.
        sentences (`tuple[str, ...]`): The same in words.
        warning (`str`, *optional*): What the one who publishes must know.
    """

    metadata: dict[str, str]
    sentences: tuple[str, ...]
    warning: str | None = None


def inherit_license(base: str | None, data: str | None, chosen: str | None = None) -> License:
    """The licence of a model from those of its base and its data.

    Args:
        base (`str`, *optional*): The base model's name.
        data (`str`, *optional*): The training data's name.
        chosen (`str`, *optional*): The licence that the author states; it stands, and known limits are told beside it.
    """
    base_origin, data_origin = find_base(base), find_data(data)
    sentences = []
    if base_origin:
        sentences.append(f"The weights start from {base_origin.name}, licensed {base_origin.terms}.")
    if data_origin:
        sentences.append(f"The training data, {data_origin.name}: {data_origin.terms}.")
    warning = None
    if data_origin and not data_origin.commercial:
        warning = (
            f"The training data, {data_origin.name}, is for non-commercial use only: this model inherits that limit."
        )
        sentences.append("Commercial use of this model is therefore not covered.")
    if chosen:
        return License({"license": chosen}, (f"Licence chosen by the author: {chosen}.", *sentences), warning)
    if warning:
        return License({"license": "other", "license_name": "non-commercial"}, tuple(sentences), warning)
    # Without data the weights are the base's own; with data of unknown terms nothing is claimed.
    if base_origin and (data_origin or not data):
        return License({"license": base_origin.license}, tuple(sentences))
    if not base and data_origin and data_origin.license != "other":
        return License({"license": data_origin.license}, tuple(sentences))
    return License({}, tuple(sentences))
