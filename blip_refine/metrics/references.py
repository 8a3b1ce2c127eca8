"""References, checked, tokenized and indexed once, for as many systems as are scored against them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from ..errors import MetricError
from .cider import CiderWeights, DocumentFrequencies
from .ngrams import ReferenceIndex
from .tokenizer import tokenize_captions
from .validation import check_references


class PreparedReferences(Mapping[str, Sequence[str]]):
    """References ready for scoring. It is the mapping that it was made of, and may stand wherever that one may.

    Scoring 5,000 captions against 25,000 prepared references costs a tenth of a second; preparing them costs half a
    second, and is done when the first metric needs it.

    ```python
    references = PreparedReferences({"1.jpg": ["a dog runs", "a brown dog"], "2.jpg": ["two boats"]})
    for predictions in systems:
        score_captions(predictions, references, ["Bleu", "CIDEr"])
    ```

    Args:
        references (`Mapping[str, Sequence[str]]`): Image id to its captions.
        document_frequencies (`DocumentFrequencies`, *optional*): How rare phrases are, for CIDEr; by default counted
            over these references.

    Raises:
        MetricError: Wrong nesting, or images without references.
    """

    def __init__(
        self, references: Mapping[str, Sequence[str]], document_frequencies: DocumentFrequencies | None = None
    ):
        check_references(references)
        self._references = {image_id: tuple(captions) for image_id, captions in references.items()}
        self.document_frequencies = document_frequencies
        self.ids = tuple(self._references)

    def __getitem__(self, image_id: str) -> Sequence[str]:
        return self._references[image_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._references)

    def __len__(self) -> int:
        return len(self._references)

    @cached_property
    def counts(self) -> tuple[int, int]:
        """The fewest and the most references that an image has."""
        counts = [len(captions) for captions in self._references.values()]
        return min(counts), max(counts)

    @cached_property
    def tokenized(self) -> list[list[str]]:
        """The tokenized references of each image, in the order of `ids`."""
        return [tokenize_captions(captions) for captions in self._references.values()]

    @cached_property
    def index(self) -> ReferenceIndex:
        """Their n-grams."""
        return ReferenceIndex(self.tokenized)

    @cached_property
    def cider(self) -> CiderWeights:
        """Their weights in CIDEr.

        Raises:
            MetricError: There is one image only, and no document frequencies from elsewhere.
        """
        if self.document_frequencies is None and len(self) == 1:
            raise MetricError(
                "CIDEr weighs phrases by how rare they are among the images, and there is only one image: every "
                "weight would be 0. Pass document_frequencies counted over a larger set."
            )
        return CiderWeights(self.index, self.document_frequencies)
