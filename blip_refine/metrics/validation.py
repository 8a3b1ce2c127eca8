"""The one check that predictions and references belong together, and are what they should be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..errors import MetricError


def _examples(ids: Iterable, limit: int = 3) -> str:
    ids = list(ids)
    shown = ", ".join(repr(image_id) for image_id in ids[:limit])
    return shown + (f" and {len(ids) - limit} more" if len(ids) > limit else "")


def _count(ids: Sequence, noun: str = "image") -> str:
    return f"{len(ids)} {noun}{'' if len(ids) == 1 else 's'}"


def check_captions(
    predictions: Mapping[str, str], references: Mapping[str, Sequence[str]], allow_empty: bool = False
) -> None:
    """Refuse predictions and references that cannot be scored honestly.

    Every fault is named with the number of images it concerns and examples, all faults in one message.

    Args:
        predictions (`Mapping[str, str]`): One caption an image.
        references (`Mapping[str, Sequence[str]]`): A list of captions an image.
        allow_empty (`bool`, defaults to `False`): Accept empty predictions, which then score as they deserve. Empty
            references are never accepted.

    Raises:
        MetricError: Missing, extra or empty predictions or references, wrong nesting, or ids of another set.
    """
    for name, value, example in (
        ("predictions", predictions, '{"1.jpg": "a dog runs"}'),
        ("references", references, '{"1.jpg": ["a dog runs", "a brown dog"]}'),
    ):
        if not isinstance(value, Mapping):
            raise MetricError(
                f"{name} must map image ids to captions, such as {example}; got a {type(value).__name__}."
            )
    if not references:
        raise MetricError("There are no references: nothing can be scored.")
    if not predictions:
        raise MetricError(f"There are no predictions for the {_count(references)} of the references.")

    faults = [*_membership_faults(predictions, references), *_content_faults(predictions, references, allow_empty)]
    if faults:
        raise MetricError(" ".join(faults))


def _membership_faults(predictions: Mapping, references: Mapping) -> list[str]:
    missing = [image_id for image_id in references if image_id not in predictions]
    extra = [image_id for image_id in predictions if image_id not in references]
    if missing and len(missing) == len(references):
        hint = ""
        if {str(image_id) for image_id in predictions} & {str(image_id) for image_id in references}:
            hint = " The ids are equal as text: one side holds numbers and the other strings."
        return [
            "Predictions and references are of different sets: not one image id is in both "
            f"(predictions: {_examples(predictions)}; references: {_examples(references)}).{hint}"
        ]
    faults = []
    if missing:
        faults.append(
            f"No prediction for {_count(missing)} of the references ({_examples(missing)}): "
            "caption them, or leave them out of the references knowingly."
        )
    if extra:
        faults.append(f"No references for {_count(extra)} of the predictions ({_examples(extra)}).")
    return faults


def _content_faults(predictions: Mapping, references: Mapping, allow_empty: bool) -> list[str]:
    faults = []
    nested = [k for k, v in predictions.items() if isinstance(v, (list, tuple))]
    not_text = [k for k, v in predictions.items() if not isinstance(v, (str, list, tuple))]
    bare = [k for k, v in references.items() if isinstance(v, str)]
    deep = [k for k, v in references.items() if not isinstance(v, str) and not _is_list_of_text(v)]
    none = [k for k, v in references.items() if not isinstance(v, str) and _is_list_of_text(v) and not len(v)]
    if nested:
        faults.append(f"A prediction is one string an image, not a list: {_count(nested)} ({_examples(nested)}).")
    if not_text:
        faults.append(f"Predictions that are not text: {_count(not_text)} ({_examples(not_text)}).")
    if bare:
        faults.append(
            f"References are a list of strings an image, not one string: {_count(bare)} ({_examples(bare)}); "
            "put the caption into a list."
        )
    if deep:
        faults.append(f"References that are not a list of strings: {_count(deep)} ({_examples(deep)}).")
    if none:
        faults.append(f"Images without a single reference: {_count(none)} ({_examples(none)}).")
    if not allow_empty:
        empty = [k for k, v in predictions.items() if isinstance(v, str) and not v.strip()]
        if empty:
            faults.append(
                f"Empty predictions: {_count(empty)} ({_examples(empty)}); with allow_empty they are scored as they are."
            )
    blank = [
        k
        for k, v in references.items()
        if not isinstance(v, str) and _is_list_of_text(v) and any(not text.strip() for text in v)
    ]
    if blank:
        faults.append(f"Empty references: {_count(blank)} ({_examples(blank)}).")
    return faults


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, Sequence) and all(isinstance(text, str) for text in value)
