"""What was pushed captions with its prompt and decoding unasked, whole, as an adapter and merged."""

from __future__ import annotations

import pytest

from blip_refine import CaptionPipeline, load_captioner
from blip_refine.hub.push import push_captioner, push_model
from blip_refine.models.decoding import DecodingOptions
from blip_refine.models.saved_defaults import read_defaults, save_defaults, set_defaults

from .hub_server import OWNER

REPO = f"{OWNER}/boats"
OPTIONS = DecodingOptions(num_beams=2, max_new_tokens=7, prompt="a picture of ")


def give_defaults(folder):
    model, processor = load_captioner(folder)
    set_defaults(model, OPTIONS)
    save_defaults(model, folder)
    return model, processor


@pytest.mark.parametrize("kind", ["full", "adapter", "merged"])
def test_a_pushed_run_captions_with_its_prompt(hub, base, full_run, adapter_run, kind):
    run = full_run if kind == "full" else adapter_run
    before = CaptionPipeline.from_pretrained(run, device="cpu")(full_run / "images" / "0000.png").text
    assert not before.startswith("a picture of")
    give_defaults(run)
    assert "generation_config.json" in push_captioner(run, REPO, merge=kind == "merged", verify=False).files
    pulled = CaptionPipeline.from_pretrained(REPO, device="cpu")
    assert pulled.decoding == OPTIONS
    caption = pulled(full_run / "images" / "0000.png")
    assert caption.text.startswith("a picture of") and caption.prompt == "a picture of"
    assert caption.text == CaptionPipeline.from_pretrained(run, device="cpu")(full_run / "images" / "0000.png").text


@pytest.mark.parametrize("kind", ["full", "adapter"])
@pytest.mark.parametrize("how", ["model", "pipeline"])
def test_a_model_pushed_from_memory_captions_with_its_prompt(hub, base, full_run, adapter_run, kind, how):
    model, processor = give_defaults(full_run if kind == "full" else adapter_run)
    if how == "model":
        push_model(model, processor, REPO, verify=False)
    else:
        CaptionPipeline(model, processor).push_to_hub(REPO, verify=False)
    assert CaptionPipeline.from_pretrained(REPO, device="cpu").decoding == OPTIONS


def test_an_adapter_that_replaces_a_whole_model_takes_its_defaults_along(hub, base, full_run, adapter_run):
    give_defaults(full_run)
    push_captioner(full_run, REPO, verify=False)
    assert read_defaults(adapter_run) is None
    push_captioner(adapter_run, REPO, verify=False)
    assert CaptionPipeline.from_pretrained(REPO, device="cpu").decoding == DecodingOptions()
