"""`blip-refine caption`: photos in, captions out; what was done before is not done again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .decoding_options import (
    LengthPenalty,
    MaxNewTokens,
    MinNewTokens,
    NoRepeatNgramSize,
    NumBeams,
    NumReturnSequences,
    Preset,
    Prompt,
    RepetitionPenalty,
    SamplingSeed,
    Temperature,
    TopK,
    TopP,
    decoding_changes,
)
from .refine_options import (
    ApiKeyEnv,
    BaseUrl,
    Grounding,
    GuardNames,
    Instruction,
    Matching,
    MaxOutputTokens,
    Prices,
    ReasoningEffort,
    RefinerName,
    RefinerTemperature,
    SendImage,
    refiner_options,
    share_flags,
)


def caption(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATHS",
            help="Images, folders, 'patterns/**/*.jpg', URLs, tables (.csv, .jsonl, ...); - reads a list.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A .jsonl, .csv or .parquet file; else the screen.")
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="A folder, a model id of the Hub, 'starter', hf:MODEL or openai:MODEL@URL."
        ),
    ] = "starter",
    decoding: Preset = None,
    num_beams: NumBeams = None,
    max_new_tokens: MaxNewTokens = None,
    min_new_tokens: MinNewTokens = None,
    length_penalty: LengthPenalty = None,
    repetition_penalty: RepetitionPenalty = None,
    no_repeat_ngram_size: NoRepeatNgramSize = None,
    top_k: TopK = None,
    top_p: TopP = None,
    temperature: Temperature = None,
    num_return_sequences: NumReturnSequences = None,
    seed: SamplingSeed = None,
    prompt: Prompt = None,
    prompt_template: Annotated[
        str | None, typer.Option(help="A prompt per image, from the columns of a table ('a photo of {name}, ').")
    ] = None,
    refiner: RefinerName = None,
    instruction: Instruction = None,
    max_output_tokens: MaxOutputTokens = None,
    refiner_temperature: RefinerTemperature = None,
    reasoning_effort: ReasoningEffort = None,
    send_image: SendImage = False,
    guards: GuardNames = None,
    grounding: Grounding = None,
    matching: Matching = None,
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = None,
    prices: Prices = None,
    abstain_below: Annotated[float | None, typer.Option(help="Flag captions of lower confidence for review.")] = None,
    block: Annotated[list[str] | None, typer.Option(help="Flag captions with this word; can be repeated.")] = None,
    block_file: Annotated[Path | None, typer.Option(help="Blocked words, one a line.")] = None,
    image_gain: Annotated[bool, typer.Option("--image-gain", help="Say how much the image explains.")] = False,
    review: Annotated[Path | None, typer.Option(help="Write a .jsonl queue, the least sure captions first.")] = None,
    prefix: Annotated[str, typer.Option(help="Put before every caption.")] = "",
    suffix: Annotated[str, typer.Option(help="Put behind every caption.")] = "",
    sidecar: Annotated[str | None, typer.Option(help="txt: write photo.txt beside photo.jpg.")] = None,
    embed_metadata: Annotated[
        Path | None, typer.Option(help="A folder for copies that carry the caption as alt text (XMP, IPTC).")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew; replace sidecars and copies.")] = False,
    append: Annotated[bool, typer.Option("--append", help="Keep rows that were made with other settings.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    shard: Annotated[
        str | None,
        typer.Option(help="3/16: caption the 3rd of 16 shares, into a file of its own.", show_default=False),
    ] = None,
    trust_names: Annotated[
        bool, typer.Option("--trust-names", help="Skip what has a row of its name, without reading the image again.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images the model is given at once.")] = 8,
    workers: Annotated[int | None, typer.Option(min=0, help="Threads that decode images.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, or auto for what is fast here.")] = "float32",
    quantization: Annotated[str | None, typer.Option(help="8bit or 4bit weights (bitsandbytes).")] = None,
    device: Annotated[str | None, typer.Option(help="Such as cpu or cuda:1.")] = None,
    fast_jpeg: Annotated[bool, typer.Option("--fast-jpeg", help="Decode large JPEGs at reduced size.")] = False,
    allow_private: Annotated[bool, typer.Option("--allow-private", help="Fetch from private addresses, too.")] = False,
) -> None:
    """Caption images. A second run skips what is done; Ctrl-C keeps what is finished."""
    options = refiner_options(locals())
    changes = decoding_changes(locals())
    from ..errors import ConfigurationError
    from .caption_inputs import Shard
    from .caption_run import CaptionRun, read_list

    if overwrite and append:
        raise ConfigurationError("--overwrite begins anew and --append keeps what is there: give one of them.")
    if sidecar not in (None, "txt"):
        raise ConfigurationError(f"--sidecar writes txt files, not {sidecar!r}.")
    share_flags([refiner], options)
    blocked = [*(block or []), *(read_list(block_file) if block_file else [])]
    run = CaptionRun(
        paths,
        output=output,
        existing="overwrite" if overwrite else "append" if append else "resume",
        prefix=prefix,
        suffix=suffix,
        sidecar=sidecar is not None,
        copies=embed_metadata,
        review=review,
        allow_private=allow_private,
        shard=None if shard is None else Shard.parse(shard),
        trust_names=trust_names,
        prompt_template=prompt_template,
    )
    if dry_run:
        run.describe()
        return
    run.load(
        model,
        decoding=decoding,
        changes=changes,
        refiner=refiner,
        refiner_options=options,
        abstain_below=abstain_below,
        blocked_words=blocked,
        image_gain=image_gain,
        batch_size=batch_size,
        num_workers=workers,
        dtype=dtype,
        quantization=quantization,
        device=device,
        exact_decoding=not fast_jpeg,
    )
    run.go()
