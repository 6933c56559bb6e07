"""What an offline W&B run holds, read back from its file; another process's run is continued under the same id."""

import json
import struct
import subprocess
import sys
import time

import pytest
from PIL import Image

from limbeck.errors import UserError
from limbeck.evaluation.report import Row
from limbeck.loggers.base import log_rows
from limbeck.loggers.wandb import WandB

pytestmark = pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")
BLOCK, HEADER = 32768, 7


def records(path):
    """Records of a .wandb file: LevelDB's log format, with protocol buffers inside."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, parts = path.read_bytes(), HEADER, b""
    assert data[:4] == b":W&B"
    while position + HEADER <= len(data):
        if BLOCK - position % BLOCK < HEADER:
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + HEADER])
        parts += data[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if kind in (1, 4):
            yield Record.FromString(parts)
            parts = b""


def written(folder):
    """History rows, metric definitions, configuration and run ids of all offline runs below a folder."""
    history, axes, config, ids = [], {}, {}, []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for record in records(path):
            kind = record.WhichOneof("record_type")
            if kind == "history":
                items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
                history.append({name: json.loads(value) for name, value in items.items()})
            elif kind == "metric":
                axes[record.metric.name or record.metric.glob_name] = record.metric.step_metric
            elif kind == "run":
                ids.append(record.run.run_id)
                config |= {update.key: json.loads(update.value_json) for update in record.run.config.update}
    return history, axes, config, ids


@pytest.fixture(autouse=True)
def _no_mode(monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)


def test_offline_file_holds_losses_over_kimg_a_picture_and_the_evaluations(tmp_path, capfd):
    (tmp_path / "config.yaml").write_text("pruning: {ratio: 0.7}\n")
    logger = WandB(tmp_path)
    for step in (1, 2, 3):
        logger.log_metrics({"kimg": step / 2, "loss/generator/pixel_l1": 1 / step}, step=500 * step)
    logger.log_metrics({"kimg": 1.5, "speed/images_per_second": 40.0}, step=1500)
    logger.log_image("samples", Image.new("RGB", (8, 8), "red"), kimg=1.5)
    rows = [Row(name, 10, 20, 0.5, 3.0, {"kid_lite0": value}) for name, value in (("teacher", 0.1), ("student", 0.2))]
    log_rows([logger], rows, kimg=1.5)

    history, axes, config, ids = written(tmp_path)
    losses = [(row["kimg"], row["loss/generator/pixel_l1"]) for row in history if "loss/generator/pixel_l1" in row]
    assert losses == [(0.5, 1.0), (1.0, 0.5), (1.5, pytest.approx(1 / 3))]
    assert [row["_step"] for row in history] == [500, 1000, 1500]
    assert history[-1]["speed/images_per_second"] == 40.0
    assert axes["*"] == "kimg"
    assert config["pruning"] == {"ratio": 0.7}
    assert len(set(ids)) == 1
    files = next(tmp_path.glob("wandb/offline-run-*/files"))
    with Image.open(files / history[-1]["samples/path"]) as image:
        assert image.size == (8, 8)
    table = json.loads((files / history[-1]["evaluations/path"]).read_text())
    assert table["columns"][:3] == ["kimg", "model", "num_parameters"]
    assert [row[1] for row in table["data"]] == ["teacher", "student"]
    assert [row[table["columns"].index("kid_lite0")] for row in table["data"]] == [0.1, 0.2]
    assert capfd.readouterr().err == ""


def test_resumed_run_keeps_its_id_and_its_table(tmp_path):
    first = WandB(tmp_path)
    for kimg in (1.0, 2.0, 3.0):
        first.log_evaluation("student", {"kid_lite0": 1 / kimg}, kimg=kimg)
    first.close()
    second = WandB(tmp_path)  # resumed from a checkpoint at 1.5: the rows of 2 and 3 are measured again
    second.log_evaluation("student", {"kid_lite0": 7.0}, kimg=2.0)
    second.close()
    *_, ids = written(tmp_path)
    assert len(ids) == 2
    assert len(set(ids)) == 1
    assert json.loads((tmp_path / "wandb" / "limbeck.json").read_text())["evaluations"] == [
        {"kimg": 1.0, "model": "student", "kid_lite0": 1.0},
        {"kimg": 2.0, "model": "student", "kid_lite0": 7.0},
    ]


def test_second_logger_of_the_same_process_goes_on_with_the_open_run(tmp_path):
    WandB(tmp_path).log_metrics({"kimg": 1.0, "a": 1.0}, step=1000)
    last = WandB(tmp_path)
    last.log_metrics({"kimg": 2.0, "a": 2.0}, step=2000)
    last.close()
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 1
    assert [row["a"] for row in written(tmp_path)[0]] == [1.0, 2.0]


def test_nothing_is_opened_before_the_first_value(tmp_path):
    WandB(tmp_path).close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wanted", [True, False])
def test_the_student_goes_along_where_it_is_wanted(tmp_path, wanted):
    (tmp_path / "student.safetensors").write_bytes(b"weights")
    logger = WandB(tmp_path, artifact=wanted)
    logger.log_metrics({"kimg": 1.0, "a": 1.0}, step=1000)
    logger.close()
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    found = [record.artifact for record in records(path) if record.WhichOneof("record_type") == "artifact"]
    names = [(entry.path, entry.size) for artifact in found for entry in artifact.manifest.contents]
    assert names == ([("student.safetensors", 7)] if wanted else [])


def test_refused_mode_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "sideways")
    with pytest.raises(UserError, match="WANDB_MODE=sideways"):
        WandB(tmp_path).log_metrics({"kimg": 1.0}, step=1000)


@pytest.mark.slow
def test_a_forgotten_close_neither_loses_values_nor_delays_the_exit(tmp_path):
    code = (
        "import sys, time; from limbeck.loggers.wandb import WandB; logger = WandB(sys.argv[1])\n"
        "logger.log_metrics({'kimg': 1.0, 'a': 5.0}, step=1000); print(time.time())"
    )
    process = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert time.time() - float(process.stdout) < 20
    assert [row["a"] for row in written(tmp_path)[0]] == [5.0]
