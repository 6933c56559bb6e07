import pytest
import torch

from limbeck.embeddings.inception import Inception
from limbeck.embeddings.torchvision_shim import imported


@pytest.fixture(scope="session")
def fidelity_inception(tmp_path_factory):
    """torch-fidelity's Inception with random weights, and the file that holds them."""
    module = imported("torch_fidelity.feature_extractor_inceptionv3")
    path = tmp_path_factory.mktemp("inception") / "pt_inception-2015-12-05-6726825d.pth"
    with pytest.MonkeyPatch.context() as patch:
        # The constructor loads weights; there are none yet.
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: None)
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = module.FeatureExtractorInceptionV3("inception", ["2048"])
    generator = torch.Generator().manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1, generator=generator)
            layer.running_var.uniform_(0.5, 1.5, generator=generator)
            layer.weight.data.uniform_(0.8, 1.6, generator=generator)
            layer.bias.data.normal_(0, 0.1, generator=generator)
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.data.normal_(0, layer.weight[0].numel() ** -0.5, generator=generator)
    torch.save(network.state_dict(), path)
    return network, path


@pytest.fixture(scope="session")
def inception(fidelity_inception) -> Inception:
    return Inception(path=fidelity_inception[1]).load()
