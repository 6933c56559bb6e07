import pytest
import torch

from limbeck.embeddings.pretrained import Pretrained
from limbeck.embeddings.torchvision import Torchvision, last_linear
from limbeck.embeddings.torchvision_shim import imported
from limbeck.errors import UserError

MODEL = "shufflenet_v2_x0_5"


def whole(model: str = MODEL) -> torch.nn.Module:
    torch.manual_seed(2)
    return imported("torchvision.models").get_model(model, weights=None).eval()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("torchvision") / "weights.pth"
    torch.save(whole().state_dict(), path)
    return path


def test_features_are_the_input_of_the_classifier(file):
    embedding = Pretrained(source=Torchvision(model=MODEL, path=file), preprocessing="raw").load()
    image = torch.rand(2, 3, 64, 64)
    network = whole()
    features = embedding(image)
    assert features.shape == (2, embedding.num_features) == (2, 1024)
    torch.testing.assert_close(network.fc(features), network(image), atol=1e-5, rtol=1e-4)
    assert [m.shape[2] for m in embedding.feature_maps(image)] == [32, 16, 8, 4, 2]


def test_images_are_prepared_as_torchvision_does(file):
    transforms = imported("torchvision.models").get_model_weights(MODEL).DEFAULT.transforms()
    image = torch.nn.functional.interpolate(torch.rand(1, 3, 9, 9), size=(256, 256), mode="bilinear")
    embedding = Pretrained(source=Torchvision(model=MODEL, path=file))
    assert (embedding._prepared(image * 2 - 1) - transforms(image)).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("model", "classifier"), [("resnet18", "fc"), ("vgg11", "classifier.6"), ("vit_b_32", "heads.head")]
)
def test_the_classifier_is_the_last_linear_layer(model, classifier):
    with torch.device("meta"):
        assert last_linear(imported("torchvision.models").get_model(model)) == classifier


def test_sizes_are_known_without_weights():
    assert Pretrained(source=Torchvision(model="vgg16")).num_features == 4096
    with pytest.raises(UserError, match="resolution=100: the network refuses 100x100"):
        _ = Pretrained(source=Torchvision(model="vit_b_32"), resolution=100).num_features


def test_a_network_without_its_classifier_fits_and_another_does_not(tmp_path, file):
    state = whole().state_dict()
    torch.save({k: v for k, v in state.items() if not k.startswith("fc.")}, tmp_path / "bare.pth")
    image = torch.rand(1, 3, 64, 64)
    bare, full = (
        Pretrained(source=Torchvision(model=MODEL, path=path)).load() for path in (tmp_path / "bare.pth", file)
    )
    assert torch.equal(bare(image), full(image))
    with pytest.raises(UserError, match=r"bare.pth: the weights are of another network: conv1.weight is missing"):
        Pretrained(source=Torchvision(model="resnet18", path=tmp_path / "bare.pth")).load()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"model": "nothing"}, "torchvision has no model 'nothing'"),
        ({"model": MODEL, "weights": "BEST"}, "weights='BEST': allowed for shufflenet_v2_x0_5: IMAGENET1K_V1, DEFAULT"),
    ],
)
def test_unknown_names_are_refused(settings, match):
    with pytest.raises(UserError, match=match):
        Pretrained(source=Torchvision(**settings)).describe()


def test_missing_weights_name_their_address(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    other = Torchvision(model="resnet50", url="https://example.org/dino.pth", name="dino")
    for source, address in (
        (Torchvision(model="vgg16"), "vgg16-397923af.pth"),
        (other, "https://example.org/dino.pth"),
    ):
        with pytest.raises(UserError, match=f"{source.name}: its weights are not on this machine.*{address}"):
            Pretrained(source=source).load()
