"""A tokenizer and a random BART, small enough to be made in a test and saved as a checkpoint is."""

from __future__ import annotations

import os

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast


def make_tokenizer(chat_template: str | None = None) -> PreTrainedTokenizerFast:
    texts = ["a dog runs on the beach", "two women sit at a table", "You correct the grammar of captions."]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "<eos>", "<unk>", "<|system|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="<eos>", unk_token="<unk>"
    )
    if chat_template:
        fast.chat_template = chat_template
    return fast


def save_tiny_bart(folder: str | os.PathLike) -> str:
    """Write the model with its tokenizer into `folder`, as `from_pretrained` reads it."""
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=len(tokenizer),
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=256,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
        forced_eos_token_id=2,
    )
    model = BartForConditionalGeneration(config)
    # What bart-large-cnn asks for: at least 56 tokens, at most 142.
    model.generation_config.min_length, model.generation_config.max_length = 56, 142
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
