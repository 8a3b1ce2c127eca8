"""Photos per second from JPEG to `pixel_values`: ours against the model's own image processor.

    python benchmarks/data.py [--photos FOLDER] [--output benchmarks/results/data.json]

The stock way is what a careful user writes: `Image.open(path).convert("RGB")` and `BlipImageProcessor`, in one
process and in the workers of a `DataLoader`. Both sides alternate in one process; the median of several rounds is
shown, with the largest and the mean difference of the pixel values, in levels of 255. Without `--photos`, made
pictures stand in for small photos. 12-megapixel photos are collages of the small ones at full detail, which is
harder than a real one.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import PIL
import torch
import transformers
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from transformers import BlipImageProcessor

from blip_refine.data.preprocess import ImagePreprocessor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.data.photos import make_photo  # noqa: E402

torch.set_num_threads(1)
STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)[:, None, None]


class Stock(Dataset):
    def __init__(self, paths, processor):
        self.paths, self.processor = paths, processor

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        picture = Image.open(self.paths[index]).convert("RGB")
        return np.asarray(self.processor(images=[picture], return_tensors="np")["pixel_values"][0])


class Ours(Stock):
    def __getitem__(self, index):
        return self.processor([self.paths[index]])[0]


def seconds(dataset, workers: int) -> float:
    loader = DataLoader(dataset, batch_size=8, num_workers=workers, persistent_workers=workers > 0)
    if workers:
        for _ in loader:  # the start of the workers is not what is measured
            pass
    began = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - began


def collages(paths: list[Path], folder: Path, count: int) -> list[Path]:
    made = []
    for number in range(count):
        sheet = Image.new("RGB", (4000, 3000))
        for place in range(49):
            tile = Image.open(paths[(number * 7 + place) % len(paths)]).convert("RGB").resize((640, 480))
            sheet.paste(tile, (place % 7 * 640, place // 7 * 480))
        made.append(folder / f"collage{number}.jpg")
        sheet.save(made[-1], quality=92)
    return made


def measure(name: str, paths: list[Path], rounds: int) -> dict:
    processor = BlipImageProcessor()
    stock, ours = Stock(paths, processor), Ours(paths, ImagePreprocessor.from_processor(processor))
    levels = np.stack([np.abs(ours[n] - stock[n]) * STD * 255 for n in range(len(paths))])
    result = {"photos": len(paths), "largest_difference": round(float(levels.max()), 2)}
    result["mean_difference"] = round(float(levels.mean()), 3)
    for workers in (0, 1, 2):
        times: dict[str, list[float]] = {"stock": [], "ours": []}
        for _ in range(rounds):
            times["stock"].append(seconds(stock, workers))
            times["ours"].append(seconds(ours, workers))
        rates = {side: round(len(paths) / statistics.median(taken), 2) for side, taken in times.items()}
        ratio = round(rates["ours"] / rates["stock"], 2)
        result[f"workers_{workers}"] = {**rates, "ratio": ratio}
        print(f"{name:12} {workers} workers: stock {rates['stock']:8.1f}/s  ours {rates['ours']:8.1f}/s  {ratio:.2f}x")
    print(f"{name:12} difference: largest {result['largest_difference']}, mean {result['mean_difference']} of 255")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.photos:
            small = sorted(arguments.photos.glob("*.jpg"))[:64]
        else:
            small = []
            for number in range(64):
                small.append(folder / f"{number}.jpg")
                make_photo(number, (640, 480)).save(small[-1], quality=92)
        results = {
            "small": measure("small", small, arguments.rounds),
            "12 megapixel": measure("12 megapixel", collages(small, folder, 16), arguments.rounds),
        }
    if arguments.output:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
        facts = {
            "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, load {os.getloadavg()[0]:.1f} at the end",
            "python": platform.python_version(),
            "pillow": PIL.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "commit": commit,
            "photos": "real, 640 pixels" if arguments.photos else "made, 640x480",
        }
        buffer = io.StringIO()
        json.dump({**facts, "photos_per_second": results}, buffer, indent=2)
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(buffer.getvalue() + "\n")


if __name__ == "__main__":
    main()
