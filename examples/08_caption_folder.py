"""Caption a folder: confidence, candidates, and what a person should look at first.

python examples/08_caption_folder.py photos/ --model Salesforce/blip-image-captioning-base
python examples/08_caption_folder.py --smoke          # offline, with drawn pictures and the starter
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from blip_refine import CaptionPipeline
from blip_refine.data.sources.scenes import make_scene
from blip_refine.review import review_queue


def draw_photos(folder: Path, count: int) -> Path:
    for number in range(count):
        make_scene("everyday", "test", number).image.save(folder / f"{number}.jpg")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--smoke", action="store_true", help="a few drawn pictures, and no network")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if not arguments.smoke and arguments.folder is None:
            parser.error("name a folder, or give --smoke")
        folder = draw_photos(Path(temporary), 6) if arguments.smoke else arguments.folder
        captioner = CaptionPipeline.from_pretrained(arguments.model, decoding="candidates", refiner="consensus")
        captions = []
        for caption in captioner.stream(folder):
            print(f"{Path(caption.image_id).name}: {caption.error or caption.text}")
            captions.append(caption)
    print("\nTo be looked at first:")
    for caption in review_queue(captions)[:3]:
        print(f"  {Path(caption.image_id).name} ({caption.confidence:.2f}): {caption.text}")


if __name__ == "__main__":
    main()
