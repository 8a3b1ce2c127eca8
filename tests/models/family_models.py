"""Tiny random captioners of the families whose image goes through a language model. Every part is real."""

from __future__ import annotations

import torch
import transformers
from transformers import (
    Blip2Config,
    Blip2Processor,
    InstructBlipConfig,
    InstructBlipProcessor,
    OPTConfig,
    T5Config,
)

from blip_refine.models.blip2 import Blip2ForConditionalGeneration, InstructBlipForConditionalGeneration
from blip_refine.models.captioner import resolve_checkpoint

KINDS = ("blip-2 opt", "blip-2 t5", "instructblip t5", "instructblip opt")
QUERIES = 4


def make_family(kind: str, seed: int = 0):
    """A captioner of 32x32 pixels and its processor."""
    family, language = kind.split()
    tokenizer = transformers.AutoTokenizer.from_pretrained(resolve_checkpoint("starter"))
    images = transformers.BlipImageProcessor(size={"height": 32, "width": 32})
    if family == "blip-2":
        processor = Blip2Processor(images, tokenizer, num_query_tokens=QUERIES)
    else:
        qformer_tokenizer = transformers.AutoTokenizer.from_pretrained(resolve_checkpoint("starter"))
        processor = InstructBlipProcessor(images, tokenizer, qformer_tokenizer, num_query_tokens=QUERIES)
    size = len(processor.tokenizer) + 2
    end, pad = tokenizer.sep_token_id, tokenizer.pad_token_id
    if language == "opt":
        text = OPTConfig(
            vocab_size=size, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4, dropout=0.0,
            word_embed_proj_dim=32, max_position_embeddings=96,
            bos_token_id=size - 1, eos_token_id=end, pad_token_id=pad,
        )  # fmt: skip
    else:
        text = T5Config(
            vocab_size=size, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, dropout_rate=0.0,
            decoder_start_token_id=pad, eos_token_id=end, pad_token_id=pad,
        )  # fmt: skip
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    qformer = {**vision, "vocab_size": size, "encoder_hidden_size": 32, "cross_attention_frequency": 1}
    config_class = Blip2Config if family == "blip-2" else InstructBlipConfig
    config = config_class(
        # The default of 1e-10 would make all image states alike.
        vision_config={**vision, "image_size": 32, "patch_size": 16, "initializer_range": 0.2},
        qformer_config={**qformer, "attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0},
        text_config=text.to_dict(),
        num_query_tokens=QUERIES,
        image_token_index=processor.tokenizer.convert_tokens_to_ids("<image>"),
    )
    torch.manual_seed(seed)
    model_class = Blip2ForConditionalGeneration if family == "blip-2" else InstructBlipForConditionalGeneration
    model = model_class(config)
    torch.nn.init.normal_(model.query_tokens)
    model.generation_config.eos_token_id = end
    return model.eval(), processor
