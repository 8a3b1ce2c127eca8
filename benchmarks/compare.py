"""What a comparison costs: `python benchmarks/compare.py MAGIC.json NUCLEUS.json`.

Each file is a list of `{image_name, captions, prediction}` over about the same 4,982 images with five references. The
third system is the last reference of each image, and is scored, like the others, against the first four. All three
go through `compare_systems` as prediction files: every metric with 1,000 bootstrap resamples, every pair tested with
10,000 swaps, single- and multi-reference; once without METEOR and once with it. The limits are for elapsed time;
processor time says how much of it was waiting. METEOR's program is a process of its own, whose time the system tells
once it has ended: it is started within what is measured, ended after it, and has a column of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path

from blip_refine.evaluation.compare import compare_systems
from blip_refine.jsonlines import write_json, write_jsonl
from blip_refine.metrics.meteor import stop_meteor

RESULTS = Path(__file__).resolve().parent / "results"
NATIVE = ["Bleu", "ROUGE_L", "CIDEr"]
LIMITS = {"without METEOR": 30.0, "with METEOR": 60.0}


def write_files(paths: list[str], folder: Path) -> tuple[dict[str, Path], Path]:
    """Three prediction files and one of references over the images that all have."""
    loaded = {Path(path).stem: json.loads(Path(path).read_text(encoding="utf-8")) for path in paths}
    references = {row["image_name"]: row["captions"] for rows in loaded.values() for row in rows}
    shared = set.intersection(*({row["image_name"] for row in rows} for rows in loaded.values()))
    systems = {name: {row["image_name"]: row["prediction"] for row in rows} for name, rows in loaded.items()}
    systems["person"] = {name: captions[-1] for name, captions in references.items()}
    files = {}
    for name, predictions in systems.items():
        files[name] = folder / f"{name}.jsonl"
        write_jsonl(files[name], ({"image_id": one, "caption": predictions[one]} for one in sorted(shared)))
    known = folder / "references.jsonl"
    write_jsonl(known, ({"image_id": one, "captions": references[one][:-1]} for one in sorted(shared)))
    return files, known


def processor_seconds() -> tuple[float, float]:
    """Of this process, and of the programs that it started and that have ended."""
    spent = os.times()
    return spent.user + spent.system, spent.children_user + spent.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs=2)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files, known = write_files(options.files, Path(folder))
        for name, metrics in (("without METEOR", NATIVE), ("with METEOR", [*NATIVE, "METEOR"])):
            began, (used, used_beside) = time.perf_counter(), processor_seconds()
            found = compare_systems(files, known, metrics=metrics, resamples=1000)
            elapsed = time.perf_counter() - began
            stop_meteor()
            python, beside = processor_seconds()
            row = {
                "what": name,
                "images": len(found.references),
                "tests": len(found.tests),
                "computed": sorted(found.scores["person"].corpus),
                "seconds": round(elapsed, 2),
                "python_processor_seconds": round(python - used, 2),
                "java_processor_seconds": round(beside - used_beside, 2),
                "limit": LIMITS[name],
            }
            rows.append(row)
            print(f"{name:16} {elapsed:7.2f} s elapsed, processor: {python - used:6.2f} s Python, "
                  f"{beside - used_beside:6.2f} s Java; {row['tests']} tests over {row['images']} images, "
                  f"limit {LIMITS[name]:.0f} s")  # fmt: skip
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    machine = {
        "processors": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }
    write_json(RESULTS / "compare.json", {"machine": machine, "rows": rows})


if __name__ == "__main__":
    main()
