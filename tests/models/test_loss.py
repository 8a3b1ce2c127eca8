"""The loss and the memory of its logits: computed where there is a label, and nowhere else."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from blip_refine.data.collator import IGNORED
from blip_refine.models.loss import caption_loss

from .family_models import KINDS, make_family
from .test_families import batch_of


class WidestTensor(TorchDispatchMode):
    """The most elements of any tensor whose last dimension is the vocabulary."""

    def __init__(self, vocabulary: int):
        super().__init__()
        self.vocabulary, self.elements = vocabulary, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for one in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(one, torch.Tensor) and one.ndim and one.shape[-1] == self.vocabulary:
                self.elements = max(self.elements, one.numel())
        return out


def rows_of_logits(model, vocabulary: int, **inputs) -> int:
    with WidestTensor(vocabulary) as widest:
        model(**inputs).loss.backward()
    return widest.elements // vocabulary


@pytest.mark.parametrize("kind", ["blip", *KINDS])
def test_logits_of_masked_positions_are_never_made(kind, tiny_captioner):
    model, processor = tiny_captioner() if kind == "blip" else make_family(kind)
    batch = batch_of(model, processor, prompt="a drawing of ")
    # One long caption, so that most of what the others are padded to is masked.
    batch["labels"][1:, -4:] = IGNORED
    vocabulary = base_vocabulary(model)
    predicted = int((batch["labels"] != IGNORED).sum())
    places = batch["labels"].numel()
    assert predicted < 0.7 * places
    assert rows_of_logits(model, vocabulary, **batch, loss_only=True) == predicted
    assert rows_of_logits(model, vocabulary, **batch) >= places


def base_vocabulary(model) -> int:
    return getattr(model, "text_decoder", model).get_output_embeddings().out_features


def test_loss_is_summed_smoothed_and_divided_as_asked():
    torch.manual_seed(0)
    labels = torch.tensor([[3, IGNORED, 5], [1, 2, IGNORED]])
    predicted = torch.randn(4, 7)
    targets = torch.tensor([3, 5, 1, 2])
    for smoothing in (0.0, 0.1):
        each = torch.nn.functional.cross_entropy(predicted, targets, reduction="none", label_smoothing=smoothing)
        options = {"label_smoothing": smoothing}
        torch.testing.assert_close(caption_loss(predicted, labels, **options), each.mean())
        torch.testing.assert_close(caption_loss(predicted, labels, num_items_in_batch=40, **options), each.sum() / 40)
        rows = caption_loss(predicted, labels, per_caption=True, **options)
        torch.testing.assert_close(rows, torch.stack([each[:2].sum(), each[2:].sum()]))
    assert caption_loss(predicted.bfloat16(), labels).dtype == torch.float32
    assert caption_loss(torch.zeros(0, 7), torch.full((2, 3), IGNORED)) == 0
