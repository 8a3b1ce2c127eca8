"""The one check that predictions and references belong together, and are what they should be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Sized

from ..errors import MetricError


def _examples(ids: Iterable, limit: int = 3) -> str:
    ids = list(ids)
    shown = ", ".join(repr(image_id) for image_id in ids[:limit])
    return shown + (f" and {len(ids) - limit} more" if len(ids) > limit else "")


def _count(ids: Sized, noun: str = "image") -> str:
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
    _check_mapping("predictions", predictions, '{"1.jpg": "a dog runs"}')
    _check_mapping("references", references, '{"1.jpg": ["a dog runs", "a brown dog"]}')
    if not references:
        raise MetricError("There are no references: nothing can be scored.")
    if not predictions:
        raise MetricError(f"There are no predictions for the {_count(references)} of the references.")
    faults = [
        *_membership_faults(predictions, references),
        *_prediction_faults(predictions, allow_empty),
        *_reference_faults(references),
    ]
    if faults:
        raise MetricError(" ".join(faults))


def check_references(references: Mapping[str, Sequence[str]]) -> None:
    """Refuse references that cannot be scored against.

    Raises:
        MetricError: No references, wrong nesting, or images without any.
    """
    _check_mapping("references", references, '{"1.jpg": ["a dog runs", "a brown dog"]}')
    faults = _reference_faults(references) if references else ["There are no references: nothing can be scored."]
    if faults:
        raise MetricError(" ".join(faults))


def check_duplicates(name: str, ids: Iterable[str]) -> None:
    """Refuse image ids that come twice, as they can in a file or a list.

    Args:
        name (`str`): What the ids are of ("predictions").
        ids (`Iterable[str]`): The ids, in their order.

    Raises:
        MetricError: An id comes twice; the message names examples.
    """
    repeated = [image_id for image_id, times in Counter(ids).items() if times > 1]
    if repeated:
        raise MetricError(
            f"More than one of the {name} for {_count(repeated)} ({_examples(repeated)}): one an image is scored."
        )


def _check_mapping(name: str, value: object, example: str) -> None:
    if not isinstance(value, Mapping):
        raise MetricError(f"{name} must map image ids to captions, such as {example}; got a {type(value).__name__}.")


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


def _prediction_faults(predictions: Mapping, allow_empty: bool) -> list[str]:
    faults = []
    nested = [k for k, v in predictions.items() if isinstance(v, (list, tuple))]
    if nested:
        faults.append(f"A prediction is one string an image, not a list: {_count(nested)} ({_examples(nested)}).")
    not_text = [k for k, v in predictions.items() if not isinstance(v, (str, list, tuple))]
    if not_text:
        faults.append(f"Predictions that are not text: {_count(not_text)} ({_examples(not_text)}).")
    empty = [k for k, v in predictions.items() if isinstance(v, str) and not v.strip()]
    if empty and not allow_empty:
        faults.append(
            f"Empty predictions: {_count(empty)} ({_examples(empty)}); with allow_empty they are scored as they are."
        )
    return faults


def _reference_faults(references: Mapping) -> list[str]:
    bare, wrong, none, blank = [], [], [], []
    for image_id, captions in references.items():
        if isinstance(captions, str):
            bare.append(image_id)
        elif not isinstance(captions, Sequence) or not all(isinstance(text, str) for text in captions):
            wrong.append(image_id)
        elif not captions:
            none.append(image_id)
        elif not all(text.strip() for text in captions):
            blank.append(image_id)
    faults = []
    if bare:
        faults.append(
            f"References are a list of strings an image, not one string: {_count(bare)} ({_examples(bare)}); "
            "put the caption into a list."
        )
    if wrong:
        faults.append(f"References that are not a list of strings: {_count(wrong)} ({_examples(wrong)}).")
    if none:
        faults.append(f"Images without a single reference: {_count(none)} ({_examples(none)}).")
    if blank:
        faults.append(f"Empty references: {_count(blank)} ({_examples(blank)}).")
    return faults
