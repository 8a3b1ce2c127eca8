"""SageMaker's contract in a local folder laid out as the container's: training with a spot stop, and the endpoint."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from blip_refine.apps.sagemaker import inference, serve
from blip_refine.apps.sagemaker.environment import parse_flag, read_environment
from blip_refine.apps.sagemaker.inference import input_fn, model_fn
from blip_refine.apps.sagemaker.metric_lines import LOGGED, METRIC_DEFINITIONS, final_names
from blip_refine.apps.sagemaker.serve import Endpoint
from blip_refine.apps.sagemaker.train import (
    OWN,
    last_whole_checkpoint,
    load_channels,
    main,
    pack,
    parse_arguments,
    parse_own,
)
from blip_refine.data.source_options import SourceOptions
from blip_refine.data.sources.scenes import make_scene
from blip_refine.errors import ConfigurationError, SourceFormatError
from blip_refine.metrics import meteor

from ..data.test_source_options import make_coco
from ..refine.server import FakeModel, serving
from ..refine.tiny_bart import save_tiny_bart

STARTER = Path(__file__).resolve().parents[2] / "blip_refine" / "starter"
WAIT = 240
NOTHING = {"lora": False, "quantization": None, "merge": False, "metrics": None, "image_size": None}
"""What `parse_own` makes of a job that asks for none of it."""


def write_channel(folder: Path, split: str, count: int) -> Path:
    """A folder of pictures with `metadata.jsonl`, as a channel brings it."""
    folder.mkdir(parents=True)
    rows = []
    for number in range(count):
        record = make_scene("adventure", split, number, size=96)
        record.image.save(folder / f"{split}{number}.png")
        rows += [{"image": f"{split}{number}.png", "caption": caption} for caption in record.captions[:2]]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def container(tmp_path) -> Path:
    """`/opt/ml`, with three channels and hyperparameters."""
    root = tmp_path / "ml"
    for name, count in (("train", 12), ("validation", 4), ("test", 4)):
        write_channel(root / "input" / "data" / name, name, count)
    hyperparameters = {
        "model": '"starter"', "num_train_epochs": "4", "per_device_train_batch_size": "4", "num_beams": "1",
        "gradient_accumulation_steps": "1", "gradient_checkpointing": "false", "learning_rate": "5e-4",
        "max_new_tokens": "8", "logging_steps": "1", "save_total_limit": "8", "use_cpu": "true",
        "sagemaker_program": '"train.py"',
    }  # fmt: skip
    (root / "input" / "config").mkdir()
    (root / "input" / "config" / "hyperparameters.json").write_text(json.dumps(hyperparameters))
    return root


def variables(root: Path) -> dict[str, str]:
    """What the platform sets."""
    hyperparameters = (root / "input" / "config" / "hyperparameters.json").read_text()
    channels = {
        f"SM_CHANNEL_{path.name.upper()}": str(path) for path in (root / "input" / "data").iterdir() if path.is_dir()
    }
    return {
        "SM_MODEL_DIR": str(root / "model"), "SM_OUTPUT_DIR": str(root / "output"), "SM_HPS": hyperparameters,
        "BLIP_REFINE_CHECKPOINT_DIR": str(root / "checkpoints"), **channels,
    }  # fmt: skip


def start_job(root: Path) -> subprocess.Popen:
    """A job in a process of its own, to be killed. Without a test channel, the few validation images are scored."""
    command = [sys.executable, "-m", "blip_refine.apps.sagemaker.train"]
    log = (root / "log.txt").open("a")
    environment = {**os.environ, **variables(root), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    del environment["SM_CHANNEL_TEST"]
    return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)


@pytest.fixture
def run_job(monkeypatch, caplog):
    """A job in this process, where everything is loaded: its exit code and its log."""

    def run(root: Path) -> tuple[int, str]:
        for name, value in variables(root).items():
            monkeypatch.setenv(name, value)
        caplog.clear()
        with caplog.at_level("INFO", logger="blip_refine.sagemaker"):
            try:
                main()
            except SystemExit as stopped:
                return int(stopped.code or 0), caplog.text
        return 0, caplog.text

    return run


@pytest.mark.posix
@pytest.mark.slow
def test_a_job_that_is_stopped_and_started_again(container, run_job, monkeypatch):
    def missing(*_):
        raise ConfigurationError("METEOR's program takes longer to start than the whole job")

    monkeypatch.setattr(meteor, "meteor", missing)
    job = start_job(container)
    end = time.monotonic() + WAIT
    while last_whole_checkpoint(container / "checkpoints") is None:
        assert job.poll() is None, (container / "log.txt").read_text()
        assert time.monotonic() < end, "no checkpoint came"
        time.sleep(0.02)
    job.send_signal(signal.SIGKILL)
    job.wait(30)
    done = int(last_whole_checkpoint(container / "checkpoints").name.removeprefix("checkpoint-"))
    assert not (container / "model").exists()
    # The copy to S3 was cut in the middle of the next one.
    (container / "checkpoints" / "checkpoint-999").mkdir()
    (container / "checkpoints" / "checkpoint-999" / "model.safetensors").write_bytes(b"half")
    code, log = run_job(container)
    assert code == 0, log
    assert "checkpoint-999 is not complete and is left out" in log and "Going on from checkpoint-" in log
    state = json.loads((container / "model" / "trainer_state.json").read_text())
    assert state["global_step"] == 12 > done
    for definition in METRIC_DEFINITIONS:
        name = definition["Name"]
        if name in ("test:METEOR", "test:SPICE") or name not in (*LOGGED.values(), *final_names("test").values()):
            continue  # neither program is run here, and there are test images
        values = re.findall(definition["Regex"], log)
        assert values and all(float(value) >= 0 for value in values), definition
    packed = {path.name for path in (container / "model").iterdir()}
    assert {"model.safetensors", "config.json", "README.md", "coco_metrics.json", "tokenizer.json"} <= packed
    assert not [name for name in packed if name.startswith("checkpoint-") or name.endswith((".bin", ".pt"))]
    assert not (container / "output" / "failure").exists()


def test_metrics_are_printed_while_it_trains_and_dora_is_merged_and_served(container, run_job, monkeypatch):
    path = container / "input" / "config" / "hyperparameters.json"
    told = json.loads(path.read_text()) | {"dora": "true", "merge": "true", "metrics": '"CIDEr, Bleu"'}
    path.write_text(json.dumps({**told, "num_train_epochs": "2"}))
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    code, log = run_job(container)
    assert code == 0, log
    lines = log.splitlines()
    after = next(number for number, line in enumerate(lines) if "== After training" in line)
    read = {}
    for definition in METRIC_DEFINITIONS:
        found = [(n, float(m[1])) for n, line in enumerate(lines) for m in re.finditer(definition["Regex"], line)]
        read[definition["Name"]] = found
    # 12 images in batches of 4: three steps an epoch, each logged; evaluated once an epoch.
    state = json.loads((container / "model" / "trainer_state.json").read_text())["log_history"]
    for name, key, count in (
        ("train:loss", "loss", 6),
        ("train:learning_rate", "learning_rate", 6),
        ("validation:loss", "eval_loss", 2),
        ("validation:CIDEr", "eval_CIDEr", 2),
    ):
        assert [value for _, value in read[name]] == pytest.approx([row[key] for row in state if key in row], rel=1e-4)
        assert len(read[name]) == count and all(number < after for number, _ in read[name]), "while it trains"
    scores = json.loads((container / "model" / "coco_metrics.json").read_text())
    for name in ("Bleu_1", "Bleu_4", "CIDEr"):
        assert [value for _, value in read[f"test:{name}"]] == pytest.approx([scores[name]], rel=1e-4)
    assert not read["test:METEOR"] and "METEOR" not in scores, "only the metrics that were asked for"
    facts = json.loads((container / "model" / "run.json").read_text())
    assert facts["hyperparameters"]["lora_kind"] == "DoRA"
    assert (facts["region"], facts["cloud_provider"]) == ("eu-west-1", "AWS")
    # The endpoint serves the whole model, without its base.
    shutil.rmtree(container / "checkpoints")
    captioner = model_fn(str(container / "model"))
    assert not hasattr(captioner.model, "peft_config") and captioner(make_scene("adventure", "test", 0).image).text


@pytest.mark.parametrize(
    ("own", "found"),
    [
        ({}, NOTHING),
        ({"lora": "true", "quantization": "4bit"}, {**NOTHING, "lora": True, "quantization": "4bit"}),
        ({"dora": "True", "merge": "1"}, {**NOTHING, "lora": "dora", "merge": True}),
        (
            {"metrics": "CIDEr, SPICE", "image_size": "384"},
            {**NOTHING, "metrics": ["CIDEr", "SPICE"], "image_size": 384},
        ),
    ],
)
def test_hyperparameters_beside_the_training_arguments(own, found):
    assert parse_own({**dict.fromkeys(OWN), **own}) == found


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"quantization": "2bit"}, "quantization is '8bit' or '4bit', not '2bit'"),
        ({"merge": "true"}, "nothing to merge without an adapter"),
        ({"dora": "perhaps"}, "dora is 'true' or 'false'"),
        ({"metrics": "CIDEr,CIDAr"}, "There is no metric 'CIDAr'"),
        ({"image_size": "big"}, "image_size is a number of pixels, not 'big'"),
    ],
)
def test_hyperparameters_that_cannot_be_end_the_job_before_anything_is_loaded(own, said, container, run_job):
    path = container / "input" / "config" / "hyperparameters.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **own}))
    shutil.rmtree(container / "input" / "data" / "validation")
    assert run_job(container)[0] == 2
    assert said in (container / "output" / "failure").read_text()


def test_the_dockerfile_names_what_is_there():
    """It is not built here: that needs Docker and the internet."""
    root = STARTER.parents[1]
    text = (root / "examples" / "sagemaker" / "Dockerfile").read_text()
    steps = [line.split(maxsplit=1) for line in text.replace("\\\n", " ").splitlines() if line and line[0].isupper()]
    names = [name for name, _ in steps]
    assert names[0] == "FROM" and set(names) == {"FROM", "ENV", "WORKDIR", "COPY", "RUN", "EXPOSE", "CMD"}
    copied = [source for name, rest in steps if name == "COPY" for source in rest.split()[:-1]]
    assert copied and all((root / source).exists() for source in copied)
    # Whatever the build of the package reads must be among them.
    project = (root / "pyproject.toml").read_text()
    for needed in ("README.md", "LICENSE", "blip_refine"):
        assert needed in copied and needed in project
    extras = re.search(r"'\.\[([\w,]+)\]'", text)[1].split(",")
    assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras)
    ports = [rest for name, rest in steps if name == "EXPOSE"]
    assert ports == ["8080"] and json.loads(dict(steps)["CMD"]) == ["train"]
    for command in ("train", "serve"):
        assert f"examples/sagemaker/{command}" in copied and f"/usr/local/bin/{command}" in text


@pytest.mark.posix
@pytest.mark.parametrize("command", ["train", "serve"])
def test_the_commands_of_the_container_run_the_entry_points(command, container):
    script = STARTER.parents[1] / "examples" / "sagemaker" / command
    assert os.access(script, os.X_OK)
    bin_folder = container / "bin"
    bin_folder.mkdir()
    (bin_folder / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (bin_folder / "python").chmod(0o755)
    environment = {
        **os.environ, **variables(container), "SM_HPS": '{"learning_rat": "1"}', "SAGEMAKER_BIND_TO_PORT": "none",
        "PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONPATH": str(STARTER.parents[1]),
    }  # fmt: skip
    # Started by its first line, as the platform does. Each is given something to refuse at once.
    ran = subprocess.run([script], env=environment, capture_output=True, text=True, timeout=WAIT)
    if command == "train":
        assert ran.returncode == 2 and "no hyperparameter 'learning_rat'" in ran.stdout
        assert "learning_rat" in (container / "output" / "failure").read_text()
    else:
        assert ran.returncode == 1 and "invalid literal for int() with base 10: 'none'" in ran.stderr


def test_a_failure_is_written_where_the_console_shows_it(container, run_job):
    path = container / "input" / "config" / "hyperparameters.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "learning_rat": "1"}))
    assert run_job(container)[0] == 2
    assert "no hyperparameter 'learning_rat'" in (container / "output" / "failure").read_text()


def test_the_launch_example_asks_for_what_the_entry_points_take():
    script = STARTER.parents[1] / "examples" / "sagemaker_launch.py"
    ran = subprocess.run([sys.executable, str(script), "--smoke"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    job = json.loads(ran.stdout)["create_training_job"]
    assert (
        job["EnableManagedSpotTraining"] and job["AlgorithmSpecification"]["MetricDefinitions"] == METRIC_DEFINITIONS
    )
    # The platform's own entry point must take what the example asks it for; fp16 alone needs a GPU.
    own = {name: job["HyperParameters"].get(name) for name in OWN}
    assert parse_own(own) | {"metrics": None} == {**NOTHING, "lora": True, "merge": True}
    hyperparameters = {name: value for name, value in job["HyperParameters"].items() if name not in (*OWN, "fp16")}
    args = parse_arguments(hyperparameters | {"use_cpu": "true"}, Path("checkpoints"))
    assert args.save_steps == args.eval_steps == 200 and args.gradient_accumulation_steps == 4


def test_the_environment(container):
    found = read_environment(variables(container))
    assert set(found.channels) == {"train", "validation", "test"}
    assert found.hyperparameters["model"] == "starter" and "sagemaker_program" not in found.hyperparameters
    from_files = read_environment({}, root=container)
    assert from_files.hyperparameters == found.hyperparameters and set(from_files.channels) == set(found.channels)
    assert from_files.model_dir == container / "model" and from_files.checkpoints == container / "checkpoints"
    assert read_environment({"SM_CHANNEL_TRAINING": "/x"}, root=container).channels["train"] == Path("/x")
    with pytest.raises(SourceFormatError, match="not JSON"):
        read_environment({"SM_HPS": "{"}, root=container)
    assert parse_flag("lora", "True") and not parse_flag("lora", None)
    with pytest.raises(ConfigurationError, match="lora is 'true' or 'false'"):
        parse_flag("lora", "maybe")


def test_hyperparameters_are_text(tmp_path):
    values = {"learning_rate": "5e-4", "num_beams": "3", "gradient_checkpointing": "false", "use_cpu": "true"}
    args = parse_arguments(values, tmp_path / "c")
    assert (args.learning_rate, args.num_beams, args.gradient_checkpointing) == (5e-4, 3, False)
    assert args.output_dir == str(tmp_path / "c")
    with pytest.raises(ConfigurationError, match="cannot be"):
        parse_arguments({"num_beams": "many"}, tmp_path)


def test_channels(container):
    environment = read_environment(variables(container))
    parts, _ = load_channels(environment, None)
    assert {name: len(part) for name, part in parts.items()} == {"train": 12, "validation": 4, "test": 4}
    alone = variables(container)
    del alone["SM_CHANNEL_VALIDATION"], alone["SM_CHANNEL_TEST"]
    parts, _ = load_channels(read_environment(alone), None)
    assert sum(len(part) for part in parts.values()) == 12
    ids = [record.image_id for part in parts.values() for record in part.records]
    assert len(set(ids)) == 12, "split by image"
    with pytest.raises(ConfigurationError, match="nothing to train on"):
        load_channels(read_environment({}, root=container / "nowhere"), None)
    with pytest.raises(ConfigurationError, match="no channel 'train'"):
        load_channels(read_environment({"SM_CHANNEL_TEST": "/x"}), None)


def test_data_hyperparameters(container, tmp_path):
    alone = variables(container)
    del alone["SM_CHANNEL_VALIDATION"], alone["SM_CHANNEL_TEST"]
    environment = read_environment(alone)
    halves = SourceOptions.parse({"ratios": "50/50", "caption_column": "caption"})
    parts, _ = load_channels(environment, None, halves)
    assert parts["validation"] is None and len(parts["train"]) + len(parts["test"]) == 12 > len(parts["train"]) > 2
    with pytest.raises(ConfigurationError, match="takes no option split_lists="):
        load_channels(environment, None, SourceOptions(split_lists="x"))
    with pytest.raises(ConfigurationError, match="leave out data_dir="):
        load_channels(environment, None, SourceOptions(data_dir="x"))
    with pytest.raises(ConfigurationError, match="train, validation, test are the splits: leave out ratios="):
        load_channels(read_environment(variables(container)), None, halves)


def test_coco_as_distributed_trains_and_its_validation_split_is_scored(container, run_job, monkeypatch, tmp_path):
    def missing(*_):
        raise ConfigurationError("METEOR's program takes longer to start than the whole job")

    monkeypatch.setattr(meteor, "meteor", missing)
    for name in ("train", "validation", "test"):
        shutil.rmtree(container / "input" / "data" / name)
    coco = make_coco(tmp_path / "coco", {"train2017": range(4), "val2017": range(4, 7)})
    path = container / "input" / "config" / "hyperparameters.json"
    given = json.loads(path.read_text()) | {"num_train_epochs": "1", "dataset": "coco", "data_dir": str(coco)}
    path.write_text(json.dumps({**given, "image_dir": str(tmp_path / "nowhere")}))
    code, _ = run_job(container)
    failure = (container / "output" / "failure").read_text()
    assert code == 2 and failure.endswith("Name their folder: the hyperparameter 'image_dir'")
    path.write_text(json.dumps({**given, "option": '{"form": "annotations"}'}))
    code, log = run_job(container)
    assert code == 0, log
    assert "There is no test split: the model is scored on the validation split" in log
    final = log.splitlines()[-1]
    assert "validation_CIDEr=" in final and "validation_Bleu_4=" in final and "test_" not in log
    assert json.loads((container / "model" / "run.json").read_text())["evaluation_split"] == "validation"


def test_whole_checkpoints_by_number(tmp_path):
    for number in (9, 10, 100):
        folder = tmp_path / f"checkpoint-{number}"
        folder.mkdir()
        for name in ("trainer_state.json", "optimizer.pt", "scheduler.pt", "model.safetensors"):
            (folder / name).touch()
    assert last_whole_checkpoint(tmp_path).name == "checkpoint-100"
    (tmp_path / "checkpoint-100" / "optimizer.pt").unlink()
    assert last_whole_checkpoint(tmp_path).name == "checkpoint-10"
    assert last_whole_checkpoint(tmp_path / "nowhere") is None
    (tmp_path / "config.json").touch()
    (tmp_path / "training_args.bin").touch()
    assert {path.name for path in pack(tmp_path, tmp_path.parent / "packed").iterdir()} == {"config.json"}


# ---- the endpoint ----


def png(number: int = 3) -> bytes:
    data = io.BytesIO()
    make_scene("everyday", "test", number, size=96).image.save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="module")
def endpoint():
    with Endpoint(str(STARTER), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        server.loader.join(120)
        assert server.failure is None
        yield server
        server.shutdown()


def call(endpoint, method: str, path: str, body: bytes | None = None, content_type: str = "application/json"):
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.server_address[1], timeout=60)
    try:
        connection.request(method, path, body, {"Content-Type": content_type})
        answer = connection.getresponse()
        return answer.status, answer.headers.get_content_type(), answer.read()
    finally:
        connection.close()


def test_ping(endpoint):
    assert call(endpoint, "GET", "/ping")[0] == 200


def test_ping_before_the_model_and_without_one(tmp_path):
    with Endpoint(str(tmp_path), "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        server.loader.join(120)
        assert server.failure is not None and call(server, "GET", "/ping")[0] == 503
        server.shutdown()


def test_an_endpoint_whose_refiner_cannot_work_ends(monkeypatch, caplog):
    monkeypatch.setenv("SM_MODEL_DIR", str(STARTER))
    monkeypatch.setenv("SAGEMAKER_BIND_TO_PORT", "0")
    with serving(FakeModel(lambda call: "unauthorized")) as model:
        monkeypatch.setenv("BLIP_REFINE_REFINER", f"openai:m,base_url={model.url},max_retries=0")
        with pytest.raises(SystemExit) as stopped:
            serve.main()
        assert len(model.calls) == 1
    assert stopped.value.code == 2 and "Incorrect API key" in caplog.text and "Traceback" not in caplog.text
    monkeypatch.setenv("BLIP_REFINE_REFINER", "bart:nowhere/at/all")
    with pytest.raises(SystemExit) as stopped:
        serve.main()
    assert stopped.value.code == 2 and "cannot be loaded" in caplog.text


def test_a_refiner_of_the_endpoint_is_checked_once_and_given_its_candidates(tmp_path, monkeypatch):
    monkeypatch.setenv("BLIP_REFINE_REFINER", f"bart:{save_tiny_bart(tmp_path)},guards=false")
    monkeypatch.setenv("BLIP_REFINE_DECODING", "fast")
    captioner = inference.model_fn(str(STARTER))
    assert captioner.refiner._loaded is not None
    _, [caption] = inference.predict_fn(input_fn(png(), "image/png"), captioner)
    assert len(caption.candidates) > 1 and caption.refined


def test_the_bytes_of_a_picture_json_and_json_lines_say_the_same(endpoint):
    status, kind, body = call(endpoint, "POST", "/invocations", png(), "image/png")
    assert (status, kind) == (200, "application/json")
    caption = json.loads(body)["caption"]
    assert caption
    encoded = base64.b64encode(png()).decode()
    for text in (encoded, f"data:image/png;base64,{encoded}"):
        status, _, body = call(endpoint, "POST", "/invocations", json.dumps({"image": text}).encode())
        assert status == 200 and json.loads(body)["caption"] == caption
    broken = base64.b64encode(b"no picture").decode()
    rows = [{"image": encoded, "image_id": "one"}, {"image": broken}, {"image": encoded}]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    status, kind, body = call(endpoint, "POST", "/invocations", lines, "application/jsonlines")
    answers = [json.loads(line) for line in body.splitlines()]
    assert status == 200 and kind == "application/jsonlines"
    assert [answer["image_id"] for answer in answers] == ["one", "1", "2"]
    assert answers[0]["caption"] == answers[2]["caption"] == caption and answers[1]["error"]


def test_a_bad_line_costs_the_others_nothing(endpoint):
    encoded = base64.b64encode(png()).decode()
    lines = [
        json.dumps({"image": encoded, "image_id": "good"}),
        "{",
        "[1]",
        json.dumps({"image": "%%%", "image_id": "bad"}),
        json.dumps({"url": "file:///etc/passwd"}),
        json.dumps({"image": encoded}),
    ]
    status, _, body = call(endpoint, "POST", "/invocations", "\n".join(lines).encode(), "application/jsonlines")
    answers = [json.loads(line) for line in body.splitlines()]
    assert status == 200 and [answer["image_id"] for answer in answers] == ["good", "1", "2", "bad", "4", "5"]
    assert answers[0]["caption"] and answers[0]["caption"] == answers[5]["caption"]
    for answer, said in zip(answers[1:5], ("Line 2 is not JSON", "Line 3 is not of", "base64", "http"), strict=True):
        assert said in answer["error"] and answer["caption"] == ""
    status, _, body = call(endpoint, "POST", "/invocations", b"{\n{", "application/jsonlines")
    assert status == 200 and all(json.loads(line)["error"] for line in body.splitlines())


@pytest.mark.parametrize(
    ("body", "content_type", "said"),
    [
        (b"no picture", "image/png", "decoded"),
        (b"", "image/png", "empty"),
        (b"{", "application/json", "not JSON"),
        (b"[1]", "application/json", "not of the form"),
        (b'{"image": "%%%"}', "application/json", "not base64"),
        (b'{"url": "file:///etc/passwd"}', "application/json", "begins with http"),
        (b'{"url": "http://169.254.169.254/latest"}', "application/json", "169.254"),
        (b'{"url": "http://127.0.0.1:1/x"}', "application/json", "127.0.0.1"),
        (b"x", "text/html", "is not taken"),
        (b'{"image": "AA=="}\n' * 300, "application/jsonlines", "At most 256"),
    ],
)
def test_bad_requests_are_explained(endpoint, body, content_type, said):
    status, _, answer = call(endpoint, "POST", "/invocations", body, content_type)
    assert status == 400 and said in json.loads(answer)["error"]
    assert call(endpoint, "GET", "/ping")[0] == 200


def test_too_much_and_nowhere(endpoint):
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.server_address[1], timeout=60)
    connection.putrequest("POST", "/invocations")
    connection.putheader("Content-Length", str(10**9))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
    assert call(endpoint, "POST", "/elsewhere", b"")[0] == 404 and call(endpoint, "GET", "/")[0] == 404


def test_text_bodies_are_taken():
    assert input_fn('{"image": "AAAA"}', "application/json; charset=utf-8").images == (b"\0\0\0",)


def test_hyperparameters_of_the_refiner():
    from blip_refine.apps.sagemaker.train import make_refiner

    values = {
        "instruction": "Be brief.", "max_output_tokens": "90", "refiner_temperature": "0.5", "send_image": "true",
        "base_url": "http://127.0.0.1:9/v1", "prices": "1,2",
    }  # fmt: skip
    refiner = make_refiner("openai:m", values)
    assert (refiner.instruction, refiner.max_output_tokens, refiner.temperature) == ("Be brief.", 90, 0.5)
    assert refiner.send_image is True and refiner.budget.prices == (1.0, 2.0) and make_refiner(None, {}) is None
    for name, settings, message in (
        ("rules", {"instruction": "x"}, "'instruction' cannot act: the refiner 'rules'"),
        (None, {"prices": "1,2"}, "'prices' is for a refiner"),
        ("openai:m", {"max_output_tokens": "many"}, "'max_output_tokens' cannot be 'many'"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            make_refiner(name, settings)
