"""BibTeX of the models and data sets that a captioner is made of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .provenance import is_embedded_starter, public_name

BLIP = """@inproceedings{li2022blip,
  title = "{BLIP}: Bootstrapping Language-Image Pre-training for Unified Vision-Language Understanding and Generation",
  author = {Li, Junnan and Li, Dongxu and Xiong, Caiming and Hoi, Steven},
  booktitle = {International Conference on Machine Learning (ICML)},
  year = {2022}
}"""
BLIP2 = """@inproceedings{li2023blip2,
  title = "{BLIP-2}: Bootstrapping Language-Image Pre-training with Frozen Image Encoders and Large Language Models",
  author = {Li, Junnan and Li, Dongxu and Savarese, Silvio and Hoi, Steven},
  booktitle = {International Conference on Machine Learning (ICML)},
  year = {2023}
}"""
INSTRUCTBLIP = """@inproceedings{dai2023instructblip,
  title = "{InstructBLIP}: Towards General-purpose Vision-Language Models with Instruction Tuning",
  author = {Dai, Wenliang and Li, Junnan and Li, Dongxu and Tiong, Anthony Meng Huat and Zhao, Junqi and
            Wang, Weisheng and Li, Boyang and Fung, Pascale and Hoi, Steven},
  booktitle = {Advances in Neural Information Processing Systems (NeurIPS)},
  year = {2023}
}"""

MODELS = {"blip": BLIP, "blip-2": BLIP2, "instructblip": INSTRUCTBLIP}
"""By `model_type` of `config.json`."""

COCO = """@article{chen2015microsoft,
  title = "{Microsoft COCO} Captions: Data Collection and Evaluation Server",
  author = {Chen, Xinlei and Fang, Hao and Lin, Tsung-Yi and Vedantam, Ramakrishna and Gupta, Saurabh and
            Doll{\\'a}r, Piotr and Zitnick, C. Lawrence},
  journal = {arXiv preprint arXiv:1504.00325},
  year = {2015}
}"""
FLICKR8K = """@article{hodosh2013framing,
  title = {Framing Image Description as a Ranking Task: Data, Models and Evaluation Metrics},
  author = {Hodosh, Micah and Young, Peter and Hockenmaier, Julia},
  journal = {Journal of Artificial Intelligence Research},
  volume = {47},
  pages = {853--899},
  year = {2013}
}"""
FLICKR30K = """@article{young2014image,
  title = {From image descriptions to visual denotations: New similarity metrics for semantic inference over event
           descriptions},
  author = {Young, Peter and Lai, Alice and Hodosh, Micah and Hockenmaier, Julia},
  journal = {Transactions of the Association for Computational Linguistics},
  volume = {2},
  pages = {67--78},
  year = {2014}
}"""
NOCAPS = """@inproceedings{agrawal2019nocaps,
  title = {nocaps: novel object captioning at scale},
  author = {Agrawal, Harsh and Desai, Karan and Wang, Yufei and Chen, Xinlei and Jain, Rishabh and Johnson, Mark and
            Batra, Dhruv and Parikh, Devi and Lee, Stefan and Anderson, Peter},
  booktitle = {IEEE/CVF International Conference on Computer Vision (ICCV)},
  year = {2019}
}"""
CONCEPTUAL_CAPTIONS = """@inproceedings{sharma2018conceptual,
  title = {Conceptual Captions: A Cleaned, Hypernymed, Image Alt-text Dataset For Automatic Image Captioning},
  author = {Sharma, Piyush and Ding, Nan and Goodman, Sebastian and Soricut, Radu},
  booktitle = {Annual Meeting of the Association for Computational Linguistics (ACL)},
  year = {2018}
}"""
VISUAL_GENOME = """@article{krishna2017visual,
  title = {Visual Genome: Connecting Language and Vision Using Crowdsourced Dense Image Annotations},
  author = {Krishna, Ranjay and Zhu, Yuke and Groth, Oliver and Johnson, Justin and Hata, Kenji and Kravitz, Joshua and
            Chen, Stephanie and Kalantidis, Yannis and Li, Li-Jia and Shamma, David A. and Bernstein, Michael S. and
            Fei-Fei, Li},
  journal = {International Journal of Computer Vision},
  volume = {123},
  pages = {32--73},
  year = {2017}
}"""

DATA = {
    ("coco",): COCO,
    ("mscoco",): COCO,
    ("coco2014",): COCO,
    ("coco2017",): COCO,
    ("flickr8k",): FLICKR8K,
    ("flickr30k",): FLICKR30K,
    ("nocaps",): NOCAPS,
    ("conceptual", "captions"): CONCEPTUAL_CAPTIONS,
    ("cc3m",): CONCEPTUAL_CAPTIONS,
    ("visual", "genome"): VISUAL_GENOME,
}
"""By the words of a data set's name that must all be in it."""


def find_citations(base: str | None, data: str | None, config: Mapping[str, Any], adapter: Mapping[str, Any]) -> str:
    """The BibTeX entries of a captioner: of its architecture, and of its training data where they are known.

    Args:
        base (`str`, *optional*): The base model's name.
        data (`str`, *optional*): The name of the training data; several of a mixture may stand in it.
        config (`Mapping[str, Any]`): `config.json`; empty for an adapter.
        adapter (`Mapping[str, Any]`): `adapter_config.json`; empty for a whole model.

    Returns:
        `str`: The entries, parted by empty lines; empty if nothing is known.
    """
    kind = config.get("model_type") or model_type_of(base, adapter)
    entries = [MODELS[kind]] if kind in MODELS else []
    # A folder such as "flickr30k-images" is named by its last part.
    words = set(re.split(r"[^a-z0-9]+", public_name(data).lower())) if data else set()
    entries += [entry for name, entry in DATA.items() if words.issuperset(name)]
    return "\n\n".join(dict.fromkeys(entries))


def model_type_of(base: str | None, adapter: Mapping[str, Any]) -> str | None:
    """The `model_type` of an adapter's base: by the class that its configuration names, else by the base's name.

    Args:
        base (`str`, *optional*): The base model's name.
        adapter (`Mapping[str, Any]`): `adapter_config.json`.
    """
    mapping = adapter.get("auto_mapping")
    described = str(mapping.get("base_model_class", "")) if isinstance(mapping, Mapping) else ""
    for name in (described, "" if base is None else "blip" if is_embedded_starter(base) else public_name(base)):
        name = name.lower().replace("-", "")
        for part, kind in (("instructblip", "instructblip"), ("blip2", "blip-2"), ("blip", "blip")):
            if part in name:
                return kind
    return None
