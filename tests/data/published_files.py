"""Small datasets in the form of the published ones, as a mirror serves them."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import replace

from blip_refine.data.fetch.catalog import CATALOG, Published
from blip_refine.metrics.spice import CORENLP

from .photos import encode, make_photo

COCO = "images.cocodataset.org"
GITHUB = "github.com/jbrownlee/Datasets/releases/download/Flickr8k"
FLICKR_NAMES = [f"{number}_abc.jpg" for number in range(1, 7)]


def zipped(members: dict[str, bytes | str]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as opened:
        for name, data in members.items():
            opened.writestr(name, data)
    return held.getvalue()


def photo(number: int) -> bytes:
    return encode(make_photo(number, (64, 48)))


def coco_files() -> dict[str, bytes]:
    """Two photos each of train2014 and val2014, one of val2017 and two of test2014."""
    names = {1: ("train2014", "train"), 2: ("train2014", "train"), 3: ("val2014", "val"), 4: ("val2014", "test")}

    def file_name(number: int) -> str:
        return f"COCO_{names[number][0]}_{number:012}.jpg"

    images = [
        {
            "filename": file_name(number),
            "filepath": folder,
            "split": split,
            "cocoid": number,
            "sentences": [{"raw": f"a photo of {number}"}, {"raw": f"the picture {number}"}],
        }
        for number, (folder, split) in names.items()
    ]
    files = {
        "cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip": zipped(
            {
                "dataset_coco.json": json.dumps({"images": images, "dataset": "coco"}),
                "dataset_flickr8k.json": "{}",
            }
        )
    }
    for subset in ("train2014", "val2014"):
        chosen = [number for number in names if names[number][0] == subset]
        members = {f"{subset}/{file_name(number)}": photo(number) for number in chosen}
        files[f"{COCO}/zips/{subset}.zip"] = zipped({f"{subset}/": "", **members})
    files[f"{COCO}/zips/test2014.zip"] = zipped(
        {f"test2014/COCO_test2014_{number:012}.jpg": photo(number) for number in (8, 9)}
    )
    listed = [{"id": number, "file_name": f"COCO_test2014_{number:012}.jpg"} for number in (8, 9)]
    files[f"{COCO}/annotations/image_info_test2014.zip"] = zipped(
        {"annotations/image_info_test2014.json": json.dumps({"images": listed, "info": {}})}
    )
    files[f"{COCO}/zips/val2017.zip"] = zipped({"val2017/000000000005.jpg": photo(5)})
    annotated = {
        "images": [{"id": 5, "file_name": "000000000005.jpg"}],
        "annotations": [{"image_id": 5, "id": 1, "caption": "a photo of five"}],
    }
    files[f"{COCO}/annotations/annotations_trainval2017.zip"] = zipped(
        {
            "annotations/captions_val2017.json": json.dumps(annotated),
            "annotations/instances_val2017.json": "{}",
            "annotations/person_keypoints_val2017.json": "{}",
        }
    )
    return files


def flickr8k_files() -> dict[str, bytes]:
    tokens = "".join(f"{name}#{number}\ta photo of {name} {number}\n" for name in FLICKR_NAMES for number in range(5))
    parts = {"train": FLICKR_NAMES[:4], "dev": FLICKR_NAMES[4:5], "test": FLICKR_NAMES[5:]}
    texts = {f"Flickr_8k.{part}Images.txt": "\n".join(names) + "\n" for part, names in parts.items()}
    return {
        f"{GITHUB}/Flickr8k_Dataset.zip": zipped(
            {
                **{f"Flicker8k_Dataset/{name}": photo(number) for number, name in enumerate(FLICKR_NAMES)},
                "__MACOSX/Flicker8k_Dataset/._1_abc.jpg": "resource fork",
            }
        ),
        f"{GITHUB}/Flickr8k_text.zip": zipped(
            {"Flickr8k.token.txt": tokens, "readme.txt": "hello", "__MACOSX/._Flickr8k.token.txt": "no", **texts}
        ),
    }


def flickr30k_files() -> dict[str, bytes]:
    """The two files of the repository on the Hub."""
    lines = ["raw,sentids,split,filename,img_id"]
    for number, name in enumerate(FLICKR_NAMES):
        sentences = json.dumps([f'a "photo", of {name}', f"the picture {number}"]).replace('"', '""')
        split = ("train", "train", "train", "train", "val", "test")[number]
        lines.append(f'"{sentences}","[0, 1]",{split},{name},{number}')
    photos = {f"flickr30k-images/{name}": photo(number) for number, name in enumerate(FLICKR_NAMES)}
    return {
        "flickr30k-images.zip": zipped({**photos, "__MACOSX/flickr30k-images/._1_abc.jpg": "no"}),
        "flickr_annotations_30k.csv": "\n".join(lines).encode() + b"\n",
    }


def nocaps_files() -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for part, folder, numbers in (("val", "validation", range(3)), ("test", "test", range(2))):
        ids = [f"{number + (0 if part == 'val' else 100):016x}" for number in numbers]
        content: dict = {
            "images": [
                {"id": number, "open_images_id": name, "file_name": f"{name}.jpg", "domain": "in-domain"}
                for number, name in enumerate(ids)
            ]
        }
        if part == "val":
            content["annotations"] = [
                {"image_id": number, "id": 10 * number + one, "caption": f"photo {number} of {one}"}
                for number in numbers
                for one in range(10)
            ]
        path = {
            "val": "nocaps.s3.amazonaws.com/nocaps_val_4500_captions.json",
            "test": "s3.amazonaws.com/nocaps/nocaps_test_image_info.json",
        }[part]
        files[path] = json.dumps(content).encode()
        for number, name in enumerate(ids):
            files[f"s3.amazonaws.com/open-images-dataset/{folder}/{name}.jpg"] = photo(number)
    return files


def conceptual_files(base: str) -> dict[str, bytes]:
    """The lists, and the photos that they name on the server itself."""
    files = {f"photos/{number}.jpg": photo(number) for number in range(4)}
    lists = {"Validation/GCC-1.1.0-Validation.tsv": (0, 1, 7), "Train/GCC-training.tsv": (2, 3)}
    for name, numbers in lists.items():
        rows = "".join(f"a caption of {number}\t{base}/photos/{number}.jpg\n" for number in numbers)
        files[f"storage.googleapis.com/gcc-data/{name}"] = rows.encode()
    return files


def corenlp_files() -> dict[str, bytes]:
    folder = "stanford-corenlp-full-2015-12-09"
    members = {f"{folder}/{name}": zipped({"META-INF/MANIFEST.MF": name}) for name in CORENLP}
    return {f"nlp.stanford.edu/software/{folder}.zip": zipped({**members, f"{folder}/README.txt": "hello"})}


def with_checksums_of(name: str, files: dict[str, bytes]) -> Published:
    """An entry of the catalogue whose published checksums are those of the small files."""
    one = CATALOG[name]
    parts = {}
    for key, part in one.parts.items():
        changed = []
        for file in part.files:
            path = file.url.partition("://")[2]
            data = files.get(path)
            md5 = None if data is None or file.md5 is None else hashlib.md5(data).hexdigest()
            size = file.bytes if data is None else len(data)
            changed.append(replace(file, md5=md5, bytes=size, unpacked=0 if data is None else file.unpacked and size))
        parts[key] = replace(part, files=tuple(changed), bytes_of_images=0)
    return replace(one, parts=parts)
