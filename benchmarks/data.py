"""Photos per second from JPEG to `pixel_values`: ours against the model's own image processor.

    python benchmarks/data.py [--photos FOLDER] [--output benchmarks/results/data.json]

The stock way is what a careful user writes: `Image.open(path).convert("RGB")` and `BlipImageProcessor`, in one
process and in the workers of a `DataLoader`. Ours is what `CaptionTrainer` does: `BlipCaptionDataset` and
`CaptionCollator` in the workers, which hand over 8-bit levels, and the last step in the main process. Both sides
alternate, in loaders that stay; the median of several rounds is shown, with the largest and the mean difference of the
pixel values, in levels of 255.

`scaling` is the speed with 2 workers over that with 1, of which 2 is the most. The main process works beside the
workers, so that 2 workers have all of 2 cores only while it waits: the cores that may be used are written down.

Without `--photos`, made pictures stand in for small photos. 12-megapixel photos are collages of the small ones at full
detail, which is harder than a real one.
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
from transformers import BlipImageProcessor, BlipProcessor

from blip_refine.data.collator import CaptionCollator
from blip_refine.data.dataset import BlipCaptionDataset
from blip_refine.data.preprocess import ImagePreprocessor
from blip_refine.models.captioner import resolve_checkpoint
from blip_refine.records import CaptionRecord

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.data.photos import make_photo  # noqa: E402

torch.set_num_threads(1)
STD = torch.tensor(BlipImageProcessor().image_std)[:, None, None]
BATCH = 4
WORKERS = (0, 1, 2)
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class Stock(Dataset):
    def __init__(self, paths, processor):
        self.paths, self.processor = paths, processor

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        picture = Image.open(self.paths[index]).convert("RGB")
        return np.asarray(self.processor(images=[picture], return_tensors="np")["pixel_values"][0])


class StockSide:
    def __init__(self, paths: list[Path]):
        self.dataset = Stock(paths, BlipImageProcessor())

    def loader(self, workers: int) -> DataLoader:
        return DataLoader(self.dataset, batch_size=BATCH, num_workers=workers, persistent_workers=workers > 0)

    def pixels(self, batch) -> torch.Tensor:
        return batch


class OurSide:
    def __init__(self, paths: list[Path]):
        processor = BlipProcessor.from_pretrained(resolve_checkpoint("starter"))
        processor.image_processor = BlipImageProcessor()
        self.collator = CaptionCollator(processor, start_token_id=0, normalize=False)
        self.preprocess = ImagePreprocessor.from_processor(processor)
        records = [CaptionRecord(str(path), (), str(number)) for number, path in enumerate(paths)]
        self.dataset = BlipCaptionDataset(records, image_size=self.preprocess.size)

    def loader(self, workers: int) -> DataLoader:
        options = {"num_workers": workers, "persistent_workers": workers > 0, "collate_fn": self.collator}
        return DataLoader(self.dataset, batch_size=BATCH, **options)

    def pixels(self, batch) -> torch.Tensor:
        return self.preprocess.normalize_tensor(batch["pixel_values"])


def seconds(side, loader: DataLoader) -> float:
    began = time.perf_counter()
    for batch in loader:
        side.pixels(batch)
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


def differences(stock: StockSide, ours: OurSide) -> dict[str, float]:
    largest, means = 0.0, []
    for theirs, batch in zip(stock.loader(0), ours.loader(0), strict=True):
        levels = (ours.pixels(batch) - theirs).abs() * STD * 255
        largest = max(largest, levels.max().item())
        means += levels.mean((1, 2, 3)).tolist()
    return {"largest_difference": round(largest, 2), "mean_difference": round(statistics.mean(means), 3)}


def measure(name: str, paths: list[Path], rounds: int, passes: int) -> dict:
    result: dict = {"photos": len(paths), **differences(StockSide(paths), OurSide(paths))}
    sides = {"stock": StockSide(paths * passes), "ours": OurSide(paths * passes)}
    count = len(paths) * passes
    for workers in WORKERS:
        loaders = {side: sides[side].loader(workers) for side in sides}
        for side, loader in loaders.items():
            seconds(sides[side], loader)  # the start of the workers is not what is measured
        times: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, loader in loaders.items():
                times[side].append(seconds(sides[side], loader))
        rates = {side: round(count / statistics.median(taken), 2) for side, taken in times.items()}
        ratio = round(rates["ours"] / rates["stock"], 2)
        result[f"workers_{workers}"] = {**rates, "ratio": ratio}
        print(f"{name:12} {workers} workers: stock {rates['stock']:8.1f}/s  ours {rates['ours']:8.1f}/s  {ratio:.2f}x")
    one, two = (result[f"workers_{workers}"] for workers in WORKERS[1:])
    result["scaling"] = {side: round(two[side] / one[side], 2) for side in sides}
    print(f"{name:12} 2 workers over 1, on {CORES} cores: {result['scaling']}")
    print(f"{name:12} difference: largest {result['largest_difference']}, mean {result['mean_difference']} of 255")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=3, help="How often each photo is read in a round.")
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
        longest = round(statistics.median(max(Image.open(path).size) for path in small))
        results = {
            "small": measure("small", small, arguments.rounds, 2 * arguments.passes),
            "12 megapixel": measure("12 megapixel", collages(small, folder, 16), arguments.rounds, arguments.passes),
        }
    if arguments.output:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
        facts = {
            "machine": f"{CORES} CPU cores, {platform.machine()}, load {os.getloadavg()[0]:.1f} at the end",
            "python": platform.python_version(),
            "pillow": PIL.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "commit": commit,
            "photos": f"{'real' if arguments.photos else 'made'}, {longest} pixels",
        }
        buffer = io.StringIO()
        json.dump({**facts, "photos_per_second": results}, buffer, indent=2)
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(buffer.getvalue() + "\n")


if __name__ == "__main__":
    main()
