"""The model card: valid metadata, measured facts alone, harmless text, and snippets that run."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from blip_refine.data.sources.scenes import load_scenes
from blip_refine.demo import DOMAIN
from blip_refine.errors import SourceFormatError, SourceNotFoundError
from blip_refine.hub import stock_decoding as stock
from blip_refine.hub.card import is_up_to_date, render_model_card, write_model_card
from blip_refine.hub.citations import find_citations, model_type_of
from blip_refine.hub.markdown import code, escape
from blip_refine.hub.provenance import find_data, inherit_license, is_local_path, public_name
from blip_refine.hub.push import push_captioner
from blip_refine.models.decoding import DecodingOptions, prompt_tokens
from blip_refine.pipeline import CaptionPipeline

from .hub_run import BASE_ID, write_results
from .hub_server import OWNER, card_errors

ROOT = Path(__file__).resolve().parents[2]
PLACEHOLDERS = re.compile(r"[Mm]ore [Ii]nformation [Nn]eeded|TODO|TBD|\bNone\b|\bnan\b|[Uu]ndefined|\{\{|\{%")


def change(path: Path, **fields) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_the_whole_card(full_run):
    text = write_model_card(full_run, model_id="me/boats").read_text()
    assert card_errors(text) == [] and not PLACEHOLDERS.search(text)
    data = ModelCard.load(full_run / "README.md").data
    assert data.library_name == "transformers" and data.pipeline_tag == "image-to-text"
    assert data.license == "bsd-3-clause" and data.base_model is None, "'starter' is no id of the Hub"
    assert data.metrics == ["bleu", "cider"] and data.model_name == "boats"
    results = {result.metric_name: result for result in data.eval_results}
    assert results["CIDEr"].metric_value == 2.1, "the weights' own score, not the refiner's"
    assert results["BLEU-4"].metric_value == 0.62 and results["CIDEr"].dataset_split == "test"
    for said in (
        "On 12 held-out images of the split `test` with 2 reference captions each",
        "2.100 [1.890, 2.310]",
        "95 % bootstrap interval over images (1000 resamples, seed 0)",
        "`images:12|refs:2|case:lc|version:0.1.0`",
        "METEOR was not computed: there is no Java",
        "after against before | CIDEr | +1.800 [+1.600, +2.000] | 0.0020",
        "100 images, 500 captions",
        "sha256:0123456789abcdef",
        "| learning rate (peak) | 0.0005 |",
        "| developed by | me |",
        "@inproceedings{li2022blip,",
        "| time | 3 min |",
        "2 CPU cores, x86\\_64",
        "through the refiner `rules`",
        "not picked for their captions",
    ):
        assert said in text, said
    assert len(re.findall(r'<img src="images/\d{4}\.png"', text)) == 6
    assert "/home/ada" not in text


def test_what_was_not_measured_is_left_out(full_run):
    for name in ("coco_metrics.json", "predictions.jsonl", "trainer_state.json", "run.json"):
        (full_run / name).unlink()
    text = write_model_card(full_run).read_text()
    assert card_errors(text) == [] and not PLACEHOLDERS.search(text)
    assert "## Results" not in text and "## Data" not in text and "## Samples" not in text
    data = ModelCard.load(full_run / "README.md").data
    assert data.eval_results is None and data.metrics is None and data.license is None


@pytest.mark.parametrize("missing", ["coco_metrics.json", "predictions.jsonl", "trainer_state.json", "run.json"])
def test_any_file_may_be_missing(full_run, missing):
    (full_run / missing).unlink()
    text = render_model_card(full_run)
    assert card_errors(text) == [] and not PLACEHOLDERS.search(text)


def test_any_fact_may_be_missing(full_run):
    facts = json.loads((full_run / "run.json").read_text())
    for name in facts:
        (full_run / "run.json").write_text(json.dumps({key: value for key, value in facts.items() if key != name}))
        text = render_model_card(full_run)
        assert card_errors(text) == [] and not PLACEHOLDERS.search(text), name


def test_text_of_data_is_only_text(full_run):
    row = {
        "image_id": "x", "caption": "</td><script>alert(1)</script> | cell\n# head \u2028 ![i](http://track.er/p.gif)",
        "references": ["[click](javascript:x) **bold** `code` www.track.er @someone"], "image": "images/0000.png",
    }  # fmt: skip
    row["systems"] = {"a|b": row["caption"]}
    (full_run / "predictions.jsonl").write_text(json.dumps(row) + "\n")
    text = render_model_card(full_run)
    body = text.split("## Samples")[1].split("## How to use")[0]
    rows = [line for line in body.splitlines() if line.startswith("| <img")]
    # Inside of an attribute nothing is markup.
    body = re.sub(r'alt="[^"<>]*"', "", body)
    assert "<script" not in text and "![" not in body.replace("!\\[", "")
    assert "http://track.er" not in body and "www.track" not in body and "](" not in body.replace("\\]", "")
    assert len(rows) == 1 and rows[0].count(" | ") == len("before after refined".split()) + 1


def test_metadata_cannot_be_broken_by_names(full_run):
    change(full_run / "run.json", dataset="cats: [1, 2]\n---\nlicense: mit", language="en")
    text = render_model_card(full_run, model_id="me/boats")
    data = ModelCard(text).data
    assert data.license is None and card_errors(text) == []


def test_escape():
    assert escape("a dog, on_a *beach* (again).") == "a dog, on\\_a \\*beach\\* (again)."
    assert escape("- no list") == "\\- no list" and escape("# no head") == "\\# no head"
    assert code("a`b") == "``a`b``" and code("``") == "``` `` ```"


def test_pictures_outside_of_the_run_are_not_shown(full_run, tmp_path):
    shutil.copy(full_run / "images" / "0000.png", tmp_path / "secret.png")
    rows = [{"image_id": "1", "caption": "a", "image": "../secret.png"}, {"image_id": "2", "caption": "b", "image": 5}]
    (full_run / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "<img" not in render_model_card(full_run)


def test_contaminated_scores_stay_off_the_leaderboard(full_run):
    metrics = json.loads((full_run / "coco_metrics.json").read_text())
    for row in metrics["systems"].values():
        row["contaminated"] = "images of this evaluation were in the training set"
    (full_run / "coco_metrics.json").write_text(json.dumps(metrics))
    text = render_model_card(full_run)
    assert "**Contaminated:** images of this evaluation were in the training set" in text
    assert ModelCard(text).data.eval_results is None


def test_errors_people_and_emissions(full_run):
    faults = {"hallucination": {"share": 0.125, "low": 0.05, "high": 0.3}}
    analysis = {"faults": faults, "shared_captions": 0.5, "three_or_more_elements": 0.25}
    (full_run / "error_analysis.json").write_text(json.dumps({"systems": {"after": analysis}, "people": analysis}))
    rating = {"mean": 4.25, "low": 4.0, "high": 4.5}
    people = {"images": 10, "ratings": 90, "systems": {"after": {"fluency": rating}}, "alpha": {"fluency": 0.61},
              "raters": [{"rater": "rater 1"}, {"rater": "rater 2"}]}  # fmt: skip
    (full_run / "human.json").write_text(json.dumps(people))
    change(full_run / "run.json", co2_eq_kg=0.0123, energy_kwh=0.05)
    text = render_model_card(full_run)
    assert "| share of captions | after | a reference |" in text
    assert "| hallucination | 12.5 % [5.0, 30.0] | 12.5 % [5.0, 30.0] |" in text
    assert "| said of several images | 50.0 % | 50.0 % |" in text
    assert "4.25 [4.00, 4.50]" in text and "fluency 0.61" in text and "2 raters" in text
    people |= {
        "alpha": {"fluency": None},
        "alpha_undefined": {"fluency": "one rater"},
        "raters": [{"rater": "rater 1"}],
    }
    (full_run / "human.json").write_text(json.dumps(people))
    alone = render_model_card(full_run)
    assert "undefined (one rater)." in alone and "1 rater;" in alone
    assert "0.0123 kg CO2" in text and ModelCard(text).data.co2_eq_emissions["emissions"] == 12.3


def test_energy_is_told_as_the_trainer_logged_it(full_run):
    log = json.loads((full_run / "trainer_state.json").read_text())["log_history"]
    change(full_run / "trainer_state.json", log_history=[*log, {"energy_kwh": 0.25, "co2_kg": 0.1, "step": 20}])
    text = render_model_card(full_run)
    assert "| energy | 0.25 kWh |" in text and "| emissions | 0.1 kg CO2 equivalent |" in text
    assert ModelCard(text).data.co2_eq_emissions["emissions"] == 100.0
    change(full_run / "trainer_state.json", log_history=[*log, {"energy_kwh": 0.25, "step": 20}])
    assert "CO2" not in render_model_card(full_run), "without a country nobody knows"


def test_who_developed_it_is_told_and_never_invented(full_run, hub):
    assert "developed by" not in render_model_card(full_run), "nobody is named, and it is not published"
    assert "developed by" not in render_model_card(full_run, model_id="boats")
    assert "| developed by | me |" in render_model_card(full_run, model_id="me/boats")
    change(full_run / "run.json", developed_by="Ada | Lovelace")
    assert "| developed by | Ada \\| Lovelace |" in render_model_card(full_run, model_id="me/boats")
    push_captioner(full_run, f"{OWNER}/boats", developed_by="The boats team", verify=False)
    assert "| developed by | The boats team |" in hub.files(f"{OWNER}/boats")["README.md"].decode()


def test_where_it_was_computed_is_told(full_run):
    change(full_run / "run.json", region="eu-west-1", cloud_provider="AWS", co2_eq_kg=0.5, energy_kwh=1)
    text = render_model_card(full_run)
    assert "| cloud provider | AWS |" in text and "| region | eu-west-1 |" in text
    assert ModelCard(text).data.co2_eq_emissions["geographical_location"] == "eu-west-1"


def test_energy_that_could_not_be_measured_says_why(full_run):
    log = [{"energy_unavailable": "codecarbon failed at step 3 (OSError)", "step": 3}]
    change(full_run / "trainer_state.json", log_history=log)
    assert "| energy | not measured: codecarbon failed at step 3 (OSError) |" in render_model_card(full_run)
    change(full_run / "trainer_state.json", log_history=[{"energy_kwh": 0.25, "step": 20, "energy_from_step": 10}])
    assert "| energy | 0.25 kWh, from step 10 on |" in render_model_card(full_run)
    # What was measured up to the checkpoint is in its log: nothing is missing.
    log = [{"energy_kwh": 0.5, "step": 10}, {"energy_kwh": 0.25, "step": 20, "energy_from_step": 10}]
    change(full_run / "trainer_state.json", log_history=log)
    assert "| energy | 0.75 kWh |" in render_model_card(full_run)


@pytest.mark.parametrize(
    ("dataset", "config", "keys"),
    [
        ("coco", {"model_type": "blip"}, ["li2022blip", "chen2015microsoft"]),
        ("yerevann/coco-karpathy", {"model_type": "blip-2"}, ["li2023blip2", "chen2015microsoft"]),
        ("/data/flickr8k", {"model_type": "blip"}, ["li2022blip", "hodosh2013framing"]),
        ("nlphuji/flickr30k", {"model_type": "instructblip"}, ["dai2023instructblip", "young2014image"]),
        ("nocaps", {"model_type": "blip"}, ["li2022blip", "agrawal2019nocaps"]),
        ("conceptual_captions", {"model_type": "blip"}, ["li2022blip", "sharma2018conceptual"]),
        ("my-photos", {"model_type": "blip"}, ["li2022blip"]),
        (None, {"model_type": "git"}, []),
    ],
)
def test_citations(dataset, config, keys):
    text = find_citations(None, dataset, config, {})
    assert re.findall(r"@\w+\{(\w+),", text) == keys
    # Braces pair up, and every entry has an author, a title and a year.
    assert text.count("{") == text.count("}")
    for field in ("author", "title", "year"):
        assert len(re.findall(rf"^  {field} = ", text, re.MULTILINE)) == len(keys)


def test_the_architecture_of_an_adapter_is_known_from_its_configuration():
    for name, kind in (("BlipForConditionalGeneration", "blip"), ("Blip2ForConditionalGeneration", "blip-2")):
        assert model_type_of("me/whatever", {"auto_mapping": {"base_model_class": name}}) == kind
    assert model_type_of("Salesforce/blip2-opt-2.7b", {"auto_mapping": None}) == "blip-2"
    assert model_type_of("Salesforce/instructblip-flan-t5-xl", {}) == "instructblip"
    assert model_type_of("starter", {}) == "blip" and model_type_of("microsoft/git-base", {}) is None


def test_licence_from_base_and_data():
    assert inherit_license("Salesforce/blip-image-captioning-base", None).metadata == {"license": "bsd-3-clause"}
    assert inherit_license("Salesforce/blip-image-captioning-base", "my-photos").metadata == {}, "terms are not known"
    limited = inherit_license("Salesforce/blip-image-captioning-base", "flickr8k")
    assert (
        limited.metadata == {"license": "other", "license_name": "non-commercial"}
        and "non-commercial" in limited.warning
    )
    assert inherit_license("starter", "scenes:adventure").metadata == {"license": "bsd-3-clause"}
    chosen = inherit_license("starter", "ariG23498/flickr8k", "mit")
    assert chosen.metadata == {"license": "mit"} and chosen.warning
    assert find_data("somebody/flickr8k-resized").commercial is False
    assert find_data("coco").license == "cc-by-4.0" and find_data("my-coco-cups") is None


def test_names_that_are_places():
    for place in ("/data/cats", "./cats", "../cats", "~/cats", "C:\\cats", "\\\\server\\cats"):
        assert is_local_path(place), place
    for name in ("owner/cats", "flickr8k", "scenes:adventure", "starter"):
        assert not is_local_path(name), name
    assert public_name("/home/ada/cats/") == "cats" and public_name("C:\\Users\\ada\\cats") == "cats"
    assert public_name(str(ROOT / "blip_refine" / "starter")) == "starter"


def test_hub_ids_stand_in_the_metadata(full_run):
    change(full_run / "run.json", base_model="Salesforce/blip-image-captioning-base", dataset="owner/cats")
    data = ModelCard(render_model_card(full_run, model_id="me/boats")).data
    assert data.base_model == "Salesforce/blip-image-captioning-base" and data.base_model_relation == "finetune"
    assert data.datasets == ["owner/cats"]


def test_a_folder_that_is_no_run(tmp_path, full_run):
    with pytest.raises(SourceNotFoundError, match="There is no run folder"):
        write_model_card(tmp_path / "nowhere")
    with pytest.raises(SourceNotFoundError, match="there is no model in it"):
        write_model_card(tmp_path)
    (full_run / "run.json").write_text("{")
    with pytest.raises(SourceFormatError, match="run.json is not JSON"):
        write_model_card(full_run)
    (full_run / "run.json").write_text("{}")
    (full_run / "coco_metrics.json").write_text('{"systems": [1]}')
    with pytest.raises(SourceFormatError, match="'systems' is not an object"):
        write_model_card(full_run)


def test_the_card_of_the_starter_is_up_to_date():
    starter = ROOT / "blip_refine" / "starter"
    assert is_up_to_date(starter, ROOT / "MODEL_CARD.md"), (
        'write it again: python -c "from blip_refine.hub.card import write_model_card; '
        "write_model_card('blip_refine/starter', output='MODEL_CARD.md')\""
    )
    text = (ROOT / "MODEL_CARD.md").read_text()
    assert card_errors(text) == [] and not PLACEHOLDERS.search(text)
    assert not is_up_to_date(starter, ROOT / "LICENSE")


def test_light_to_import():
    check = "import sys, blip_refine.hub.card; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


def snippets(card: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)


def run_snippet(snippet: str, folder: Path, monkeypatch, capsys) -> str:
    """What it prints. It runs as a program of its own would, except that torch is loaded already."""
    monkeypatch.chdir(folder)
    capsys.readouterr()
    exec(compile(snippet, "snippet", "exec"), {"__name__": "__main__"})
    return capsys.readouterr().out.strip()


def run_on_pictures(snippet: str, pictures: list, folder: Path, monkeypatch, capsys) -> list[str]:
    """What it prints for each of the pictures as its photo.jpg. What comes before, such as loading, is done once."""
    monkeypatch.chdir(folder)
    body, space = ast.parse(snippet).body, {"__name__": "__main__"}
    first = next(number for number, node in enumerate(body) if "photo.jpg" in ast.unparse(node))
    setup, rest = (compile(ast.Module(part, []), "snippet", "exec") for part in (body[:first], body[first:]))
    exec(setup, space)
    printed = []
    for picture in pictures:
        picture.save(folder / "photo.jpg", format="PNG")  # no loss: all read the same pixels
        capsys.readouterr()
        exec(rest, space)
        printed.append(capsys.readouterr().out.strip())
    return printed


def imported(snippet: str) -> set[str]:
    nodes = [node for node in ast.walk(ast.parse(snippet)) if isinstance(node, ast.ImportFrom | ast.Import)]
    return {(getattr(node, "module", None) or node.names[0].name).split(".")[0] for node in nodes}


def test_every_snippet_of_a_published_card_runs(hub, base, full_run, adapter_run, tmp_path, monkeypatch, capsys):
    """Against the Hub, as somebody who reads the page would."""
    shutil.copy(full_run / "images" / "0000.png", tmp_path / "photo.jpg")
    push_captioner(full_run, f"{OWNER}/boats", verify=False)
    card = hub.files(f"{OWNER}/boats")["README.md"].decode()
    assert len(snippets(card)) == 3 and f'"{OWNER}/boats"' in card
    by_pipeline, by_classes, ours = (run_snippet(one, tmp_path, monkeypatch, capsys) for one in snippets(card))
    assert by_pipeline == by_classes == ours
    write_results(adapter_run)
    push_captioner(adapter_run, f"{OWNER}/boats-lora", verify=False)
    said = snippets(hub.files(f"{OWNER}/boats-lora")["README.md"].decode())
    assert len(said) == 3
    pipeline, peft, loader = said
    assert imported(peft) == {"peft", "transformers"} and f'"{BASE_ID}"' in peft
    by_peft = run_snippet(peft, tmp_path, monkeypatch, capsys)
    assert by_peft == run_snippet(pipeline, tmp_path, monkeypatch, capsys) != ours
    # Without the adapter the base says something else: the snippet does put it on.
    bare = peft.replace("model = PeftModel.from_pretrained(base, name).eval()", "model = base.eval()")
    assert bare != peft and run_snippet(bare, tmp_path, monkeypatch, capsys) != by_peft
    run_snippet(loader, tmp_path, monkeypatch, capsys)


@pytest.fixture(scope="module")
def test_pictures() -> list:
    """All test pictures of the demo."""
    return [record.image for record in load_scenes(DOMAIN, "test")]


@pytest.mark.slow
def test_stock_transformers_gives_the_captions_that_are_scored(test_pictures, tmp_path, monkeypatch, capsys):
    """The starter's card, with its real weights, on every test picture of the demo."""
    starter = ROOT / "blip_refine" / "starter"
    shutil.copytree(starter, tmp_path / "blip_refine" / "starter")  # where the card finds it in a clone
    by_pipeline, by_classes, ours = snippets((ROOT / "MODEL_CARD.md").read_text(encoding="utf-8"))
    assert imported(by_pipeline) == imported(by_classes) == {"transformers"}, "stock transformers alone"
    # As `evaluate` and `demo` score: one pipeline over all images.
    pipeline = CaptionPipeline.from_pretrained("starter", batch_size=20)
    scored = [caption.text for caption in pipeline.stream(test_pictures)]
    assert len(scored) == 100 and len(set(scored)) > 50
    for snippet in (by_pipeline, by_classes):
        assert run_on_pictures(snippet, test_pictures, tmp_path, monkeypatch, capsys) == scored
    assert run_on_pictures(ours, test_pictures[:10], tmp_path, monkeypatch, capsys) == scored[:10]


@pytest.mark.parametrize(
    "decoding",
    [
        {"prompt": 'a picture of "', "num_beams": 3},
        {"num_beams": 1, "max_new_tokens": 20},
        {"prompt": "a photo of ", "early_stopping": False, "length_penalty": 0.5, "max_new_tokens": 24},
        {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "min_new_tokens": 6},
    ],
)
def test_the_decoding_of_the_run_is_what_the_snippets_ask_for(decoding, test_pictures, tmp_path, monkeypatch, capsys):
    """Beams, penalties and a prompt, which the captions of the snippets leave out."""
    run = Path(shutil.copytree(ROOT / "blip_refine" / "starter", tmp_path / "run"))
    change(run / "run.json", decoding=decoding)
    by_pipeline, by_classes, _ = snippets(render_model_card(run))
    pictures = test_pictures[:8]
    pipeline = CaptionPipeline.from_pretrained(str(run), decoding=DecodingOptions(**decoding))
    prompt = pipeline.processor.decode(prompt_tokens(pipeline.processor, decoding.get("prompt", "")))
    scored = [caption.text.removeprefix(prompt).strip() for caption in pipeline.stream(pictures)]
    for snippet in (by_pipeline, by_classes):
        assert run_on_pictures(snippet, pictures, run, monkeypatch, capsys) == scored


def test_the_defaults_of_the_snippets_are_those_of_decoding():
    options = DecodingOptions()
    for name, value in {**stock.BEAMS, **stock.COMMON}.items():
        assert getattr(options, name) == value, name
    for name, value in stock.SAMPLING.items():
        assert name == "do_sample" or getattr(options, name) == value, name


def test_what_stock_transformers_lacks_is_said(full_run):
    change(full_run / "run.json", decoding={"bad_words": ["gun"], "num_beam_groups": 5, "num_beams": 10})
    text = render_model_card(full_run)
    assert "`bad_words` and `num_beam_groups` were set, too" in text and "that were scored:" not in text
    change(full_run / "run.json", decoding={"num_beams": "5); print(1", "prompt": "``` </x>\nimport os"})
    snippet = snippets(render_model_card(full_run))[0]
    assert imported(snippet) == {"transformers"} and '"num_beams": 5,' in snippet
    change(full_run / "run.json", decoding={"do_sample": True, "num_beams": 1, "top_p": 0.9})
    text = render_model_card(full_run)
    assert '"top_k": 0, "top_p": 0.9}' in text and "early_stopping" not in text and "that were scored:" not in text
