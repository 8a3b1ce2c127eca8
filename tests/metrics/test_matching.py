"""Ids that are paths find the references of the same file, and never those of another."""

from __future__ import annotations

import pytest

from blip_refine.metrics.matching import match_file_names


@pytest.mark.parametrize(
    ("ids", "references", "expected"),
    [
        (["photos/1.jpg", "photos/2.jpg"], ["1.jpg", "2.jpg", "3.jpg"], ["1.jpg", "2.jpg"]),
        (["C:\\photos\\1.jpg"], ["1.jpg"], ["1.jpg"]),
        (["photos/a.b.jpg"], ["a.b"], ["a.b"]),
        (["1.jpg"], ["test/1.jpg"], ["test/1.jpg"]),
        (["a.b"], ["test/a.b.jpg"], ["test/a.b.jpg"]),
        # What has no match keeps its id, and is named in the error that follows.
        (["photos/1.jpg", "photos/9.jpg"], ["1.jpg"], ["1.jpg", "photos/9.jpg"]),
        # One id in both: the others are missing, and not called something else.
        (["1.jpg", "photos/2.jpg"], ["1.jpg", "2.jpg"], ["1.jpg", "photos/2.jpg"]),
        # Which `1.jpg` is meant?
        (["a/1.jpg", "b/1.jpg"], ["1.jpg"], ["a/1.jpg", "b/1.jpg"]),
        (["photos/1.jpg"], ["a/1.jpg", "b/1.jpg"], ["photos/1.jpg"]),
        (["photos/1.jpg"], ["1.png", "1.jpeg"], ["photos/1.jpg"]),
        (["x.jpg"], ["y.jpg"], ["x.jpg"]),
        ([], ["y.jpg"], []),
    ],
)
def test_ids_are_matched_by_file_name_or_left(ids, references, expected):
    predictions = {image_id: f"caption of {image_id}" for image_id in ids}
    matched = match_file_names(predictions, references)
    assert list(matched) == expected
    assert list(matched.values()) == list(predictions.values())


def test_matching_is_said(caplog):
    match_file_names({"photos/1.jpg": "a dog"}, ["1.jpg"])
    assert "matched by the names of the files" in caplog.text
    caplog.clear()
    match_file_names({"1.jpg": "a dog"}, ["1.jpg"])
    assert not caplog.text
