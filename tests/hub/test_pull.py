"""Loading what was published by its name: each kind, from the cache without a network, and what can go wrong."""

from __future__ import annotations

import pytest
import torch

from blip_refine import CaptionPipeline
from blip_refine.errors import HubError, ModelError
from blip_refine.hub.pull import download_captioner
from blip_refine.hub.push import push_captioner
from blip_refine.hub.verify import folder_logits, probe_logits

from .hub_server import OWNER

REPO = f"{OWNER}/boats"
WRONG = f"{OWNER}/nothing-here"


def logits_of(pipeline: CaptionPipeline) -> torch.Tensor:
    return probe_logits(pipeline.model, pipeline.processor)


@pytest.mark.parametrize("kind", ["full", "adapter", "merged"])
def test_by_name_and_then_without_a_network(hub, base, full_run, adapter_run, monkeypatch, kind):
    run = full_run if kind == "full" else adapter_run
    assert push_captioner(run, REPO, merge=kind == "merged", verify=False).kind == kind
    expected = folder_logits(run)
    found = CaptionPipeline.from_pretrained(REPO, device="cpu")
    tolerance = {"atol": 1e-5, "rtol": 1e-4} if kind == "merged" else {"atol": 0, "rtol": 0}
    torch.testing.assert_close(logits_of(found), expected, **tolerance)
    assert isinstance(found(full_run / "images" / "0000.png").text, str)
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.requests)
    again = CaptionPipeline.from_pretrained(REPO, device="cpu")
    assert torch.equal(logits_of(again), logits_of(found)) and len(hub.requests) == asked


def test_a_branch_by_its_name(hub, full_run, adapter_run, base):
    push_captioner(full_run, REPO, verify=False)
    push_captioner(adapter_run, REPO, revision="lora", verify=False)
    assert torch.equal(logits_of(CaptionPipeline.from_pretrained(REPO, device="cpu")), folder_logits(full_run))
    adapter = CaptionPipeline.from_pretrained(REPO, revision="lora", device="cpu")
    assert torch.equal(logits_of(adapter), folder_logits(adapter_run))


def test_pipeline_push(hub, base, adapter_run):
    pushed = CaptionPipeline.from_pretrained(adapter_run, device="cpu").push_to_hub(REPO, private=True)
    assert (pushed.kind, pushed.verified) == ("adapter", ("before", "after"))
    assert hub.repositories[f"models/{REPO}"].private


def test_what_is_not_there_is_explained(hub, full_run, monkeypatch):
    with pytest.raises(ModelError, match="nothing-here"):
        CaptionPipeline.from_pretrained(WRONG)
    push_captioner(full_run, REPO, verify=False)
    with pytest.raises(ModelError, match=REPO):
        CaptionPipeline.from_pretrained(REPO, revision="v9")
    hub.repositories[f"models/{REPO}"].gated = True
    with pytest.raises(ModelError, match="accept its terms"):
        CaptionPipeline.from_pretrained(REPO)


def test_download_explains_itself(hub, full_run, monkeypatch):
    with pytest.raises(HubError, match="no such repository, or it is private"):
        download_captioner(WRONG)
    push_captioner(full_run, REPO, private=True, verify=False)
    with pytest.raises(HubError, match="no such revision"):
        download_captioner(REPO, revision="v9")
    with pytest.raises(HubError, match="no such repository, or it is private"):
        download_captioner(REPO, token=False)
    hub.repositories[f"models/{REPO}"].gated = True
    with pytest.raises(HubError, match="is gated.*Accept its terms"):
        download_captioner(REPO)
    with pytest.raises(HubError, match="no name of a repository"):
        download_captioner("a/b/c")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="not in the local cache"):
        download_captioner(REPO)


def test_pickled_weights_are_not_even_fetched(hub, full_run):
    push_captioner(full_run, REPO, verify=False)
    hub.repositories[f"models/{REPO}"].find("main").files["pytorch_model.bin"] = next(iter(hub.store))
    folder = download_captioner(REPO)
    assert not list(folder.glob("*.bin")) and (folder / "model.safetensors").is_file()
