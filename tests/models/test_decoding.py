"""Decoding: the tokens of the stock `generate`, the distribution of sampling, and options that cannot be refused."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
import torch

from blip_refine.errors import ConfigurationError, ModelError
from blip_refine.models.captioner import add_lora
from blip_refine.models.decoding import (
    PRESETS,
    DecodingOptions,
    generate_captions,
    prompt_tokens,
)

from .stock import stock_captions, without_padding


def outspoken(model, seed: int = 0):
    """Weights that say something else at every step and end now and then: random ones repeat one word for ever."""
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
        if "cls.predictions.bias" in name:
            torch.nn.init.normal_(parameter)
    model.text_decoder.cls.predictions.bias.data[model.config.text_config.sep_token_id] += 2.5
    return model


def pixels(images: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(images, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def draw_options(rng: random.Random) -> DecodingOptions:
    beams, longest = rng.choice([1, 2, 3, 5]), rng.randint(1, 12)
    return DecodingOptions(
        num_beams=beams,
        max_new_tokens=longest,
        min_new_tokens=rng.choice([0, 0, min(4, longest), longest]),
        length_penalty=rng.choice([1.0, 0.0, 2.0, -1.0, 0.6]) if beams > 1 else 1.0,
        early_stopping=rng.choice([True, False]),
        num_return_sequences=rng.randint(1, beams),
        repetition_penalty=rng.choice([1.0, 1.0, 1.3]),
        no_repeat_ngram_size=rng.choice([0, 0, 2]),
        bad_words=rng.choice([(), (), ("red", "a picture")]),
        prompt=rng.choice(["", "a picture of", "the"]),
    )


@pytest.mark.parametrize("seed", range(8))
def test_tokens_are_those_of_stock_generate(tiny_captioner, seed):
    # 8 models x 20 draws of beams, lengths, prompts, penalties and bans, over some 480 images.
    model, processor = tiny_captioner(seed)
    outspoken(model, seed)
    rng = random.Random(seed)
    lengths: set[int] = set()
    for draw in range(20):
        options, images = draw_options(rng), pixels(rng.choice([1, 3, 5]), draw)
        ours = generate_captions(model, processor, images, options)
        stock = stock_captions(model, processor, images, options)
        for one, other in zip(ours, stock, strict=True):
            trimmed = [without_padding(tokens, model.config.text_config) for tokens in one.tokens]
            assert trimmed == list(other.tokens), options
            lengths.update(map(len, one.tokens))
            for mine, theirs, tokens, kept in zip(one.log_probs, other.log_probs, one.tokens, trimmed, strict=True):
                if len(tokens) == len(kept):
                    assert mine == pytest.approx(theirs, abs=1e-4)
    assert len(lengths) >= 8, "the models must have said captions of many lengths"


def test_an_image_gets_the_same_caption_in_any_batch(starter_captioner, scene_pixels):
    model, processor = starter_captioner
    options = DecodingOptions(num_beams=3)
    together = generate_captions(model, processor, scene_pixels, options)
    alone = [generate_captions(model, processor, one[None], options)[0] for one in scene_pixels]
    assert [one.tokens for one in together] == [one.tokens for one in alone]
    assert len({len(one.tokens[0]) for one in together}) > 1, "images must have left the batch at different steps"


def test_sampling_draws_from_the_distribution_of_the_model(tiny_captioner):
    model, processor = tiny_captioner()
    outspoken(model)
    image = pixels(1)
    start = torch.tensor([[model.config.text_config.bos_token_id]])
    with torch.no_grad():
        logits = model(pixel_values=image, input_ids=start).logits[0, -1] / 0.7
    top = logits.topk(6)
    expected = top.values.softmax(-1)
    drawn: Counter[int] = Counter()
    for seed in range(8):
        options = DecodingOptions(
            num_beams=1,
            do_sample=True,
            temperature=0.7,
            top_k=6,
            max_new_tokens=1,
            num_return_sequences=4000,
            seed=seed,
        )
        drawn.update(tokens[0] for tokens in generate_captions(model, processor, image, options)[0].tokens)
    assert set(drawn) <= set(top.indices.tolist())
    # Pearson's chi-squared over 32,000 draws; with 5 degrees of freedom above 20.5 once in a thousand.
    pairs = zip(top.indices.tolist(), expected.tolist(), strict=True)
    assert sum((drawn[token] - 32000 * p) ** 2 / (32000 * p) for token, p in pairs) < 20.5


def test_nucleus_keeps_the_fewest_tokens_that_reach_the_probability(tiny_captioner):
    model, processor = tiny_captioner()
    outspoken(model)
    image = pixels(1)
    with torch.no_grad():
        start = torch.tensor([[model.config.text_config.bos_token_id]])
        ranked = model(pixel_values=image, input_ids=start).logits[0, -1].softmax(-1).sort(descending=True)
    needed = int((ranked.values.cumsum(0) < 0.3).sum()) + 1
    options = DecodingOptions(
        num_beams=1, do_sample=True, top_p=0.3, max_new_tokens=1, num_return_sequences=500, seed=0
    )
    drawn = {tokens[0] for tokens in generate_captions(model, processor, image, options)[0].tokens}
    assert drawn <= set(ranked.indices[:needed].tolist()) and len(drawn) > 1


def test_a_seed_repeats_and_leaves_the_global_generator_alone(tiny_captioner):
    model, processor = tiny_captioner()
    outspoken(model)
    options = DecodingOptions(num_beams=1, do_sample=True, max_new_tokens=6, num_return_sequences=3, seed=7)
    before = torch.get_rng_state()
    first, second = (generate_captions(model, processor, pixels(2), options) for _ in range(2))
    assert first == second
    assert torch.equal(before, torch.get_rng_state())
    assert first != generate_captions(model, processor, pixels(2), options.with_changes(seed=8))


def test_diverse_groups_are_unlike_and_the_first_is_plain_beam_search(tiny_captioner):
    model, processor = tiny_captioner()
    outspoken(model)
    images = pixels(4)
    plain = generate_captions(model, processor, images, DecodingOptions(num_beams=2, max_new_tokens=6))
    options = DecodingOptions(
        num_beams=6, num_beam_groups=3, diversity_penalty=50.0, num_return_sequences=6, max_new_tokens=6
    )
    diverse = generate_captions(model, processor, images, options)
    for one, best in zip(diverse, plain, strict=True):
        assert best.tokens[0] in one.tokens
        assert len(set(one.tokens)) == len(one.tokens)
        # A penalty that nothing outweighs: no two groups begin with the same token. Two beams of a group may.
        assert len({tokens[0] for tokens in one.tokens}) >= 3


def test_presets_decode_real_pictures(starter_captioner, scene_pixels):
    model, processor = starter_captioner
    for name in PRESETS:
        decoded = generate_captions(model, processor, scene_pixels, name)
        assert len(decoded) == len(scene_pixels)
        assert all(text and text == text.strip() for one in decoded for text in one.texts)
    candidates = generate_captions(model, processor, scene_pixels, "candidates")
    assert all(len(set(one.texts)) >= 4 for one in candidates)


def test_prompt_begins_the_caption_and_bans_are_kept(starter_captioner, scene_pixels):
    model, processor = starter_captioner
    prompted = generate_captions(model, processor, scene_pixels, DecodingOptions(prompt="there is"))
    assert all(one.texts[0].startswith("there is ") for one in prompted)
    free = generate_captions(model, processor, scene_pixels)
    banned = tuple({one.texts[0].split()[-1] for one in free})
    kept = generate_captions(model, processor, scene_pixels, DecodingOptions(bad_words=banned))
    assert not any(set(text.split()) & set(banned) for one in kept for text in one.texts)


def test_model_in_training_comes_back_as_it_was(tiny_captioner):
    model, processor = tiny_captioner(attention="eager")
    outspoken(model).train()
    model.vision_model.eval()
    modes = [module.training for module in model.modules()]
    kinds = [type(module) for module in model.modules()]
    first = generate_captions(model, processor, pixels(2), "fast")
    assert [module.training for module in model.modules()] == modes
    assert [type(module) for module in model.modules()] == kinds
    assert first == generate_captions(model.eval(), processor, pixels(2), "fast"), "dropout must have been off"
    model.train()
    loss = model(pixel_values=pixels(1), input_ids=torch.tensor([[5, 6]]), labels=torch.tensor([[5, 6]])).loss
    loss.backward()


def test_adapters_are_in_effect(tiny_captioner):
    model, processor = tiny_captioner()
    plain = generate_captions(outspoken(model), processor, pixels(2), "fast")
    wrapped = add_lora(model, True)
    assert generate_captions(wrapped, processor, pixels(2), "fast") == plain
    torch.manual_seed(1)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=2.0)
    changed = generate_captions(wrapped, processor, pixels(2), "fast")
    assert changed != plain
    merged = wrapped.merge_and_unload()
    assert [one.tokens for one in generate_captions(merged, processor, pixels(2), "fast")] == [
        one.tokens for one in changed
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 0}, "`num_beams` must be a whole number of at least 1"),
        ({"max_new_tokens": 5, "min_new_tokens": 6}, "above `max_new_tokens`"),
        ({"temperature": 0.5}, "no effect without `do_sample=True`"),
        ({"do_sample": True, "temperature": 0.0}, "`temperature` must be above 0"),
        ({"do_sample": True, "top_p": 1.5}, "`top_p` is a probability"),
        ({"num_beams": 1, "num_return_sequences": 3}, "Greedy search finds one caption"),
        ({"num_beams": 2, "num_return_sequences": 3}, "cannot give 3 captions"),
        ({"num_beams": 5, "num_beam_groups": 2, "diversity_penalty": 1.0}, "must divide"),
        ({"num_beams": 4, "num_beam_groups": 2}, "all groups of beams would find the same"),
        ({"diversity_penalty": 1.0}, "no effect without `num_beam_groups`"),
        ({"num_beams": 1, "length_penalty": 0.8}, "`length_penalty` has no effect with one beam"),
        ({"bad_words": "dog"}, "is a list of words"),
        ({"repetition_penalty": 0.0}, "must be above 0"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message.replace("(", r"\(")):
        DecodingOptions(**options)


def test_unknown_names_and_wrong_images_are_refused(tiny_captioner):
    model, processor = tiny_captioner()
    with pytest.raises(ConfigurationError, match="no decoding preset 'best'; there are: accurate, fast"):
        generate_captions(model, processor, pixels(1), "best")
    with pytest.raises(ConfigurationError, match="no decoding option 'beams'"):
        DecodingOptions.preset("fast", beams=3)
    with pytest.raises(ModelError, match="prepare them with the processor"):
        generate_captions(model, processor, torch.zeros(1, 3, 16, 16))
    with pytest.raises(ModelError, match="has the shape"):
        generate_captions(model, processor, torch.zeros(3, 32, 32))
    with pytest.raises(ConfigurationError, match="room for 63 tokens"):
        generate_captions(model, processor, pixels(1), DecodingOptions(max_new_tokens=64))
    assert generate_captions(model, processor, torch.zeros(0, 3, 32, 32)) == []


def test_weights_that_are_not_numbers_are_named(tiny_captioner):
    model, processor = tiny_captioner()
    model.text_decoder.cls.predictions.bias.data[5] = math.nan
    for name in ("accurate", "fast", "creative"):
        with pytest.raises(ModelError, match="not numbers"):
            generate_captions(model, processor, pixels(1), name)


def test_prompt_tokens_have_no_start_and_no_end(starter_captioner):
    _, processor = starter_captioner
    assert prompt_tokens(processor, "") == []
    tokens = prompt_tokens(processor, "a dog")
    assert processor.tokenizer.sep_token_id not in tokens and processor.tokenizer.decode(tokens) == "a dog"
