"""A small set of captions with references, made up for these tests."""

from __future__ import annotations

import random

REFERENCES = {
    "boat.jpg": ["A red boat floats on the lake.", "There's a small boat on calm water", "red boat, lake"],
    "dogs.jpg": ["Two dogs play with a ball.", "A brown dog and a black dog chase a ball in the grass."],
    "kite.jpg": ["A boy flies a kite at the beach.", "The child can't hold the kite!", "kite over the sea", "a kite"],
    "room.jpg": ["An empty room with a chair", "A chair stands in a room."],
}
PREDICTIONS = {
    "boat.jpg": "a red boat on the water",
    "dogs.jpg": "a dog runs in the grass with a ball",
    "kite.jpg": "a boy is flying a kite",
    "room.jpg": "a table in a kitchen",
}

WORDS = ("a", "man", "dog", "red", "boat", "on", "the", "grass", "with", "two", "kites", "'s", "ball", "runs")


def random_captions(seed: int, images: int = 60) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Tokenized captions of a few words, with many coincidences, one to six references an image, some of them long."""
    draw = random.Random(seed)

    def caption(shortest: int = 1) -> str:
        length = draw.choice([*range(shortest, 15), 70])
        return " ".join(draw.choices(WORDS, k=length))

    references = {str(n): [caption() for _ in range(draw.randint(1, 6))] for n in range(images)}
    return {image_id: caption() for image_id in references}, references
