"""`CaptionTrainingArguments`: what a captioning run can be told, with the defaults of the field."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from transformers import Seq2SeqTrainingArguments

from ..errors import ConfigurationError
from ..models.decoding import DecodingOptions

LOSS_METRICS = ("loss", "eval_loss")


@dataclass
class CaptionTrainingArguments(Seq2SeqTrainingArguments):
    """Arguments of a [`CaptionTrainer`]: those of `Seq2SeqTrainingArguments`, and those of captioning.

    Other defaults than in `Seq2SeqTrainingArguments`: `num_train_epochs` 4, `gradient_accumulation_steps` 2,
    `gradient_checkpointing` on, `logging_steps` 50, `eval_strategy` and `save_strategy` "epoch", `save_total_limit` 2,
    `load_best_model_at_end` on (where there is evaluation and saving), `metric_for_best_model` "sacrebleu",
    `report_to` "none". A batch counts *images*: each brings all its captions.

    Args:
        max_txt_len (`int`, defaults to 40): Longest caption in tokens, prompt and special tokens included.
        prompt (`str`, defaults to `""`): Put before every caption in training and decoding ("a picture of ").
        captions_per_image (`str`, defaults to `"all"`): "all", or how many are drawn for an image at each visit.
        freeze_vision (`bool`, defaults to `False`): Do not train the vision encoder.
        max_new_tokens (`int`, defaults to 30): Longest generated caption in tokens.
        num_beams (`int`, defaults to 5): Beams in evaluation.
        length_penalty (`float`, defaults to 1.0): Of beam search; above 0 longer captions are favoured.
        early_stopping (`bool`, defaults to `True`): End beam search when `num_beams` captions are complete.
        early_stopping_patience (`int`, *optional*): End training when `metric_for_best_model` has not improved in so
            many evaluations.
        loss_only (`bool`, defaults to `False`): Evaluate the loss alone, without generating captions; the best
            checkpoint is then the one of lowest loss.
        sacrebleu_lowercase (`bool`, defaults to `True`): Compare without case. It stands in the logged signature.
        allow_overlap (`bool`, defaults to `False`): Train although images of the evaluation are in the training set;
            every number is then marked as contaminated.
    """

    output_dir: str | None = field(default="captioner", metadata={"help": "Where the run is written."})
    num_train_epochs: float = field(default=4.0, metadata={"help": "Passes over the training images."})
    per_device_train_batch_size: int = field(default=8, metadata={"help": "Images (not captions) a step and device."})
    per_device_eval_batch_size: int = field(default=8, metadata={"help": "Images an evaluation step and device."})
    learning_rate: float = field(default=5e-5, metadata={"help": "Peak learning rate."})
    gradient_accumulation_steps: int = field(default=2, metadata={"help": "Batches to one optimizer step."})
    gradient_checkpointing: bool = field(default=True, metadata={"help": "Trade a second forward for memory."})
    logging_steps: float = field(default=50, metadata={"help": "Optimizer steps between two log rows."})
    eval_strategy: str = field(default="epoch", metadata={"help": "no, steps or epoch."})
    save_strategy: str = field(default="epoch", metadata={"help": "no, steps, epoch or best."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints kept; the best is always one."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "End with the best checkpoint's weights."})
    metric_for_best_model: str | None = field(default="sacrebleu", metadata={"help": "sacrebleu, CIDEr or loss."})
    predict_with_generate: bool = field(default=True, metadata={"help": "Generate captions in evaluation."})
    report_to: None | str | list[str] = field(default="none", metadata={"help": "tensorboard, wandb, trackio ..."})
    remove_unused_columns: bool | None = field(default=False, metadata={"help": "Must stay off: items hold pictures."})

    max_txt_len: int = field(default=40, metadata={"help": "Longest caption in tokens."})
    prompt: str = field(default="", metadata={"help": 'Put before every caption ("a picture of ").'})
    captions_per_image: str = field(default="all", metadata={"help": "all, or how many are drawn at each visit."})
    freeze_vision: bool = field(default=False, metadata={"help": "Do not train the vision encoder."})
    max_new_tokens: int = field(default=30, metadata={"help": "Longest generated caption in tokens."})
    num_beams: int = field(default=5, metadata={"help": "Beams in evaluation."})
    length_penalty: float = field(default=1.0, metadata={"help": "Of beam search; above 0 favours longer captions."})
    early_stopping: bool = field(default=True, metadata={"help": "End beam search at num_beams complete captions."})
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "End training after so many evaluations without improvement."}
    )
    loss_only: bool = field(default=False, metadata={"help": "Evaluate the loss alone, generate nothing."})
    sacrebleu_lowercase: bool = field(default=True, metadata={"help": "Compare without case."})
    allow_overlap: bool = field(default=False, metadata={"help": "Accept evaluation images that are trained on."})

    def __post_init__(self) -> None:
        if self.remove_unused_columns:
            raise ConfigurationError(
                "remove_unused_columns=True would take the pictures out of the items before they are collated. "
                "Leave it off."
            )
        if self.loss_only:
            self.predict_with_generate = False
            if self.metric_for_best_model not in LOSS_METRICS:
                self.metric_for_best_model = "loss"
        if "no" in (self.eval_strategy, self.save_strategy):
            # There is nothing to choose from.
            self.load_best_model_at_end = False
        if self.dataloader_pin_memory and not torch.cuda.is_available():
            self.dataloader_pin_memory = False
        self.captions_per_image = str(self.captions_per_image)
        super().__post_init__()

    @property
    def decoding(self) -> DecodingOptions:
        """How captions are generated in evaluation."""
        return DecodingOptions(
            num_beams=self.num_beams,
            max_new_tokens=self.max_new_tokens,
            length_penalty=self.length_penalty,
            early_stopping=self.early_stopping if self.num_beams > 1 else False,
            prompt=self.prompt,
        )
