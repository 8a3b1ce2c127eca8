"""The embedded starter and pictures for it."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def starter_captioner():
    from blip_refine.models.captioner import load_captioner

    return load_captioner("starter")


@pytest.fixture(scope="session")
def scene_pixels(starter_captioner):
    from blip_refine.data.sources.scenes import make_scene

    pictures = [make_scene("everyday", "test", number).image for number in range(6)]
    return starter_captioner[1].image_processor(images=pictures, return_tensors="pt").pixel_values
