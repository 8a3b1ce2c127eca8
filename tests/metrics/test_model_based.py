"""With tiny random models built here: what is computed is what the formulas say, whatever the weights."""

from __future__ import annotations

import numpy as np
import pytest

from blip_refine.metrics import score_captions

from .captions import PREDICTIONS, REFERENCES

WORDS = sorted(
    {w for text in PREDICTIONS.values() for w in text.split()} | set("a photo depicts the of boat kite".split())
)


def test_without_a_model_or_pictures_it_is_said():
    scores = score_captions(PREDICTIONS, REFERENCES, ["BERTScore", "CLIPScore", "RefCLIPScore", "Bleu_1"])
    assert list(scores.corpus) == ["Bleu_1"]
    assert "pass models={'BERTScore'" in scores.unavailable["BERTScore"]
    assert "pass images=" in scores.unavailable["CLIPScore"] == scores.unavailable["RefCLIPScore"]


@pytest.mark.slow
def test_a_model_that_is_not_at_hand_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pictures = dict.fromkeys(PREDICTIONS, tmp_path / "none.jpg")
    scores = score_captions(
        PREDICTIONS, REFERENCES, ["CLIPScore"], images=pictures, models={"CLIPScore": str(tmp_path / "nowhere")}
    )
    assert "cannot be loaded" in scores.unavailable["CLIPScore"]
    scores = score_captions(PREDICTIONS, REFERENCES, ["CLIPScore"], images={"x": "y"}, models={"CLIPScore": "z"})
    assert "4 images have no picture" in scores.unavailable["CLIPScore"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS) + 5, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=512,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
def test_bertscore_takes_the_best_reference(bert):
    same = {image_id: [*captions, PREDICTIONS[image_id]] for image_id, captions in REFERENCES.items()}
    models = {"BERTScore": bert}
    scores = score_captions(PREDICTIONS, same, ["BERTScore"], models=models)
    assert scores.unavailable == {}
    assert list(scores.per_image["BERTScore"].values()) == pytest.approx([1.0] * 4, abs=1e-4)
    others = score_captions(PREDICTIONS, REFERENCES, ["BERTScore"], models=models)
    assert all(value < 0.999 for value in others.per_image["BERTScore"].values())
    assert "bertscore:" in others.signature
    # An image scores the same whatever is scored with it: nothing is sorted into another's place.
    for image_id, value in others.per_image["BERTScore"].items():
        alone = score_captions(
            {image_id: PREDICTIONS[image_id]}, {image_id: REFERENCES[image_id]}, ["BERTScore"], models=models
        )
        assert alone.corpus["BERTScore"] == pytest.approx(value, abs=1e-5)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    words = ["<pad>", "<s>", "</s>", "<unk>", *WORDS]
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: n for n, w in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        "<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=40,
    )
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config={**shape, "vocab_size": len(words), "max_position_embeddings": 40, "eos_token_id": 2,
                     "bos_token_id": 1, "pad_token_id": 0, "projection_dim": 8},
        vision_config={**shape, "image_size": 32, "patch_size": 16, "projection_dim": 8},
        projection_dim=8,
    )  # fmt: skip
    transformers.CLIPModel(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    image_processor = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size)
    transformers.CLIPProcessor(image_processor, tokenizer).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_clipscore_is_the_formula(clip, tmp_path):
    import torch
    from PIL import Image
    from transformers import CLIPModel, CLIPProcessor

    paths = {}
    for number, image_id in enumerate(PREDICTIONS):
        paths[image_id] = tmp_path / image_id
        Image.new("RGB", (40 + number, 30), (60 * number, 200, 90)).save(paths[image_id])
    scores = score_captions(
        PREDICTIONS, REFERENCES, ["CLIPScore", "RefCLIPScore"], images=paths, models={"CLIPScore": str(clip)}
    )
    assert scores.unavailable == {} and f"clipscore:{clip.name}" in scores.signature

    model, processor = CLIPModel.from_pretrained(clip).eval(), CLIPProcessor.from_pretrained(clip)

    def vector(**inputs):
        with torch.inference_mode():
            output = model.get_text_features(**inputs) if "input_ids" in inputs else model.get_image_features(**inputs)
        output = getattr(output, "pooler_output", output)[0].double().numpy()
        return output / np.linalg.norm(output)

    def text(caption):
        return vector(**processor.tokenizer(["A photo depicts " + caption], return_tensors="pt"))

    for image_id, caption in PREDICTIONS.items():
        with Image.open(paths[image_id]) as picture:
            image = vector(**processor.image_processor([picture.convert("RGB")], return_tensors="pt"))
        clip_score = 2.5 * max(float(text(caption) @ image), 0.0)
        best = max(max(float(text(caption) @ text(other)) for other in REFERENCES[image_id]), 0.0)
        harmonic = 2 * clip_score * best / (clip_score + best) if clip_score + best else 0.0
        assert scores.per_image["CLIPScore"][image_id] == pytest.approx(clip_score, abs=1e-5)
        assert scores.per_image["RefCLIPScore"][image_id] == pytest.approx(harmonic, abs=1e-5)
