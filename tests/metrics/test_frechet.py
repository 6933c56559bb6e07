import pytest
import torch

from limbeck.embeddings.inception import Inception
from limbeck.embeddings.torchvision_shim import imported
from limbeck.metrics.frechet import FrechetDistance


def test_fid_is_torch_fidelity_s_number_on_the_same_features(given):
    fid = imported("torch_fidelity.metric_fid")
    samples = given(fake=torch.randn(200, 16) + 0.3, real=torch.randn(150, 16))
    embedding = Inception()
    embedding.num_features = 16
    found = FrechetDistance(embedding=embedding, name="fid").of(samples)
    statistics = [fid.fid_features_to_statistics(part.double()) for part in (samples.fake, samples.real)]
    expected = fid.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert found == {"fid": pytest.approx(expected, rel=1e-8)}


def test_other_features_are_never_called_fid(given, embedding):
    samples = given(fake=torch.randn(20, 16), real=torch.randn(20, 16))
    assert list(FrechetDistance(embedding=embedding).of(samples)) == ["frechet_random"]
