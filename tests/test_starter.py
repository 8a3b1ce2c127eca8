"""The embedded starter: small, safe, stock, as good as its card says, and its card up to date."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from blip_refine import CaptionPipeline
from blip_refine.data.sources.scene_captions import plural
from blip_refine.data.sources.scenes import DOMAINS, load_scenes
from blip_refine.metrics import score_captions

ROOT = Path(__file__).resolve().parent.parent
STARTER = ROOT / "blip_refine" / "starter"


@pytest.fixture(scope="module")
def captioned():
    """Sixty scenes that the starter was not trained on, and what it says of them."""
    records = load_scenes("everyday", "test", count=60)
    captions = CaptionPipeline.from_pretrained("starter", batch_size=30)(records)
    return records, captions


def test_it_is_small_and_holds_no_pickle():
    files = list(STARTER.iterdir())
    assert sum(path.stat().st_size for path in files) < 15_000_000
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".jsonl"}
    text = "".join(path.read_text() for path in files if path.suffix == ".json")
    assert not re.search(r'"/(home|root|tmp|work)/', text), "a path of the machine it was made on"


def test_it_reaches_its_target_on_unseen_scenes(captioned):
    records, captions = captioned
    scores = score_captions(
        {record.image_id: caption.text for record, caption in zip(records, captions, strict=True)},
        {record.image_id: list(record.captions) for record in records},
        metrics=["CIDEr"],
    )
    assert scores.corpus["CIDEr"] > 2.5

    right = 0
    for record, caption in zip(records, captions, strict=True):
        words = caption.text.split()
        present = {one.name for one in record.objects}
        named = {name for name in DOMAINS["everyday"].things if {name, plural(name)} & set(words)}
        colored = all(
            any(words[i - 1] == one.color for i, word in enumerate(words) if word in (one.name, plural(one.name)))
            for one in record.objects
        )
        right += named == present and colored
    assert right / len(records) >= 0.7


def test_its_card_tells_what_its_files_say():
    scores = json.loads((STARTER / "coco_metrics.json").read_text())
    facts = json.loads((STARTER / "pretraining.json").read_text())
    card = (ROOT / "MODEL_CARD.md").read_text().replace("\\_", "_")
    assert f"{scores['CIDEr']:.3f}" in card
    assert str(facts["seed"]) in card and "pretrain_starter.py" in card
    assert "[More Information Needed]" not in card


def test_its_card_is_up_to_date():
    check = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "starter_card.py"), "--check"], capture_output=True, text=True
    )
    assert check.returncode == 0, check.stderr
