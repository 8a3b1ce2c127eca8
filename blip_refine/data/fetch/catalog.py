"""Where published datasets are, under which licence, and what of them there is to fetch.

Checksums are those that are published: COCO's MD5 sums, and the SHA-256 that the Hub states. Where there is none, a
file is held to its size and to the CRCs of its zip. Sizes are for the disk and the progress bar; a server that states
another is believed.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from ...errors import ConfigurationError
from ...metrics.spice import CORENLP

MIRROR = "BLIP_REFINE_MIRROR"
"""Names an address under which `host/path` of the official ones is found, as `wget --force-directories` leaves it."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file to download.

    Args:
        url (`str`): Where it is.
        bytes (`int`): About how large.
        md5 (`str`, *optional*): The published checksum.
        members (`tuple[str, ...]`): Which files of a zip to unpack, with `*`; empty to keep the file itself.
        unpacked (`int`): About how many bytes these have.
        flatten (`bool`): Leave out the folders of the zip.
        hub (`str`, *optional*): `owner/name@revision` of a dataset of the Hub that holds it.
    """

    url: str
    bytes: int
    md5: str | None = None
    members: tuple[str, ...] = ()
    unpacked: int = 0
    flatten: bool = False
    hub: str | None = None

    @property
    def name(self) -> str:
        """The name of the file."""
        return urlsplit(self.url).path.rpartition("/")[2]

    def address(self, mirror: str | None) -> str:
        """Its URL, or where a mirror has it."""
        if not mirror:
            return self.url
        return f"{mirror.rstrip('/')}/{self.url.partition('://')[2]}"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a dataset that can be asked for by name.

    Args:
        about (`str`): What it is.
        files (`tuple[RemoteFile, ...]`): What is downloaded.
        images (`int`): How many images are downloaded one by one, for a part that is a list of them.
        bytes_of_images (`int`): About how large these are together.
    """

    about: str
    files: tuple[RemoteFile, ...]
    images: int = 0
    bytes_of_images: int = 0


@dataclass(frozen=True, slots=True)
class Published:
    """A dataset, or a program, as published.

    Args:
        title (`str`): Its name and who made it.
        licence (`str`): Under what terms, in a few sentences.
        terms (`str`): Where these are written.
        parts (`dict[str, Part]`): What there is.
        default (`tuple[str, ...]`): What is fetched unless told otherwise.
        source (`str`): Its name for `load_source`; empty for what is no dataset.
    """

    title: str
    licence: str
    terms: str
    parts: dict[str, Part]
    default: tuple[str, ...]
    source: str = ""

    def choose(self, names: list[str] | None, of: str) -> dict[str, Part]:
        """The parts of these names, in the order of the catalogue.

        Raises:
            ConfigurationError: There is no such part.
        """
        wanted = list(self.default) if names is None else names
        unknown = [name for name in wanted if name not in self.parts]
        if unknown or not wanted:
            known = ", ".join(self.parts)
            raise ConfigurationError(f"{of} has no part {', '.join(map(repr, unknown)) or '(none)'}; it has {known}.")
        return {name: part for name, part in self.parts.items() if name in wanted}


_COCO = "http://images.cocodataset.org"
_FLICKR8K = "https://github.com/jbrownlee/Datasets/releases/download/Flickr8k"
_FLICKR30K = "nlphuji/flickr30k@2b239befc81b6e3f035ce6bd52f5f4d60f5625f7"
_GCC = "https://storage.googleapis.com/gcc-data"
OPEN_IMAGES = "https://s3.amazonaws.com/open-images-dataset"
GIB = 2**30


def _coco_images(name: str, size: int, md5: str) -> RemoteFile:
    return RemoteFile(f"{_COCO}/zips/{name}.zip", size, md5, (f"{name}/*.jpg",), round(size * 1.01))


def _coco_annotations(year: int, size: int, md5: str) -> RemoteFile:
    members = ("annotations/captions_*.json", "annotations/instances_*.json")
    return RemoteFile(f"{_COCO}/annotations/annotations_trainval{year}.zip", size, md5, members, 700 * 2**20)


def _hub_file(name: str, size: int, members: tuple[str, ...] = ()) -> RemoteFile:
    repo, _, revision = _FLICKR30K.partition("@")
    url = f"https://huggingface.co/datasets/{repo}/resolve/{revision}/{name}"
    return RemoteFile(url, size, members=members, unpacked=round(size * 1.01) if members else 0, hub=_FLICKR30K)


CATALOG: dict[str, Published] = {
    "coco": Published(
        title="COCO Captions (Lin et al. 2014, Chen et al. 2015), with Karpathy's split",
        licence="The captions are licensed under Creative Commons Attribution 4.0. The COCO Consortium does not own "
        "the photos: their use must abide by the Flickr Terms of Use, and each photo's licence is in the annotations.",
        terms="https://cocodataset.org/#termsofuse",
        parts={
            "karpathy": Part(
                "dataset_coco.json: the split of published captioning scores",
                (
                    RemoteFile(
                        "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip",
                        37 * 2**20,
                        members=("dataset_coco.json",),
                        unpacked=150 * 2**20,
                    ),
                ),
            ),
            "annotations2014": Part(
                "captions and objects of train2014 and val2014",
                (_coco_annotations(2014, 252872794, "0a379cfc70b0e71301e0f377548639bd"),),
            ),
            "train2014": Part(
                "82,783 photos", (_coco_images("train2014", 13510573713, "0da8c0bd3d6becc4dcb32757491aca88"),)
            ),
            "val2014": Part(
                "40,504 photos; all of Karpathy's validation and test images",
                (_coco_images("val2014", 6645013297, "a3d79f5ed8d289b7a7554ce06a5782b3"),),
            ),
            "test2014": Part(
                "40,775 photos without captions, for the evaluation server",
                (
                    RemoteFile(
                        f"{_COCO}/annotations/image_info_test2014.zip",
                        2**20,
                        "25304cbbafb2117fb801c0f7218fdbba",
                        ("annotations/image_info_test2014.json",),
                        16 * 2**20,
                    ),
                    _coco_images("test2014", 6660437059, "04127eef689ceac55e3a572c2c92f264"),
                ),
            ),
            "annotations2017": Part(
                "captions and objects of train2017 and val2017",
                (_coco_annotations(2017, 252907541, "f4bbac642086de4f52a3fdda2de5fa2c"),),
            ),
            "train2017": Part(
                "118,287 photos", (_coco_images("train2017", 19336861798, "cced6f7f71b7629ddf16f17bbcfab6b2"),)
            ),
            "val2017": Part("5,000 photos", (_coco_images("val2017", 815585330, "442b8da7639aecaf257c1dceb8ba8c80"),)),
        },
        default=("karpathy", "train2014", "val2014"),
        source="coco",
    ),
    "flickr8k": Published(
        title="Flickr8k (Hodosh, Young, Hockenmaier 2013)",
        licence="For non-commercial research and education alone. The photos belong to their photographers and are "
        "used under the Flickr Terms of Use; neither photos nor captions may be given on.",
        terms="https://hockenmaier.cs.illinois.edu/8k-pictures.html",
        parts={
            "images": Part(
                "8,091 photos",
                (
                    RemoteFile(
                        f"{_FLICKR8K}/Flickr8k_Dataset.zip",
                        1115419746,
                        members=("Flicker8k_Dataset/*.jpg",),
                        unpacked=1123 * 10**6,
                    ),
                ),
            ),
            "captions": Part(
                "40,460 captions and the official split",
                (
                    RemoteFile(
                        f"{_FLICKR8K}/Flickr8k_text.zip",
                        2340801,
                        members=("*.txt",),
                        unpacked=10 * 10**6,
                        flatten=True,
                    ),
                ),
            ),
        },
        default=("images", "captions"),
        source="flickr8k",
    ),
    "flickr30k": Published(
        title="Flickr30k (Young, Lai, Hodosh, Hockenmaier 2014), from the Hub: nlphuji/flickr30k",
        licence="For non-commercial research and education alone. The photos belong to their photographers and are "
        "used under the Flickr Terms of Use; neither photos nor captions may be given on. There is no open official "
        "place of the photos: they come from a repository of the Hub that others keep.",
        terms="https://shannon.cs.illinois.edu/DenotationGraph/",
        parts={
            "images": Part(
                "31,014 photos", (_hub_file("flickr30k-images.zip", 4391 * 10**6, ("flickr30k-images/*.jpg",)),)
            ),
            "captions": Part(
                "155,070 captions with Karpathy's split", (_hub_file("flickr_annotations_30k.csv", 12900000),)
            ),
        },
        default=("images", "captions"),
        source="flickr30k",
    ),
    "nocaps": Published(
        title="nocaps (Agrawal et al. 2019)",
        licence="The captions are licensed under Creative Commons Attribution 2.0. The photos are of Open Images V4, "
        "listed there as Creative Commons Attribution 2.0, without warranty; it is for you to check each. nocaps is "
        "for evaluation: do not train on it.",
        terms="https://nocaps.org",
        parts={
            "val": Part(
                "4,500 photos with 10 captions each",
                (RemoteFile("https://nocaps.s3.amazonaws.com/nocaps_val_4500_captions.json", 11 * 10**6),),
                images=4500,
                bytes_of_images=1422 * 10**6,
            ),
            "test": Part(
                "10,600 photos without captions, for the evaluation server",
                (RemoteFile("https://s3.amazonaws.com/nocaps/nocaps_test_image_info.json", 4 * 10**6),),
                images=10600,
                bytes_of_images=3350 * 10**6,
            ),
        },
        default=("val",),
        source="nocaps",
    ),
    "conceptual-captions": Published(
        title="Conceptual Captions, CC3M (Sharma et al. 2018)",
        licence="Google LLC lets the list of captions and URLs be used freely for any purpose, and asks to be named "
        "as its source. It comes as it is, without warranty. The photos are on the web sites that the list names, and "
        "belong to their owners.",
        terms="https://github.com/google-research-datasets/conceptual-captions/blob/master/LICENSE",
        parts={
            "validation": Part(
                "15,840 captions; images that are still on the web",
                (RemoteFile(f"{_GCC}/Validation/GCC-1.1.0-Validation.tsv", 2846024),),
                images=15840,
                bytes_of_images=2 * GIB,
            ),
            "train": Part(
                "3,318,333 captions; images that are still on the web",
                (RemoteFile(f"{_GCC}/Train/GCC-training.tsv", 623230370),),
                images=3318333,
                bytes_of_images=430 * GIB,
            ),
        },
        default=("validation",),
        source="conceptual_captions",
    ),
    "spice": Published(
        title="Stanford CoreNLP 3.6.0 (Manning et al. 2014), with which SPICE parses captions",
        licence="Licensed under the GNU General Public License, version 3 or later; for use in proprietary software, "
        "Stanford sells licences.",
        terms="https://nlp.stanford.edu/software/",
        parts={
            "corenlp": Part(
                " and ".join(CORENLP),
                (
                    RemoteFile(
                        "https://nlp.stanford.edu/software/stanford-corenlp-full-2015-12-09.zip",
                        400 * 2**20,
                        members=tuple(f"stanford-corenlp-full-2015-12-09/{name}" for name in CORENLP),
                        unpacked=400 * 2**20,
                        flatten=True,
                    ),
                ),
            )
        },
        default=("corenlp",),
    ),
}


def published(name: str) -> Published:
    """What the catalogue says of a name.

    Raises:
        ConfigurationError: There is no such name.
    """
    found = CATALOG.get(name.replace("_", "-").lower())
    if found is None:
        raise ConfigurationError(f"Cannot fetch {name!r}. Known are {', '.join(CATALOG)}.")
    return found
