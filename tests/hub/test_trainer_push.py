"""Training with `push_to_hub=True`: the captioner of every save on the Hub, and nothing else of the output folder."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from blip_refine.data.dataset import BlipCaptionDataset
from blip_refine.errors import ConfigurationError, HubError
from blip_refine.hub.pull import download_captioner
from blip_refine.hub.verify import folder_logits, probe_logits
from blip_refine.models.captioner import load_captioner
from blip_refine.records import CaptionRecord
from blip_refine.training.arguments import CaptionTrainingArguments
from blip_refine.training.trainer import CaptionTrainer

from .hub_server import OWNER, TOKEN

REPO = f"{OWNER}/boats"


def make_trainer(output, base_folder, lora=False, **options) -> CaptionTrainer:
    colors = ("red", "blue", "green", "white")
    records = [
        CaptionRecord(Image.new("RGB", (32, 32), color), (f"a {color} boat", f"the {color} boat"), f"{color}.png")
        for color in colors
    ]
    arguments = CaptionTrainingArguments(
        str(output), num_train_epochs=2, per_device_train_batch_size=2, gradient_accumulation_steps=1,
        gradient_checkpointing=False, learning_rate=1e-3, logging_steps=1, disable_tqdm=True, use_cpu=True,
        precision="fp32", push_to_hub=True, hub_model_id=REPO, hub_token=TOKEN, **options,
    )  # fmt: skip
    model, processor = load_captioner(base_folder, lora=lora)
    return CaptionTrainer(model, arguments, BlipCaptionDataset(records), processing_class=processor)


def test_every_save_is_published_and_the_end(hub, templates, tmp_path):
    trainer = make_trainer(tmp_path / "run", templates / "base", hub_always_push=True)
    trainer.train()
    commits = hub.repositories[f"models/{REPO}"].branches["main"][1:]
    assert [commit.message for commit in commits] == [
        "Training in progress, step 2",
        "Training in progress, step 4",
    ]
    weights = [commit.files["model.safetensors"] for commit in commits]
    assert weights[0] != weights[1], "each save is that save's own model"
    for commit in commits:
        assert not [name for name in commit.files if name.endswith((".bin", ".pt", ".pth")) or "checkpoint" in name]
    pushed = trainer.push_to_hub()
    assert pushed.repo_id == REPO and pushed.verified == ("before", "after")
    expected = probe_logits(trainer.model.eval(), trainer.processing_class)
    torch.testing.assert_close(folder_logits(download_captioner(REPO)), expected, atol=1e-5, rtol=1e-5)
    assert hub.repositories[f"models/{REPO}"].find("main").message == "End of training"
    assert not any(TOKEN.encode() in content for content in hub.store.values())
    card = hub.files(REPO)["README.md"].decode()
    assert "optimizer steps" in card and "More Information Needed" not in card


def test_an_adapter_is_published_as_one(hub, base, tmp_path):
    trainer = make_trainer(tmp_path / "run", base, lora={"r": 2})
    trainer.train()
    files = hub.files(REPO)
    assert "adapter_model.safetensors" in files and "model.safetensors" not in files
    pushed = trainer.push_to_hub(blocking=False).result(timeout=120)
    assert pushed.kind == "adapter" and pushed.verified == ("before", "after")


def test_what_cannot_be_published_is_refused_before_training(hub, templates, tmp_path):
    with pytest.raises(ConfigurationError, match="'base' is a folder of this machine"):
        make_trainer(tmp_path / "run", templates / "base", lora=True)
    with pytest.raises(ConfigurationError, match="optimizer states"):
        make_trainer(tmp_path / "run", templates / "base", hub_strategy="checkpoint")
    trainer = make_trainer(tmp_path / "run", templates / "base")
    trainer.args.hub_model_id = "somebody/boats"
    with pytest.raises(HubError, match="may not write there"):
        trainer.init_hf_repo()


def test_a_failed_push_costs_no_training_and_is_told(hub, templates, tmp_path, caplog):
    trainer = make_trainer(tmp_path / "run", templates / "base")
    hub.refuse_commits = 10
    trainer.train()
    assert trainer.state.global_step == 4
    assert "A checkpoint was not published" in caplog.text and "503" in caplog.text
