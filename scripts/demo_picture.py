"""Draw docs/images/demo.png from a finished demo run: pictures with what was said before and after.

python scripts/demo_picture.py run
"""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
COLUMNS, ROWS = 5, 2


def main(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    # At equal distances, not picked for their captions.
    chosen = rows[:: max(1, len(rows) // (COLUMNS * ROWS))][: COLUMNS * ROWS]
    figure, axes = plt.subplots(ROWS, COLUMNS, figsize=(13, 6.6))
    for axis, row in zip(axes.flat, chosen, strict=True):
        axis.imshow(Image.open(run / row["image"]).resize((288, 288), Image.Resampling.NEAREST))
        axis.set_axis_off()
        before, after = (textwrap.fill(row["systems"][name], 34) for name in ("before", "after"))
        axis.text(0, 1.06, before, transform=axis.transAxes, fontsize=8, color="#8a8a8a", va="bottom")
        axis.text(0, -0.05, after, transform=axis.transAxes, fontsize=9, color="#0b5d3b", va="top", weight="bold")
    figure.suptitle("Before (grey, above) and after fine-tuning (green, below)", fontsize=12, y=0.99)
    figure.subplots_adjust(left=0.02, right=0.98, top=0.86, bottom=0.1, hspace=0.62, wspace=0.12)
    output = ROOT / "docs" / "images" / "demo.png"
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=95)
    print(output)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
