"""How fast is captioning, against stock `transformers`, with the same tokens?

    python benchmarks/inference.py --photos DIR                       # BLIP base, random weights, real JPEGs
    python benchmarks/inference.py --photos DIR --parts end_to_end
    python benchmarks/inference.py --photos DIR --parts compare ceiling --batches 1 8 64 --output gpu.json   # a GPU
    python benchmarks/inference.py --smoke                            # a minute, tiny model, nothing written

Stock is `generate` under `torch.inference_mode`, batched, in the same precision, with images prepared already. Both
sides run in this process, in turn; the median is shown, in seconds by the clock and in seconds of processor time,
which other programs on the machine disturb far less (with `--threads 1` hardly at all). "Default" is stock in
float32, which is what a user gets without asking for anything. The tokens are compared, and equal or not is written
beside the ratio.

On a GPU each side is called a few times before it is timed: ours records its CUDA graphs then, which it does once in
the life of a pipeline. "Step by step" is ours without them. The ceiling is what the vision encoder's matrix products
alone would allow at the rate at which this device multiplies large matrices.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
import transformers
from machine import processor_name
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from transformers import BlipConfig

from blip_refine.data.sources.scenes import make_scene
from blip_refine.models.blip import BlipForConditionalGeneration
from blip_refine.models.captioner import load_captioner
from blip_refine.models.decoding import DecodingOptions, generate_captions
from blip_refine.models.device import best_device, has_fast_bfloat16
from blip_refine.models.graphs import DecodingGraphs
from blip_refine.models.vision_encoder import encode_images
from blip_refine.pipeline import CaptionPipeline

RESULTS = Path(__file__).resolve().parent / "results"
BEAMS, TOKENS = 5, 20
FIXED = DecodingOptions(num_beams=BEAMS, max_new_tokens=TOKENS, min_new_tokens=TOKENS)
"""Every caption has as many tokens: what is measured is the work, not how talkative random weights are."""


def model_and_processor(smoke: bool):
    """BLIP of base size with random weights, and a processor that makes pictures of its size."""
    _, processor = load_captioner("starter")
    size = 32 if smoke else 384
    processor.image_processor.size = {"height": size, "width": size}
    config = BlipConfig()
    if smoke:
        for part in (config.text_config, config.vision_config):
            part.hidden_size = part.intermediate_size = 48
            part.num_hidden_layers, part.num_attention_heads = 2, 4
        config.text_config.encoder_hidden_size = 48
        config.vision_config.image_size = size
    # The default of 1e-10 would make all image states alike, and with them all captions.
    config.vision_config.initializer_range = 0.02
    torch.manual_seed(0)
    return BlipForConditionalGeneration(config).eval().to(best_device()), processor


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(work: Callable[[], object]) -> tuple[float, float, object]:
    """Seconds by the clock, seconds of processor time, and what `work` returned."""
    gc.collect()
    synchronize()
    started, processor = time.perf_counter(), time.process_time()
    result = work()
    synchronize()
    return time.perf_counter() - started, time.process_time() - processor, result


def stock_tokens(model, pixels: torch.Tensor) -> list[tuple[int, ...]]:
    with torch.inference_mode():
        generated = model.generate(
            pixel_values=pixels, num_beams=BEAMS, min_new_tokens=TOKENS, max_new_tokens=TOKENS, early_stopping=True
        )
    return [tuple(row[1:].tolist()) for row in generated]


def our_tokens(model, processor, pixels: torch.Tensor, graphs: DecodingGraphs | None) -> list[tuple[int, ...]]:
    return [one.tokens[0] for one in generate_captions(model, processor, pixels, FIXED, graphs=graphs)]


def compare(model, processor, pixels: torch.Tensor, dtype: torch.dtype, repeats: int) -> dict:
    """Stock in float32, stock in `dtype` and ours in `dtype`, in turn."""
    sides = {"stock float32": torch.float32, "ours": dtype}
    graphs = DecodingGraphs()
    if model.device.type == "cuda":
        sides["ours step by step"] = dtype
    if dtype != torch.float32:
        sides["stock same precision"] = dtype
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    processor_seconds: dict[str, list[float]] = {name: [] for name in sides}
    tokens: dict[str, list] = {}
    # A trip to bfloat16 and back rounds the weights: each side gets the true ones.
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for turn in range(repeats + 1):
        for name, precision in sides.items():
            model.to(torch.float32).load_state_dict(weights)
            model.to(precision)
            values = pixels.to(model.device, precision)
            if name.startswith("ours"):
                recorded = graphs if name == "ours" else None
                work = functools.partial(our_tokens, model, processor, values, recorded)
            else:
                work = functools.partial(stock_tokens, model, values)
            for _ in range(3 if model.device.type == "cuda" else 0):
                work()
            took, computed, found = timed(work)
            if turn:  # the first turn warms up
                seconds[name].append(took)
                processor_seconds[name].append(computed)
            tokens[name] = found
    recordings = len(graphs)
    model.to(torch.float32).load_state_dict(weights)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    computed_median = {name: statistics.median(values) for name, values in processor_seconds.items()}
    rival = "stock float32" if dtype == torch.float32 else "stock same precision"
    return {
        "batch": len(pixels),
        "precision": str(dtype).removeprefix("torch."),
        "seconds": {name: round(value, 3) for name, value in median.items()},
        "all_seconds": {name: [round(value, 3) for value in values] for name, values in seconds.items()},
        "processor_seconds": {name: round(value, 3) for name, value in computed_median.items()},
        "times_stock": {
            "clock": round(median[rival] / median["ours"], 2),
            "processor": round(computed_median[rival] / computed_median["ours"], 2),
        },
        "times_default": {
            "clock": round(median["stock float32"] / median["ours"], 2),
            "processor": round(computed_median["stock float32"] / computed_median["ours"], 2),
        },
        "cuda_graphs": recordings,
        "equal_captions": f"{sum(a == b for a, b in zip(tokens[rival], tokens['ours'], strict=True))}/{len(pixels)}",
        "log_probability_ours_above_stock": differences(model, pixels, tokens["ours"], tokens[rival]),
    }


def differences(model, pixels: torch.Tensor, ours: list[tuple[int, ...]], stock: list[tuple[int, ...]]) -> list[float]:
    """For each caption that differs, by how much more probable ours is than stock's, in nats and in float64.

    Random weights make near ties: which of two captions wins can hang on the last digit of a sum.
    """
    found = []
    for place, both in enumerate(zip(ours, stock, strict=True)):
        if both[0] == both[1]:
            continue
        model.double()
        start = [model.config.text_config.bos_token_id]
        rows = torch.tensor([start + list(tokens) for tokens in both], device=model.device)
        with torch.inference_mode():
            pixel = pixels[place : place + 1].to(model.device).double()
            # Two rows of text for one image.
            logits = model(pixel_values=pixel, input_ids=rows[:, :-1], caption_counts=torch.tensor([2])).logits
            log_probs = logits.log_softmax(-1).gather(2, rows[:, 1:, None])[..., 0].sum(1)
        model.float()
        found.append(round((log_probs[0] - log_probs[1]).item(), 9))
    return found


def ceiling(model, processor, pixels: torch.Tensor, dtype: torch.dtype, repeats: int) -> dict:
    """Ours against what the vision encoder's matrix products alone would allow."""
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    # The counter knows the products of the stock attention on every device, and the fused one on some.
    model.to(dtype)
    values = pixels.to(model.device, dtype)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model.vision_model(values[:1])
    operations = counter.get_total_flops()
    size = 8192 if model.device.type == "cuda" else 2048
    matrix = torch.randn(size, size, device=model.device, dtype=dtype)
    graphs = DecodingGraphs()

    @torch.inference_mode()
    def encode() -> torch.Tensor:
        return encode_images(model, values)

    def median(work: Callable[[], object]) -> float:
        for _ in range(3):
            work()
        return statistics.median(timed(work)[0] for _ in range(repeats))

    with torch.inference_mode():
        rate = 2 * size**3 / median(lambda: matrix @ matrix)
    encoder = len(values) / median(encode)
    ours = len(values) / median(lambda: our_tokens(model, processor, values, graphs))
    model.to(torch.float32).load_state_dict(weights)
    return {
        "batch": len(values),
        "precision": str(dtype).removeprefix("torch."),
        "encoder_gflop_per_image": round(operations / 1e9, 1),
        "matrix_products_tflop_per_second": round(rate / 1e12, 3),
        "images_per_second": {
            "ceiling": round(rate / operations, 3),
            "encoder": round(encoder, 3),
            "ours": round(ours, 3),
        },
        "share_of_ceiling": round(ours * operations / rate, 3),
        "share_of_encoder": round(ours / encoder, 3),
    }


def end_to_end(model, processor, photos: list[Path], repeats: int) -> dict:
    """From a folder of JPEGs to JSON Lines, against the same images prepared already."""
    from blip_refine.caption_files import CaptionFile

    size = 64 if model.device.type == "cuda" else 4
    pipeline = CaptionPipeline(model, processor, decoding=FIXED, batch_size=size)
    prepared = processor.image_processor(
        images=[Image.open(path).convert("RGB") for path in photos], return_tensors="pt"
    ).pixel_values
    graphs = DecodingGraphs()

    def model_only() -> None:
        for first in range(0, len(photos), size):
            our_tokens(model, processor, prepared[first : first + size], graphs)

    def whole() -> None:
        with tempfile.TemporaryDirectory() as folder, CaptionFile(Path(folder) / "c.jsonl", {}) as file:
            for one in pipeline.run(photos, skip=lambda source, digest: file.is_done(source.image_id, digest)):
                file.write([one.caption.to_dict()])

    seconds: dict[str, list[float]] = {"model only": [], "whole": []}
    # On a GPU the second turn still records.
    for turn in range(-1, repeats + 1) if model.device.type == "cuda" else range(repeats + 1):
        for name, work in (("model only", model_only), ("whole", whole)):
            took, _, _ = timed(work)
            if turn > 0:
                seconds[name].append(took)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "photos": len(photos),
        "images_per_second": {name: round(len(photos) / value, 3) for name, value in median.items()},
        "share_of_model_only_rate": round(median["model only"] / median["whole"], 3),
    }


def memory(images: int) -> dict:
    """How the memory of the process grows over many images, with the starter."""
    pipeline = CaptionPipeline.from_pretrained("starter", decoding="fast", batch_size=32)
    pictures = [make_scene("everyday", "test", number).image for number in range(50)]
    seen: list[tuple[int, float]] = []
    for number, _ in enumerate(pipeline.stream(pictures[k % 50] for k in range(images)), 1):
        if number % max(1, images // 10) == 0:
            # Resident now, not at its highest.
            seen.append((number, round(psutil.Process().memory_info().rss / 2**20, 1)))
    return {
        "images": images,
        "resident_mib": seen,
        "growth_mib_after_the_first_tenth": round(seen[-1][1] - seen[0][1], 1),
    }


def endpoint(requests: int, clients: int = 64) -> dict:
    """Requests to the HTTP endpoint one after the other, and from many clients at once; every answer is checked."""
    import io
    import socket
    import threading
    from concurrent.futures import ThreadPoolExecutor

    import httpx

    from blip_refine.apps.api import ApiLimits, create_api
    from blip_refine.apps.server import make_server

    pipeline = CaptionPipeline.from_pretrained("starter", batch_size=32)
    photos = []
    for number in range(32):
        buffer = io.BytesIO()
        make_scene("everyday", "test", number).image.save(buffer, "JPEG")
        photos.append(buffer.getvalue())
    expected = [caption.text for caption in pipeline(photos)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = make_server(create_api(pipeline, ApiLimits(queue_size=2 * clients)), port=port)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    wrong = 0
    rates = {}
    with httpx.Client(
        base_url=f"http://127.0.0.1:{port}", timeout=60, limits=httpx.Limits(max_connections=clients)
    ) as client:

        def ask(number: int) -> bool:
            answer = client.post("/caption", content=photos[number % 32], headers={"content-type": "image/jpeg"})
            return answer.status_code == 200 and answer.json()["caption"] == expected[number % 32]

        ask(0)
        for name, workers in (("one at a time", 1), (f"{clients} clients", clients)):
            with ThreadPoolExecutor(workers) as pool:
                started = time.perf_counter()
                right = list(pool.map(ask, range(requests)))
                rates[name] = round(requests / (time.perf_counter() - started), 2)
            wrong += right.count(False)
    server.should_exit = True
    thread.join(30)
    one, many = rates.values()
    return {
        "model": "starter, accurate (5 beams)",
        "requests": requests,
        "requests_per_second": rates,
        "times_one_at_a_time": round(many / one, 2),
        "lost_or_wrong_answers": wrong,
    }


def surroundings() -> dict:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=RESULTS.parent, check=False
    )
    return {
        "commit": commit.stdout.strip(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "cpu": processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average_at_start": round(os.getloadavg()[0], 2),
        "bfloat16_in_hardware": has_fast_bfloat16(best_device()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder of JPEGs; without it, pictures are drawn")
    parser.add_argument("--parts", nargs="+", default=["compare", "ceiling", "end_to_end", "memory", "endpoint"])
    parser.add_argument("--batches", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--end-to-end-photos", type=int, default=16, help="for the end_to_end part")
    parser.add_argument("--images", type=int, default=10_000, help="for the memory part")
    parser.add_argument("--requests", type=int, default=512, help="for the endpoint part")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--output", type=Path, default=RESULTS / "inference.json")
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.smoke:
        arguments.batches, arguments.repeats, arguments.images = [2], 1, 200
        arguments.requests = 64
    found: dict = {"surroundings": surroundings()}
    with tempfile.TemporaryDirectory() as temporary:
        photos = sorted(arguments.photos.rglob("*.jpg")) if arguments.photos else []
        for number in range(0 if photos else 16):
            photos.append(Path(temporary) / f"{number}.jpg")
            make_scene("everyday", "test", number, size=480).image.save(photos[-1])
        found["real_photos"] = arguments.photos is not None
        if {"compare", "ceiling", "end_to_end"} & set(arguments.parts):
            model, processor = model_and_processor(arguments.smoke)
        precisions = [getattr(torch, name) for name in arguments.precisions]
        if not has_fast_bfloat16(best_device()) and not arguments.smoke:
            precisions = [one for one in precisions if one != torch.bfloat16]
        for part, measure in (("compare", compare), ("ceiling", ceiling)):
            if part not in arguments.parts:
                continue
            found[part] = []
            for batch in arguments.batches:
                # Fewer photos than the largest batch has go round.
                pictures = [Image.open(photos[place % len(photos)]).convert("RGB") for place in range(batch)]
                pixels = processor.image_processor(images=pictures, return_tensors="pt").pixel_values
                for precision in precisions:
                    found[part].append(measure(model, processor, pixels, precision, arguments.repeats))
                    print(json.dumps(found[part][-1]), flush=True)
        if "end_to_end" in arguments.parts:
            some = photos * (-(-arguments.end_to_end_photos // len(photos)))
            found["end_to_end"] = end_to_end(model, processor, some[: arguments.end_to_end_photos], arguments.repeats)
            print(json.dumps(found["end_to_end"]), flush=True)
    if "memory" in arguments.parts:
        found["memory"] = memory(arguments.images)
        print(json.dumps(found["memory"]), flush=True)
    if "endpoint" in arguments.parts:
        found["endpoint"] = endpoint(arguments.requests)
        print(json.dumps(found["endpoint"]), flush=True)
    if not arguments.smoke:
        path = arguments.output
        path.parent.mkdir(parents=True, exist_ok=True)
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        # Parts are measured one at a time where a machine is shared; each keeps where it was measured.
        for part in arguments.parts:
            known[part] = {"surroundings": found["surroundings"], "result": found[part]}
        path.write_text(json.dumps(known, indent=2) + "\n")


if __name__ == "__main__":
    main()
