"""Publishing by the real client to a Hub on loopback: whole models, adapters, merged ones, broken connections."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from blip_refine.errors import ConfigurationError, HubError, ModelError, SourceNotFoundError
from blip_refine.hub.pull import download_captioner
from blip_refine.hub.push import push_captioner, push_model
from blip_refine.hub.verify import folder_logits, require_same_logits
from blip_refine.models.captioner import load_captioner

from .hub_server import OWNER, TOKEN

REPO = f"{OWNER}/boats"


def change(path: Path, **fields) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}, indent=2))


def test_whole_model_there_and_back(hub, full_run):
    pushed = push_captioner(full_run, REPO)
    assert (pushed.kind, pushed.repo_id, pushed.verified) == ("full", REPO, ("before", "after"))
    assert pushed.commit == hub.repositories[f"models/{REPO}"].find("main").oid
    assert pushed.url == f"{hub.url}/{REPO}"
    there = hub.files(REPO)
    assert set(there) == set(pushed.files)
    assert there["model.safetensors"] == (full_run / "model.safetensors").read_bytes()
    folder = download_captioner(REPO)
    assert torch.equal(folder_logits(folder), folder_logits(full_run))
    # The stock library reads it by its name on the Hub.
    from transformers import BlipForConditionalGeneration, BlipProcessor

    model, processor = BlipForConditionalGeneration.from_pretrained(REPO).eval(), BlipProcessor.from_pretrained(REPO)
    from blip_refine.hub.verify import probe_logits

    torch.testing.assert_close(probe_logits(model, processor), folder_logits(full_run), atol=1e-4, rtol=1e-4)


def test_only_a_captioner_goes(hub, full_run):
    files = push_captioner(full_run, REPO, verify=False).files
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl")) or "checkpoint" in name]
    assert "trainer_state.json" not in files and "predictions.jsonl" not in files
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json", "coco_metrics.json"} <= set(files)
    shown = [name for name in files if name.startswith("images/")]
    assert len(shown) == 6 and all(name in hub.files(REPO)["README.md"].decode() for name in shown)


def test_adapter_there_and_back(hub, base, adapter_run):
    pushed = push_captioner(adapter_run, REPO)
    assert pushed.kind == "adapter" and pushed.verified == ("before", "after")
    assert "model.safetensors" not in pushed.files and "tokenizer.json" in pushed.files
    assert json.loads(hub.files(REPO)["adapter_config.json"])["base_model_name_or_path"] == base
    folder = download_captioner(REPO)
    assert torch.equal(folder_logits(folder), folder_logits(adapter_run))
    plain, processor = load_captioner(base)
    from blip_refine.hub.verify import probe_logits

    assert not torch.allclose(probe_logits(plain, processor), folder_logits(folder), atol=1e-2)


def test_merged_adapter_there_and_back(hub, base, adapter_run):
    pushed = push_captioner(adapter_run, REPO, merge=True)
    assert pushed.kind == "merged" and pushed.verified == ("before", "after")
    assert "adapter_config.json" not in pushed.files and "model.safetensors" in pushed.files
    folder = download_captioner(REPO)
    torch.testing.assert_close(folder_logits(folder), folder_logits(adapter_run), atol=1e-5, rtol=1e-4)
    assert "A LoRA adapter" not in (folder / "README.md").read_text()


def test_another_kind_leaves_nothing_of_the_first(hub, base, adapter_run):
    push_captioner(adapter_run, REPO, verify=False)
    push_captioner(adapter_run, REPO, merge=True, verify=False)
    assert not [name for name in hub.files(REPO) if name.startswith("adapter_")]
    push_captioner(adapter_run, REPO, verify=False)
    assert not [name for name in hub.files(REPO) if name.startswith("model") or name == "config.json"]


def test_sharded_weights_answer_the_same(hub, full_run):
    pushed = push_captioner(full_run, REPO, max_shard_size="100KB")
    shards = [name for name in pushed.files if name.startswith("model-")]
    assert len(shards) > 2 and "model.safetensors.index.json" in pushed.files
    assert pushed.verified == ("before", "after")


def test_a_cut_connection_then_the_same_call(hub, full_run):
    hub.cut_uploads, hub.cut_after = 100, 50_000
    with pytest.raises(HubError, match="Run the same command again"):
        push_captioner(full_run, REPO, max_shard_size="100KB")
    assert hub.files(REPO) == {}, "half a model must not be visible"
    cut = [size for _, size in hub.uploads]
    assert cut and max(cut) <= 50_000
    hub.cut_uploads = 0
    pushed = push_captioner(full_run, REPO, max_shard_size="100KB")
    assert set(hub.files(REPO)) == set(pushed.files) and pushed.verified == ("before", "after")


def test_what_arrived_is_not_sent_again(hub, full_run):
    hub.refuse_commits = 1
    with pytest.raises(HubError, match="503.*Run the same command again"):
        push_captioner(full_run, REPO, verify=False)
    sent = len(hub.uploads)
    assert sent > 0 and hub.files(REPO) == {}
    pushed = push_captioner(full_run, REPO, verify=False)
    assert len(hub.uploads) == sent, "everything had arrived already"
    assert set(hub.files(REPO)) == set(pushed.files)


def test_dry_run_lists_what_goes_and_asks_nobody(hub, full_run):
    would = push_captioner(full_run, REPO, dry_run=True)
    assert hub.requests == [] and would.url is None and would.commit is None and would.verified == ("before",)
    assert push_captioner(full_run, REPO).files == would.files


def test_private_revision_pull_request_message(hub, full_run):
    push_captioner(full_run, REPO, private=True, revision="v1", commit_message="First", verify=False)
    repository = hub.repositories[f"models/{REPO}"]
    assert repository.private and repository.find("v1").message == "First" and repository.find("main").files == {}
    proposed = push_captioner(full_run, REPO, create_pr=True)
    assert proposed.pull_request.endswith("/discussions/1") and proposed.verified == ("before", "after")
    assert repository.find("main").files == {} and "model.safetensors" in repository.find("refs/pr/1").files


@pytest.mark.parametrize(
    ("file", "fields", "said"),
    [
        ("run.json", {"note": "hf_" + "a" * 34}, "run.json, line .*a Hugging Face token"),
        ("config.json", {"hub_token": "0123456789abcdef"}, "the field 'hub_token'"),
        ("config.json", {"note": "sk-proj-" + "b" * 40}, "an OpenAI or Anthropic key"),
        ("run.json", {"note": "/home/ada/photos/1.jpg"}, "the local path '/home/ada/photos/1.jpg'"),
        ("coco_metrics.json", {"note": "C:\\Users\\ada\\run"}, "the local path"),
        ("run.json", {"note": "https://ada:hunter22@example.com/x"}, "a password in a URL"),
    ],
)
def test_planted_secrets_and_paths_are_refused(hub, full_run, file, fields, said):
    change(full_run / file, **fields)
    with pytest.raises(ConfigurationError, match=said) as refused:
        push_captioner(full_run, REPO)
    assert hub.requests == []
    secret = next(iter(fields.values()))
    assert secret not in str(refused.value) or secret.startswith("/home")


def test_values_of_secret_variables_are_refused(hub, full_run, monkeypatch):
    monkeypatch.setenv("MY_SERVICE_API_KEY", "correct-horse-battery")
    change(full_run / "run.json", note="made with correct-horse-battery")
    with pytest.raises(ConfigurationError, match="the value of MY_SERVICE_API_KEY"):
        push_captioner(full_run, REPO)
    change(full_run / "run.json", note=f"made with {TOKEN}")
    with pytest.raises(ConfigurationError, match="line"):
        push_captioner(full_run, REPO)


def test_a_token_in_the_header_of_the_weights_is_refused(hub, full_run):
    from safetensors.torch import load_file, save_file

    path = full_run / "model.safetensors"
    save_file(load_file(path), path, metadata={"format": "pt", "note": "hf_" + "a" * 34})
    with pytest.raises(ConfigurationError, match="model.safetensors: a Hugging Face token"):
        push_captioner(full_run, REPO)


def test_paths_in_the_names_of_base_and_data_become_names(hub, full_run):
    change(full_run / "run.json", base_model=str(full_run.parent / "my-base"), dataset="/home/ada/photos/cats")
    push_captioner(full_run, REPO, verify=False)
    facts = json.loads(hub.files(REPO)["run.json"])
    assert (facts["base_model"], facts["dataset"]) == ("my-base", "cats")
    assert str(full_run.parent) not in hub.files(REPO)["README.md"].decode()


def test_adapter_of_a_local_base(hub, base, adapter_run, templates):
    change(adapter_run / "adapter_config.json", base_model_name_or_path=str(templates / "base"))
    with pytest.raises(ConfigurationError, match="'base' of this machine.*--merge.*--base-model"):
        push_captioner(adapter_run, REPO)
    assert push_captioner(adapter_run, REPO, base_model=base).verified == ("before", "after")
    assert push_captioner(adapter_run, REPO, merge=True).verified == ("before", "after")


def test_the_wrong_base_does_not_pass(hub, base, adapter_run, full_run):
    push_captioner(full_run, f"{OWNER}/other", verify=False)
    with pytest.raises(ModelError, match="does not answer as the run folder does"):
        push_captioner(adapter_run, REPO, base_model=f"{OWNER}/other")
    assert f"models/{REPO}" not in hub.repositories


def test_logits_that_are_not_numbers_do_not_pass():
    good = torch.ones(1, 3, 5)
    with pytest.raises(ModelError, match="does not answer"):
        require_same_logits(good, good * float("nan"), "The copy", merged=True)
    with pytest.raises(ModelError, match="another shape"):
        require_same_logits(good, good[:, :2], "The copy")


def test_pickled_weights_are_refused(hub, full_run):
    (full_run / "model.safetensors").rename(full_run / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pytorch_model.bin.*safetensors"):
        push_captioner(full_run, REPO)


def test_missing_parts_are_named(hub, full_run, tmp_path):
    (full_run / "tokenizer.json").unlink()
    with pytest.raises(SourceNotFoundError, match="lacks the tokenizer"):
        push_captioner(full_run, REPO)
    with pytest.raises(SourceNotFoundError, match="There is no run folder"):
        push_captioner(tmp_path / "nowhere", REPO)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceNotFoundError, match="there is no model in it"):
        push_captioner(tmp_path / "empty", REPO)


def test_options_that_cannot_be(hub, full_run):
    with pytest.raises(ConfigurationError, match="nothing to merge"):
        push_captioner(full_run, REPO, merge=True)
    with pytest.raises(ConfigurationError, match="no name of a repository"):
        push_captioner(full_run, "a/b/c")
    with pytest.raises(ConfigurationError, match="no size of a file"):
        push_captioner(full_run, REPO, max_shard_size="huge")
    with pytest.raises(ConfigurationError, match="against main"):
        push_captioner(full_run, REPO, create_pr=True, revision="v1")
    assert hub.requests == []


def test_not_logged_in_and_not_allowed(hub, full_run, monkeypatch):
    with pytest.raises(HubError, match="may not write there"):
        push_captioner(full_run, "somebody/boats", verify=False)
    monkeypatch.setenv("HF_TOKEN", "hf_" + "w" * 34)
    with pytest.raises(HubError, match="hf auth login"):
        push_captioner(full_run, REPO, verify=False)


def test_a_card_that_the_hub_refuses(hub, full_run):
    with pytest.raises(HubError, match='(?s)refused the model card.*"license" must be one of'):
        push_captioner(full_run, REPO, license="no-such-licence", verify=False)
    assert hub.uploads == []


def test_non_commercial_data_are_warned_of_and_not_shown(hub, full_run):
    change(full_run / "run.json", dataset="flickr8k")
    pushed = push_captioner(full_run, REPO, verify=False)
    assert any("non-commercial" in warning for warning in pushed.warnings)
    assert not [name for name in pushed.files if name.startswith("images/")]
    shown = push_captioner(full_run, REPO, verify=False, pictures=True)
    assert any("may not be redistributed" in warning for warning in shown.warnings)


def test_from_memory(hub, full_run):
    model, processor = load_captioner(full_run)
    pushed = push_model(model, processor, REPO)
    assert pushed.verified == ("before", "after")
    assert torch.equal(folder_logits(download_captioner(REPO)), folder_logits(full_run))


def test_the_token_is_nowhere(hub, full_run, capfd):
    push_captioner(full_run, REPO, verify=False)
    assert not any(TOKEN.encode() in content for content in hub.store.values())
    out, err = capfd.readouterr()
    assert TOKEN not in out + err
    assert os.environ["HF_TOKEN"] == TOKEN
