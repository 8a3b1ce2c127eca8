"""A pipeline over the embedded starter, and photos in every form that people have them in."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def captioner():
    """Model and processor of the starter."""
    from blip_refine.models.captioner import load_captioner

    return load_captioner("starter")


@pytest.fixture
def make_pipeline(captioner):
    """`make_pipeline(**options)`: a fast pipeline over the starter."""
    from blip_refine.pipeline import CaptionPipeline

    def make(**options):
        return CaptionPipeline(*captioner, **{"decoding": "fast", "num_workers": 2, **options})

    return make


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of ten JPEGs, one of them in a folder of its own."""
    from blip_refine.data.sources.scenes import make_scene

    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    for number in range(10):
        place = folder / ("more" if number == 9 else "") / f"{number}.jpg"
        make_scene("everyday", "test", number).image.save(place, quality=95)
    return folder
