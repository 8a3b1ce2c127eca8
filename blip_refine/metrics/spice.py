"""SPICE (Anderson et al. 2016) by its official program, the jar that `pycocoevalcap` brings.

The program parses every caption with Stanford CoreNLP 3.6, which no Python package holds: it is looked for in the
folder that `BLIP_REFINE_SPICE_HOME` names; else where `blip-refine fetch spice` puts it, and where `pycocoevalcap`
does. Nothing is downloaded here.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from ..errors import ConfigurationError, MetricError, MissingExtraError
from .java import LOCALE, Java, find_java
from .statistics import MetricStatistics

if TYPE_CHECKING:
    from .families import Job

SPICE_HOME = "BLIP_REFINE_SPICE_HOME"
CORENLP = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
INSTRUCTIONS = "SPICE needs Stanford CoreNLP 3.6.0, which `blip-refine fetch spice` downloads."
MEMORY_GB = 8
"""What the reference evaluation gives the program, at most; less on a machine with little memory."""
_SECONDS, _SECONDS_AN_IMAGE = 900, 10

# Its serialization reaches into the Java library, which Java 16 and later forbid unless told otherwise.
_OPENED = ("lang", "lang.invoke", "math", "net", "nio", "text", "util", "util.concurrent", "util.concurrent.atomic")


def spice_jar() -> Path:
    """Where the program is.

    Raises:
        ConfigurationError: `pycocoevalcap` is not installed, or came without it.
    """
    spec = find_spec("pycocoevalcap")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        jar = Path(folder) / "spice" / "spice-1.0.jar"
        if jar.is_file():
            return jar
    raise MissingExtraError("pycocoevalcap", "metrics", "run SPICE, whose program it brings")


def corenlp_folder() -> Path:
    """Where `blip-refine fetch spice` puts CoreNLP: a folder of ours beside the caches of the Hub."""
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "blip_refine" / "corenlp-3.6.0"


def corenlp_jars(jar: Path) -> list[Path]:
    """The two jars of CoreNLP 3.6.

    Raises:
        ConfigurationError: They are not there; the message says where they were looked for and how to get them.
    """
    home = os.environ.get(SPICE_HOME)
    for folder in [Path(home)] if home else [corenlp_folder(), jar.parent / "lib"]:
        jars = [folder / name for name in CORENLP]
        missing = [path.name for path in jars if not path.is_file()]
        if not missing:
            return jars
        if home:
            raise ConfigurationError(
                f"{SPICE_HOME} names {home!r}, which lacks {' and '.join(missing)}. Name another folder, or unset it "
                "and run `blip-refine fetch spice`."
            )
    raise ConfigurationError(INSTRUCTIONS)


def _memory_gb() -> int:
    return max(2, min(MEMORY_GB, int(psutil.virtual_memory().total / 2**30 * 0.75)))


def spice_command(java: Java, jar: Path, corenlp: Sequence[Path], source: Path, target: Path) -> list[str]:
    """The command line that scores `source` into `target`."""
    opened = [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in _OPENED] if java.version >= 9 else []
    classes = os.pathsep.join(str(path) for path in (jar, *corenlp))
    program = ["-cp", classes, "edu.anu.spice.SpiceScorer", str(source), "-out", str(target), "-silent"]
    return [java.path, *LOCALE, *opened, f"-Xmx{_memory_gb()}G", *program]


def run_spice(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """SPICE of each image: an array of shape `(images,)`.

    Args:
        predictions (`Sequence[str]`): One tokenized caption an image.
        references (`Sequence[Sequence[str]]`): The tokenized references of each image.

    Raises:
        ConfigurationError: Java, the program or CoreNLP is missing.
        MetricError: The program failed or gave no score of an image.
    """
    jar = spice_jar()
    corenlp, java = corenlp_jars(jar), find_java()
    with tempfile.TemporaryDirectory(prefix="blip-refine-spice-") as folder:
        source, target = Path(folder, "captions.json"), Path(folder, "scores.json")
        # Places instead of the images' own ids: the program's order is its own, and ids may be any text.
        rows = [
            {"image_id": place, "test": text, "refs": list(group)}
            for place, (text, group) in enumerate(zip(predictions, references, strict=True))
        ]
        source.write_text(json.dumps(rows), encoding="utf-8")
        try:
            run = subprocess.run(
                spice_command(java, jar, corenlp, source, target),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_SECONDS + _SECONDS_AN_IMAGE * len(rows),
            )
        except subprocess.TimeoutExpired as error:
            raise MetricError(f"SPICE did not finish {len(rows)} images within {error.timeout:g} s.") from error
        if run.returncode or not target.is_file():
            said = run.stdout.decode("utf-8", "replace").strip()[-800:]
            raise MetricError(f"SPICE failed with exit code {run.returncode}. It said: {said}")
        return read_spice(json.loads(target.read_text(encoding="utf-8")), len(rows))


def read_spice(results: Sequence[Mapping[str, Any]], n_images: int) -> np.ndarray:
    """F-scores out of the program's JSON, each put at the place of its own image.

    Raises:
        MetricError: An image has no score, or one that is no number.
    """
    scores = np.full(n_images, math.nan)
    for row in results:
        try:
            scores[int(row["image_id"])] = float(row["scores"]["All"]["f"])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise MetricError(f"SPICE gave no score for an image: {row!r:.200} ({error}).") from error
    missing = np.flatnonzero(~np.isfinite(scores))
    if len(missing):
        raise MetricError(f"SPICE gave no score for {len(missing)} of {n_images} images (the first is {missing[0]}).")
    return scores


def spice(job: Job) -> tuple[dict[str, MetricStatistics], str]:
    """SPICE of a job, on a seeded sample of its images where `spice_images` asks for one."""
    ids, chosen, said = job.references.ids, np.arange(len(job.references)), "spice:1.0"
    if job.spice_images is not None and job.spice_images < len(ids):
        chosen = np.sort(np.random.default_rng(job.seed).choice(len(ids), size=job.spice_images, replace=False))
        said += f".sample{job.spice_images}.seed{job.seed}"
    scores = run_spice([job.texts[place] for place in chosen], [job.references.tokenized[place] for place in chosen])
    return {"SPICE": MetricStatistics.from_mean("SPICE", [ids[place] for place in chosen], scores)}, said
