import pytest
import torch

from limbeck.architectures.ddpm import UNet
from limbeck.architectures.stylegan2 import Generator
from limbeck.embeddings.random_projection import RandomProjection
from limbeck.errors import UserError
from limbeck.losses.adversarial import NonSaturatingGenerator
from limbeck.losses.denoising_step import DenoisingStep
from limbeck.losses.dime import Dime
from limbeck.losses.image_step import ImageStep
from limbeck.losses.mmd import Linear, Mmd
from limbeck.losses.noise_prediction import NoisePrediction
from limbeck.losses.regularization import PathLength
from limbeck.losses.steps import GeneratorStep
from limbeck.losses.weighted import Term, Weighted, begun, cadences, checked_terms


class Constant(Term):
    def forward(self, step):
        return torch.tensor(float(step))


def test_weight_and_cadence_scale_linearly():
    added, value = Weighted(term=Constant(), weight=2.5, every_steps=4)(3)
    assert added.item() == 30.0
    assert value.item() == 3.0


@pytest.mark.parametrize(
    "changes", [{"weight": "much"}, {"every_steps": 0}, {"every_steps": 1.5}, {"batch_share": 0}, {"start_kimg": -1}]
)
def test_refuses_impossible_numbers(changes):
    (name,) = changes
    with pytest.raises(UserError, match=name):
        Weighted(term=Constant(), **changes)


def test_a_stub_of_a_term_that_is_not_selected_is_refused_by_name():
    with pytest.raises(UserError, match=r"lpips.*not among the selected terms"):
        checked_terms("generator", {"nonsaturating": Weighted(term=Constant()), "lpips": {"weight": 5.0}})


def test_no_term_at_all_is_refused():
    with pytest.raises(UserError, match="no term"):
        checked_terms("generator", {})


def test_cadences_group_terms_with_ordinary_ones_first():
    terms = {"r1": Weighted(term=Constant(), every_steps=16), "adversarial": Weighted(term=Constant())}
    assert {every: list(group) for every, group in cadences(terms).items()} == {1: ["adversarial"], 16: ["r1"]}
    assert list(cadences(terms)) == [1, 16]


def test_terms_have_begun_from_their_image_on():
    terms = {"pixel": Weighted(term=Constant()), "late": Weighted(term=Constant(), start_kimg=2)}
    assert [list(begun(terms, kimg)) for kimg in (0.0, 1.999, 2.0)] == [["pixel"], ["pixel"], ["pixel", "late"]]


STYLED = Generator(resolution=8, channel_max=2, z_dim=2, w_dim=2)
PLAIN = UNet(resolution=8, level_widths=[8], blocks_per_level=1, norm_groups=2, attention_levels=[])


class ReadsImages(Term):
    def forward(self, step: ImageStep):
        return step.student_image.sum()


def test_a_regime_that_offers_other_steps_is_refused_by_name():
    for offered in (GeneratorStep, DenoisingStep):
        ReadsImages().check_fits("loss/generator: 'x'", offered, STYLED)
        Constant().check_fits("loss/generator: 'x'", offered, STYLED)  # says nothing, so anything goes
    NonSaturatingGenerator().check_fits("loss/generator: 'nonsaturating'", GeneratorStep, STYLED)
    with pytest.raises(UserError, match=r"loss/generator: 'nonsaturating': reads a JudgedStep.*DenoisingStep"):
        NonSaturatingGenerator().check_fits("loss/generator: 'nonsaturating'", DenoisingStep, STYLED)
    with pytest.raises(UserError, match=r"reads a DenoisingStep.*GeneratorStep"):
        NoisePrediction().check_fits("loss/generator: 'noise_prediction'", GeneratorStep, STYLED)


def test_what_needs_styles_is_refused_by_name_where_there_are_none():
    PathLength().check_fits("loss/generator: 'path_length'", GeneratorStep, STYLED)
    with pytest.raises(UserError, match=r"loss/generator: 'path_length': needs a style-based generator, not a UNet"):
        PathLength().check_fits("loss/generator: 'path_length'", GeneratorStep, PLAIN)
    NonSaturatingGenerator().check_fits("x", GeneratorStep, PLAIN)


def test_statistics_of_many_samples_need_a_teacher_that_draws_in_one_pass():
    settings = {"embeddings": {"a": RandomProjection()}, "weights": {"a": 1.0}}
    for term, setting in (
        (Dime(**settings, statistics="global"), "dime.term.statistics='global'"),
        (Mmd(**settings, kernel=Linear(), teacher="cache"), "mmd.term.teacher='cache'"),
    ):
        term.check_fits("x", GeneratorStep, STYLED)
        with pytest.raises(UserError, match=setting):
            term.check_fits("x", DenoisingStep, STYLED)
