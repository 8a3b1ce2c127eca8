"""Make the embedded starter: a small BLIP trained from nothing on drawn scenes of everyday things.

    python examples/pretrain_starter.py --output starter            # the recipe of MODEL_CARD.md
    python examples/pretrain_starter.py --output /tmp/s --smoke     # seconds, to see it work

Every step draws fresh scenes, so no picture is seen twice and none can be learnt by heart; single things come first
and then everything. Each image is encoded once for all its captions.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import BertTokenizer, BlipConfig, BlipProcessor
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from blip_refine.data.sources.scene_captions import vocabulary
from blip_refine.data.sources.scenes import make_scene
from blip_refine.models.blip import BlipForConditionalGeneration

IMAGE_SIZE, PATCH_SIZE, WIDTH = 96, 12, 192
SEED = 2026

# Words of everyday captions, so that a user's own captions are not spelt letter by letter. Written for this purpose.
COMMON_WORDS = """
a about above across after against air airplane all along also an and animal animals another apple apples are
arm arms around as at away baby back background backpack bag ball balloon banana bananas band bank baseball
basket basketball bath bathroom be beach beard bed bedroom bee behind being bench beside between bicycle big
bike bikes bikini bird birds black blanket blonde blue board boat boats body book books bottle bowl box boy
boys branch bread brick bridge bright broccoli brown brush building buildings bunch bus busy by cabinet cake
camera can candle cap car care carrying cars cart cat cats cell chain chair chairs cheese chicken child
children city clean clear climb climbing climbs clock close clothes clothing cloud clouds cloudy coat coffee
cold color colorful computer cooking corner couch counter couple court cow cows cream crossing crowd crowded
cup cups cut cute cutting dark day desk dessert dining dinner dirt dish dishes display dock dog dogs doing
donut door down dress dressed drink drinking driving ducks during each ear eat eating elephant elephants empty
end face family fan feet fence few field fire fish flag flags floor flower flowers fly flying food football
for fork four fries frisbee from front fruit full game garden giraffe giraffes girl girls glass glasses go
going graffiti grass grassy gray green grey group guitar gym hair half hand hands hanging has hat hats have he
head helmet her high hiking hill hillside him his hit hitting holding holds home horse horses hot house
hydrant ice in inside instrument into is it its jacket jeans jersey jump jumping jumps keyboard kick kid kids
kitchen kite kites lady lake laptop large laughing laying leaf leaning leash leather leaves left legs light
lights line little living long looking looks lot luggage lying machine made making man many market meal meat
men metal microphone middle mirror monitor motor motorcycle motorcycles mountain mountains mouse mouth mud
muddy near neck new next night no nose number ocean of off old on one onto open orange oranges other out
outdoor outdoors outside oven over painting pair pan pants park parked parking parrot part passing past path
people person phone photo piano picture pictures piece pieces pile pillow pink pitch pizza plane plant plants
plastic plate plates platform play player players playing plays pointing pole police pond pool posing pot
potatoes pulling purple purse race racing rack racket railing railroad rain ramp reading ready red
refrigerator remote restaurant ride rider rides riding right river road rock rocks rocky room row rug run
running runs sand sandwich sandy scarf scene school scissors sea seat seated several sheep shelf ship shirt
shirtless shoes shop short shorts shoulder show shower side sidewalk sign signs sink sit sits sitting six
skate skateboard skateboarder skateboarding ski skier skiing skirt skis sky slide slope small smile smiling
smoke snow snowboard snowboarder snowy soccer sofa some something spoon sports spotted stage stairs stand
standing stands station statue steps stick sticks stone stop store stove stream street streets striped stuffed
suit suitcase sun sunglasses sunny sunset surf surfboard surfer surfing sweater swim swimming swing table take
taking talking tall tan teddy teeth television tennis that the their them there they three through throwing
tie tile time to together toilet tongue top towel tower town toy toys track traffic trail train trains tray
tree trees trick trip truck trucks trunk tub turn tv two umbrella umbrellas under uniform up uses using van
vase vegetables vehicle very vest video view waiting walk walking walks wall watch watches watching water wave
waves wearing wedding wet wheel while white who wine window windows wine wing wings with woman women wood
wooden woods work working yard yellow young zebra zebras
""".split()
PIECES = (
    "##s ##es ##ed ##ing ##er ##ers ##ly ##y ##al ##en ##est ##ness ##ful ##less ##able ##tion ##ment ##ch ##sh ##th"
)


def build_processor() -> BlipProcessor:
    """The processor: an uncased WordPiece tokenizer that can spell anything, and BLIP's own picture preparation."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    characters = list("abcdefghijklmnopqrstuvwxyz0123456789.,:;!?'\"()-/&%$#+*@")
    words = sorted(set(COMMON_WORDS) | set(vocabulary()) - set(characters))
    pieces = [f"##{character}" for character in characters if character.isalnum()] + PIECES.split()
    tokens = list(dict.fromkeys([*specials, *characters, *pieces, *words]))
    tokenizer = BertTokenizer(vocab={token: number for number, token in enumerate(tokens)}, do_lower_case=True)
    tokenizer.model_max_length = 64
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    return BlipProcessor(BlipImageProcessorPil(size=size), tokenizer)


def build_model(processor: BlipProcessor) -> BlipForConditionalGeneration:
    """A small BLIP with random weights. As in the released checkpoints, the start token lies beyond the tokenizer."""
    tokenizer = processor.tokenizer
    start = len(tokenizer)
    config = BlipConfig(
        text_config={
            "vocab_size": len(tokenizer) + 2,
            "hidden_size": WIDTH,
            "encoder_hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "projection_dim": WIDTH,
            "num_hidden_layers": 4,
            "num_attention_heads": 6,
            "max_position_embeddings": 64,
            "bos_token_id": start,
            "eos_token_id": tokenizer.sep_token_id,
            "sep_token_id": tokenizer.sep_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "projection_dim": WIDTH,
            "num_hidden_layers": 6,
            "num_attention_heads": 6,
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH_SIZE,
            "initializer_range": 0.02,
        },
        projection_dim=WIDTH,
    )
    return BlipForConditionalGeneration(config)


def draw_batch(processor, model, split: str, numbers: range, kind: str | None, captions: int = 5):
    """Scenes as tensors: pixels `(images, 3, 96, 96)`, and ids, mask and labels `(images * captions, length)`."""
    records = [make_scene("everyday", split, number, seed=SEED, size=IMAGE_SIZE, kind=kind) for number in numbers]
    pixels = processor.image_processor([record.image for record in records], return_tensors="pt")["pixel_values"]
    rng = random.Random(numbers.start)
    texts = [caption for record in records for caption in rng.sample(record.captions, captions)]
    text = processor.tokenizer(texts, padding=True, return_tensors="pt")
    ids = text["input_ids"]
    ids[:, 0] = model.config.text_config.bos_token_id
    labels = ids.masked_fill(text["attention_mask"] == 0, -100)
    labels[:, 0] = -100
    return {
        "pixel_values": pixels,
        "input_ids": ids,
        "attention_mask": text["attention_mask"],
        "labels": labels,
        "caption_counts": torch.full((len(records),), captions),
    }


@torch.no_grad()
def validation_loss(processor, model, images: int = 128) -> float:
    model.eval()
    batch = draw_batch(processor, model, "validation", range(images), None)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**batch, loss_only=True).loss.item()
    model.train()
    return loss


def save(model, processor, output: Path) -> None:
    """Half-precision weights on disk (the file stays small), read as float32 (`dtype` in `config.json`)."""
    half = {name: tensor.half() for name, tensor in model.state_dict().items()}
    copy = build_model(processor)
    copy.load_state_dict(half)
    copy.half().save_pretrained(output)
    processor.save_pretrained(output)
    path = output / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["dtype"] = "float32"
    for part in ("text_config", "vision_config"):
        config[part].pop("dtype", None)
    path.write_text(json.dumps(config, indent=2) + "\n")


def run_phase(processor, arguments, first: bool, start_from: Path | None) -> list[dict]:
    """One phase, with an optimizer of its own; the second goes on from the checkpoint that the first has saved.

    First: warm-up, then half of a cosine, so that the rate ends at half of its peak. Second: from there down to 0.
    """
    torch.manual_seed(SEED if first else SEED + 1)
    model = build_model(processor)
    if start_from is not None:
        saved = BlipForConditionalGeneration.from_pretrained(start_from, dtype=torch.float32)
        model.load_state_dict(saved.state_dict())
    model.train()
    steps = arguments.steps if first else arguments.cooldown_steps
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=arguments.learning_rate, betas=(0.9, 0.98))
    whole = 2 * arguments.steps

    def rate(step: int) -> float:
        if first:
            if step < arguments.warmup:
                return (step + 1) / arguments.warmup
            progress = (step - arguments.warmup) / max(1, whole - arguments.warmup)
            return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))
        return 0.5 * min(1.0, (step + 1) / 50) * (1 - step / steps)

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    size, count = arguments.images_per_step, arguments.captions_per_image
    singles = whole * arguments.single_share if first else 0
    offset = 0 if first else arguments.steps
    began, losses, log = time.time(), [], []
    for step in range(steps):
        kind = "single" if step < singles else None
        numbers = range((offset + step) * size, (offset + step + 1) * size)
        batch = draw_batch(processor, model, "pretrain", numbers, kind, count)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**batch, loss_only=True).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
        last = step + 1 == steps
        if (step + 1) % 100 == 0 or last:
            seconds = round(time.time() - began, 1)
            row = {"step": offset + step + 1, "loss": round(float(np.mean(losses)), 4), "seconds": seconds}
            losses = []
            if (step + 1) % 500 == 0 or last:
                row["validation_loss"] = round(validation_loss(processor, model), 4)
                save(model, processor, arguments.output)
            log.append(row)
            print(row, flush=True)
    return log


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="where the checkpoint is written")
    parser.add_argument("--steps", type=int, default=4000, help="of the first phase, at a high learning rate")
    parser.add_argument("--cooldown-steps", type=int, default=1000, help="of the second, which lets it fall to 0")
    parser.add_argument("--cooldown-from", type=Path, help="only the second phase, from a checkpoint of the first")
    parser.add_argument("--images-per-step", type=int, default=64)
    parser.add_argument("--captions-per-image", type=int, default=2, help="drawn from the five of each picture")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--warmup", type=int, default=300)
    parser.add_argument(
        "--single-share", type=float, default=0.1, help="share of two times the first phase with one thing a picture"
    )
    parser.add_argument("--smoke", action="store_true", help="20 steps and 10, of 16 pictures")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.steps, arguments.cooldown_steps, arguments.warmup = 20, 10, 5
        arguments.images_per_step = 16

    processor = build_processor()
    model = build_model(processor)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {len(processor.tokenizer)} tokens")
    began, cpu_began, log = time.time(), time.process_time(), []
    if arguments.cooldown_from is None:
        log += run_phase(processor, arguments, first=True, start_from=None)
    log += run_phase(processor, arguments, first=False, start_from=arguments.cooldown_from or arguments.output)
    facts = {
        "script": "examples/pretrain_starter.py",
        "data": "scenes:everyday, drawn afresh at every step",
        "seed": SEED,
        "steps": arguments.steps,
        "cooldown_steps": arguments.cooldown_steps,
        "images_per_step": arguments.images_per_step,
        "captions_per_image": arguments.captions_per_image,
        "learning_rate": arguments.learning_rate,
        "warmup_steps": arguments.warmup,
        "precision": "bfloat16 autocast, saved as float16",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": round(time.time() - began),
        "cpu_seconds": round(time.process_time() - cpu_began),
        "hardware": f"{os.cpu_count()} CPU cores, {platform.machine()}",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "log": log,
    }
    (arguments.output / "pretraining.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
