"""Prompts in training, evaluation and captioning: one for all images, one per image, and the saved one."""

from __future__ import annotations

import csv
import json

import pytest
import torch

from blip_refine import BlipCaptionDataset, CaptionPipeline, CaptionTrainer, CaptionTrainingArguments, load_captioner
from blip_refine.caption_prompts import for_scoring
from blip_refine.cli.main import main
from blip_refine.data.collator import IGNORED, CaptionCollator
from blip_refine.data.images import load_image
from blip_refine.data.sources import load_source
from blip_refine.errors import ConfigurationError, SourceFormatError
from blip_refine.models.decoding import DecodingOptions, generate_captions, prompt_tokens
from blip_refine.models.prompted import generate_with_prompts
from blip_refine.models.saved_defaults import read_defaults, set_defaults

COLORS = ("purple", "blue", "black")


def call(*words) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(map(str, words)))
    return int(stopped.value.code or 0)


@pytest.fixture(scope="module")
def starter():
    return load_captioner("starter")


def collator(processor, **options) -> CaptionCollator:
    return CaptionCollator(processor, start_token_id=772, **options)


def write_table(folder, rows) -> str:
    folder.mkdir(exist_ok=True)
    records = BlipCaptionDataset.from_source("scenes:everyday", split="train", count=len(rows)).records
    for place, (record, row) in enumerate(zip(records, rows, strict=True)):
        load_image(record.image).save(folder / f"{place}.png")
        row |= {"image": f"{place}.png", "caption": record.captions[0]}
    with open(folder / "table.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(folder / "table.csv")


# ---- tokens ----


@pytest.mark.parametrize("prompt", ["", "a photo showing ", "a photo showing", "a photo , ", "a Photo of boots:"])
def test_training_and_decoding_split_a_prompt_into_the_same_tokens(starter, prompt):
    _, processor = starter
    batch = collator(processor, prompt=prompt).encode(["two red boats", "a dog on the green grass"])
    given = [772, *prompt_tokens(processor, prompt)]
    for row, text in enumerate(["two red boats", "a dog on the green grass"]):
        words = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        length = int(batch["attention_mask"][row].sum())
        assert batch["input_ids"][row, :length].tolist() == [*given, *words, processor.tokenizer.sep_token_id]
        assert (batch["labels"][row, : len(given)] == IGNORED).all()
        assert batch["labels"][row, len(given) : length].tolist() == [*words, processor.tokenizer.sep_token_id]
        assert (batch["labels"][row, length:] == IGNORED).all()


def test_prompts_of_different_lengths_in_one_batch(starter):
    _, processor = starter
    picture = load_image(BlipCaptionDataset.from_source("scenes:everyday", split="test", count=1).records[0].image)
    captions = ("two red boats", "boats on the water")
    items = [
        {"image": picture, "image_id": str(place), "index": place, "captions": captions, **prompt}
        for place, prompt in enumerate(({"prompt": "a photo of a big house : "}, {"prompt": "blue "}, {}))
    ]
    batch = collator(processor, prompt="we see ")(items)
    assert batch["prompts"] == ["a photo of a big house : ", "blue ", "we see "]
    for row, prompt in enumerate(prompt for prompt in batch["prompts"] for _ in captions):
        alone = collator(processor, prompt=prompt).encode([captions[row % 2]])
        length = alone["labels"].shape[1]
        for name in ("input_ids", "attention_mask", "labels"):
            assert torch.equal(batch[name][row, :length], alone[name][0]), (row, name)
        assert not batch["attention_mask"][row, length:].any()
        assert (batch["labels"][row, length:] == IGNORED).all()
    with pytest.raises(ConfigurationError, match="leaves no room"):
        collator(processor, max_txt_len=8)(items)


def test_each_image_is_decoded_with_its_own_prompt_in_order(starter):
    model, processor = starter
    records = BlipCaptionDataset.from_source("scenes:everyday", split="test", count=6).records
    pixels = processor(images=[load_image(record.image) for record in records], return_tensors="pt").pixel_values
    prompts = ["a picture of ", "", "we see ", "a picture of ", "on the grass ", ""]
    options = DecodingOptions(num_beams=3)
    found = generate_with_prompts(model, processor, pixels, options, prompts)
    for row, prompt in enumerate(prompts):
        (alone,) = generate_captions(model, processor, pixels[row : row + 1], options.with_changes(prompt=prompt))
        assert found[row].tokens == alone.tokens and found[row].texts == alone.texts
        assert found[row].log_probs == pytest.approx(alone.log_probs, abs=1e-5)
    with pytest.raises(ConfigurationError, match="5 prompts for 6 images"):
        generate_with_prompts(model, processor, pixels, options, prompts[:5])


# ---- the pipeline ----


def test_the_pipeline_takes_prompts_in_the_order_of_the_images(starter):
    records = BlipCaptionDataset.from_source("scenes:everyday", split="test", count=4).records
    captioner = CaptionPipeline(*starter, decoding=DecodingOptions(num_beams=2), batch_size=3)
    prompts = ["a picture of ", "we see ", "", "on the grass "]
    captions = captioner(records, prompts=iter(prompts))
    assert [caption.prompt for caption in captions] == ["a picture of", "we see", None, "on the grass"]
    assert all(caption.text.startswith(prompt.strip()) for caption, prompt in zip(captions, prompts, strict=True))
    assert captioner(load_image(records[1].image), prompts="we see ").text == captions[1].text
    assert not for_scoring(captions[1]).text.startswith("we see") and for_scoring(captions[1]).text
    for wrong, message in (
        (prompts[:3], "only 3 prompts"),
        ([*prompts, "x"], "more prompts"),
        ("we see ", "one prompt"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            captioner(records, prompts=wrong)
    long = captioner(records[:2], prompts=["boat " * 40, "we see "])
    assert "room for 33" in long[0].error and long[1].text == captions[1].text


def test_a_template_of_the_pipeline_needs_its_columns(starter):
    record = BlipCaptionDataset.from_source("scenes:everyday", split="test", count=1).records[0]
    captioner = CaptionPipeline(*starter, decoding="fast", prompt_template="{color} ")
    row = {"image": load_image(record.image), "color": "blue"}
    assert captioner([row])[0].prompt == "blue"
    with pytest.raises(ConfigurationError, match="'color'"):
        captioner([record])


# ---- data ----


def test_a_column_of_prompts_reaches_the_records(tmp_path):
    rows = [{"prompt": f"a {color} ", "name": color} for color in COLORS]
    records = load_source(write_table(tmp_path / "data", rows))
    assert [record.prompt for record in records] == ["a purple ", "a blue ", "a black "]
    assert [dict(record.metadata) for record in records] == [{"name": color} for color in COLORS]
    named = load_source(str(tmp_path / "data" / "table.csv"), prompt_column="name")
    assert [record.prompt for record in named] == list(COLORS)
    lines = [{"image": "0.png", "caption": "a", "prompt": "x "}, {"image": "0.png", "caption": "b", "prompt": "y "}]
    (tmp_path / "data" / "two.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(SourceFormatError, match="one prompt for all its captions"):
        load_source(str(tmp_path / "data" / "two.jsonl"))


# ---- the same score ----

PROMPT = "a photo showing "
TRAINING = (
    *(
        "--max-steps",
        8,
        "--learning-rate",
        "2e-4",
        "--per-device-train-batch-size",
        8,
        "--gradient-accumulation-steps",
        1,
    ),
    *(
        "--eval-strategy",
        "no",
        "--save-strategy",
        "no",
        "--precision",
        "fp32",
        "--num-beams",
        3,
        "--max-new-tokens",
        20,
    ),
)


def scores(folder) -> dict[str, float]:
    row = json.loads((folder / "coco_metrics.json").read_text())
    return {name: row[name] for name in ("CIDEr", "Bleu_4", "ROUGE_L")}


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True], ids=["whole", "adapter"])
def test_what_train_measures_evaluate_measures(tmp_path, lora):
    data = ("--dataset", "scenes:everyday", "--metrics", "CIDEr,Bleu_4,ROUGE_L")
    run = tmp_path / "run"
    command = [
        "train",
        *data,
        "--train-images",
        32,
        "--eval-images",
        10,
        "--output",
        run,
        "--prompt",
        PROMPT,
        *TRAINING,
    ]
    assert call(*command, *(["--lora"] if lora else [])) == 0
    saved = read_defaults(run)
    assert saved.options() == DecodingOptions(num_beams=3, max_new_tokens=20, prompt=PROMPT) and saved.image_size == 96

    assert call("evaluate", run, *data, "--images", 10, "--output", tmp_path / "same") == 0
    assert scores(tmp_path / "same") == pytest.approx(scores(run), abs=1e-6)
    rows = [json.loads(line) for line in (tmp_path / "same" / "predictions.jsonl").read_text().splitlines()]
    assert not any(row["caption"].startswith("a photo") for row in rows)
    assert call("evaluate", run, *data, "--images", 10, "--output", tmp_path / "without", "--prompt", "") == 0
    assert scores(tmp_path / "without") != pytest.approx(scores(run), abs=1e-3)

    test = BlipCaptionDataset.from_source("scenes:everyday", split="test").records[:3]
    captioner = CaptionPipeline.from_pretrained(run, device="cpu")
    assert all(caption.text.startswith("a photo showing ") for caption in captioner(test))
    # Training goes on with it, too, unless told otherwise.
    args = CaptionTrainingArguments(str(tmp_path / "more"), eval_strategy="no", save_strategy="no")
    model, processor = load_captioner(run)
    trainer = CaptionTrainer(model, args, BlipCaptionDataset(test), processing_class=processor)
    assert trainer.args.prompt == PROMPT and trainer.data_collator.prompt == PROMPT


@pytest.mark.slow
def test_a_resumed_training_goes_on_with_its_prompt(tmp_path):
    run = tmp_path / "run"
    data = ("--dataset", "scenes:everyday", "--train-images", 8, "--eval-images", 2, "--metrics", "ROUGE_L")
    # The last of two flags counts.
    steps = (*data, *TRAINING, "--output", run, "--save-strategy", "steps", "--save-steps", 1)
    assert call("train", *steps, "--prompt", PROMPT, "--max-steps", 1) == 0
    assert read_defaults(run / "checkpoint-1").prompt == PROMPT
    assert call("train", *steps, "--max-steps", 2, "--resume") == 0
    assert read_defaults(run).prompt == read_defaults(run / "checkpoint-2").prompt == PROMPT


@pytest.mark.slow
def test_a_recipe_is_evaluated_as_it_was_trained(tmp_path, capsys):
    data = ("--dataset", "scenes:everyday", "--images", 3, "--metrics", "CIDEr")
    options = ("--recipe", "original-blip", "--image-size", 96)
    assert call("evaluate", "starter", *data, *options, "--output", tmp_path / "recipe") == 0
    flags = ("--prompt", "a picture of ", "--num-beams", 3, "--max-new-tokens", 16)
    assert call("evaluate", "starter", *data, *flags, "--output", tmp_path / "flags") == 0
    recipe, spelled = ((tmp_path / name / "predictions.jsonl").read_text() for name in ("recipe", "flags"))
    assert recipe == spelled
    capsys.readouterr()
    assert call("evaluate", "starter", *data, "--recipe", "nothing") == 2
    assert "original-blip" in capsys.readouterr().err
    assert call("evaluate", "starter", *data, "--recipe", "original-blip", "--decoding", "fast") == 2
    assert "--recipe and --decoding" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("how", ["column", "template"])
def test_training_and_evaluation_with_a_prompt_per_image(tmp_path, how):
    rows = [{"prompt": f"a {COLORS[place % 3]} ", "color": COLORS[place % 3]} for place in range(12)]
    if how == "template":
        for row in rows:
            del row["prompt"]
    table = write_table(tmp_path / "data", rows)
    options = {"prompt_template": "a {color} "} if how == "template" else {}
    args = CaptionTrainingArguments(
        str(tmp_path / "run"), max_steps=4, learning_rate=2e-4, per_device_train_batch_size=4, precision="fp32",
        gradient_accumulation_steps=1, eval_strategy="no", save_strategy="no", num_beams=2, **options,
    )  # fmt: skip
    model, processor = load_captioner("starter")
    train, held = BlipCaptionDataset(load_source(table)[:8]), BlipCaptionDataset(load_source(table)[8:])
    trainer = CaptionTrainer(model, args, train, processing_class=processor)
    batch = next(iter(trainer.get_train_dataloader()))
    assert set(batch["prompts"]) <= {f"a {color} " for color in COLORS} and len(batch["prompts"]) == 4
    trainer.train()
    trainer.save_model()
    measured = trainer.evaluate_coco(held, metrics=["CIDEr"], write=False)

    captioner = CaptionPipeline.from_pretrained(tmp_path / "run", device="cpu")
    found = {caption.image_id: caption for caption in captioner(held.records)}
    for image_id, text in measured.captions.items():
        assert for_scoring(found[image_id]).text == text
        assert found[image_id].text.startswith(found[image_id].prompt)
    assert {caption.prompt for caption in found.values()} == {f"a {color}" for color in COLORS}
    data = ("--dataset", table, "--split", "test", "--allow-overlap", "--metrics", "ROUGE_L")
    assert call("evaluate", tmp_path / "run", *data, "--output", tmp_path / "evaluation") == 0


def test_a_template_that_does_not_fit_ends_with_exit_code_2_before_anything_is_loaded(tmp_path, capsys, monkeypatch):
    table = write_table(tmp_path / "data", [{"color": color} for color in COLORS])

    def loads(*_, **__):
        raise AssertionError("a model was loaded")

    # In this order: the second is imported here, and must not take the first one's replacement for its own.
    monkeypatch.setattr("blip_refine.finetune.load_captioner", loads)
    monkeypatch.setattr("blip_refine.models.captioner.load_captioner", loads)
    for template, message in (
        ("a {name} ", "'name'"),
        ("a {color.__class__} ", "names of columns"),
        ("a ", "no column"),
    ):
        for command in (
            ("train", "--dataset", table, "--output", tmp_path / "run"),
            ("evaluate", "starter", "--dataset", table, "--split", "train"),
            ("caption", table, "--output", tmp_path / "captions.jsonl"),
        ):
            assert call(*command, "--prompt-template", template) == 2
            error = capsys.readouterr().err
            assert message in error and "Traceback" not in error


# ---- tables on the command line ----


def test_caption_of_a_table_with_prompts_resumes_by_prompt(tmp_path, capsys):
    rows = [{"prompt": f"a {color} ", "name": color} for color in COLORS]
    table, output = write_table(tmp_path / "data", rows), tmp_path / "captions.jsonl"
    options = ("--output", output, "--decoding", "fast")

    def captions() -> list[dict]:
        return [json.loads(line) for line in output.read_text().splitlines()]

    assert call("caption", table, *options) == 0
    assert [row["prompt"] for row in captions()] == ["a purple", "a blue", "a black"]
    assert all(row["caption"].startswith(row["prompt"]) for row in captions())
    capsys.readouterr()
    assert call("caption", table, *options) == 0
    assert "3 done before" in capsys.readouterr().out
    text = (tmp_path / "data" / "table.csv").read_text().replace("a blue ", "we see ")
    (tmp_path / "data" / "table.csv").write_text(text)
    assert call("caption", table, *options) == 0
    assert "1 captioned" in capsys.readouterr().out
    assert {row["image_id"]: row["prompt"] for row in captions()}["1.png"] == "we see"
    assert call("caption", table, "--output", table) == 2
    assert "replace the table" in capsys.readouterr().err


# ---- everybody who captions ----


@pytest.fixture(scope="module")
def prompted_model(tmp_path_factory):
    """The starter with a prompt and a decoding that are saved with it."""
    folder = tmp_path_factory.mktemp("models") / "prompted"
    model, processor = load_captioner("starter")
    set_defaults(model, SAVED)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


SAVED = DecodingOptions(num_beams=2, max_new_tokens=12, prompt="we see ")


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    load_image(BlipCaptionDataset.from_source("scenes:everyday", split="test", count=1).records[0].image).save(path)
    return path


def test_the_page_the_endpoint_and_sagemaker_use_the_saved_prompt(prompted_model, photo):
    from fastapi.testclient import TestClient

    from blip_refine.apps.api import create_api
    from blip_refine.apps.captioners import Captioners, Settings
    from blip_refine.apps.sagemaker.inference import input_fn, model_fn, predict_fn

    captioner = model_fn(str(prompted_model))
    assert captioner.decoding == SAVED
    (expected,) = predict_fn(input_fn(photo.read_bytes(), "image/png"), captioner)[1]
    assert expected.text.startswith("we see") and expected.prompt == "we see"
    with TestClient(create_api(captioner)) as client:
        answer = client.post("/caption", content=photo.read_bytes(), headers={"content-type": "image/png"}).json()
    assert answer["caption"] == expected.text
    desk = Captioners([str(prompted_model)])
    assert desk.caption(photo, str(prompted_model), Settings(refiner="none")).text == expected.text
    assert desk.caption(photo, str(prompted_model), Settings("fast", refiner="none")).text.startswith("we see")
    assert not desk.caption(photo, str(prompted_model), Settings(prompt="", refiner="none")).text.startswith("we see")


def test_commands_use_the_saved_prompt_and_flags_win(prompted_model, photo, tmp_path, capsys):
    def captioned(*options) -> dict:
        assert call("--json", "caption", photo, "--model", prompted_model, *options) == 0
        return json.loads(capsys.readouterr().out)["captions"][0]

    assert captioned()["prompt"] == "we see"
    assert captioned("--prompt", "on the ")["prompt"] == "on the"
    assert "prompt" not in captioned("--prompt", "")
    assert call("caption", photo, "--model", prompted_model, "--seed", 3) == 2  # the saved decoding does not sample
    capsys.readouterr()

    data = ("scenes:everyday", "--images", 4, "--metrics", "ROUGE_L", "--output", tmp_path / "compared")
    assert call("compare", *data[:1], f"a={prompted_model}", f"b={prompted_model}>rules", *data[1:]) == 0
    rows = [json.loads(line) for line in (tmp_path / "compared" / "predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 4
    assert not any(text.lower().startswith("we see") for row in rows for text in row["systems"].values())

    capsys.readouterr()
    assert call("doctor", "--model", prompted_model) in (0, 2)
    assert "'we see ', which is saved with the model" in capsys.readouterr().out
    call("doctor", "--model", prompted_model, "--prompt", "a photo of ")
    assert "the model was trained with 'we see '" in capsys.readouterr().out


def test_an_ablation_asks_refiners_with_the_prompt_and_scores_without(prompted_model, tmp_path):
    folder = tmp_path / "ablation"
    options = ("--dataset", "scenes:everyday", "--images", 4, "--metrics", "ROUGE_L", "--output", folder)
    assert call("ablate", prompted_model, *options, "--decoding", "fast", "--refiner", "rules") == 0
    drafts = [
        json.loads(line) for path in (folder / "drafts").rglob("*.jsonl") for line in path.read_text().splitlines()
    ]
    assert len(drafts) == 4 and all(row["caption"].startswith(row["prompt"]) for row in drafts)
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert not any(text.lower().startswith("we see") for row in rows for text in row["systems"].values())


def test_scoring_a_file_of_captions_cuts_their_prompts_off(tmp_path):
    from blip_refine.evaluation.evaluator import read_predictions
    from blip_refine.metrics.coco_format import read_predictions as read_texts

    path = tmp_path / "captions.jsonl"
    path.write_text(json.dumps({"image_id": "1", "caption": "We see two boats.", "prompt": "we see"}) + "\n")
    assert read_texts(path) == {"1": "two boats."}
    assert read_predictions(path)["1"].text == "two boats."


@pytest.mark.parametrize("kind", ["blip-2 opt", "blip-2 t5", "instructblip opt"])
def test_blip2_is_captioned_with_prompts_per_image_and_refuses_to_train_with_them(kind):
    from blip_refine.training.loading import make_collator

    from ..models.family_models import make_family

    model, processor = make_family(kind)
    size = model.config.vision_config.image_size
    pixels = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    options, prompts = DecodingOptions(num_beams=1, max_new_tokens=5), ["a dog ", "", "a dog "]
    found = generate_with_prompts(model, processor, pixels, options, prompts)
    for row, prompt in enumerate(prompts):
        (alone,) = generate_captions(model, processor, pixels[row : row + 1], options.with_changes(prompt=prompt))
        assert found[row].tokens == alone.tokens
    args = CaptionTrainingArguments(eval_strategy="no", save_strategy="no")
    with pytest.raises(ConfigurationError, match="one prompt for all images"):
        make_collator(model, processor, args).check_prompts(["a dog "])
