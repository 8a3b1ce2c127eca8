"""What `transformers` itself decodes, in the form of `DecodedImage`."""

from __future__ import annotations

import torch

from blip_refine.models.decoding import DecodedImage, DecodingOptions, prompt_tokens


@torch.inference_mode()
def stock_captions(model, processor, pixel_values: torch.Tensor, options: DecodingOptions) -> list[DecodedImage]:
    """By the stock `generate`, which runs stock code on a model of ours."""
    names = ["num_beams", "max_new_tokens", "num_return_sequences", "repetition_penalty", "no_repeat_ngram_size"]
    arguments = {name: getattr(options, name) for name in names}
    if options.min_new_tokens:
        arguments["min_new_tokens"] = options.min_new_tokens
    if options.num_beams > 1:
        arguments |= {"length_penalty": options.length_penalty, "early_stopping": options.early_stopping}
    if options.bad_words:
        arguments["bad_words_ids"] = [prompt_tokens(processor, word) for word in options.bad_words]
    text = model.config.text_config
    start = [text.bos_token_id, *prompt_tokens(processor, options.prompt)]
    # generate drops the last token of a prompt, which a tokenizer's end token is.
    generated = model.generate(
        pixel_values=pixel_values,
        input_ids=torch.tensor([[*start, text.sep_token_id]]).repeat(len(pixel_values), 1),
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
        **arguments,
    )
    log_probs = model.text_decoder.compute_transition_scores(
        generated.sequences, generated.logits, getattr(generated, "beam_indices", None), normalize_logits=True
    )
    found = []
    for row, values in zip(generated.sequences[:, len(start) :].tolist(), log_probs.tolist(), strict=True):
        tokens = without_padding(row[: row.index(text.sep_token_id) + 1] if text.sep_token_id in row else row, text)
        words = processor.tokenizer.decode([*start, *tokens], skip_special_tokens=True).strip()
        found.append((words, sum(values[: len(tokens)]) / len(tokens), tokens))
    n = options.num_return_sequences
    images = (found[first : first + n] for first in range(0, len(found), n))
    return [DecodedImage(*(tuple(column) for column in zip(*captions, strict=True))) for captions in images]


def without_padding(tokens, text_config) -> tuple[int, ...]:
    """Without `[PAD]` at the end, with which stock fills up, and which a random model may also choose."""
    tokens = list(tokens)
    while len(tokens) > 1 and tokens[-1] == text_config.pad_token_id:
        tokens.pop()
    return tuple(tokens)
