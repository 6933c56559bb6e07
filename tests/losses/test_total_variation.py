import pytest
import torch

from limbeck.losses.total_variation import TotalVariation, total_variation
from limbeck.losses.translation_step import TranslationStep


def test_by_hand():
    image = torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])[None, None]
    # down: 0, 1, 0; right: 1, 0, 0, 1
    assert total_variation(image).item() == pytest.approx(2 * (1 / 3 + 2 / 4), rel=1e-6)
    assert total_variation(torch.full((2, 3, 4, 4), 0.7)) == 0


def test_images_are_taken_to_the_unit_interval():
    class Given(TranslationStep):
        student_image = torch.tensor([[-1.0, 1.0]])[None, None].expand(1, 1, 2, 2)

    assert TotalVariation()(object.__new__(Given)).item() == 2.0
