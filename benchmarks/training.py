"""Training: grouped captions, fused attention and label-only logits against the stock recipe, side by side.

Question: how many captions a second does each train on, at equal gradient, and in how much memory?

    python benchmarks/training.py --images 2 --repeats 3 --output benchmarks/results/training.json

BLIP-base size (`--model starter`: the starter's) with random weights. The stock side is
`transformers.BlipForConditionalGeneration` with its own attention, one row an image-caption pair, the same rows and
precision. Both sides alternate in one process; memory is measured in a process of its own for each.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import torch
import transformers
from machine import processor_name
from transformers import BlipConfig

import blip_refine
from blip_refine.jsonlines import write_json
from blip_refine.models.blip import BlipForConditionalGeneration
from blip_refine.models.vision_encoder import encode_images

CAPTIONS, LENGTH = 5, 16
STARTER = Path(blip_refine.__file__).parent / "starter"


class PeakMemory:
    """The most bytes above those at the start: CUDA's own count, or resident memory sampled every 5 ms."""

    def __enter__(self):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        else:
            self.process, self.stop = psutil.Process(), threading.Event()
            self.before = self.most = self.process.memory_info().rss
            self.thread = threading.Thread(target=self._sample, daemon=True)
            self.thread.start()
        return self

    def _sample(self):
        while not self.stop.wait(0.005):
            self.most = max(self.most, self.process.memory_info().rss)

    def __exit__(self, *_):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            self.bytes = torch.cuda.max_memory_allocated() - self.before
        else:
            self.stop.set()
            self.thread.join()
            self.bytes = self.most - self.before


def make_batch(images: int, size: int, config: BlipConfig, device: torch.device) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    ids = torch.randint(10, config.text_config.vocab_size - 10, (images * CAPTIONS, LENGTH))
    ids[:, 0] = config.text_config.bos_token_id
    # Captions of unlike lengths, padded on the right.
    lengths = torch.randint(9, LENGTH + 1, (len(ids),))
    mask = (torch.arange(LENGTH)[None] < lengths[:, None]).long()
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, 0] = -100
    batch = {"pixel_values": torch.randn(images, 3, size, size), "input_ids": ids, "attention_mask": mask}
    return {name: value.to(device) for name, value in {**batch, "labels": labels}.items()}


class Sides:
    """Stock and ours, from the same weights, over the same images and captions."""

    NAMES = ("stock", "ours", "stock, frozen encoder", "ours, frozen encoder, cached features")

    def __init__(self, options: argparse.Namespace, names: tuple[str, ...] = NAMES):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.autocast = options.precision == "bf16"
        config = (
            BlipConfig.from_pretrained(STARTER)
            if options.model == "starter"
            else BlipConfig(
                # The default range of 1e-10 makes activations so small that processors compute with them many times
                # slower.
                vision_config={"image_size": 384, "num_hidden_layers": options.layers, "initializer_range": 0.02},
                text_config={
                    "num_hidden_layers": options.layers,
                    "hidden_dropout_prob": 0.0,
                    "attention_probs_dropout_prob": 0.0,
                },
            )
        )
        self.models = {}
        for kind, model_class in (
            ("stock", transformers.BlipForConditionalGeneration),
            ("ours", BlipForConditionalGeneration),
        ):
            if any(name.startswith(kind) for name in names):
                torch.manual_seed(0)
                self.models[kind] = model_class(config).to(self.device).train()
        self.batch = make_batch(options.images, config.vision_config.image_size, config, self.device)
        self.counts = torch.full((options.images,), CAPTIONS)
        self.repeated = {**self.batch, "pixel_values": self.batch["pixel_values"].repeat_interleave(CAPTIONS, 0)}
        if self.NAMES[3] in names:
            with torch.no_grad():
                states = encode_images(self.models["ours"], self.batch["pixel_values"])
            text = {name: value for name, value in self.batch.items() if name != "pixel_values"}
            self.cached = {**text, "image_states": states}

    def loss(self, name: str) -> torch.Tensor:
        model = self.models[name.partition(",")[0]]
        if name.startswith("stock"):
            return model(**self.repeated).loss
        return model(
            **(self.cached if "cached" in name else self.batch), caption_counts=self.counts, loss_only=True
        ).loss

    def run(self, name: str) -> tuple[float, int]:
        """One forward and backward pass: seconds, and the most bytes above weights and gradients."""
        model = self.models[name.partition(",")[0]]
        model.vision_model.requires_grad_("frozen" not in name)
        for parameter in model.parameters():
            # Gradients are there before and after: what is measured lies above weights and gradients.
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
        with PeakMemory() as memory:
            begun = time.perf_counter()
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
                loss = self.loss(name)
            loss.backward()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds = time.perf_counter() - begun
        return seconds, memory.bytes

    def gradient(self, name: str) -> torch.Tensor:
        parameters = self.models[name].parameters()
        return torch.cat([p.grad.flatten().double() for p in parameters if p.grad is not None])


def peak_in_a_fresh_process(name: str) -> int:
    """Bytes of one step of one side. What a process has freed stays with it and hides what the next step takes."""
    command = [sys.executable, *sys.argv, "--memory-of", name]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=["base", "starter"], default="base", help="the size; weights are random")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--layers", type=int, default=12, help="12 is BLIP-base; fewer for a quick look")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="bf16: by autocast, both sides")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--memory-of", choices=Sides.NAMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.memory_of:
        print(Sides(options, (options.memory_of,)).run(options.memory_of)[1])
        return

    sides = Sides(options)
    sides.run("stock"), sides.run("ours")
    reference = sides.gradient("stock")
    difference = ((sides.gradient("ours") - reference).norm() / reference.norm()).item()
    del reference
    measured: dict[str, list[tuple[float, int]]] = {name: [] for name in sides.NAMES}
    for _ in range(options.repeats):
        for name in sides.NAMES:
            measured[name].append(sides.run(name))
    if torch.cuda.is_available():
        memory = {name: statistics.median(value for _, value in rows) for name, rows in measured.items()}
    else:
        memory = {name: peak_in_a_fresh_process(name) for name in sides.NAMES}
    captions = options.images * CAPTIONS
    rows = {
        name: {
            "seconds_median": statistics.median(seconds for seconds, _ in values),
            "seconds_all": [round(seconds, 3) for seconds, _ in values],
            "captions_per_second": captions / statistics.median(seconds for seconds, _ in values),
            "peak_bytes_above_weights_and_gradients": memory[name],
        }
        for name, values in measured.items()
    }

    def ratio(one: str, other: str, key: str) -> float:
        return rows[one][key] / rows[other][key]

    cached = "ours, frozen encoder, cached features"
    result = {
        "ratios": {
            "captions per second, ours / stock": ratio("ours", "stock", "captions_per_second"),
            "captions per second, cached / stock": ratio(cached, "stock", "captions_per_second"),
            "captions per second, cached / stock with a frozen encoder": ratio(
                cached, "stock, frozen encoder", "captions_per_second"
            ),
            "peak memory, ours / stock": ratio("ours", "stock", "peak_bytes_above_weights_and_gradients"),
        },
        "relative_difference_of_gradients": difference,
        "rows": rows,
        "setting": {
            "images": options.images,
            "captions_per_image": CAPTIONS,
            "tokens": LENGTH,
            "model": options.model,
            "layers": options.layers if options.model == "base" else None,
            "image_size": sides.batch["pixel_values"].shape[-1],
            "precision": options.precision,
            "repeats": options.repeats,
        },
        "machine": {
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else processor_name(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "load_average_at_end": os.getloadavg(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "commit": subprocess.run(
                ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
            ).stdout.strip(),
        },
    }
    print(json.dumps(result, indent=2))
    if options.output is not None:
        write_json(options.output, result)


if __name__ == "__main__":
    main()
