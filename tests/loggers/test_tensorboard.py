"""What the event files hold, read by TensorBoard itself."""

import io
import sys

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from limbeck.errors import UserError
from limbeck.evaluation.report import Row
from limbeck.loggers.base import log_rows
from limbeck.loggers.tensorboard import TensorBoard

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def read(folder):
    return EventAccumulator(str(folder / "tensorboard")).Reload()


def curve(found, name):
    return [(event.step, round(event.value, 6)) for event in found.Scalars(name)]


def test_curves_over_images_a_picture_and_the_evaluations(tmp_path):
    logger = TensorBoard(tmp_path)
    for step in (500, 1000, 1500):
        logger.log_metrics({"kimg": step / 1000, "loss/generator/pixel_l1": 1 / step}, step=step)
    logger.log_image("samples", Image.new("RGB", (8, 4), "red"), kimg=1.5)
    rows = [Row(name, 10, 20, 0.5, 3.0, {"kid_lite0": value}) for name, value in (("teacher", 0.1), ("student", 0.2))]
    log_rows([logger], rows, kimg=1.5)
    found = read(tmp_path)
    assert curve(found, "loss/generator/pixel_l1") == [(500, 0.002), (1000, 0.001), (1500, 0.000667)]
    assert curve(found, "evaluation/student/kid_lite0") == [(1500, 0.2)]
    assert curve(found, "evaluation/teacher/macs") == [(1500, 20)]
    assert "kimg" not in found.Tags()["scalars"]
    (picture,) = found.Images("samples")
    with Image.open(io.BytesIO(picture.encoded_image_string)) as image:
        assert image.size == (8, 4)
        assert image.convert("RGB").getpixel((0, 0)) == (255, 0, 0)


def test_a_resumed_run_hides_what_its_predecessor_wrote_beyond_the_checkpoint(tmp_path):
    first = TensorBoard(tmp_path)
    for step in (1000, 2000, 3000):
        first.log_metrics({"kimg": step / 1000, "a": float(step)}, step=step)
    first.close()
    second = TensorBoard(tmp_path)  # from a checkpoint at 1500
    second.log_metrics({"kimg": 2.0, "a": 7.0}, step=2000)
    second.close()
    assert curve(read(tmp_path), "a") == [(1000, 1000.0), (2000, 7.0)]


def test_nothing_is_opened_before_the_first_value(tmp_path):
    TensorBoard(tmp_path).close()
    assert not list(tmp_path.iterdir())


def test_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match=r"logger=tensorboard: needs tensorboard; pip install limbeck\[tensorboard\]"):
        TensorBoard(tmp_path)
