"""The stages as Python functions, on networks of a few channels."""

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

import limbeck
from limbeck.architectures.ddpm import UNet
from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.data.image_files import ImageFiles
from limbeck.errors import UserError
from limbeck.stages import QUIET, _composed, _written, forget_unselected_callbacks

SHORT = {"kimg": 0.016, "batch_size": 8, "distillation.ema_half_life_kimg": 0.001}
FEW = {"metric": ["kid_random"], "protocol.num_images": 8, "protocol.num_reference": 8}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    drawn = torch.Generator().manual_seed(0)
    for number in range(12):
        pixels = torch.randint(0, 256, (16, 16, 3), dtype=torch.uint8, generator=drawn).numpy()
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return limbeck.data.image_folder(path=folder, num_workers=0)


def generator():
    torch.manual_seed(0)
    network = Generator(resolution=16, widths=[8] * 6, z_dim=16, w_dim=8, mapping_depth=1)
    return limbeck.Model(network.eval(), Discriminator(resolution=16, widths=[8] * 3))


def denoiser():
    torch.manual_seed(0)
    network = UNet(resolution=16, level_widths=[8, 8], blocks_per_level=1, norm_groups=2, num_train_steps=50)
    return limbeck.Model(network.eval())


def changed(before, after):
    pairs = zip(before.generator.parameters(), after.generator.parameters(), strict=True)
    return any(not torch.equal(one, other) for one, other in pairs)


def test_an_experiment_s_settings_of_callbacks_that_stay_out_do_not_matter():
    with _composed("train", {"experiment": "quickstart_ddpm", **QUIET}) as config:
        forget_unselected_callbacks(config, {"callback.sample_grid.steps": 3})
        assert set(config.callback) == {"progress", "sample_grid"}  # named, so it is refused by name
        forget_unselected_callbacks(config, {})
        assert list(config.callback) == ["progress"]


def test_sources_are_called_by_the_name_of_their_module(data):
    assert isinstance(data, ImageFiles)
    assert limbeck.data.robohash(kind="robots", resolution=64).open().resolution == 64
    with pytest.raises(UserError, match=r"data\.size: unknown for data=image_folder; allowed: .*resolution"):
        limbeck.data.image_folder(path="x", size=3)
    with pytest.raises(AttributeError):
        limbeck.data.imagefolder  # noqa: B018


def test_a_generator_is_distilled_and_judged(data, tmp_path):
    teacher = generator()
    student = limbeck.prune(teacher, "l1", ratio=0.5)
    settings = {"loss/generator": ["nonsaturating", "pixel_l1"], "discriminator": "fresh"}
    trained = limbeck.distil(teacher, student, data, folder=tmp_path, logger=["csv"], **settings, **SHORT)
    assert trained.history[-1]["losses"] == ["nonsaturating", "pixel_l1"]
    assert changed(student, trained)
    assert "loss/generator/pixel_l1" in (tmp_path / "metrics.csv").read_text()
    report = limbeck.evaluate({"teacher": teacher, "student": trained}, data, folder=tmp_path, **FEW)
    assert [row["name"] for row in report.as_json()["rows"]] == ["teacher", "student"]
    assert "kid_random" in report.rows[1].metrics
    assert (tmp_path / "report.html").is_file()


def test_a_denoiser_is_trained_as_one_and_nothing_is_left_behind(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    teacher = denoiser()
    student = limbeck.prune(teacher, "l1", ratio=0.5)
    assert changed(student, limbeck.distil(teacher, student, data=data, **SHORT))
    report = limbeck.evaluate({"student": student}, data=data, protocol="quick_ddim", **{**FEW, "protocol.steps": 2})
    assert report.rows[0].grid is None
    assert list(tmp_path.iterdir()) == []
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kimgs": 3}, "kimgs"),
        ({"loss/generator": ["nothing"]}, "nothing"),
        ({"distillation": "diffusion"}, "Generator is no denoiser"),
        ({"kimg": -1}, "kimg=-1: must be above 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(data, settings, message):
    with pytest.raises(UserError, match=message):
        limbeck.distil(generator(), generator(), data, **settings)


def test_what_cannot_be_judged_is_refused(data):
    with pytest.raises(UserError, match="models: empty"):
        limbeck.evaluate({}, data)
    with pytest.raises(UserError, match=r"num_folds|images"):
        limbeck.evaluate({"teacher": generator()}, data, metric=["kid_random"], **{"protocol.num_images": 2})


def test_values_as_hydra_writes_them():
    from hydra.core.override_parser.overrides_parser import OverridesParser

    for value in (None, True, 3, 2.5, "a", "a b", 'say "x"', ["a", 1], {"a": [None, "b c"]}, "x/y.png"):
        (read,) = OverridesParser.create().parse_overrides([f"key={_written(value)}"])
        assert read.value() == value
