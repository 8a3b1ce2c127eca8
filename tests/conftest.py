"""What all tests share. Nothing here reaches the internet."""

from __future__ import annotations

import os
from pathlib import Path

# Before anything imports huggingface_hub: its settings are read once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

# The same examples in every run: a property that fails once in a thousand must not fail on somebody else's change.
# Search for new ones with HYPOTHESIS_PROFILE=default.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_collection_modifyitems(items):
    if os.name != "posix":
        for item in items:
            if item.get_closest_marker("posix"):
                item.add_marker(pytest.mark.skip(reason="signals, file modes or pipes of POSIX"))


STARTER = Path(__file__).resolve().parent.parent / "blip_refine" / "starter"


@pytest.fixture(autouse=True)
def away_from_the_repository(tmp_path, monkeypatch):
    """A test that writes to a relative path writes into a folder of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real photos and gold scores that `BLIP_REFINE_TEST_DATA` names."""
    folder = os.environ.get("BLIP_REFINE_TEST_DATA")
    if not folder:
        pytest.skip("BLIP_REFINE_TEST_DATA is not set: no real photos to test on")
    path = Path(folder)
    assert path.is_dir(), f"BLIP_REFINE_TEST_DATA names {folder!r}, which is not a folder"
    return path


@pytest.fixture
def tiny_captioner():
    """A random BLIP of 32x32 pixels with the starter's processor: every part real, and fast.

    Returns a function, so that a test can have several with equal weights: `tiny_captioner(seed=0)`.
    """
    import torch
    from transformers import BlipConfig, BlipProcessor

    from blip_refine.models.attention import use_attention
    from blip_refine.models.blip import BlipForConditionalGeneration

    def make(seed: int = 0, attention: str = "sdpa", image_size: int = 32, **text):
        processor = BlipProcessor.from_pretrained(STARTER)
        processor.image_processor.size = {"height": image_size, "width": image_size}
        tokenizer = processor.tokenizer
        config = BlipConfig(
            text_config={
                "vocab_size": len(tokenizer) + 2,
                "hidden_size": 32,
                "encoder_hidden_size": 32,
                "intermediate_size": 64,
                "projection_dim": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "max_position_embeddings": 64,
                "bos_token_id": len(tokenizer),
                "eos_token_id": tokenizer.sep_token_id,
                "sep_token_id": tokenizer.sep_token_id,
                "pad_token_id": tokenizer.pad_token_id,
                **text,
            },
            vision_config={
                "hidden_size": 32,
                "intermediate_size": 64,
                "projection_dim": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "image_size": image_size,
                "patch_size": 16,
                "initializer_range": 0.02,
            },
            projection_dim=32,
        )
        torch.manual_seed(seed)
        return use_attention(BlipForConditionalGeneration(config), attention).eval(), processor

    return make
