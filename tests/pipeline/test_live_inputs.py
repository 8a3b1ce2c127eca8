"""Inputs that change, close or break while the pipeline works ahead, and tables of images."""

from __future__ import annotations

import io
import zipfile

import datasets
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from blip_refine.data.sources.scenes import make_scene
from blip_refine.errors import ConfigurationError, ImageDecodeError
from blip_refine.inputs import expand_images


@pytest.fixture(scope="module")
def scenes():
    return [make_scene("everyday", "test", number).image for number in range(8)]


def png(picture) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def texts(captions):
    captions = list(captions)
    assert [one.error for one in captions] == [None] * len(captions)
    return [one.text for one in captions]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_buffer_that_is_filled_again_does_not_change_what_was_given(make_pipeline, scenes, mode):
    pipeline = make_pipeline()
    pictures = [scene.convert(mode) for scene in scenes]
    buffer = np.zeros(np.asarray(pictures[0]).shape, np.uint8)
    canvas = Image.new(mode, pictures[0].size)

    def arrays():
        for picture in pictures:
            buffer[...] = np.asarray(picture)
            yield buffer

    def drawn():
        for picture in pictures:
            canvas.paste(picture)
            yield canvas

    expected = texts(pipeline(pictures))
    assert len(set(expected)) > 4
    assert texts(pipeline.stream(arrays())) == expected
    assert texts(pipeline.stream(torch.from_numpy(array) for array in arrays())) == expected
    assert texts(pipeline.stream(drawn())) == expected


def test_a_file_may_be_closed_and_an_animation_go_on(make_pipeline, scenes, tmp_path):
    pipeline = make_pipeline()
    for number, scene in enumerate(scenes):
        scene.save(tmp_path / f"{number}.png")
    scenes[0].save(tmp_path / "all.gif", save_all=True, append_images=scenes[1:])

    def opened():
        for number in range(len(scenes)):
            with Image.open(tmp_path / f"{number}.png") as picture:
                yield picture

    def files():
        for number in range(len(scenes)):
            with open(tmp_path / f"{number}.png", "rb") as file:
                yield file

    expected = texts(pipeline(scenes))
    assert texts(pipeline.stream(opened())) == expected
    assert texts(pipeline.stream(files())) == expected
    frames = [frame.copy().convert("RGB") for frame in ImageSequence.Iterator(Image.open(tmp_path / "all.gif"))]
    assert texts(pipeline.stream(ImageSequence.Iterator(Image.open(tmp_path / "all.gif")))) == texts(pipeline(frames))
    with Image.open(tmp_path / "0.png") as closed:
        pass
    assert "closed" in pipeline(closed).error
    with open(tmp_path / "0.png", "rb") as file:
        pass
    assert "open file, cannot be read" in pipeline(file).error
    assert pipeline(io.BytesIO(png(scenes[0]))).text == expected[0]
    assert "mode 'rb'" in pipeline(io.StringIO("x")).error


def test_columns_of_paths_are_many_images(make_pipeline, scenes, tmp_path):
    pandas = pytest.importorskip("pandas")
    paths = []
    for number in range(3):
        scenes[number].save(tmp_path / f"{number}.png")
        paths.append(str(tmp_path / f"{number}.png"))
    pipeline = make_pipeline()
    expected = texts(pipeline(paths))
    table = pandas.DataFrame({"photo": paths, "place": "Rome"})
    for form in (np.array(paths), np.array(paths, dtype=object), table["photo"], table["photo"].astype("string")):
        assert texts(pipeline(form)) == expected
    assert texts(pipeline(table.to_dict("records"), image_column="photo")) == expected
    with pytest.raises(ImageDecodeError, match=r"table\['path'\]"):
        pipeline(table)


def test_a_broken_image_in_a_dataset_is_one_result_and_not_the_end(make_pipeline, scenes):
    cells = [png(scenes[0]), b"broken", None, png(scenes[1])]
    table = datasets.Dataset.from_dict({"photo": cells, "mask": [b"no"] * 4, "city": ["Rome"] * 4})
    table = table.cast_column("photo", datasets.Image()).cast_column("mask", datasets.Image())
    streamed = table.to_iterable_dataset()
    pipeline = make_pipeline()
    first, last = pipeline(scenes[0]).text, pipeline(scenes[1]).text
    forms = [table, table.with_format("numpy"), table["photo"], streamed, streamed["photo"]]
    for form in forms:
        captions = pipeline(form, image_column=None if "column_name" in vars(form) else "photo")
        assert [one.text for one in captions] == [first, "", "", last]
        assert "not an image" in captions[1].error and captions[2].error
    sources = list(expand_images(table, image_column="photo"))
    assert sources[0].metadata == {"city": "Rome"}, "another image is nothing that can be said of this one"
    shown = table.with_transform(lambda rows: {"image": [scenes[2]] * len(rows["city"])}, columns=["city"])
    assert pipeline(shown, image_column="image")[0].text == pipeline(scenes[2]).text


def test_a_streamed_archive_is_read(make_pipeline, scenes, tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for number in range(3):
            archive.writestr(f"{number}.png", png(scenes[number]))
        archive.writestr("broken.png", b"broken")
    streamed = datasets.load_dataset(
        "imagefolder", data_files=str(tmp_path / "photos.zip"), split="train", streaming=True, cache_dir=str(tmp_path)
    )
    pipeline = make_pipeline()
    captions = pipeline(streamed)
    assert [one.text for one in captions[:3]] == [pipeline(scene).text for scene in scenes[:3]]
    assert "not an image" in captions[3].error
    assert captions[0].image_id.startswith("zip://0.png")


def test_odd_arrays_are_pictures_or_told_apart(make_pipeline, scenes):
    pipeline = make_pipeline()
    array = np.asarray(scenes[0])
    expected = pipeline(array).text
    assert pipeline(array.astype(np.float64)).text == expected, "whole numbers as floats"
    assert pipeline(torch.from_numpy(array.copy()).float().permute(2, 0, 1)).text == expected
    odd = [torch.zeros(3, 8, 8).to_sparse(), torch.zeros(3, 8, 8, device="meta"), array, array.astype(complex)]
    captions = pipeline(odd)
    assert [one.error is None for one in captions] == [False, False, True, False]
    assert "cannot be read as an array" in captions[0].error
    with pytest.raises(ConfigurationError, match="not 'ignore'"):
        list(pipeline.stream([array], on_error="ignore"))
