"""`finetune`: the whole path in one call, from captioned images to a measured, refined, documented run folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from .caption_prompts import for_scoring
from .data.dataset import BlipCaptionDataset
from .data.fingerprint import fingerprint_records
from .data.leakage import ensure_no_overlap
from .errors import ConfigurationError, RefinerUnansweredError
from .evaluation.run_facts import RunFacts
from .evaluation.systems import CaptionedImage, Evaluation, evaluate_predictions, write_systems
from .hub.card import write_model_card
from .models.adapters import merge_adapter
from .models.captioner import count_parameters, load_captioner
from .models.decoding import DecodingOptions
from .models.saved_defaults import read_defaults
from .narrator import Narrator, Silent
from .pipeline import CaptionPipeline
from .records import Caption, CaptionRecord
from .refine.base import Refiner, RefinerLike, as_refiner
from .refine.captions import refine_captions
from .refine.counts import count_outcomes, describe_counts
from .refine.grounding import captioner_likelihood
from .refine.safety import CircuitBreaker
from .report.measure import measure
from .report.report import write_findings
from .report.results import read_run
from .report.story import sentence, tiles
from .training.arguments import CaptionTrainingArguments
from .training.callbacks import NarratedProgress
from .training.checkpoints import find_checkpoint
from .training.loading import check_prompts, make_collator, make_ready, prompted
from .training.plan import describe_plan
from .training.trainer import CaptionTrainer

SYSTEMS = ("before", "after", "refined")
UNREPORTED = ("output_dir", "logging_dir", "run_name", "hub_token", "hub_model_id", "deepspeed_plugin")


@dataclass(frozen=True)
class FinetunedRun:
    """What `finetune` leaves behind.

    Args:
        folder (`Path`): The run folder.
        systems (`dict[str, Evaluation]`): "before", "after" and, with a refiner, "refined".
        card, report (`Path`): Of the run.
        headline (`str`, *optional*): Whether it helped, in a sentence, as the report begins; `None` without scores.
        unreadable (`dict[str, str]`): Images that were left out in training, and why.
    """

    folder: Path
    systems: dict[str, Evaluation]
    card: Path
    report: Path
    headline: str | None
    unreadable: dict[str, str]


def finetune(
    model: str | os.PathLike,
    args: CaptionTrainingArguments,
    train: BlipCaptionDataset,
    validation: BlipCaptionDataset | None,
    test: BlipCaptionDataset | None,
    *,
    dataset: str,
    lora: bool | str | dict[str, Any] = False,
    quantization: str | None = None,
    merge: bool = False,
    image_size: int | None = None,
    refiner: RefinerLike | None = None,
    metrics: Sequence[str] | None = None,
    resume_from_checkpoint: str | bool | None = None,
    narrator: Narrator | None = None,
    tell_plan: bool = False,
) -> FinetunedRun:
    """Score a captioner, train it, score it again, refine its captions, and write it all down.

    Args:
        model (`str` or `os.PathLike`): What is started from: "starter", a folder, or an id on the Hub.
        args ([`CaptionTrainingArguments`]): How; `output_dir` becomes the run folder.
        train ([`BlipCaptionDataset`]): What is trained on.
        validation ([`BlipCaptionDataset`], *optional*): What the best checkpoint is chosen on.
        test ([`BlipCaptionDataset`], *optional*): What is scored before and after. No choice is made on it.
        dataset (`str`): What the data are called in card and report.
        lora, quantization, image_size: As in [`load_captioner`].
        merge (`bool`, defaults to `False`): Write the weights with the adapter added in as well, into `merged/`.
        refiner ([`Refiner`], `str` or callable, *optional*): Adds the system "refined".
        metrics (`Sequence[str]`, *optional*): Of the final scores; all of [`score_captions`] by default.
        resume_from_checkpoint (`str` or `bool`, *optional*): As in `Trainer.train`.
        narrator ([`Narrator`], *optional*): Who is told what goes on.
        tell_plan (`bool`, defaults to `False`): Tell what is trained, on what, and in how much memory.

    Returns:
        [`FinetunedRun`]

    Raises:
        LeakageError: Images of validation or test are in the training set.
        RefinerUnansweredError: The refiner answers nothing. Before training if that can be known then; otherwise the
            run folder holds everything but "refined".
        ModelError, DataError, ConfigurationError: The parts cannot be used, or do not fit.
    """
    narrator = narrator or Silent()
    folder = Path(args.output_dir or "captioner")
    # Refuses now what would be refused after the first scores.
    checkpoint, _ = find_checkpoint(folder, resume_from_checkpoint)
    begun = None if checkpoint is None else read_defaults(checkpoint)
    if begun is not None and args.prompt is None and args.prompt_template is None:
        # What was begun with a prompt goes on with it.
        args.prompt, args.prompt_template = begun.prompt, begun.prompt_template
    for part in (train, validation, test):
        prompted(part, args.template)
    fixer = None if refiner is None else as_refiner(refiner)
    if fixer is not None and test is None:
        narrator.warning(f"There is no test split, so nothing is refined: {fixer.name} is not used.")
    elif fixer is not None:
        # What can be known of a refiner is said before hours of training.
        fixer.check()
    captioner, processor = load_captioner(model, lora=lora, image_size=image_size, quantization=quantization)
    if merge and not lora:
        raise ConfigurationError("There is nothing to merge without an adapter: add lora, or leave out merge.")
    if test is not None:
        # It is done below, on the same images, with the refiner's captions beside them.
        args.compare_with_base = False
    trainer = CaptionTrainer(captioner, args, train, validation, processor)
    NarratedProgress.replace_default(trainer, narrator)
    overlap = list(trainer.overlap)
    if test is not None:
        seen = trainer.images_seen()
        assert seen is not None  # there is a training set
        overlap += ensure_no_overlap(seen, test.records, allow_overlap=args.allow_overlap)
    contaminated = bool(overlap)
    total, trained = count_parameters(trainer.model)

    if tell_plan:
        for line in describe_plan(trainer.model, args, train.records):
            narrator.note(line)

    systems: dict[str, Evaluation] = {}
    unanswered: RefinerUnansweredError | None = None
    if test is not None:
        narrator.heading("Before training")
        drafts = caption_images(trainer.model, processor, test, args.decoding, args, narrator)
        systems["before"] = score(test, drafts, metrics, contaminated)
        narrator.note(summarise(systems["before"]))

    narrator.heading("Training")
    narrator.note(
        f"{len(train)} images, {trained:,} of {total:,} parameters are trained ({100 * trained / total:.1f} %)."
    )
    if checkpoint is not None:
        narrator.note(f"Going on from {checkpoint}.")
    outcome = trainer.train(resume_from_checkpoint=resume_from_checkpoint)
    trainer.save_model(str(folder))
    trainer.save_state()
    if merge:
        merged = merge_adapter(load_captioner(folder)[0])
        merged.save_pretrained(folder / "merged")  # prompt and decoding go along, as with every whole model
        processor.save_pretrained(folder / "merged")
    for image_id, reason in list(trainer.unreadable.items())[:3]:
        narrator.warning(f"The image {image_id} was left out: {reason}")

    if test is not None:
        narrator.heading("After training")
        needed = 1 if fixer is None else fixer.needs_candidates
        drafts = caption_images(trainer.model, processor, test, args.decoding, args, narrator, needed)
        systems["after"] = score(test, drafts, metrics, contaminated)
        narrator.note(summarise(systems["after"]))
        if fixer is not None:
            narrator.heading(f"Refining with {fixer.name}")
            fixer.use_captioner(captioner_likelihood(trainer.model, processor))
            refined = refine_with_progress(drafts, fixer, narrator, records=test.records)
            counts = count_outcomes(refined)
            narrator.note(f"  {describe_counts(counts.to_dict())}")
            try:
                counts.require_answers(fixer.name, f"the trained model and its scores are in {folder}")
            except RefinerUnansweredError as error:
                unanswered = error
            else:
                evaluation = score(test, refined, metrics, contaminated)
                systems["refined"] = replace(evaluation, refinement=counts.to_dict())
                narrator.note(summarise(systems["refined"]))
        # The run stands for the model itself: what a refiner makes of its captions is reported beside it.
        write_systems(folder, systems, final="after")

    parts = {"train": train, "validation": validation, "test": test}
    RunFacts(
        base_model=str(model),
        dataset=dataset,
        splits={
            name: {"images": len(part), "captions": sum(len(record.captions) for record in part.records)}
            for name, part in parts.items()
            if part is not None
        },
        fingerprint=fingerprint_records(train.records),
        evaluation_split=_split_of(test),
        overlap=f"{len(overlap)} evaluation images are in the training set" if overlap else "none found",
        decoding=describe_decoding(args.decoding),
        hyperparameters=changed_arguments(args),
        parameters=total,
        trainable_parameters=trained,
        # What went before the interruption was not measured here.
        seconds=outcome.metrics["train_runtime"] if checkpoint is None else None,
        refiner=fixer.name if fixer is not None and "refined" in systems else None,
        refinement=dict(systems["refined"].refinement or {}) if "refined" in systems else None,
    ).write(folder)
    card = write_model_card(folder)
    findings = measure(read_run(folder))
    report = write_findings(findings)
    if unanswered is not None:
        raise unanswered
    headline = sentence(findings.run, tiles(findings.run)) if systems else None
    return FinetunedRun(folder, systems, card, report, headline, dict(trainer.unreadable))


def plan_finetuning(
    model: str | os.PathLike,
    args: CaptionTrainingArguments,
    train: BlipCaptionDataset,
    validation: BlipCaptionDataset | None,
    **loading: Any,
) -> list[str]:
    """What [`finetune`] would do, as lines of text; nothing is trained.

    Args:
        model, args, train, validation: As in [`finetune`].
        **loading: Those of [`load_captioner`].
    """
    captioner, processor = load_captioner(model, **loading)
    make_ready(captioner, processor, args)
    train, validation = prompted(train, args.template), prompted(validation, args.template)
    # Both refuse what does not fit the prompt.
    check_prompts(captioner, make_collator(captioner, processor, args), args, train, validation)
    if validation is not None:
        ensure_no_overlap(train.records, validation.records, allow_overlap=args.allow_overlap)
    return describe_plan(captioner, args, train.records)


def caption_images(
    model,
    processor,
    dataset: BlipCaptionDataset,
    decoding: DecodingOptions,
    args,
    narrator: Narrator,
    candidates: int = 1,
) -> list[Caption]:
    """The captions of a dataset, in its order, with `candidates` captions per image; an image that cannot be decoded
    has a caption with `error`."""
    pipeline = CaptionPipeline(
        model,
        processor,
        decoding=decoding,
        prompt=decoding.prompt,
        prompt_template=args.prompt_template,
        batch_size=args.per_device_eval_batch_size,
        candidates=candidates,
    )
    captions = []
    with narrator.progress("Captioning", total=len(dataset)) as advance:
        for caption in pipeline.stream(dataset.records):
            captions.append(caption)
            advance()
    return captions


def refine_with_progress(
    drafts: Sequence[Caption],
    refiner: Refiner,
    narrator: Narrator,
    batch_size: int = 64,
    *,
    records: Sequence[CaptionRecord],
) -> list[Caption]:
    """Drafts with a refiner's answers in their place, where it gave good ones. It sees the images of `records`."""
    breaker = CircuitBreaker()
    refined: list[Caption] = []
    with narrator.progress("Refining", total=len(drafts)) as advance:
        for start in range(0, len(drafts), batch_size):
            batch = drafts[start : start + batch_size]
            shown = records[start : start + batch_size]
            refined += refine_captions(
                refiner,
                batch,
                images=[record.image for record in shown],
                metadata=[record.metadata for record in shown],
                breaker=breaker,
            )
            advance(len(batch))
    return refined


def score(dataset: BlipCaptionDataset, captions: Sequence[Caption], metrics, contaminated: bool) -> Evaluation:
    """Scores of the captions of a dataset, without their prompts, over the images that could be decoded."""
    images = [
        CaptionedImage(record, for_scoring(caption).text, caption.confidence)
        for record, caption in zip(dataset.records, captions, strict=True)
        if caption.error is None
    ]
    return evaluate_predictions(images, metrics=metrics, contaminated=contaminated)


def summarise(evaluation: Evaluation) -> str:
    """The scores in one line, and what could not be computed in the next."""
    corpus = evaluation.scores.corpus
    wanted = ("CIDEr", "Bleu_4", "METEOR", "ROUGE_L", "SPICE")
    text = f"  {len(evaluation.images)} images: " + ", ".join(f"{n} {corpus[n]:.3f}" for n in wanted if n in corpus)
    return text


def describe_decoding(decoding: DecodingOptions) -> dict[str, Any]:
    """How captions were made: what everybody asks for, and whatever else differs from the defaults."""
    return {
        "num_beams": decoding.num_beams,
        "max_new_tokens": decoding.max_new_tokens,
        "length_penalty": decoding.length_penalty,
        **decoding.to_dict(),
    }


def changed_arguments(args: CaptionTrainingArguments) -> dict[str, Any]:
    """The training arguments that differ from the defaults, without paths and secrets."""
    defaults = CaptionTrainingArguments(output_dir=args.output_dir)
    changed = {}
    for field in fields(args):
        value = getattr(args, field.name, None)
        if field.init and field.name not in UNREPORTED and value != getattr(defaults, field.name, None):
            changed[field.name] = value if isinstance(value, (bool, int, float, str, list)) else str(value)
    # "auto" is another precision on another machine.
    return {**changed, "precision": args.chosen_precision}


def _split_of(dataset: BlipCaptionDataset | None) -> str | None:
    """What the split of all images is called, where the source says so."""
    names = {record.split for record in dataset.records} if dataset is not None else set()
    return names.pop() if len(names) == 1 else None
