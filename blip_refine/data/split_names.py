"""How many images a score is over, and of which split, in words: the same in tables, report and card."""

from __future__ import annotations


def images_of_split(count: int | None, split: str | None, mark: str = "{}") -> str:
    """ "24 held-out images", or "24 images of the validation split" where that is not the test split.

    Args:
        count (`int`, *optional*): How many images.
        split (`str`, *optional*): The name of their split; not known by default.
        mark (`str`, defaults to `"{}"`): What the split's name is put into.
    """
    number = "" if count is None else f"{count} "
    if split in (None, "test"):
        return f"{number}held-out images"
    return f"{number}images of the {mark.format(split)} split"
