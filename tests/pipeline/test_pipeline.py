"""`CaptionPipeline`: one result for each input, in order, whatever the input is and whatever goes wrong."""

from __future__ import annotations

import gc
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count, islice

import pytest
import torch

from blip_refine.data.sources.scenes import make_scene
from blip_refine.errors import ConfigurationError, ImageDecodeError
from blip_refine.models.decoding import generate_captions
from blip_refine.pipeline import CaptionPipeline, weights_fingerprint
from blip_refine.records import Caption


def test_captions_are_those_of_processor_and_decoder(make_pipeline, captioner, photos):
    from PIL import Image

    model, processor = captioner
    paths = sorted(photos.glob("*.jpg"))
    pixels = processor.image_processor(
        images=[Image.open(path).convert("RGB") for path in paths], return_tensors="pt"
    ).pixel_values
    expected = generate_captions(model, processor, pixels, "fast")
    captions = make_pipeline(batch_size=4)(paths)
    assert [one.text for one in captions] == [one.texts[0] for one in expected]
    assert [one.confidence for one in captions] == pytest.approx([one.log_probs[0] for one in expected], abs=1e-4)
    assert [one.image_id for one in captions] == [path.as_posix() for path in paths]


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_order_and_number_hold_with_errors_anywhere(make_pipeline, photos, workers, batch_size):
    good = sorted(photos.glob("*.jpg"))[:4]
    inputs = ["none.jpg", good[0], b"no image", good[1], good[2], 17, good[3], b""]
    captions = make_pipeline(num_workers=workers, batch_size=batch_size)(inputs)
    assert [one.error is None for one in captions] == [False, True, False, True, True, False, True, False]
    assert all((one.text == "") == (one.error is not None) for one in captions)
    assert "No such file" in captions[0].error and "17" not in captions[5].text
    alone = [make_pipeline()(path).text for path in good]
    assert [one.text for one in captions if one.error is None] == alone


def test_one_image_gives_one_caption_and_several_a_list(make_pipeline, photos):
    pipeline = make_pipeline()
    assert isinstance(pipeline(photos / "0.jpg"), Caption)
    assert isinstance(pipeline([photos / "0.jpg"]), list)
    assert len(pipeline(photos)) == 10
    assert len(pipeline(f"{photos}/*.jpg")) == 9
    assert pipeline([]) == []


def test_on_error_raise_gives_what_came_before_first(make_pipeline, photos):
    stream = make_pipeline(batch_size=4).stream([photos / "0.jpg", b"broken", photos / "1.jpg"], on_error="raise")
    assert next(stream).text
    with pytest.raises(ImageDecodeError, match="is not an image"):
        next(stream)


def test_an_endless_generator_is_never_run_ahead_of(make_pipeline):
    asked = 0

    def scenes():
        nonlocal asked
        for number in count():
            asked = number + 1
            yield make_scene("everyday", "test", number % 20).image

    stream = make_pipeline(batch_size=4, num_workers=2).stream(scenes())
    assert len(list(islice(stream, 10))) == 10
    # Three batches were captioned; beyond them, two batches and the workers' share.
    assert asked <= 12 + 2 * 4 + 2
    stream.close()


def test_a_generator_that_fails_loses_nothing_that_it_gave(make_pipeline, photos):
    def failing():
        yield photos / "0.jpg"
        yield photos / "1.jpg"
        yield photos / "2.jpg"
        raise RuntimeError("the database went away")

    got = []
    with pytest.raises(RuntimeError, match="went away"):
        for caption in make_pipeline(batch_size=2).stream(failing()):
            got.append(caption.text)
    assert len(got) == 3


def test_threads_share_a_pipeline(make_pipeline, photos):
    pipeline = make_pipeline(batch_size=2)
    paths = sorted(photos.glob("*.jpg"))
    expected = {path: pipeline(path).text for path in paths}
    with ThreadPoolExecutor(8) as pool:
        for path, caption in zip(paths * 4, pool.map(pipeline, paths * 4), strict=True):
            assert caption.text == expected[path] and caption.image_id == path.as_posix()


def test_refiner_sees_draft_candidates_and_metadata_and_may_fail(make_pipeline, photos):
    seen = []

    def shout(request):
        seen.append(request)
        if request.image_id.endswith("1.jpg"):
            raise RuntimeError("no idea")
        return request.draft.upper()

    pipeline = make_pipeline(refiner=shout, decoding="candidates", batch_size=1)
    captions = pipeline([{"image": str(photos / f"{number}.jpg"), "place": "Rome"} for number in range(3)])
    assert captions[0].text == captions[0].draft.upper() and captions[0].refined
    assert captions[1].text == captions[1].draft and not captions[1].refined and "no idea" in captions[1].reason
    assert captions[2].refined, "one failure must not stop the next batch"
    assert seen[0].metadata == {"place": "Rome"} and seen[0].image == str(photos / "0.jpg")
    assert seen[0].candidates == captions[0].candidates[1:] and len(seen[0].candidates) >= 3
    assert seen[0].confidence == captions[0].confidence == captions[0].candidate_confidences[0]
    assert seen[0].candidate_confidences == captions[0].candidate_confidences[1:]
    assert len(seen[0].candidate_confidences) == len(seen[0].candidates)


def test_flagged_captions_are_not_published_and_not_refined(make_pipeline, photos):
    sure = make_pipeline()(photos)
    middle = sorted(one.confidence for one in sure)[5]
    asked = []
    pipeline = make_pipeline(abstain_below=middle, refiner=lambda request: asked.append(request) or request.draft)
    captions = pipeline(photos)
    flagged = [one for one in captions if one.review]
    assert len(flagged) == 5 and len(asked) == 5
    assert all(one.text == "" and one.draft and "is below" in one.review for one in flagged)
    word = sure[0].text.split()[-1]
    blocked = make_pipeline(blocked_words=[word.upper()])(photos)
    for before, after in zip(sure, blocked, strict=True):
        says = word in before.text.split()
        assert (after.review is not None) == says and (after.text == "") == says


def test_image_gain_is_there_when_asked_for(make_pipeline, photos):
    captions = make_pipeline(image_gain=True)(photos)
    assert all(one.image_gain > 1 for one in captions), "the starter looks at its pictures"
    assert make_pipeline()(photos / "0.jpg").image_gain is None


def test_memory_exhausted_on_a_batch_is_met_with_smaller_ones(make_pipeline, photos, monkeypatch):
    import blip_refine.pipeline as module

    sizes, with_graphs = [], []

    def short_of_memory(model, processor, values, options, prompts, graphs):
        sizes.append(len(values))
        with_graphs.append(graphs is not None)
        if len(values) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return generate_captions(model, processor, values, options)

    expected = [one.text for one in make_pipeline()(photos)]
    monkeypatch.setattr(module, "generate_with_prompts", short_of_memory)
    assert [one.text for one in make_pipeline(batch_size=10)(photos)] == expected
    assert sizes[0] == 10 and max(sizes[1:]) == 5
    assert with_graphs[0] and not any(with_graphs[1:]), "recordings hold memory, too"


def test_a_gpu_is_given_the_next_batch_while_one_is_written(make_pipeline, photos, monkeypatch):
    # The way of a GPU, on the CPU: 8-bit pixels go to the device, and the model works in a thread of its own.
    files = [*sorted(photos.glob("*.jpg")), photos / "no.jpg"]
    expected = make_pipeline(batch_size=2)(files)
    monkeypatch.setattr(CaptionPipeline, "_is_on_gpu", lambda self: True)
    pipeline = make_pipeline(batch_size=2)
    begun, caption = threading.Semaphore(0), pipeline._caption

    def counted(batch):
        begun.release()
        return caption(batch)

    pipeline._caption = counted
    assert list(pipeline.stream(files)) == expected
    assert [begun.acquire(blocking=False) for _ in range(5)] == [True] * 5
    captions = pipeline.stream(files)
    assert next(captions) == expected[0]
    assert begun.acquire(timeout=30) and begun.acquire(timeout=30), "the second batch must not wait for the first"
    captions.close()
    with pytest.raises(ImageDecodeError):
        list(pipeline.stream(files, on_error="raise"))


def test_settings_tell_weights_and_decoding_apart(make_pipeline, tiny_captioner):
    first, second = make_pipeline().settings(), make_pipeline(decoding="accurate").settings()
    assert first != second and first == make_pipeline().settings()
    model, _ = tiny_captioner(0)
    assert weights_fingerprint(model) != weights_fingerprint(tiny_captioner(1)[0])


def test_from_pretrained_takes_precision_and_refuses_what_there_is_not(photos):
    exact = CaptionPipeline.from_pretrained("starter", decoding="fast")
    rough = CaptionPipeline.from_pretrained("starter", decoding="fast", dtype="bfloat16")
    assert next(rough.model.parameters()).dtype == torch.bfloat16
    assert rough(photos / "0.jpg").confidence == pytest.approx(exact(photos / "0.jpg").confidence, abs=0.1)
    for options, message in (
        ({"dtype": "int3"}, "no precision 'int3'"),
        ({"batch_size": 0}, "at least 1"),
        ({"on_error": "ignore"}, "'record' or 'raise'"),
        ({"num_workers": -1}, "cannot be -1"),
        ({"blocked_words": "gun"}, "is a list of words"),
        ({"device": "gpu"}, "'gpu' cannot be used here"),
        ({"device": "cuda:99"}, "'cuda:99' cannot be used here"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            CaptionPipeline.from_pretrained("starter", **options)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read in KiB, as Linux counts it")
def test_memory_stays_flat(make_pipeline):
    import resource

    pipeline = make_pipeline(batch_size=32)
    picture = make_scene("everyday", "test", 0).image

    def run(images: int) -> int:
        for _ in pipeline.stream(picture for _ in range(images)):
            pass
        gc.collect()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = run(300)
    # Holding on to what the model is given would take 108 KiB an image.
    assert run(1000) - before < 20_000


def test_a_refiner_is_not_told_what_is_true_of_a_drawn_scene(make_pipeline):
    scene = make_scene("everyday", "test", 0)
    own = replace(scene, objects=None, metadata={"place": "Rome"})
    seen = []

    def watch(request):
        seen.append(dict(request.metadata))
        return request.draft

    make_pipeline(refiner=watch)([scene, own])
    assert scene.metadata["place"] and seen == [{}, {"place": "Rome"}]
