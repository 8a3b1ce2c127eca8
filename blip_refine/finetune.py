"""`finetune`: the whole path in one call, from captioned images to a measured, refined, documented run folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .caption_prompts import for_scoring
from .data.dataset import BlipCaptionDataset
from .data.fingerprint import fingerprint_records
from .data.leakage import ensure_no_overlap
from .errors import ConfigurationError, RefinerUnansweredError
from .evaluation.caption_set import OF_A_REFINER, OF_TRAINING, reference_loss
from .evaluation.systems import CaptionedImage, Evaluation, evaluate_predictions, write_systems
from .hub.card import write_model_card
from .metrics.families import check_spice_images, metric_names
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
from .training.hyperparameters import training_facts
from .training.loading import check_prompts, make_collator, make_ready, prompted
from .training.plan import describe_plan
from .training.trainer import CaptionTrainer

SYSTEMS = ("before", "after", "refined")


@dataclass(frozen=True)
class FinetunedRun:
    """What `finetune` leaves behind.

    Args:
        folder (`Path`): The run folder.
        systems (`dict[str, Evaluation]`): "before", "after" and, with a refiner, "refined".
        card, report (`Path`): Of the run.
        headline (`str`, *optional*): Whether it helped, in a sentence, as the report begins; `None` without scores.
        unreadable (`dict[str, str]`): Images that were left out in training, and why.
        evaluation_split (`str`, *optional*): The split that was scored: "test" or, without one, "validation".
    """

    folder: Path
    systems: dict[str, Evaluation]
    card: Path
    report: Path
    headline: str | None
    unreadable: dict[str, str]
    evaluation_split: str | None = None


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
    spice_images: int | None = None,
    resume_from_checkpoint: str | bool | None = None,
    narrator: Narrator | None = None,
    tell_plan: bool = False,
    callbacks: Sequence[Any] | None = None,
) -> FinetunedRun:
    """Score a captioner, train it, score it again, refine its captions, and write it all down.

    Args:
        model (`str` or `os.PathLike`): What is started from: "starter", a folder, or an id on the Hub.
        args ([`CaptionTrainingArguments`]): How; `output_dir` becomes the run folder.
        train ([`BlipCaptionDataset`]): What is trained on.
        validation ([`BlipCaptionDataset`], *optional*): What the best checkpoint is chosen on.
        test ([`BlipCaptionDataset`], *optional*): What is scored before and after. No choice is made on it. Without
            it `validation` is scored, and called so everywhere.
        dataset (`str`): What the data are called in card and report.
        lora, quantization, image_size: As in [`load_captioner`].
        merge (`bool`, defaults to `False`): Write the weights with the adapter added in as well, into `merged/`.
        refiner ([`Refiner`], `str` or callable, *optional*): Adds the system "refined".
        metrics (`Sequence[str]`, *optional*): Of the final scores; all of [`score_captions`] by default.
        spice_images (`int`, *optional*): Score SPICE on so many randomly drawn images only.
        resume_from_checkpoint (`str` or `bool`, *optional*): As in `Trainer.train`.
        narrator ([`Narrator`], *optional*): Who is told what goes on.
        tell_plan (`bool`, defaults to `False`): Tell what is trained, on what, and in how much memory.
        callbacks (`Sequence[TrainerCallback]`, *optional*): Of the trainer, beside its own.

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
    check_spice_images(metric_names(metrics), spice_images)
    checkpoint, _ = find_checkpoint(folder, resume_from_checkpoint)
    begun = None if checkpoint is None else read_defaults(checkpoint)
    if begun is not None and args.prompt is None and args.prompt_template is None:
        # What was begun with a prompt goes on with it.
        args.prompt, args.prompt_template = begun.prompt, begun.prompt_template
    if note := evaluation_note(validation, test, args):
        narrator.warning(f"There is no test split: the model is {note}.")
    scored, split = (validation if test is None else test), scored_split(validation, test)
    for part in (train, validation, test):
        prompted(part, args.template)
    fixer = None if refiner is None else as_refiner(refiner)
    if fixer is not None and scored is None:
        narrator.warning(f"There is nothing to score, so nothing is refined: {fixer.name} is not used.")
    elif fixer is not None:
        # What can be known of a refiner is said before hours of training.
        fixer.check()
    captioner, processor = load_captioner(model, lora=lora, image_size=image_size, quantization=quantization)
    if merge and not lora:
        raise ConfigurationError("There is nothing to merge without an adapter: add lora, or leave out merge.")
    if scored is not None:
        # It is done below, on the same images, with the refiner's captions beside them.
        args.compare_with_base = False
    trainer = CaptionTrainer(captioner, args, train, validation, processor, callbacks=callbacks)
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
    known = [text for record in train.records for text in record.captions]
    if scored is not None:
        narrator.heading("Before training")
        pipeline = make_pipeline(trainer.model, processor, args)
        drafts = caption_images(pipeline, scored, narrator)
        systems["before"] = replace(
            score(scored, drafts, metrics, contaminated, spice_images, known),
            test_loss=reference_loss(pipeline, scored.records),
        )
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

    if scored is not None:
        narrator.heading("After training")
        needed = 1 if fixer is None else fixer.needs_candidates
        pipeline = make_pipeline(trainer.model, processor, args, needed)
        drafts = caption_images(pipeline, scored, narrator)
        systems["after"] = replace(
            score(scored, drafts, metrics, contaminated, spice_images, known),
            test_loss=reference_loss(pipeline, scored.records),
        )
        narrator.note(summarise(systems["after"]))
        if fixer is not None:
            narrator.heading(f"Refining with {fixer.name}")
            fixer.use_captioner(captioner_likelihood(trainer.model, processor))
            refined = refine_with_progress(drafts, fixer, narrator, records=scored.records)
            counts = count_outcomes(refined)
            narrator.note(f"  {describe_counts(counts.to_dict())}")
            try:
                counts.require_answers(fixer.name, f"the trained model and its scores are in {folder}")
            except RefinerUnansweredError as error:
                unanswered = error
            else:
                evaluation = score(scored, refined, metrics, contaminated, spice_images, known)
                systems["refined"] = replace(evaluation, refinement=counts.to_dict())
                narrator.note(summarise(systems["refined"]))
        # The run stands for the model itself: what a refiner makes of its captions is reported beside it.
        write_systems(folder, systems, final="after")

    parts = {"train": train, "validation": validation, "test": test}
    # What went before an interruption was not measured here.
    facts = training_facts(trainer, outcome.metrics["train_runtime"] if checkpoint is None else None)
    replace(
        facts,
        base_model=str(model),
        dataset=dataset,
        splits={
            name: {"images": len(part), "captions": sum(len(record.captions) for record in part.records)}
            for name, part in parts.items()
            if part is not None
        },
        fingerprint=fingerprint_records(train.records),
        evaluation_split=split,
        evaluation_note=f"{note[0].upper()}{note[1:]}; there is no test split." if note and scored else None,
        overlap=f"{len(overlap)} evaluation images are in the training set" if overlap else "none found",
        decoding=describe_decoding(args.decoding),
        refiner=fixer.name if fixer is not None and "refined" in systems else None,
        refinement=dict(systems["refined"].refinement or {}) if "refined" in systems else None,
    ).write(folder)
    card = write_model_card(folder)
    findings = measure(read_run(folder))
    report = write_findings(findings)
    if unanswered is not None:
        raise unanswered
    headline = sentence(findings.run, tiles(findings.run)) if systems else None
    return FinetunedRun(folder, systems, card, report, headline, dict(trainer.unreadable), split)


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


def make_pipeline(model, processor, args: CaptionTrainingArguments, candidates: int = 1) -> CaptionPipeline:
    """The pipeline that captions as the training arguments say, with `candidates` captions per image."""
    return CaptionPipeline(
        model,
        processor,
        decoding=args.decoding,
        prompt=args.decoding.prompt,
        prompt_template=args.prompt_template,
        batch_size=args.per_device_eval_batch_size,
        candidates=candidates,
    )


def caption_images(pipeline: CaptionPipeline, dataset: BlipCaptionDataset, narrator: Narrator) -> list[Caption]:
    """The captions of a dataset, in its order; an image that cannot be decoded has a caption with `error`."""
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
                metadata=[record.facts for record in shown],
                breaker=breaker,
            )
            advance(len(batch))
    return refined


def score(
    dataset: BlipCaptionDataset,
    captions: Sequence[Caption],
    metrics,
    contaminated: bool,
    spice_images: int | None = None,
    training_captions: Sequence[str] | None = None,
) -> Evaluation:
    """Scores of the captions of a dataset, without their prompts, over the images that could be decoded."""
    images = [
        CaptionedImage(record, scored.text, scored.confidence, scored.candidates if scored.outcome is None else ())
        for record, scored in zip(dataset.records, map(for_scoring, captions), strict=True)
        if scored.error is None
    ]
    reason = OF_A_REFINER if any(caption.outcome is not None for caption in captions) else OF_TRAINING
    return evaluate_predictions(
        images,
        metrics=metrics,
        contaminated=contaminated,
        spice_images=spice_images,
        why_one=reason,
        training_captions=training_captions,
    )


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


def scored_split(validation: BlipCaptionDataset | None, test: BlipCaptionDataset | None) -> str | None:
    """What the split that is scored is called: that of the test images, where they say so, or "validation" without
    test images; `None` where nothing is scored."""
    if test is None:
        return None if validation is None else "validation"
    names = {record.split for record in test.records}
    return names.pop() if len(names) == 1 else None


def evaluation_note(
    validation: BlipCaptionDataset | None, test: BlipCaptionDataset | None, args: CaptionTrainingArguments
) -> str | None:
    """How a model is scored without test images, as the end of "The model is ..."; `None` where there are some."""
    if test is not None:
        return None
    if validation is None:
        return "not scored, since there is no validation split either"
    chosen = ", on which the best checkpoint was chosen" if args.load_best_model_at_end else ""
    return f"scored on the validation split{chosen}"
