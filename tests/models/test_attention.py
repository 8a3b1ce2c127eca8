"""The fast attention: the numbers of the stock one, states shared by the rows of an image, and back again."""

from __future__ import annotations

import pytest
import torch
import transformers

from blip_refine.errors import ConfigurationError
from blip_refine.models.attention import (
    SdpaTextAttention,
    SdpaVisionAttention,
    shares_image_states,
    sharing_image_states,
    use_attention,
)
from blip_refine.models.decoding_cache import DecodingCache
from blip_refine.models.text_decoder import StepDecoder

PIXELS = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)
TOKENS = torch.tensor([[4, 9, 30, 7], [4, 12, 5, 8]])


def run(model):
    with torch.no_grad():
        return model(pixel_values=PIXELS, input_ids=TOKENS)


def test_both_implementations_give_the_same_numbers_and_keep_the_names(tiny_captioner):
    model, _ = tiny_captioner(attention="eager")
    names = list(model.state_dict())
    stock = run(model)
    use_attention(model, "sdpa")
    kinds = {type(module) for module in model.modules()}
    assert {SdpaTextAttention, SdpaVisionAttention} <= kinds and shares_image_states(model)
    torch.testing.assert_close(run(model).logits, stock.logits, atol=1e-5, rtol=1e-5)
    assert list(model.state_dict()) == names
    use_attention(model, "eager")
    assert not shares_image_states(model)
    assert torch.equal(run(model).logits, stock.logits)
    with pytest.raises(ConfigurationError, match="no attention implementation 'flash'; there are: sdpa, eager"):
        use_attention(model, "flash")


def test_padding_is_hidden_as_in_the_stock_code(tiny_captioner):
    model, _ = tiny_captioner(attention="eager")
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    with torch.no_grad():
        stock = model(pixel_values=PIXELS, input_ids=TOKENS, attention_mask=mask).logits
        use_attention(model)
        fast = model(pixel_values=PIXELS, input_ids=TOKENS, attention_mask=mask).logits
    torch.testing.assert_close(fast, stock, atol=1e-5, rtol=1e-5)


def test_rows_of_an_image_share_its_states_with_the_gradient_of_repeated_ones(tiny_captioner):
    model, _ = tiny_captioner()
    decoder = model.text_decoder.bert
    torch.manual_seed(0)
    states = torch.randn(2, 5, 32)
    tokens = torch.randint(1, 60, (6, 4))
    results = []
    for repeats in (1, 3):
        own = states.clone().requires_grad_()
        given = own.repeat_interleave(repeats, dim=0)
        hidden = decoder(input_ids=tokens, encoder_hidden_states=given, is_decoder=True, use_cache=False)
        hidden.last_hidden_state.square().sum().backward()
        results.append((hidden.last_hidden_state, own.grad))
    for shared, repeated in zip(*results, strict=True):
        torch.testing.assert_close(shared, repeated, atol=1e-4, rtol=1e-4)


def test_bfloat16_backward_on_the_cpu_keeps_its_precision_and_type(tiny_captioner):
    model, _ = tiny_captioner()
    model.to(torch.bfloat16).train()
    states = torch.randn(2, 5, 32, dtype=torch.bfloat16, requires_grad=True)
    hidden = model.text_decoder.bert(
        input_ids=TOKENS, encoder_hidden_states=states, is_decoder=True, use_cache=False
    ).last_hidden_state
    assert hidden.dtype == torch.bfloat16
    hidden.float().sum().backward()
    assert states.grad is not None and states.grad.dtype == torch.bfloat16 and states.grad.isfinite().all()


def test_stock_generate_works_on_the_fast_attention(tiny_captioner):
    model, _ = tiny_captioner()
    fast = transformers.BlipForConditionalGeneration.generate(model, pixel_values=PIXELS, max_new_tokens=5)
    use_attention(model, "eager")
    assert torch.equal(fast, model.generate(pixel_values=PIXELS, max_new_tokens=5))


def test_the_context_gives_each_module_its_own_class_back(tiny_captioner):
    model, _ = tiny_captioner(attention="eager")
    use_attention(model.vision_model)
    kinds = [type(module) for module in model.modules()]
    with pytest.raises(RuntimeError, match="inside"), sharing_image_states(model):
        assert shares_image_states(model)
        raise RuntimeError("inside")
    assert [type(module) for module in model.modules()] == kinds


def test_steps_over_branching_beams_give_the_logits_of_whole_texts(tiny_captioner):
    # Two images, three rows each; rows are dropped and split, an image leaves, and no key is ever moved.
    model, _ = tiny_captioner()
    states = torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(1))
    prompt = torch.tensor([model.config.text_config.bos_token_id, 6, 11])
    rng = torch.Generator().manual_seed(2)
    with torch.inference_mode():
        decoder = StepDecoder(model, states, rows=3, max_new_tokens=6)
        decoder.start(prompt)
        texts = prompt.expand(3, 3, -1)
        for step in range(5):
            images = len(texts)
            parents = torch.randint(0, 3, (images, 3), generator=rng)
            tokens = torch.randint(1, 60, (images, 3), generator=rng)
            texts = torch.cat([texts.gather(1, parents[..., None].expand_as(texts)), tokens[..., None]], dim=2)
            logits = decoder.step(tokens, parents)
            whole = model.text_decoder(input_ids=texts.flatten(0, 1), encoder_hidden_states=states).logits[:, -1]
            torch.testing.assert_close(logits.flatten(0, 1), whole, atol=1e-4, rtol=1e-4)
            if step == 2:
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
