"""`CaptionTrainingArguments`: what a captioning run can be told, with the defaults of the field."""

from __future__ import annotations

import warnings
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

import torch
from transformers import Seq2SeqTrainingArguments

from ..caption_prompts import PromptTemplate
from ..data.augment import Augmentation, load_augmentation
from ..errors import ConfigurationError
from ..metrics import ALL_METRICS
from ..models.decoding import DecodingOptions
from ..models.device import best_device, has_fast_bfloat16
from ..models.features import FEATURE_DTYPES
from ..models.saved_defaults import SavedDefaults, stock_arguments

LOSS_METRICS = ("loss", "eval_loss")
PRECISIONS = ("auto", "bf16", "fp16", "fp32")
RECIPES: dict[str, dict[str, Any]] = {
    # Li et al. 2022 (BLIP), configs/caption_coco.yaml of the original code. Its lengths of 5 to 20 count the start
    # token and the three tokens of the prompt; ours count what is new.
    "original-blip": {
        "prompt": "a picture of ",
        "learning_rate": 1e-5,
        "weight_decay": 0.05,
        "lr_scheduler_type": "cosine",
        "num_train_epochs": 5,
        "num_beams": 3,
        "min_new_tokens": 1,
        "max_new_tokens": 16,
        "image_size": 384,
    }
}
"""Published recipes: training arguments, and `image_size`, which [`load_captioner`] is to be told."""


def recipe_decoding(recipe: str) -> SavedDefaults:
    """How a recipe captions: its prompt, decoding and image size.

    Args:
        recipe (`str`): One of `RECIPES`.

    Raises:
        ConfigurationError: There is no such recipe.
    """
    if recipe not in RECIPES:
        raise ConfigurationError(f"There is no recipe {recipe!r}; there are: {', '.join(RECIPES)}.")
    options = CaptionTrainingArguments.from_recipe(recipe).decoding
    return SavedDefaults(stock_arguments(options), options.prompt, image_size=RECIPES[recipe].get("image_size"))


AT_LEAST = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "early_stopping_patience": 1,
    "samples_to_log": 0,
    "learning_rate": 0,
}
"""The least that an argument can be; what is below would fail after the data are read, or in the midst of training."""


@dataclass
class CaptionTrainingArguments(Seq2SeqTrainingArguments):
    """Arguments of a [`CaptionTrainer`]: those of `Seq2SeqTrainingArguments`, and those of captioning.

    Other defaults than in `Seq2SeqTrainingArguments`: `num_train_epochs` 4, `gradient_accumulation_steps` 2,
    `gradient_checkpointing` on, `logging_steps` 50, `eval_strategy` and `save_strategy` "epoch", `save_total_limit` 2,
    `load_best_model_at_end` on (where there is evaluation and saving), `metric_for_best_model` "sacrebleu",
    `report_to` "none". A batch counts *images*: each brings all its captions.

    Args:
        max_txt_len (`int`, defaults to 40): Longest caption in tokens, prompt and special tokens included.
        prompt (`str`, *optional*): Put before every caption in training and decoding ("a picture of "). By default
            the prompt that is saved with the model, if there is one; "" for none. Images that bring a prompt of their
            own (a column `prompt`) have that instead.
        prompt_template (`str`, *optional*): A prompt per image, from columns of its record: "a photo of {name}, ".
        captions_per_image (`str`, defaults to `"all"`): "all", or how many are drawn for an image at each visit.
        augment (`str`, defaults to `"none"`): What is done to training images at each visit, with captions kept true:
            "standard", "light" or "none"; see [`Augmentation`]. Evaluation is never augmented.
        augment_flip_writing (`bool`, defaults to `False`): Mirror also where a caption speaks of writing.
        augment_jitter_colors (`bool`, defaults to `False`): Change colours also where a caption names one.
        exact_decoding (`bool`, defaults to `False`): Decode large JPEGs whole for training too, as is always done for
            evaluation. Otherwise the JPEG decoder reduces them first, which is several times faster.
        freeze_vision (`bool`, defaults to `False`): Do not train the vision encoder.
        freeze_vision_layers, freeze_text_layers (`int`, defaults to 0): Do not train the embeddings and the first so
            many layers of the encoder, or of what writes the caption.
        vision_learning_rate (`float`, *optional*): Of the vision encoder; `learning_rate` by default.
        layer_lr_decay (`float`, defaults to 1.0): What the rate is multiplied by for each layer further from the
            output.
        cache_vision_features (`bool`, defaults to `False`): With `freeze_vision` and no augmentation, encode each
            image once and train on what the encoder said, kept in memory-mapped files.
        feature_dtype (`str`, defaults to `"float32"`): Of those files; "bfloat16" takes half the disk.
        feature_cache_dir (`str`, *optional*): Where they are; `features` in `output_dir` by default.
        precision (`str`, defaults to `"auto"`): "bf16", "fp16" (with loss scaling), "fp32", or "auto": on a GPU bf16
            where it has it, else fp16; on a CPU bf16 where it has AMX, else fp32. `why_precision` says why.
            `bf16=True` and `fp16=True` are as in `TrainingArguments`.
        samples_to_log (`int`, defaults to 4): How many evaluated images are written with their captions, to
            `samples/` and to the tracker, at each evaluation.
        track_energy (`bool`, defaults to `False`): Measure energy (needs codecarbon), and with `energy_country` CO2.
        energy_country (`str`, *optional*): ISO code of three letters ("DEU"), for the carbon of its electricity.
        developed_by (`str`, *optional*): Who makes the model, for card and `run.json`; by default the owner of the
            repository that it is published in.
        region, cloud_provider (`str`, *optional*): Where it is computed ("eu-west-1", "AWS"), for card and `run.json`;
            the region is by default `energy_country`.
        min_new_tokens (`int`, defaults to 0): Shortest generated caption in tokens.
        max_new_tokens (`int`, defaults to 30): Longest generated caption in tokens.
        num_beams (`int`, defaults to 5): Beams in evaluation.
        length_penalty (`float`, defaults to 1.0): Of beam search; above 0 longer captions are favoured.
        repetition_penalty, no_repeat_ngram_size, do_sample, temperature, top_k, top_p: As in [`DecodingOptions`]. In
            evaluation sampling is seeded with `seed`; the seed is not saved with the model.
        generation_num_beams (`int`, *optional*): The name that `Seq2SeqTrainingArguments` has for `num_beams`.
        generation_max_length (`int`, *optional*): Its name for `max_new_tokens`, counted with the start token: 21
            stands for 20 new tokens. Refused with a prompt, whose tokens it would count too.
        early_stopping (`bool`, defaults to `True`): End beam search when `num_beams` captions are complete.
        early_stopping_patience (`int`, *optional*): End training when `metric_for_best_model` has not improved in so
            many evaluations.
        loss_only (`bool`, defaults to `False`): Evaluate the loss alone, without generating captions; the best
            checkpoint is then the one of lowest loss.
        compare_with_base (`bool`, defaults to `False`): Score the weights (of an adapter: its base) before training
            and the trained ones after it, on the same held-out images with the same decoding and all COCO metrics, and
            write the comparison to `output_dir`: `coco_metrics.json`, `predictions.jsonl`, `error_analysis.json`.
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
    metric_for_best_model: str | None = field(
        default="sacrebleu", metadata={"help": "loss, sacrebleu, CIDEr, ROUGE_L ..."}
    )
    predict_with_generate: bool = field(default=True, metadata={"help": "Generate captions in evaluation."})
    report_to: None | str | list[str] = field(default="none", metadata={"help": "tensorboard, wandb, trackio ..."})
    remove_unused_columns: bool | None = field(default=False, metadata={"help": "Must stay off: items hold pictures."})

    max_txt_len: int = field(default=40, metadata={"help": "Longest caption in tokens."})
    prompt: str | None = field(
        default=None, metadata={"help": 'Put before every caption ("a picture of "); by default the model\'s own.'}
    )
    prompt_template: str | None = field(
        default=None, metadata={"help": 'A prompt per image, from its columns ("a photo of {name}, ").'}
    )
    captions_per_image: str = field(default="all", metadata={"help": "all, or how many are drawn at each visit."})
    augment: str = field(default="none", metadata={"help": "standard, light or none; training images only."})
    augment_flip_writing: bool = field(default=False, metadata={"help": "Mirror where a caption speaks of writing."})
    augment_jitter_colors: bool = field(default=False, metadata={"help": "Change colours where a caption names one."})
    exact_decoding: bool = field(default=False, metadata={"help": "Decode large JPEGs whole for training too."})
    freeze_vision: bool = field(default=False, metadata={"help": "Do not train the vision encoder."})
    freeze_vision_layers: int = field(default=0, metadata={"help": "Encoder layers not trained, from the first on."})
    freeze_text_layers: int = field(default=0, metadata={"help": "Decoder layers not trained, from the first on."})
    vision_learning_rate: float | None = field(default=None, metadata={"help": "Learning rate of the encoder."})
    layer_lr_decay: float = field(default=1.0, metadata={"help": "Rate factor for each layer away from the output."})
    cache_vision_features: bool = field(default=False, metadata={"help": "Encode once; needs --freeze-vision."})
    feature_dtype: str = field(default="float32", metadata={"help": "float32, bfloat16 or float16."})
    feature_cache_dir: str | None = field(default=None, metadata={"help": "Where features are kept."})
    precision: str = field(default="auto", metadata={"help": "auto, bf16, fp16 or fp32."})
    samples_to_log: int = field(default=4, metadata={"help": "Captioned images written at each evaluation."})
    track_energy: bool = field(default=False, metadata={"help": "Measure energy with codecarbon."})
    energy_country: str | None = field(default=None, metadata={"help": "ISO code (DEU), for CO2."})
    developed_by: str | None = field(default=None, metadata={"help": "Who makes the model; for the model card."})
    region: str | None = field(default=None, metadata={"help": "Where it is computed; for the model card."})
    cloud_provider: str | None = field(default=None, metadata={"help": "Cloud provider; for the model card."})
    min_new_tokens: int = field(default=0, metadata={"help": "Shortest generated caption in tokens."})
    max_new_tokens: int = field(default=30, metadata={"help": "Longest generated caption in tokens."})
    num_beams: int = field(default=5, metadata={"help": "Beams in evaluation."})
    length_penalty: float = field(default=1.0, metadata={"help": "Of beam search; above 0 favours longer captions."})
    repetition_penalty: float = field(default=1.0, metadata={"help": "Above 1 makes occurred tokens less likely."})
    no_repeat_ngram_size: int = field(default=0, metadata={"help": "No n-gram of this size occurs twice."})
    do_sample: bool = field(default=False, metadata={"help": "Draw tokens in evaluation; seeded with --seed."})
    temperature: float = field(default=1.0, metadata={"help": "Sample with logits divided by this."})
    top_k: int = field(default=0, metadata={"help": "Sample among this many tokens; 0 for all."})
    top_p: float = field(default=1.0, metadata={"help": "Sample among the tokens of this probability."})
    early_stopping: bool = field(default=True, metadata={"help": "End beam search at num_beams complete captions."})
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "End training after so many evaluations without improvement."}
    )
    loss_only: bool = field(default=False, metadata={"help": "Evaluate the loss alone, generate nothing."})
    compare_with_base: bool = field(default=False, metadata={"help": "Score the base too, and write the comparison."})
    sacrebleu_lowercase: bool = field(default=True, metadata={"help": "Compare without case."})
    allow_overlap: bool = field(default=False, metadata={"help": "Accept evaluation images that are trained on."})

    def __post_init__(self) -> None:
        # Before values are spelled out below: what was asked for, and is not a default.
        self._asked_for = tuple(one.name for one in fields(self) if _is_given(one, getattr(self, one.name)))
        if self.remove_unused_columns:
            raise ConfigurationError(
                "remove_unused_columns=True would take the pictures out of the items before they are collated. "
                "Leave it off."
            )
        for name, least in AT_LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigurationError(f"{name} must be at least {least}, not {value}.")
        if self.num_train_epochs <= 0 and self.max_steps <= 0:
            raise ConfigurationError(f"num_train_epochs must be above 0, not {self.num_train_epochs:g}.")
        if self.feature_dtype not in FEATURE_DTYPES:
            known = ", ".join(FEATURE_DTYPES)
            raise ConfigurationError(f"There is no feature_dtype {self.feature_dtype!r}; there are: {known}.")
        self._take_generation_arguments()
        _ = self.decoding, self.template  # refuses what cannot be
        self._spell_metric()
        if not self.predict_with_generate:
            self.loss_only = True  # else the best checkpoint would be chosen by captions that nobody generates
        if self.loss_only and self.compare_with_base:
            raise ConfigurationError("compare_with_base scores generated captions, and loss_only generates none.")
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
        if self.captions_per_image != "all" and not (
            self.captions_per_image.isdecimal() and int(self.captions_per_image) >= 1
        ):
            raise ConfigurationError(
                f"captions_per_image must be 'all' or at least 1, not {self.captions_per_image!r}."
            )
        if self.cache_vision_features and not self.freeze_vision:
            raise ConfigurationError(
                "cache_vision_features needs freeze_vision: what an encoder says changes while it is trained."
            )
        if self.cache_vision_features and self.augmentation is not None:
            raise ConfigurationError(
                "cache_vision_features and augment exclude each other: an augmented picture is another at every "
                "visit. Leave one of them out."
            )
        if self.augmentation is None and (self.augment_flip_writing or self.augment_jitter_colors):
            raise ConfigurationError("There is no augmentation to change: add augment='standard'.")
        self._choose_precision()
        with warnings.catch_warnings():
            # Newer releases call it `activation_checkpointing`; the oldest supported one knows no such name.
            warnings.filterwarnings("ignore", message="`gradient_checkpointing.*deprecated", category=FutureWarning)
            super().__post_init__()
        if self.accelerator_config.dispatch_batches:
            raise ConfigurationError("dispatch_batches=True cuts a batch's captions to the number of its images.")
        # Left open, it is switched on for every iterable dataset.
        self.accelerator_config.dispatch_batches = False

    def _take_generation_arguments(self) -> None:
        """What `Seq2SeqTrainingArguments` says of generation, under the names that are used here."""
        for ours, theirs, given in (
            ("num_beams", "generation_num_beams", self.generation_num_beams),
            ("max_new_tokens", "generation_max_length", self.generation_max_length),
        ):
            if given is None:
                continue
            # A length counts the start token, and would count the prompt's, which are not known here.
            value = given - 1 if theirs == "generation_max_length" else given
            if getattr(self, ours) not in (value, type(self).__dataclass_fields__[ours].default):
                raise ConfigurationError(
                    f"{theirs}={given} and {ours}={getattr(self, ours)} contradict each other: give {ours} alone."
                )
            setattr(self, ours, value)
        self.check_generation_length()
        if self.generation_config is not None:
            raise ConfigurationError(
                "generation_config is not read: give num_beams, max_new_tokens, length_penalty, top_p ... themselves."
            )
        if self.sortish_sampler:
            raise ConfigurationError(
                "sortish_sampler has no effect on captions, whose batches count images: leave it out."
            )

    def check_generation_length(self) -> None:
        """Refuse `generation_max_length` with a prompt, also one that comes with the model.

        Raises:
            ConfigurationError: There is a prompt.
        """
        if self.generation_max_length is not None and (self.prompt or self.prompt_template):
            raise ConfigurationError(
                "generation_max_length counts the tokens of the prompt too: with a prompt give max_new_tokens, which "
                "counts new tokens alone."
            )

    def _spell_metric(self) -> None:
        """The metric as it is logged, however it was written; one that is not ours may come from `compute_metrics`."""
        asked = self.metric_for_best_model
        if asked is not None:
            bare = asked.removeprefix("eval_")
            known = {name.lower(): name for name in ("loss", "sacrebleu", *ALL_METRICS)}
            self.metric_for_best_model = known.get(bare.lower(), bare)

    def _choose_precision(self) -> None:
        if self.precision not in PRECISIONS:
            raise ConfigurationError(f"There is no precision {self.precision!r}; there are: {', '.join(PRECISIONS)}.")
        if self.bf16 or self.fp16:
            told = "bf16" if self.bf16 else "fp16"
            if self.precision not in ("auto", told):
                raise ConfigurationError(f"{told}=True and precision={self.precision!r} contradict each other.")
            self._why_precision = "as told"
        elif self.precision == "auto":
            chosen, self._why_precision = _fastest_precision(self.use_cpu)
            self.bf16, self.fp16 = chosen == "bf16", chosen == "fp16"
        else:
            self.bf16, self.fp16 = self.precision == "bf16", self.precision == "fp16"
            self._why_precision = "as told"
        if self.bf16 and not _has_accelerator():
            # Without it TrainingArguments looks for a GPU that computes in bfloat16.
            self.use_cpu = True

    @property
    def asked_for(self) -> tuple[str, ...]:
        """The names of the arguments that were given another value than their default."""
        return self._asked_for

    @property
    def why_precision(self) -> str:
        """Why training computes in `chosen_precision`."""
        return self._why_precision

    @property
    def augmentation(self) -> Augmentation | None:
        """What is done to training images; `None` for nothing."""
        return load_augmentation(
            self.augment, flip_writing=self.augment_flip_writing, jitter_colors=self.augment_jitter_colors
        )

    @property
    def template(self) -> PromptTemplate | None:
        """`prompt_template`, parsed."""
        return None if self.prompt_template is None else PromptTemplate(self.prompt_template)

    @property
    def chosen_precision(self) -> str:
        """What training computes in: "bf16", "fp16" or "fp32"."""
        return "bf16" if self.bf16 else "fp16" if self.fp16 else "fp32"

    @classmethod
    def from_recipe(cls, recipe: str, output_dir: str | None = None, **changes: Any) -> CaptionTrainingArguments:
        """The arguments of a published recipe.

        Args:
            recipe (`str`): One of `RECIPES`: "original-blip". Give its `image_size` to [`load_captioner`].
            output_dir (`str`, *optional*): Where the run is written.
            **changes: What is to differ.
        """
        if recipe not in RECIPES:
            raise ConfigurationError(f"There is no recipe {recipe!r}; there are: {', '.join(RECIPES)}.")
        folder = {} if output_dir is None else {"output_dir": output_dir}
        known = {name: value for name, value in RECIPES[recipe].items() if name != "image_size"}
        return cls(**{**known, **folder, **changes})

    @property
    def saved_decoding(self) -> DecodingOptions:
        """What is saved with the model: as `decoding`, without a seed, which would draw the same for every batch."""
        return self.decoding.with_changes(seed=None)

    @property
    def decoding(self) -> DecodingOptions:
        """How captions are generated in evaluation."""
        return DecodingOptions(
            num_beams=self.num_beams,
            min_new_tokens=self.min_new_tokens,
            max_new_tokens=self.max_new_tokens,
            length_penalty=self.length_penalty,
            early_stopping=self.early_stopping if self.num_beams > 1 else False,
            repetition_penalty=self.repetition_penalty,
            no_repeat_ngram_size=self.no_repeat_ngram_size,
            do_sample=self.do_sample,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            # Evaluation must not draw from the generator that training draws from.
            seed=self.seed if self.do_sample else None,
            prompt=self.prompt or "",
        )


def _is_given(one: Field, value: Any) -> bool:
    """Whether a value is not the default of its field. A parser of flags spells saying nothing in several ways."""
    default = one.default if one.default_factory is MISSING else one.default_factory()
    nothing: tuple[Any, ...] = (None, False, "", "no", [])
    return value != default and not (value in nothing and default in nothing)


def _fastest_precision(use_cpu: bool) -> tuple[str, str]:
    """The precision that suits this machine, and why."""
    if torch.cuda.is_available() and not use_cpu:
        if has_fast_bfloat16(torch.device("cuda")):
            return "bf16", "which this GPU multiplies in hardware"
        return "fp16", "with loss scaling: this GPU has no bfloat16"
    if _has_accelerator() and not use_cpu:
        return "fp32", "the precision that every device has"
    if has_fast_bfloat16(torch.device("cpu")):
        return "bf16", "several times as fast on this CPU, which has AMX"
    return "fp32", "faster than bf16 on a CPU without AMX"


def _has_accelerator() -> bool:
    """Whether there is anything to compute on beside the CPU."""
    if hasattr(torch, "accelerator"):
        return torch.accelerator.is_available()
    return best_device().type != "cpu"
