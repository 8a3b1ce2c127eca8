"""Base against fine-tuned, by the trainer itself: same images, same decoding, and the files of a comparison."""

from __future__ import annotations

from contextlib import nullcontext

from transformers import Seq2SeqTrainer

from ..errors import ConfigurationError
from ..evaluation.systems import Evaluation, write_systems


class ComparingTrainer(Seq2SeqTrainer):
    """The part of [`CaptionTrainer`] that scores the weights before and after training, where
    `compare_with_base` asks for it."""

    comparison: dict[str, Evaluation]

    def train(self, *args, **options):
        """As in `Trainer`; then the base and the trained weights are compared, and the result files are written."""
        if not self.args.compare_with_base:
            return super().train(*args, **options)
        if self.comparison_dataset is None:
            raise ConfigurationError(
                "compare_with_base needs images that are not trained on: give the trainer a test_dataset or an "
                "eval_dataset."
            )
        # Before anything is trained: afterwards the base's weights are gone.
        before = self.evaluate_base()
        outcome = super().train(*args, **options)
        self.comparison = {"before": before, "after": self.evaluate_coco(self.comparison_dataset, write=False)}
        if self.is_world_process_zero():
            write_systems(self.args.output_dir, self.comparison, final="after")
        return outcome

    @property
    def comparison_dataset(self):
        """The images that base and trained weights are compared on: the test set, or else the evaluation set."""
        return self.eval_dataset if self.test_dataset is None else self.test_dataset

    def evaluate_base(self) -> Evaluation:
        """Scores of the base on the images of the comparison: of the model without its adapter, where it has one, and
        otherwise of its weights as they are."""
        without_adapter = getattr(self.model, "disable_adapter", nullcontext)
        with without_adapter():
            return self.evaluate_coco(self.comparison_dataset, write=False)
