"""A captioner divided among two processes by FSDP, against the same one whole: `torchrun divided_run.py OUT.json HOW`.

`HOW` is "root", where the whole captioner is one unit, or "layers", where the vision encoder's layers are units, too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from blip_refine.data.collator import IGNORED, CaptionCollator
from blip_refine.data.dataset import BlipCaptionDataset
from blip_refine.data.sources.scenes import load_scenes
from blip_refine.models.captioner import load_captioner
from blip_refine.models.decoding import DecodingOptions, generate_captions
from blip_refine.training.dividing import whole_weights

model, processor = load_captioner("starter")
data = BlipCaptionDataset(load_scenes("everyday", "train", count=4))
collator = CaptionCollator(processor, start_token_id=model.config.text_config.bos_token_id)
decoding = DecodingOptions(num_beams=2, max_new_tokens=12)


def batch(*places: int) -> dict[str, torch.Tensor]:
    return {name: value for name, value in collator([data[i] for i in places]).items() if name != "indices"}


def captions(*places: int) -> list[list[int]]:
    return [
        list(one.tokens[0]) for one in generate_captions(model, processor, batch(*places)["pixel_values"], decoding)
    ]


whole = batch(0, 1, 2, 3)
items = (whole["labels"] != IGNORED).sum()
model(**whole, loss_only=True, num_items_in_batch=items).loss.backward()
expected = {name: value.grad.clone() for name, value in model.named_parameters()}
wanted = captions(0, 1, 2, 3)
model.zero_grad()

dist.init_process_group("gloo")
rank = dist.get_rank()
mesh = init_device_mesh("cpu", (2,))
if sys.argv[2] == "layers":
    for layer in model.vision_model.encoder.layers:
        fully_shard(layer, mesh=mesh)
fully_shard(model, mesh=mesh)

found: dict[str, object] = {}
# Unequal parts: three images against one, so that decoding and batches take different times.
mine = (0, 1, 2) if rank == 0 else (3,)
with torch.no_grad(), whole_weights(model):
    found["captions_before"] = captions(*mine) == [wanted[i] for i in mine]
for checkpointing in (False, True):
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    (2 * model(**batch(*mine), loss_only=True, num_items_in_batch=items).loss).backward()
    off = total = 0.0
    for name, value in model.named_parameters():
        off += float((value.grad.full_tensor() - expected[name]).square().sum())
        total += float(expected[name].square().sum())
    found[f"gradient{' with checkpointing' if checkpointing else ''}"] = (off / total) ** 0.5
    model.zero_grad()
model.eval()
with torch.no_grad(), whole_weights(model):
    found["captions_after"] = captions(*mine) == [wanted[i] for i in mine]
kept = sum(value.to_local().numel() for value in model.parameters())
found["share"] = kept / sum(value.numel() for value in model.parameters())
results: list[object] = [None, None]
dist.all_gather_object(results, found)
if rank == 0:
    Path(sys.argv[1]).write_text(json.dumps(results))
dist.destroy_process_group()
