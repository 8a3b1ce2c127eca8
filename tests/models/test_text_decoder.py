"""Our text decoder and vision encoder against the stock modules, with real weights, in every layout of the rows."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from blip_refine.errors import ModelError
from blip_refine.models.decoding_cache import DecodingCache
from blip_refine.models.text_decoder import StepDecoder, TextDecoder
from blip_refine.models.vision_encoder import encode_images

from .make_golden import golden_captions, golden_pixels, stock_model, text_batch


@pytest.fixture(scope="module")
def stock():
    return stock_model()


@pytest.fixture
def words(starter_captioner):
    model, processor = starter_captioner
    return text_batch(processor, golden_captions(), model.config.text_config.bos_token_id)[0]


def logits(model, tokens, states, mask=None) -> torch.Tensor:
    decoder = TextDecoder(model)
    return decoder.logits(decoder.read(tokens, states, mask))


def test_image_states_are_those_of_the_stock_encoder(starter_captioner, stock):
    model, _ = starter_captioner
    with torch.no_grad():
        expected = stock.vision_model(pixel_values=golden_pixels()).last_hidden_state
        torch.testing.assert_close(encode_images(model, golden_pixels()), expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(ModelError, match=r"images are \(3, 48, 96\).*takes \(3, 96, 96\)"):
        encode_images(model, golden_pixels()[:, :, ::2])


@pytest.mark.parametrize("padded", ["nowhere", "right", "left"])
def test_logits_are_those_of_the_stock_decoder(starter_captioner, stock, words, padded):
    model, _ = starter_captioner
    mask = torch.ones_like(words)
    if padded == "right":
        mask[::3, -4:] = 0
    elif padded == "left":
        mask[::3, :3] = 0
    with torch.no_grad():
        states = encode_images(model, golden_pixels())
        expected = stock.text_decoder(input_ids=words, attention_mask=mask, encoder_hidden_states=states).logits
        found = logits(model, words, states, None if padded == "nowhere" else mask)
        unmasked = logits(model, words, states)
    seen = mask.bool()
    torch.testing.assert_close(found[seen], expected[seen], atol=2e-4, rtol=1e-4)
    if padded == "left":
        assert (unmasked[seen] - expected[seen]).abs().max() > 0.1, "the mask must matter"


def test_rows_of_an_image_share_its_states_with_the_gradient_of_repeated_ones(starter_captioner, words):
    model, _ = starter_captioner
    results = []
    for repeats in (1, 4):
        states = encode_images(model, golden_pixels()[:4]).detach().requires_grad_()
        found = logits(model, words, states.repeat_interleave(repeats, dim=0))
        found.square().mean().backward()
        results.append((found.detach(), states.grad))
    for shared, repeated in zip(*results, strict=True):
        torch.testing.assert_close(shared, repeated, atol=2e-4, rtol=1e-4)


def test_bfloat16_backward_on_the_cpu_keeps_its_precision_and_type(tiny_captioner):
    model, _ = tiny_captioner()
    model.to(torch.bfloat16).train()
    states = torch.randn(2, 5, 32, dtype=torch.bfloat16, requires_grad=True)
    tokens = torch.tensor([[4, 9, 30, 7], [4, 12, 5, 8]])
    hidden = TextDecoder(model).read(tokens, states)
    assert hidden.dtype == torch.bfloat16
    hidden.float().sum().backward()
    assert states.grad is not None and states.grad.dtype == torch.bfloat16 and states.grad.isfinite().all()


def test_steps_over_branching_beams_give_the_logits_of_whole_texts(starter_captioner, stock):
    # Three images, three rows each; rows are dropped and split, an image leaves, and no key is ever moved.
    model, processor = starter_captioner
    config = model.config.text_config
    prompt = torch.tensor(
        [config.bos_token_id, *processor.tokenizer("a picture", add_special_tokens=False)["input_ids"]]
    )
    rng = torch.Generator().manual_seed(2)
    with torch.inference_mode():
        states = encode_images(model, golden_pixels()[:3])
        decoder = StepDecoder(model, states, rows=3, max_new_tokens=12)
        decoder.start(prompt)
        texts = prompt.expand(3, 3, -1)
        for step in range(11):
            images = len(texts)
            parents = torch.randint(0, 3, (images, 3), generator=rng)
            tokens = torch.randint(5, config.vocab_size, (images, 3), generator=rng)
            texts = torch.cat([texts.gather(1, parents[..., None].expand_as(texts)), tokens[..., None]], dim=2)
            found = decoder.step(tokens, parents).flatten(0, 1)
            rows = texts.flatten(0, 1)
            whole = stock.text_decoder(input_ids=rows, encoder_hidden_states=states.repeat_interleave(3, 0)).logits
            torch.testing.assert_close(found, whole[:, -1], atol=2e-4, rtol=1e-4)
            if step == 5:
                order = decoder.keep([1, 2])
                assert order == [2, 1], "the last survivor takes the place of the one that left"
                texts, states = texts[order], states[order]


def test_cache_counts_slots_and_moves_as_little_as_it_can():
    cache = DecodingCache(images=4, layers=1, slots=3)
    key = torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 1, 2, 1).contiguous()
    cache.keep_image(0, key, key + 10)
    cache.extend(0, key[:, :, :1], key[:, :, :1])
    cache.advance(1)
    assert cache.keep([0, 1, 2, 3]) == [0, 1, 2, 3]
    assert cache.keep([0, 3]) == [0, 3]
    kept, _ = cache.image_keys_and_values(0)
    assert kept[:, 0, 0, 0].tolist() == [0.0, 3.0]
    grown, _ = cache.extend(0, torch.full((2, 1, 1, 1), 7.0), torch.zeros(2, 1, 1, 1))
    assert grown[:, 0, :, 0].tolist() == [[0.0, 7.0], [3.0, 7.0]]


@pytest.mark.parametrize("name", ["hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout"])
def test_dropout_is_the_configurations_and_only_in_training(tiny_captioner, name):
    model, _ = tiny_captioner()
    holder = model.config.vision_config if name == "attention_dropout" else model.config.text_config
    for drop in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        setattr(model.config.text_config, drop, 0.0)
    tokens = torch.randint(5, 60, (64, 12))
    pixels = torch.randn(64, 3, 32, 32)

    def run() -> torch.Tensor:
        return model(pixel_values=pixels, input_ids=tokens).logits

    with torch.no_grad():
        plain = run()
        setattr(holder, name, 0.5)
        assert torch.equal(run(), plain), "nothing is dropped outside of training"
        model.train()
        dropped = run()
        assert not torch.equal(dropped, plain) and not torch.equal(run(), dropped)
        setattr(holder, name, 0.0)
        assert torch.equal(run(), plain)


def test_attention_dropout_keeps_the_mean():
    # All values 1: without dropout attention returns 1 everywhere; with it the mean of 2 x kept weights.
    from blip_refine.models.attention import attend

    query, key = torch.randn(2, 16, 4, 50, 8).unbind(0)
    ones = torch.ones_like(query)
    torch.testing.assert_close(attend(query, key, ones), ones)
    dropped = attend(query, key, ones, dropout=0.5)
    assert dropped.mean() == pytest.approx(1, abs=0.05) and dropped.std() > 0.1
    assert F.cosine_similarity(dropped.flatten(), ones.flatten(), dim=0) < 0.999


def test_what_forward_does_not_know_is_refused(starter_captioner, words):
    model, _ = starter_captioner
    for unknown in ({"past_key_values": None}, {"output_attentions": True}, {"interpolate_pos_encoding": True}):
        with pytest.raises(TypeError, match=next(iter(unknown))):
            model(pixel_values=golden_pixels(), input_ids=words, **unknown)


def test_a_decoder_sees_what_is_put_on_the_model_later(starter_captioner, words):
    # An adapter replaces linear layers in place; what was computed before must not be kept.
    from blip_refine.models.adapters import add_lora

    model = copy.deepcopy(starter_captioner[0])
    with torch.no_grad():
        states = encode_images(model, golden_pixels())
        before = logits(model, words, states)
        adapted = add_lora(model, {"init_lora_weights": False}).eval()
        after = logits(adapted.get_base_model(), words, states)
        assert (after - before).abs().max() > 1e-3
        with adapted.disable_adapter():
            torch.testing.assert_close(logits(adapted.get_base_model(), words, states), before)
