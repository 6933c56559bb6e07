"""From models to rows, of both families."""

import pytest
from PIL import Image

from limbeck.errors import UserError
from limbeck.evaluation.judgement import DRAWN, NUM_STAGES, Judgement
from limbeck.evaluation.report import STAGES_PICTURE
from limbeck.evaluation.write_report import write_report
from limbeck.images import MIN_TILE
from limbeck.metrics.base import Metric
from limbeck.metrics.ssim import Ssim

from .conftest import protocol, tiny_denoiser, tiny_model


class Numbers(Metric):
    """A metric without images."""

    def update(self):
        """Nothing to add."""

    def compute(self):
        return {}

    def of(self, samples):
        return {"number": 1.0}

    def describe(self):
        return {}


def judged(models, source, folder, **settings):
    judgement = Judgement(protocol({"ssim": Ssim()}, num_images=12, batch_size=8, **settings), num_pictures=4)
    stages = dict(zip(("teacher", "student"), models, strict=True))
    told = []
    report = judgement(stages, data=source, config={}, folder=folder, title="t", tell=told.append)
    write_report(report, folder)
    return judgement, report, told


def test_denoisers(source, tmp_path):
    models = (tiny_denoiser(0), tiny_denoiser(1))
    judgement, report, told = judged(models, source, tmp_path, steps=3, keep_drawn=True)
    assert [row.name for row in report.rows] == ["teacher", "student"]
    assert report.rows[0].metrics == {}
    assert -1 < report.rows[1].metrics["ssim"] < 1
    assert len(told) == 1  # of the teacher nothing is measured
    assert report.protocol["steps"] == 3
    assert "noise" not in report.protocol
    with Image.open(tmp_path / STAGES_PICTURE) as picture:
        assert picture.size == (NUM_STAGES * MIN_TILE, 2 * MIN_TILE)
    page = (tmp_path / "report.html").read_text()
    assert "From noise to image" in page
    assert "an image takes 3 of them" in page
    assert f"({STAGES_PICTURE})" in (tmp_path / "report.md").read_text()
    assert len(list((tmp_path / DRAWN).rglob("*.safetensors"))) == 4
    judgement.forget(tmp_path)
    assert not (tmp_path / DRAWN).exists()


def test_only_the_stages_asked_for_are_measured(source, tmp_path):
    judgement = Judgement(protocol({"kid": Numbers()}, num_images=12), num_pictures=4, measured=["student"])
    generator = tiny_model(0).generator
    judgement.check(generator, ["teacher", "student"])
    models = {"teacher": tiny_model(0), "student": tiny_model(1)}
    report = judgement(models, data=source, config={}, folder=tmp_path, title="t", tell=lambda line: None)
    assert [row.metrics for row in report.rows] == [{}, {"number": 1.0}]
    write_report(report, tmp_path)
    assert all(row.macs and row.grid.is_file() for row in report.rows)
    with pytest.raises(UserError, match="no stage 'teacher'; allowed: pruned, student"):
        Judgement(protocol({}), measured=["teacher"]).check(generator, ["pruned", "student"])


def test_generators_of_one_pass_have_no_stages(source, tmp_path):
    _, report, _ = judged((tiny_model(0), tiny_model(1)), source, tmp_path, steps=3)
    assert not (tmp_path / STAGES_PICTURE).exists()
    assert not (tmp_path / DRAWN).exists()
    assert report.notes == ()
    assert report.protocol["truncation"] == 1.0
    assert "From noise to image" not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("make", "settings", "followed"),
    [
        (tiny_denoiser, {"steps": 9}, True),
        (tiny_denoiser, {"clip_sample": True}, True),
        (tiny_model, {"truncation": 0.0}, True),
        (tiny_model, {"noise": "none"}, False),
    ],
)
def test_pictures_follow_the_protocol_but_for_injected_noise(source, tmp_path, make, settings, followed):
    one, other = tmp_path / "one", tmp_path / "other"
    judged((make(0), make(1)), source, one, steps=2)
    judged((make(0), make(1)), source, other, **{"steps": 2, **settings})
    name = "samples/student.png"
    assert ((one / name).read_bytes() != (other / name).read_bytes()) is followed
