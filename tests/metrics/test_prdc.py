import pytest
import torch

from limbeck.errors import UserError
from limbeck.metrics.prdc import Overlap


def test_which_set_is_real(given, embedding):
    wide, narrow = torch.randn(150, 16), torch.randn(150, 16) * 0.3
    found = Overlap(embedding=embedding).of(given(fake=narrow, real=wide))
    assert list(found) == ["precision_random", "recall_random", "density_random", "coverage_random"]
    assert found["precision_random"] > 0.9  # narrow fakes lie among the reals
    assert found["recall_random"] < 0.1
    swapped = Overlap(embedding=embedding).of(given(fake=wide, real=narrow))
    assert swapped["precision_random"] == found["recall_random"]
    assert swapped["recall_random"] == found["precision_random"]


def test_too_few_images_are_refused(given, embedding):
    with pytest.raises(UserError, match="num_neighbors=5: needs at least 6 real and 6 drawn images; there are 9 and 5"):
        Overlap(embedding=embedding).of(given(fake=torch.randn(5, 2), real=torch.randn(9, 2)))
    with pytest.raises(UserError, match="num_neighbors=0: must be at least 1"):
        Overlap(embedding=embedding, num_neighbors=0).check(9, 9)
    Overlap(embedding=embedding).check(6, 6)


def test_k_is_described(embedding):
    assert "k = 3" in Overlap(embedding=embedding, num_neighbors=3).describe()["estimator"]
