"""Tiny random captioners of other families, saved as their repositories are. Every part is real.

Processors are made without a network, of the starter's tokenizer. Those of SmolVLM2 and Qwen2-VL need torchvision for
videos; what is saved here is what their repositories hold, and is loaded with or without it.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import (
    AutoTokenizer,
    BartConfig,
    CLIPImageProcessor,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    GenerationConfig,
    GitConfig,
    GitForCausalLM,
    GitProcessor,
    GPT2Config,
    LlamaConfig,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessor,
)

from blip_refine.models.captioner import resolve_checkpoint

KINDS = ("git", "vision-encoder-decoder", "florence2", "smolvlm", "qwen2_vl")
CHATS = ("smolvlm", "qwen2_vl")

VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT = {**VISION, "num_key_value_heads": 2}


def chat_template(image: str) -> str:
    return (
        "{% for message in messages %}{{ message['role'] }}: {% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}" + image + "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %} assistant: {% endif %}"
    )


def tokenizer(*special: str, **named):
    made = AutoTokenizer.from_pretrained(resolve_checkpoint("starter"), **named)
    made.model_input_names = ["input_ids", "attention_mask"]
    if special:
        made.add_special_tokens({"additional_special_tokens": list(special)})
    return made


def make_git(folder: Path) -> None:
    words = tokenizer()
    config = GitConfig(
        **{**VISION, "vocab_size": len(words), "max_position_embeddings": 64, "bos_token_id": words.cls_token_id},
        eos_token_id=words.sep_token_id,
        pad_token_id=words.pad_token_id,
        vision_config={**VISION, "image_size": 32, "patch_size": 16, "initializer_range": 0.5},
        initializer_range=0.2,
    )
    GitForCausalLM(config).save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    GitProcessor(images, words).save_pretrained(folder)


def make_vision_encoder_decoder(folder: Path) -> None:
    words = tokenizer()
    encoder = ViTConfig(**VISION, image_size=32, patch_size=16, initializer_range=0.2)
    decoder = GPT2Config(
        vocab_size=len(words), n_embd=32, n_layer=2, n_head=4, n_positions=64, add_cross_attention=True,
        is_decoder=True, initializer_range=0.2,
    )  # fmt: skip
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    tokens = {
        "decoder_start_token_id": words.cls_token_id,
        "eos_token_id": words.sep_token_id,
        "pad_token_id": words.pad_token_id,
    }
    for name, value in tokens.items():
        setattr(config, name, value)
    model = VisionEncoderDecoderModel(config)
    model.generation_config = GenerationConfig(**tokens)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)


def make_florence2(folder: Path) -> None:
    words = tokenizer(
        extra_special_tokens={"image_token": "<image>"}, bos_token="<s>", eos_token="</s>", sep_token="</s>"
    )
    tokens = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": 0}
    text = BartConfig(
        vocab_size=len(words), d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=128,
        decoder_start_token_id=words.eos_token_id, init_std=0.2, **tokens,
    )  # fmt: skip
    vision = {
        "embed_dim": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "num_heads": [2, 2, 2, 4], "num_groups": [2, 2, 2, 4],
        "window_size": 2, "projection_dim": 32, "initializer_range": 0.2,
    }  # fmt: skip
    config = Florence2Config(
        text_config=text.to_dict(), vision_config=vision, image_token_id=words.image_token_id, is_encoder_decoder=True
    )
    Florence2ForConditionalGeneration(config).save_pretrained(folder)
    images = CLIPImageProcessor(size={"height": 64, "width": 64}, do_center_crop=False)
    images.image_seq_length = 5
    Florence2Processor(images, words).save_pretrained(folder)


def make_smolvlm(folder: Path) -> None:
    words = tokenizer("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    tokens = {"bos_token_id": words.cls_token_id, "eos_token_id": words.sep_token_id, "pad_token_id": 0}
    config = SmolVLMConfig(
        vision_config={**VISION, "image_size": 32, "patch_size": 16},
        text_config=LlamaConfig(**TEXT, vocab_size=len(words), initializer_range=0.2, **tokens).to_dict(),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=0,
    )
    SmolVLMForConditionalGeneration(config).save_pretrained(folder)
    images = SmolVLMImageProcessor(
        size={"longest_edge": 64}, max_image_size={"longest_edge": 32}, do_image_splitting=False
    )
    _save_processor(folder, "SmolVLMProcessor", images, words, chat_template("<image>"), image_seq_len=1)


def make_qwen2_vl(folder: Path) -> None:
    names = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    words = tokenizer(*names)
    image, video, start, end = (words.convert_tokens_to_ids(name) for name in names)
    tokens = {"bos_token_id": words.cls_token_id, "eos_token_id": words.sep_token_id, "pad_token_id": 0}
    config = Qwen2VLConfig(
        text_config={
            **TEXT, **tokens, "vocab_size": len(words), "initializer_range": 0.2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        },
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "mlp_ratio": 2},
        image_token_id=image, video_token_id=video, vision_start_token_id=start, vision_end_token_id=end,
    )  # fmt: skip
    model = Qwen2VLForConditionalGeneration(config)
    # As in the repository: it samples unless told otherwise.
    model.generation_config.update(do_sample=True, temperature=0.01, top_k=1, top_p=0.001)
    model.save_pretrained(folder)
    images = Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=56 * 56)
    template = chat_template("<|vision_start|><|image_pad|><|vision_end|>")
    _save_processor(folder, "Qwen2VLProcessor", images, words, template)


def _save_processor(folder: Path, name: str, images, words, template: str, **options) -> None:
    """The files of a processor that also does videos, without making one: that takes torchvision."""
    images.save_pretrained(folder)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "processor_class": name}))
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": name, **options}))
    (folder / "chat_template.jinja").write_text(template)
    words.save_pretrained(folder)


def make_other(kind: str, folder: Path, seed: int = 0) -> Path:
    """A saved captioner of a kind in `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    globals()[f"make_{kind.replace('-', '_')}"](folder)
    return folder
