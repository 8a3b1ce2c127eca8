"""The demonstration, small: every file of a run is there, belongs together, and loads in stock transformers."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
import transformers

from blip_refine.cli.main import main
from blip_refine.cli.rate import _begin
from blip_refine.demo import run_demo
from blip_refine.evaluation.human import CRITERIA
from blip_refine.models.captioner import load_captioner

from .hub.hub_server import HubServer


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return run_demo(tmp_path_factory.mktemp("demo") / "run", images=300, epochs=3)


def test_it_learns_even_in_half_a_minute(demo):
    before, after = (demo.systems[name].scores.corpus["CIDEr"] for name in ("before", "after"))
    assert before < after / 2


def test_every_file_of_a_run_is_there(demo):
    names = {path.name for path in demo.folder.iterdir()}
    expected = {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "processor_config.json",
        "coco_metrics.json",
        "predictions.jsonl",
        "trainer_state.json",
        "run.json",
        "README.md",
        "training_fingerprint.json",
        "images",
        "report",
    }
    assert expected <= names
    assert not [name for name in names if name.endswith((".bin", ".pkl", ".pt"))]
    assert (demo.folder / "report" / "index.html").stat().st_size > 10_000


def test_scores_and_predictions_tell_one_story(demo):
    scores = json.loads((demo.folder / "coco_metrics.json").read_text())
    assert list(scores["systems"]) == ["before", "after", "refined"]
    assert scores["CIDEr"] == scores["systems"]["after"]["CIDEr"]
    rows = [json.loads(line) for line in (demo.folder / "predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 100
    for row in rows:
        assert set(row["systems"]) == {"before", "after", "refined"}
        assert row["caption"] == row["systems"]["after"]
        assert row["confidence"] <= 0
        assert (demo.folder / row["image"]).is_file()
    best = [
        row
        for row in json.loads((demo.folder / "trainer_state.json").read_text())["log_history"]
        if "eval_loss" in row
    ]
    assert len(best) == 3 and all(row["eval_sacrebleu"] >= 0 for row in best)


def test_what_could_not_be_computed_is_said(demo):
    scores = json.loads((demo.folder / "coco_metrics.json").read_text())
    for name in ("METEOR", "SPICE"):
        assert (name in scores) != (name in scores["unavailable"])
    assert all(scores["unavailable"].values())
    assert "null" not in (demo.folder / "coco_metrics.json").read_text()


def test_the_run_loads_in_stock_transformers_with_equal_logits(demo):
    ours, processor = load_captioner(demo.folder)
    stock = transformers.BlipForConditionalGeneration.from_pretrained(demo.folder).eval()
    transformers.BlipProcessor.from_pretrained(demo.folder)
    pixels = torch.rand(2, 3, 96, 96)
    ids = torch.tensor([[ours.config.text_config.bos_token_id, 40, 50]]).repeat(2, 1)
    with torch.no_grad():
        torch.testing.assert_close(
            ours(pixel_values=pixels, input_ids=ids).logits,
            stock(pixel_values=pixels, input_ids=ids).logits,
            atol=1e-4,
            rtol=1e-4,
        )


@pytest.fixture
def copied(demo, tmp_path):
    """A copy of the run that a test may change."""
    return Path(shutil.copytree(demo.folder, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoint-*")))


def test_the_card_passes_the_hubs_own_validation(demo, monkeypatch):
    """`ModelCard.validate` sends it to a server that checks as the Hub does; loading it checks the metadata."""
    path = demo.folder / "README.md"
    with HubServer() as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        huggingface_hub.utils.close_session()
        # Releases before 2.0 have the Hub's address in `validate` itself.
        session = huggingface_hub.utils.get_session()
        post = session.post
        hub = "https://huggingface.co"
        monkeypatch.setattr(session, "post", lambda url, **options: post(url.replace(hub, server.url), **options))
        card = huggingface_hub.ModelCard.load(path)
        card.validate()
        # It does look: a card that is wrong is refused.
        with pytest.raises(ValueError, match="license"):
            huggingface_hub.ModelCard(card.content.replace("license: bsd-3-clause", "license: none-such")).validate()
    huggingface_hub.utils.close_session()
    assert card.data.pipeline_tag == "image-to-text" and card.data.license == "bsd-3-clause"
    scores = json.loads((demo.folder / "coco_metrics.json").read_text())
    found = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert found["CIDEr"] == pytest.approx(scores["CIDEr"], abs=5e-5)
    assert {result.dataset_split for result in card.data.eval_results} == {"test"}
    assert not re.search(r"[Mm]ore [Ii]nformation [Nn]eeded|TODO|\bNone\b|\bnan\b|\{\{", card.content)


def test_every_snippet_of_the_card_runs(copied, monkeypatch, capsys):
    shutil.copy(copied / "images" / "00000.png", copied / "photo.jpg")
    monkeypatch.chdir(copied)
    snippets = re.findall(r"```python\n(.*?)```", (copied / "README.md").read_text(), re.DOTALL)
    said = []
    for snippet in snippets:
        capsys.readouterr()
        exec(compile(snippet, "snippet", "exec"), {"__name__": "__main__"})
        said.append(capsys.readouterr().out.strip())
    assert len(said) == 3 and said[0] and len(set(said)) == 1


def test_errors_and_ratings_reach_card_and_report(copied, capsys):
    columns = "| share of captions | before | after | refined | a reference |"
    assert f"## What goes wrong\n\n{columns}" in (copied / "README.md").read_text()
    study = _begin(copied, copied / "ratings.sqlite", None, 5, 2, 0, 0)
    for rater in ("ann", "bob"):
        study.sign_in(rater)
        while (task := study.next_task(rater)) is not None:
            study.save(task.task, rater, [dict.fromkeys(CRITERIA, 4) for _ in task.captions])
    for command in (["rate", str(copied), "--summary"], ["report", str(copied), "--no-plots"]):
        with pytest.raises(SystemExit) as stopped:
            main(command)
        assert not stopped.value.code
    card = (copied / "README.md").read_text()
    assert "## What people say" in card and "5 images, 2 raters" in card and "| after | 4.00 [4.00, 4.00]" in card
    page = (copied / "report" / "index.html").read_text()
    assert "What people say" in page and "hallucination" in page
    # A card that somebody wrote on is theirs.
    (copied / "README.md").write_text(card + "\nMine.\n")
    with pytest.raises(SystemExit):
        main(["rate", str(copied), "--summary"])
    assert (copied / "README.md").read_text().endswith("Mine.\n")
    assert "left alone" in capsys.readouterr().err


def test_evaluating_a_run_on_what_it_was_trained_on_is_refused(demo, capsys, tmp_path):
    arguments = ["evaluate", str(demo.folder), "--dataset", "scenes:adventure", "--split", "train", "--images", "5"]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--output", str(tmp_path)])
    assert stopped.value.code == 2
    assert "in the training set" in capsys.readouterr().err


def test_the_command_ends_with_the_table_and_the_next_step(capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        main(["demo", "--output", str(tmp_path / "run"), "--images", "6", "--epochs", "1"])
    assert not stopped.value.code
    out = capsys.readouterr().out
    assert "CIDEr" in out and "refined" in out
    assert re.match(r"Next: \S+.* caption .*00000\.png --model ", out.rstrip().splitlines()[-1])
