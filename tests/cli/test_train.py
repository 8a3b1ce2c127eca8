"""`blip-refine train`: every training argument as a flag or a line of a file, a plan first, and plain refusals."""

from __future__ import annotations

import json
import re
from dataclasses import fields

import pytest
import yaml

from blip_refine.cli.arguments_from import describe_fields, parse_training_arguments
from blip_refine.cli.main import main
from blip_refine.errors import ConfigurationError, SourceFormatError, SourceNotFoundError
from blip_refine.training.arguments import CaptionTrainingArguments

SMALL = ("--dataset", "scenes:everyday", "--train-images", "4", "--eval-images", "2")


def call(capsys, *options) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["train", *map(str, options)])
    captured = capsys.readouterr()
    return int(stopped.value.code or 0), captured.out, captured.err


def parsed(flags=(), config=None, **own):
    return parse_training_arguments([str(flag) for flag in flags], config, own)


def settings(folder, **content):
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def changed_value(field):
    """Another value than the default, of the kind that the field takes."""
    special = {
        "captions_per_image": "2", "augment": "light", "feature_dtype": "bfloat16", "precision": "fp32",
        "eval_strategy": "steps", "save_strategy": "steps", "metric_for_best_model": "CIDEr", "energy_country": "DEU",
        "prompt": "a picture of ", "output_dir": "elsewhere", "feature_cache_dir": "elsewhere", "report_to": "none",
        "num_train_epochs": 2.5, "logging_steps": 7, "vision_learning_rate": 1e-6, "early_stopping_patience": 3,
        "developed_by": "Ada", "region": "eu-west-1", "cloud_provider": "AWS",
        "save_total_limit": 5, "layer_lr_decay": 0.9, "length_penalty": 0.5, "prompt_template": "a {name} ",
        "top_p": 0.5,
    }  # fmt: skip
    if field.name in special:
        return special[field.name]
    if isinstance(field.default, bool):
        return not field.default
    return field.default + 1 if isinstance(field.default, int) else 2 * field.default


def test_every_training_argument_is_a_flag(capsys):
    listed = {flag for flag, _, _ in describe_fields()}
    assert listed == {f"--{field.name.replace('_', '-')}" for field in fields(CaptionTrainingArguments) if field.init}
    code, out, _ = call(capsys, "--help-all")
    assert code == 0 and all(f" {flag} " in out for flag in listed)


OWN = [name for name in CaptionTrainingArguments.__dict__["__annotations__"]]


@pytest.mark.parametrize("name", OWN)
def test_each_of_ours_reaches_the_arguments_by_flag_and_by_file(name, tmp_path):
    field = next(field for field in fields(CaptionTrainingArguments) if field.name == name)
    needed = {
        "cache_vision_features": {"freeze_vision": True},
        "augment_flip_writing": {"augment": "standard"},
        "augment_jitter_colors": {"augment": "standard"},
        **{sampling: {"do_sample": True} for sampling in ("temperature", "top_k", "top_p")},
        "eval_strategy": {"save_strategy": "steps", "eval_steps": 2, "save_steps": 2},
        "save_strategy": {"eval_strategy": "steps", "eval_steps": 2, "save_steps": 2},
    }.get(name, {})
    value = changed_value(field)
    more = [part for key, one in needed.items() for part in (f"--{key.replace('_', '-')}", one)]
    if name == "remove_unused_columns":
        with pytest.raises(ConfigurationError, match="remove_unused_columns"):
            parsed(["--remove-unused-columns", "true"])
        return
    by_flag, _ = parsed([f"--{name.replace('_', '-')}", value, *more])
    by_file, _ = parsed(config=settings(tmp_path, **{name: value}, **needed))
    wanted = [] if name == "report_to" else value
    assert getattr(by_flag, name) == getattr(by_file, name) == wanted


def test_flags_win_over_the_file_and_the_file_over_a_recipe(tmp_path):
    config = settings(tmp_path, learning_rate=2e-5, num_beams=2, dataset="flickr8k", recipe="original-blip", lora=True)
    args, own = parsed(
        ["--num-beams", 4], config, dataset=None, recipe=None, lora=None, image_size=None, model="mine", output=None
    )
    assert (args.num_beams, args.learning_rate, args.weight_decay) == (4, 2e-5, 0.05)
    assert own == {"dataset": "flickr8k", "lora": True, "image_size": 384, "model": "mine", "output": None}
    _, own = parsed((), config, dataset="coco", recipe=None, lora=False, image_size=224)
    assert own == {"dataset": "coco", "lora": False, "image_size": 224}
    args, _ = parsed(config=settings(tmp_path, **{"lr-scheduler-kwargs": {"num_cycles": 2}, "report_to": ["none"]}))
    assert args.lr_scheduler_kwargs == {"num_cycles": 2} and args.report_to == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--learnin-rate", "3"], "no option '--learnin-rate'. Did you mean --learning-rate?"),
        (["--num_beam=3"], "Did you mean --num-beams?"),
        (["--zzzz"], "no option '--zzzz'. See blip-refine train --help-all"),
        (["--learning-rate", "fast"], "invalid float value: 'fast'"),
        (["--precision", "half"], "no precision 'half'"),
        (["--per-device-train-batch-size", "0"], "at least 1, not 0"),
        (["--max-txt-len", "two"], "invalid int value"),
        (["--load-best-model-at-end", "true", "--save-strategy", "steps"], "fit together"),
        (["--recipe", "magic"], "no recipe 'magic'; there are: original-blip"),
    ],
)
def test_bad_flags_are_refused_with_what_is_near(capsys, flags, message):
    code, out, err = call(capsys, *SMALL, *flags)
    assert code == 2 and message in err and "Traceback" not in err and not out


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("learnin_rate: 3", ConfigurationError, "no option 'learnin_rate'. Did you mean --learning-rate?"),
        ("- learning_rate", SourceFormatError, "must hold lines like 'learning_rate: 5e-5'"),
        ("a: [1", SourceFormatError, "is not YAML"),
        ("learning_rate: fast", ConfigurationError, "invalid float value"),
        (None, SourceNotFoundError, "no configuration file"),
    ],
)
def test_bad_files_are_refused(tmp_path, content, error, message):
    path = tmp_path / "settings.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(error, match=message.replace("?", r"\?")):
        parsed(config=path, dataset=None)


def test_the_plan_is_told_first_and_is_all_that_a_dry_run_does(capsys, tmp_path):
    out_folder = tmp_path / "run"
    flags = ["--num-train-epochs", 3, "--per-device-train-batch-size", 1, "--precision", "fp32", "--lora", "--dry-run"]
    code, out, err = call(capsys, *SMALL, *flags, "--output", out_folder)
    assert code == 0 and not out_folder.exists() and not out
    lines = [line.strip() for line in err.splitlines()]
    assert lines[lines.index("Plan") + 1] == "model       starter"
    for beginning in (
        "train       4 images, 20 captions",
        "validation  2 images",
        "fingerprint sha256:",
        "steps       6: 2 an epoch of 2 images (1 a device x 2 accumulated), each with 5 captions",
        "precision   fp32, as told",
        "memory      about 0.0",
    ):
        assert any(line.startswith(beginning) for line in lines), beginning
    (trained,) = [line for line in lines if line.startswith("trained")]
    assert " of 5,5" in trained and "BLIP captioner" in trained
    code, out, _ = call(capsys, *SMALL, *flags, "--json", "--quiet")
    result = json.loads(out)
    assert code == 0 and result["plan"] == {"train": 4, "validation": 2, "test": 2} and len(result["details"]) == 5


def test_a_run_by_flags_and_file(capsys, tmp_path):
    config = settings(
        tmp_path, dataset="scenes:everyday", num_beams=1, max_new_tokens=6, max_steps=1, gradient_checkpointing=False
    )
    options = ("--config", config, "--train-images", 4, "--eval-images", 2, "--output", tmp_path / "run", "--lora")
    options += ("--merge", "--metrics", "Bleu,CIDEr")
    # Of another day: its last checkpoint would be taken for this run's by --resume, its weights by whoever loads.
    for name in ("checkpoint-40", "checkpoint-900"):
        (tmp_path / "run" / name).mkdir(parents=True)
    (tmp_path / "run" / "model.safetensors").write_bytes(b"old")
    code, out, err = call(capsys, *options)
    assert code == 2 and "(checkpoint-900)" in err and "--resume" in err and "--overwrite" in err
    assert call(capsys, *options, "--resume", "--overwrite")[0] == 2
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == b"old"
    code, out, err = call(capsys, *options, "--overwrite")
    assert code == 0, err
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-1"]
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert re.search(r"before.* after .* on 2 held-out images\.", out)  # did it help?
    assert err.index("Plan") < err.index("fingerprint") < err.index("Before training") < err.index("After training")
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert not {"debug", "include_num_input_tokens_seen", "disable_tqdm"} & set(facts["hyperparameters"]), "asked for"
    assert facts["seconds"] > 0 and facts["hyperparameters"]["steps"] == 1 and facts["decoding"]["num_beams"] == 1
    assert facts["hyperparameters"]["precision"] in ("bf16", "fp32")
    assert (tmp_path / "run" / "adapter_model.safetensors").is_file()
    assert (tmp_path / "run" / "merged" / "model.safetensors").is_file()
    assert "Next:" in out and "caption" in out
    code, out, err = call(capsys, *options, "--resume")
    assert code == 0 and f"Going on from {tmp_path / 'run' / 'checkpoint-1'}." in err
    assert "seconds" not in json.loads((tmp_path / "run" / "run.json").read_text())  # it saw the end alone
    # What the run has trained on is no test for it.
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", str(tmp_path / "run"), "--dataset", "scenes:everyday", "--split", "train", "--images", "2"])
    assert stopped.value.code == 2 and "in the training set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--dataset flickr8k"),
        ((*SMALL, "--resume", "--output", "{out}/none"), "no whole checkpoint"),
        ((*SMALL, "--merge", "--output", "{out}/m"), "nothing to merge"),
        ((*SMALL, "--model", "/no/such/model", "--output", "{out}/n"), "/no/such/model"),
        (("--dataset", "/no/such/data"), "/no/such/data"),
        ((*SMALL, "--image-size", "50", "--output", "{out}/i"), "multiple of the patch size"),
        ((*SMALL, "--quantization", "3bit", "--output", "{out}/q"), "no quantisation '3bit'"),
        ((*SMALL, "--cache-vision-features", "--output", "{out}/c"), "needs freeze_vision"),
        (("--dataset", "scenes:everyday", "--train-images", "0"), "at least 1, not 0"),
        ((*SMALL, "--metric-for-best-model", "cidderr", "--output", "{out}/b"), "did you mean 'CIDEr'"),
        ((*SMALL, "--captions-per-image", "0", "--output", "{out}/p"), "at least 1"),
        ((*SMALL, "--max-txt-len", "2", "--dry-run"), "leaves no room for a caption"),
        ((*SMALL, "--output", __file__), "is a file"),
        ((*SMALL, "--refiner", "magic", "--output", "{out}/r"), "magic"),
        ((*SMALL, "--freeze-vision-layers", "99", "--output", "{out}/f"), "99"),
    ],
)
def test_what_cannot_be_done_is_refused_plainly(capsys, tmp_path, options, message):
    code, _, err = call(capsys, *(option.format(out=tmp_path) for option in options))
    assert code == 2 and message in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--generation-num-beams", "3"], {"num_beams": 3}),
        (["--generation-max-length", "21"], {"max_new_tokens": 20}),
        (["--decoding", "fast"], {"num_beams": 1, "max_new_tokens": 20, "early_stopping": False}),
        (["--decoding", "fast", "--max-new-tokens", "9"], {"num_beams": 1, "max_new_tokens": 9}),
        (["--top-p", "0.9"], {"num_beams": 1, "do_sample": True, "top_p": 0.9, "seed": 42}),
        (["--top_k=7", "--num_beams", "3", "--seed", "5"], {"num_beams": 3, "do_sample": True, "top_k": 7, "seed": 5}),
        (["--top-p", "0.8", "--generation-num-beams", "2"], {"num_beams": 2, "do_sample": True, "top_p": 0.8}),
        (
            ["--length-penalty", "0.5", "--repetition-penalty", "1.5", "--no-repeat-ngram-size", "2"],
            {"length_penalty": 0.5, "repetition_penalty": 1.5, "no_repeat_ngram_size": 2},
        ),
    ],
)
def test_flags_decide_how_captions_are_generated(flags, expected, monkeypatch):
    seen = []
    monkeypatch.setattr("blip_refine.cli.train._run", lambda context, args, *others: seen.append(args))
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--dataset", "scenes:everyday", *flags])
    assert stopped.value.code == 0
    decoding = seen[0].decoding.to_dict()
    assert {name: decoding.get(name, getattr(seen[0].decoding, name)) for name in expected} == expected
    assert seen[0].saved_decoding.seed is None


def test_a_file_says_how_to_decode_and_flags_win(tmp_path):
    written = settings(tmp_path, decoding="fast", top_p=0.7)
    args, _ = parsed(config=written)
    assert (args.num_beams, args.max_new_tokens, args.do_sample, args.top_p) == (1, 20, True, 0.7)
    args, _ = parsed(["--num-beams", "4"], settings(tmp_path, decoding="fast"))
    assert (args.num_beams, args.max_new_tokens) == (4, 20)
    args, _ = parsed([], settings(tmp_path, num_beams=3), decoding="fast")
    assert args.num_beams == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--generation-max-length", "21", "--prompt", "a photo of "], "generation_max_length counts the tokens"),
        (["--generation-num-beams", "3", "--num-beams", "3"], "are the same option: give --num-beams alone"),
        (["--generation-config", "somewhere"], "generation_config is not read"),
        (["--sortish-sampler", "true"], "sortish_sampler has no effect"),
        (["--decoding", "candidates"], "training scores one"),
        (["--decoding", "fast", "--recipe", "original-blip"], "give one of them"),
        (["--num-beams", "1", "--length-penalty", "2"], "--length-penalty has no effect with one beam"),
        (["--temperature", "0"], "--temperature must be above 0"),
    ],
)
def test_decoding_that_cannot_be_is_refused_in_one_sentence(capsys, flags, message):
    code, _, error = call(capsys, "--dataset", "scenes:everyday", *flags)
    assert code == 2 and message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("send_image: maybe", "send_image must be true or false, not 'maybe'"),
        ("train_images: few", "train_images must be a whole number, not 'few'"),
        ("prices: 3", "`prices` are two numbers"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_refused_in_one_sentence(tmp_path, capsys, line, message):
    path = tmp_path / "settings.yaml"
    path.write_text(f"dataset: scenes:everyday\nrefiner: openai:m\nbase_url: http://127.0.0.1:9/v1\n{line}\n")
    code, _, error = call(capsys, "--config", str(path), "--output", str(tmp_path / "run"))
    assert code == 2 and message in error and "Traceback" not in error and not (tmp_path / "run").exists()


def test_no_captions_means_the_loss_alone():
    args = CaptionTrainingArguments(predict_with_generate=False)
    assert args.loss_only and args.metric_for_best_model == "loss"


def test_a_prompt_that_comes_with_the_model_is_not_counted_in_silence():
    args = CaptionTrainingArguments(generation_max_length=21)
    args.prompt = "a photo of "
    with pytest.raises(ConfigurationError, match="with a prompt give max_new_tokens"):
        args.check_generation_length()
