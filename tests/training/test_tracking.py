"""What can be seen of a run while it goes: samples, curves, speed, energy, and what trackers are given."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from transformers.integrations import TrackioCallback, WandbCallback

from blip_refine.data.dataset import BlipCaptionDataset
from blip_refine.errors import MissingExtraError
from blip_refine.evaluation.systems import CaptionedImage
from blip_refine.hub.card import render_model_card
from blip_refine.records import CaptionRecord
from blip_refine.training.callbacks import NarratedProgress
from blip_refine.training.curves import write_curves
from blip_refine.training.energy import EnergyMeter
from blip_refine.training.samples import write_samples
from blip_refine.training.throughput import Throughput
from blip_refine.training.trainer import CaptionTrainer

from .test_trainer import arguments, scenes


def uneven(count: int) -> BlipCaptionDataset:
    """The first image has one caption, the second two, and so on up to five, of different lengths."""
    records = scenes("train", count).records
    return BlipCaptionDataset([replace(one, captions=one.captions[: 1 + i % 5]) for i, one in enumerate(records)])


def trained(tiny_captioner, folder, train=None, callbacks=(), **changes) -> CaptionTrainer:
    model, processor = tiny_captioner()
    train = train or scenes("train", 4)
    trainer = CaptionTrainer(
        model, arguments(folder, **changes), train, scenes("validation", 3), processor, callbacks=list(callbacks)
    )
    trainer.train()
    return trainer


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_tensorboard_is_given_numbers_pictures_and_captions(tiny_captioner, tmp_path):
    trainer = trained(tiny_captioner, tmp_path / "run", report_to=["tensorboard"], save_strategy="no")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = {path.parent for path in tmp_path.rglob("events.out.tfevents.*")}
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    wanted = {"train/loss", "train/captions_per_second", "train/peak_memory_gib", "eval/loss", "eval/sacrebleu"}
    assert wanted | {"eval/CIDEr"} <= set(tags["scalars"])
    assert [one.step for one in events.Scalars("eval/loss")] == [1, 2]
    pictures = events.Images("samples")
    assert [one.step for one in pictures] == [1, 2]
    assert (pictures[1].width, pictures[1].height) == Image.open(tmp_path / "run/samples/step-0000002.png").size
    (text,) = events.Tensors("captions/text_summary")[1].tensor_proto.string_val
    table = text.decode()
    assert table.count("\n") == 1 + 3 and all(one.record.image_id in table for one in trainer._last_evaluation)


@pytest.mark.parametrize("tracker", ["wandb", "trackio"])
def test_other_trackers_are_given_pictures_with_captions(tracker, tiny_captioner, tmp_path, monkeypatch):
    if importlib.util.find_spec(tracker) is None:
        pytest.skip(f"{tracker} is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    options = {"project": "tests"} if tracker == "trackio" else {}
    trained(tiny_captioner, tmp_path / "run", report_to=[tracker], save_strategy="no", num_train_epochs=1, **options)
    written = [path for path in tmp_path.rglob("*.png") if path.parts[len(tmp_path.parts)] != "run"]
    assert len(written) == 1
    assert Image.open(written[0]).size == Image.open(tmp_path / "run/samples/step-0000001.png").size


class Service:
    """What a tracker's module offers, as far as it is used."""

    def __init__(self):
        self.logged, self.run = [], self

    def Image(self, picture, caption):  # noqa: N802
        return picture, caption

    def log(self, values):
        self.logged.append(values)


@pytest.mark.parametrize(("kind", "module"), [(WandbCallback, "wandb"), (TrackioCallback, "trackio")])
def test_a_tracker_is_known_by_its_callback(kind, module, tmp_path, monkeypatch):
    service = Service()
    monkeypatch.setitem(sys.modules, module, service)
    callback = kind.__new__(kind)  # it would ask for the real package
    record = CaptionRecord(scenes("test", 1)[0]["image"], ("a <b>cat</b> | a dog",), "one|two")
    write_samples([CaptionedImage(record, "*a cat*", None)], tmp_path, 7, [callback, object()])
    ((picture, table),) = [values["samples"] for values in service.logged]
    assert service.logged[0]["train/global_step"] == 7
    service.run = None  # the tracker is there, and nothing is being tracked
    write_samples([CaptionedImage(record, "*a cat*", None)], tmp_path, 8, [callback])
    assert len(service.logged) == (1 if kind is WandbCallback else 2)
    assert picture.size == Image.open(tmp_path / "step-0000007.png").size
    # Neither Markdown nor HTML of a caption is one of the page that shows it.
    assert table.splitlines()[-1] == r"| one\|two | \*a cat\* | a &lt;b&gt;cat&lt;/b&gt; \| a dog |"


def test_samples_are_on_the_disk_with_their_captions(tiny_captioner, tmp_path):
    trainer = trained(tiny_captioner, tmp_path, samples_to_log=2)
    folder = tmp_path / "samples"
    assert sorted(path.name for path in folder.iterdir()) == [
        *("step-0000001.jsonl", "step-0000001.png", "step-0000002.jsonl", "step-0000002.png")
    ]
    rows = [json.loads(line) for line in (folder / "step-0000002.jsonl").read_text().splitlines()]
    expected = trainer._last_evaluation[:2]
    assert [row["image_id"] for row in rows] == [one.record.image_id for one in expected]
    assert [row["caption"] for row in rows] == [one.caption for one in expected]
    assert rows[0]["references"] == list(expected[0].record.captions)
    sheet = Image.open(folder / "step-0000002.png")
    first = expected[0].record
    picture = BlipCaptionDataset([first])[0]["image"].resize((224, 224))
    assert sheet.crop((0, 0, 224, 224)).tobytes() == picture.tobytes()
    below = sheet.crop((0, 224, 224, sheet.height)).convert("L")
    assert below.getextrema()[0] < 60, "the caption is written below in black"


def test_no_samples_where_none_are_wanted(tiny_captioner, tmp_path):
    trained(tiny_captioner, tmp_path / "none", samples_to_log=0)
    trained(tiny_captioner, tmp_path / "loss", loss_only=True)
    assert not (tmp_path / "none" / "samples").exists() and not (tmp_path / "loss" / "samples").exists()


def test_captions_are_counted_and_not_rows_of_padding(tiny_captioner, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no photo")
    broken = CaptionRecord(str(tmp_path / "broken.jpg"), ("a photo", "of nothing"), "broken")
    data = BlipCaptionDataset([*uneven(5).records, broken])
    trainer = trained(
        tiny_captioner, tmp_path / "run", data, per_device_train_batch_size=1, logging_steps=6, num_train_epochs=1
    )
    (row,) = [row for row in trainer.state.log_history if "captions_per_second" in row]
    # 5 images that can be read with 1 + 2 + 3 + 4 + 5 captions; a black picture takes the place of the sixth.
    assert row["captions_per_second"] / row["images_per_second"] == pytest.approx(3, rel=1e-3)
    assert row["peak_memory_gib"] > 0.05


def test_speed_is_that_of_training_and_the_rest_of_the_time_is_known():
    speed = Throughput()
    batch = {"indices": torch.arange(4), "caption_counts": torch.tensor([5, 5, 5, 5])}
    began = time.monotonic()
    speed.count(batch)
    with speed.paused(), speed.paused():
        time.sleep(0.2)
    first = speed.report(SimpleNamespace(global_step=2, max_steps=10), processes=3)
    assert first["images_per_second"] > 3 * 4 / (time.monotonic() - began), "evaluation was counted as training"
    assert first["captions_per_second"] == pytest.approx(5 * first["images_per_second"], rel=1e-3)
    assert "eta_seconds" not in first
    time.sleep(0.2)
    second = speed.report(SimpleNamespace(global_step=4, max_steps=10))
    assert second["images_per_second"] == 0 and second["eta_seconds"] == pytest.approx(0.6, abs=0.25)


def test_a_short_run_has_a_training_loss_and_a_speed(tiny_captioner, tmp_path):
    said = []
    narrator = SimpleNamespace(progress=_progress, note=said.append)
    model, processor = tiny_captioner()
    args = arguments(tmp_path, logging_steps=50, num_train_epochs=2, max_new_tokens=3)
    trainer = CaptionTrainer(model, args, scenes("train", 8), scenes("validation", 2), processor)
    NarratedProgress.replace_default(trainer, narrator)
    trainer.train()
    rows = [row for row in trainer.state.log_history if "loss" in row]
    assert [row["step"] for row in rows] == [2, 4]
    assert len(said) == 2 and "training loss" in said[0] and "captions/s" in said[0] and "CIDEr" in said[0]
    quiet = trained(tiny_captioner, tmp_path / "quiet", logging_strategy="no", eval_strategy="no")
    assert not [row for row in quiet.state.log_history if "loss" in row]


class _progress:
    def __init__(self, description, total=None):
        self.total = total

    def __enter__(self):
        return lambda n=1: None

    def __exit__(self, *error):
        return None


def test_curves_are_drawn_of_loss_and_of_every_metric(tiny_captioner, tmp_path):
    assert write_curves([{"step": 1, "eval_runtime": 3.0}], tmp_path) is None and not list(tmp_path.iterdir())
    widths = []
    for row in ({"loss": 2.0}, {"eval_loss": 2.0, "eval_CIDEr": 0.4}, {"loss": 2.0, "eval_CIDEr": 0.4, "eval_own": 3}):
        path = write_curves([{"step": step, **row} for step in (10, 20)], tmp_path)
        widths.append(Image.open(path).width)
    assert widths[1] == 2 * widths[0] and widths[2] == 3 * widths[0], "a panel each for loss, CIDEr and the user's own"
    trained(tiny_captioner, tmp_path / "run")
    picture = Image.open(tmp_path / "run" / "curves.png")
    assert picture.width == widths[2] and len(picture.convert("RGB").getcolors(10**6)) > 20


@pytest.mark.skipif(importlib.util.find_spec("codecarbon") is None, reason="codecarbon is not installed")
def test_energy_is_measured_and_carbon_where_a_country_is_known(tiny_captioner, tmp_path):
    trainer = trained(
        tiny_captioner, tmp_path, track_energy=True, energy_country="DEU", save_strategy="no", max_steps=3
    )
    (row,) = [row for row in trainer.state.log_history if "energy_kwh" in row]
    assert row["step"] == 3 and row["energy_kwh"] > 0
    # Grams a kilowatt-hour of the country's electricity.
    assert 50 < 1000 * row["co2_kg"] / row["energy_kwh"] < 1000


def test_without_codecarbon_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "codecarbon", None)
    with pytest.raises(MissingExtraError, match=r"blip_refine\[co2\]"):
        EnergyMeter()


class FailingTracker:
    """What `codecarbon.OfflineEmissionsTracker` is to the meter; raises where it is told to."""

    fails_in: str
    stopped = 0

    def __init__(self, **options):
        self._do("made")

    def _do(self, where: str) -> None:
        if where == self.fails_in:
            raise PermissionError("/home/ada/powercap cannot be read")

    def start(self):
        self._do("start")

    def flush(self):
        self._do("flush")
        # codecarbon logs most of its own errors and returns nothing.
        return None if self.fails_in == "silent flush" else 0.01

    def stop(self):
        type(self).stopped += 1
        self._do("stop")
        if self.fails_in != "silent stop":
            self.final_emissions_data = SimpleNamespace(energy_consumed=0.5)
        return 0.2


@pytest.mark.parametrize(
    ("fails_in", "when"),
    [
        ("made", "when training began"),
        ("start", "when training began"),
        ("flush", "at step 1"),
        ("silent flush", "at step 1"),
        ("stop", "when training ended"),
        ("silent stop", "when training ended"),
    ],
)
def test_a_tracker_that_fails_does_not_end_the_training(fails_in, when, tiny_captioner, tmp_path, monkeypatch, caplog):
    tracker = type("Tracker", (FailingTracker,), {"fails_in": fails_in, "stopped": 0})
    monkeypatch.setitem(sys.modules, "codecarbon", SimpleNamespace(OfflineEmissionsTracker=tracker))
    trainer = trained(
        tiny_captioner, tmp_path, track_energy=True, energy_country="DEU", logging_steps=1, save_strategy="no"
    )
    assert trainer.state.global_step == trainer.state.max_steps > 1
    told = [record.message for record in caplog.records if "Energy is not measured" in record.message]
    assert len(told) == 1 and f"codecarbon failed {when}" in told[0]
    rows = [row for row in trainer.state.log_history if "energy_unavailable" in row]
    assert len(rows) == 1 and f"failed {when}" in rows[0]["energy_unavailable"]
    assert "/home/ada" not in rows[0]["energy_unavailable"], "the card is published"
    assert not [row for row in trainer.state.log_history if "energy_kwh" in row]
    assert tracker.stopped == (0 if fails_in == "made" else 1 if "flush" in fails_in or fails_in == "start" else 2)
    trainer.save_model()
    trainer.save_state()
    assert f"not measured: codecarbon failed {when}" in render_model_card(tmp_path)


def test_the_energy_of_a_run_that_was_resumed_says_from_where(tiny_captioner, tmp_path, monkeypatch):
    tracker = type("Tracker", (FailingTracker,), {"fails_in": "never"})
    monkeypatch.setitem(sys.modules, "codecarbon", SimpleNamespace(OfflineEmissionsTracker=tracker))
    state = SimpleNamespace(global_step=4, is_local_process_zero=True, log_history=[])
    meter = EnergyMeter()
    meter.on_train_begin(None, state, None)
    state.global_step = 9
    meter.on_train_end(None, state, None)
    assert state.log_history == [{"energy_kwh": 0.5, "step": 9, "energy_from_step": 4}]
