"""The face parser has the public weights' names and shapes, and its trunk is torchvision's ResNet-18."""

import pytest
import torch

from limbeck.configured import configured
from limbeck.embeddings.torchvision_shim import imported
from limbeck.masks.bisenet import BiSeNet


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return BiSeNet().eval().requires_grad_(False)


def test_names_and_shapes_of_the_public_weights(network):
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    expected = {
        "cp.resnet.conv1.weight": (64, 3, 7, 7),
        "cp.resnet.layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "cp.resnet.layer4.1.bn2.running_var": (512,),
        "cp.arm16.conv.conv.weight": (128, 256, 3, 3),
        "cp.arm32.conv_atten.weight": (128, 128, 1, 1),
        "cp.arm32.bn_atten.bias": (128,),
        "cp.conv_head16.bn.weight": (128,),
        "cp.conv_avg.conv.weight": (128, 512, 1, 1),
        "ffm.convblk.conv.weight": (256, 256, 1, 1),
        "ffm.conv1.weight": (64, 256, 1, 1),
        "ffm.conv2.weight": (256, 64, 1, 1),
        "conv_out.conv.conv.weight": (256, 256, 3, 3),
        "conv_out.conv_out.weight": (19, 256, 1, 1),
    }
    assert {name: shapes[name] for name in expected} == expected
    auxiliary_head = 128 * 64 * 9 + 2 * 64 + 64 * 19
    assert sum(p.numel() for p in network.parameters()) == 13_300_416 - 2 * auxiliary_head


def test_scores_have_the_image_size_and_the_trunk_is_resnet(network):
    image = torch.randn(1, 3, 64, 96)
    assert network(image).shape == (1, 19, 64, 96)
    reference = imported("torchvision.models").resnet18(weights=None).eval()
    reference.load_state_dict(network.cp.resnet.state_dict(), strict=False)
    eighth, context = network.cp(image)
    x = reference.maxpool(reference.relu(reference.bn1(reference.conv1(image))))
    torch.testing.assert_close(eighth, reference.layer2(reference.layer1(x)))
    assert context.shape == (1, 128, 8, 12)


def test_a_file_in_the_public_layout_loads_by_its_config(network, tmp_path):
    state = network.state_dict()
    extra = {f"conv_out{k}.conv_out.weight": torch.zeros(19, 64, 1, 1) for k in (16, 32)}
    path = tmp_path / "79999_iter.pth"
    torch.save({**state, **extra}, path)
    mask = configured("mask", "face_parsing", path=str(path)).load()
    assert mask(torch.rand(1, 3, 32, 32)).shape == (1, 1, 32, 32)
    assert all(torch.equal(value, state[name]) for name, value in mask.network.state_dict().items())
