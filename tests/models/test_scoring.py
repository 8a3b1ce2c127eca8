"""`log p(text | image)`: the stock loss, the decoder's own confidence, and what the image is worth."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import transformers

from blip_refine.data.sources.scenes import make_scene
from blip_refine.errors import ConfigurationError, ModelError
from blip_refine.models.blip2_text import LanguageModelText
from blip_refine.models.decoding import DecodingOptions, generate_captions
from blip_refine.models.scoring import score_texts, score_without_image

from .family_models import KINDS, make_family

TEXTS = [["a dog", "two red cats on a bed", "it"], [], ["a boat at night", "a dog"]]
PIXELS = torch.linspace(-1, 1, 3 * 3 * 32 * 32).reshape(3, 3, 32, 32)


def test_scores_are_the_stock_loss_times_its_tokens(tiny_captioner):
    model, processor = tiny_captioner()
    scores = score_texts(model, processor, PIXELS, TEXTS)
    config = model.config.text_config
    for image, texts in enumerate(TEXTS):
        for text, score in zip(texts, scores[image], strict=True):
            words = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
            ids = torch.tensor([[config.bos_token_id, *words, config.sep_token_id]])
            labels = ids.clone()
            labels[0, 0] = -100
            model.text_decoder.label_smoothing = 0.0
            with torch.no_grad():
                states = model.vision_model(PIXELS[image : image + 1]).last_hidden_state
                loss = model.text_decoder(input_ids=ids, encoder_hidden_states=states, labels=labels).loss
            assert score.tokens == len(words) + 1
            assert score.log_prob == pytest.approx(-loss.item() * score.tokens, abs=1e-3)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_batches_change_nothing(tiny_captioner, batch_size):
    model, processor = tiny_captioner()
    whole = score_texts(model, processor, PIXELS, TEXTS, without_image=True)
    parts = score_texts(model, processor, PIXELS, TEXTS, without_image=True, batch_size=batch_size)
    assert [len(of_image) for of_image in parts] == [3, 0, 2]
    for one, other in zip(sum(whole, []), sum(parts, []), strict=True):
        assert one.log_prob == pytest.approx(other.log_prob, abs=1e-3)
        assert one.image_gain == pytest.approx(other.image_gain, abs=1e-3)


def test_confidence_of_a_decoded_caption_is_its_score(starter_captioner, scene_pixels):
    model, processor = starter_captioner
    options = DecodingOptions(num_return_sequences=3, prompt="there is")
    decoded = generate_captions(model, processor, scene_pixels, options)
    scores = score_texts(model, processor, scene_pixels, [one.texts for one in decoded], prompt="there is")
    for one, scored in zip(decoded, scores, strict=True):
        assert [score.mean for score in scored] == pytest.approx(list(one.log_probs), abs=1e-4)


def test_the_image_explains_its_own_caption_better_than_another_ones(starter_captioner):
    model, processor = starter_captioner
    scenes = [make_scene("everyday", "test", number) for number in range(16)]
    pixels = processor.image_processor(images=[scene.image for scene in scenes], return_tensors="pt").pixel_values
    own = [scene.captions[0] for scene in scenes]
    others = [own[(number + 5) % 16] for number in range(16)]
    scores = score_texts(
        model, processor, pixels, [list(pair) for pair in zip(own, others, strict=True)], without_image=True
    )
    better = sum(mine.image_gain > other.image_gain for mine, other in scores)
    assert better >= 14
    alone = score_without_image(model, processor, own)
    for (mine, _), without in zip(scores, alone, strict=True):
        assert mine.log_prob - mine.image_gain == pytest.approx(without.log_prob, abs=1e-3)


def test_what_cannot_be_scored_is_refused(tiny_captioner):
    model, processor = tiny_captioner()
    with pytest.raises(ConfigurationError, match="3 images and texts for 1"):
        score_texts(model, processor, PIXELS, [["a"]])
    with pytest.raises(ConfigurationError, match="a list of texts for each image"):
        score_texts(model, processor, PIXELS, ["a", "b", "c"])
    with pytest.raises(ConfigurationError, match="does not begin with the prompt"):
        score_texts(model, processor, PIXELS[:1], [["a dog"]], prompt="two")
    with pytest.raises(ConfigurationError, match="the model reads 64"):
        score_texts(model, processor, PIXELS[:1], [["dog " * 70]])
    with pytest.raises(ModelError, match="a Linear is none"):
        score_texts(torch.nn.Linear(2, 2), processor, PIXELS, TEXTS)
    assert score_without_image(model, processor, []) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_language_model_scores_texts_as_the_stock_model_does(kind):
    model, processor = make_family(kind)
    texts = [["a dog", "two cats on a chair", "a red car"], [], ["a dog"]]
    scores = score_texts(model, processor, PIXELS, texts, prompt="a drawing of ", without_image=True, batch_size=2)
    assert [len(of_image) for of_image in scores] == [3, 0, 1]
    stock = getattr(transformers, type(model).__name__)(model.config).eval()
    stock.load_state_dict(model.state_dict())
    reader = LanguageModelText(model, processor, "a drawing of ")
    for pixels, of_image, found in zip(PIXELS, texts, scores, strict=True):
        for text, score in zip(of_image, found, strict=True):
            encoded = reader.encode([text], images=1)
            labels = encoded.pop("labels")
            with torch.inference_mode():
                if model.config.use_decoder_only_language_model:
                    logits = stock(pixel_values=pixels[None], **encoded).logits[0, :-1]
                    loss = F.cross_entropy(logits, labels[0, 1:], ignore_index=-100, reduction="sum").item()
                else:
                    loss = stock(pixel_values=pixels[None], labels=labels, **encoded).loss.item() * labels.shape[1]
            assert score.log_prob == pytest.approx(-loss, rel=1e-4)
            assert score.tokens == int((labels != -100).sum())
    # The same text of two images: what it is worth without an image is the same, with one it is not.
    assert scores[0][0].log_prob_without_image == pytest.approx(scores[2][0].log_prob_without_image, rel=1e-5)
    assert scores[0][0].log_prob != scores[2][0].log_prob
    (alone,) = score_without_image(model, processor, ["a dog"], prompt="a drawing of ")
    assert alone.log_prob == pytest.approx(scores[0][0].log_prob_without_image, rel=1e-5)
