"""A student from a file instead of pruning."""

import pytest
import torch

import limbeck
from limbeck.architectures import ddpm, stylegan2
from limbeck.export.rosinality import Rosinality
from limbeck.model import Pair
from limbeck.pruning.given import Given


def generator(resolution=8, width=8, **others):
    settings = {"z_dim": 8, "w_dim": 8, "mapping_depth": 1, **others}
    widths = [width] * (2 * (resolution.bit_length() - 2))
    return stylegan2.Generator(resolution=resolution, widths=widths, **settings).eval()


def teacher():
    judge = stylegan2.Discriminator(resolution=8, widths=[4, 4])
    return limbeck.Model(generator(), judge, terms="research only")


def given(path, model):
    return Given(path)(Pair(model, model))


def same(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("layout", ["native", "rosinality"])
def test_any_layout_is_a_student(tmp_path, layout):
    own = limbeck.Model(generator(width=4), terms="CC-BY")
    path = tmp_path / "small"
    limbeck.save(own, path) if layout == "native" else Rosinality()(own, path)
    pair = given(path, model := teacher())
    assert pair.teacher is model
    assert same(pair.student.generator, own.generator)
    assert same(pair.student.discriminator, model.discriminator)
    assert pair.student.history[-1] == {"stage": "given", "path": "small"}
    assert pair.student.terms.endswith("research only")
    assert pair.student.terms.startswith("CC-BY; " if layout == "native" else "licence of the weights not stated")


def test_its_own_discriminator_and_masks_stay(tmp_path):
    judge = stylegan2.Discriminator(resolution=8, widths=[4, 4])
    own = limbeck.sparsify(limbeck.Model(generator(width=4), judge, terms="research only"), ratio=0.5)
    student = given(limbeck.save(own, tmp_path / "a"), teacher()).student
    assert same(student.discriminator, judge)
    assert student.masks.keys() == own.masks.keys()
    assert student.terms == "research only"


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda: generator(resolution=16), "resolution is 16, the teacher's is 8"),
        (lambda: generator(z_dim=6), r"latent_shape is \(6,\), the teacher's is \(8,\)"),
        (lambda: generator(w_dim=6), r"size of a style is \(6,\), the teacher's is \(8,\)"),
        (lambda: generator(num_classes=3), "num_classes is 3, the teacher's is 0"),
        (
            lambda: ddpm.UNet(resolution=8, level_widths=[8, 8], blocks_per_level=1, norm_groups=2, num_train_steps=9),
            "family is ddpm, the teacher's is stylegan2",
        ),
    ],
)
def test_another_kind_of_network_is_refused(tmp_path, network, message):
    path = limbeck.save(limbeck.Model(network().eval()), tmp_path / "a")
    with pytest.raises(limbeck.UserError, match=f"student.path={path}: {message}") as caught:
        given(path, teacher())
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there():
    with pytest.raises(limbeck.UserError, match=r"student\.path=NOWHERE: no such file"):
        given("NOWHERE", teacher())
