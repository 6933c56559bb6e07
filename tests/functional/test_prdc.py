import pytest
import torch

from limbeck.embeddings.torchvision_shim import imported
from limbeck.functional.prdc import overlap, squared_radii


def column(*values):
    return torch.tensor(values, dtype=torch.float32)[:, None]


def written_out(real, fake, k):
    """The definitions with full distance matrices in float64."""
    real, fake = real.double(), fake.double()
    real_radius = torch.cdist(real, real).sort(dim=1).values[:, k]
    fake_radius = torch.cdist(fake, fake).sort(dim=1).values[:, k]
    between = torch.cdist(real, fake)
    in_real = between <= real_radius[:, None]
    return (
        in_real.any(dim=0).double().mean(),
        (between <= fake_radius[None]).any(dim=1).double().mean(),
        in_real.double().sum(dim=0).mean() / k,
        in_real.any(dim=1).double().mean(),
    )


def test_points_on_a_line_by_hand():
    # Radii to the nearest other: reals 0, 1, 5 have 1, 1, 4; fakes 1.5, 20, 22 have 18.5, 2, 2.
    found = overlap(real=column(0, 1, 5), fake=column(1.5, 20, 22), num_neighbors=1)
    assert found.precision == pytest.approx(1 / 3)  # only 1.5 lies in a real ball
    assert found.recall == 1  # the ball of 1.5 reaches from -17 to 20
    assert found.density == pytest.approx(2 / 3)  # 1.5 lies in the balls of 1 and of 5
    assert found.coverage == pytest.approx(2 / 3)  # the ball of 0 ends at 1


def test_exchanging_the_sets_exchanges_precision_and_recall():
    real, fake = torch.randn(200, 4), torch.randn(150, 4) * 0.5
    there, back = overlap(real=real, fake=fake), overlap(real=fake, fake=real)
    assert (there.precision, there.recall) == (back.recall, back.precision)
    assert there.precision > there.recall  # narrow fakes: all of them good, but not all that is real


def test_equal_sets_overlap_completely():
    points = torch.randn(60, 3)
    found = overlap(real=points, fake=points.clone(), num_neighbors=2)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    # Each ball holds its center and its k nearest: (k + 1) / k.
    assert found.density == pytest.approx(3 / 2)


def test_sets_far_apart_do_not_overlap():
    found = overlap(real=torch.randn(40, 3), fake=torch.randn(40, 3) + 100)
    assert (found.precision, found.recall, found.density, found.coverage) == (0, 0, 0, 0)


@pytest.mark.parametrize("block", [16, 1000])
def test_it_agrees_with_the_definitions_and_with_torch_fidelity(block):
    prc = imported("torch_fidelity.metric_prc")
    real, fake = torch.randn(150, 8), torch.randn(170, 8) * 0.8 + 0.3
    found = overlap(real=real, fake=fake, num_neighbors=3, block=block)
    expected = prc.prc_features_to_metric(
        fake, real, prc_neighborhood=3, prc_batch_size=10000, save_cpu_ram=False, verbose=False
    )
    assert found.precision == pytest.approx(expected["precision"], abs=1e-6)
    assert found.recall == pytest.approx(expected["recall"], abs=1e-6)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(
        tuple(map(float, written_out(real, fake, 3)))
    )


def test_radii_ignore_the_point_itself_even_among_copies():
    points = column(0, 0, 3, 10)
    assert squared_radii(points, 1).tolist() == [0, 0, 9, 49]


@pytest.mark.parametrize("k", [0, 5])
def test_impossible_neighbors_are_refused(k):
    with pytest.raises(ValueError, match=f"num_neighbors={k}: must lie in 1..4"):
        overlap(real=torch.randn(5, 2), fake=torch.randn(9, 2), num_neighbors=k)
