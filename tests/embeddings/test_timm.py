import pytest
import torch
from safetensors.torch import save_file

from limbeck.embeddings.pretrained import Pretrained
from limbeck.embeddings.timm import Timm
from limbeck.embeddings.torchvision_shim import imported
from limbeck.errors import UserError
from limbeck.metrics.base import Samples
from limbeck.metrics.kernel_distance import KernelDistance

RESNET, VIT = "test_resnet.r160_in1k", "test_vit.r160_in1k"


def reference(model: str, seed: int = 3, **settings) -> torch.nn.Module:
    torch.manual_seed(seed)
    network = imported("timm").create_model(model, pretrained=False, **settings).eval()
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    return network


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict:
    """Weights of both networks with their classifiers, as safetensors and as a pickle of tensors."""
    folder = tmp_path_factory.mktemp("timm")
    save_file(reference(RESNET).state_dict(), folder / "resnet.safetensors")
    torch.save(reference(VIT).state_dict(), folder / "vit.pth")
    return {RESNET: folder / "resnet.safetensors", VIT: folder / "vit.pth"}


def timm_embedding(model: str, files: dict, **settings) -> Pretrained:
    return Pretrained(source=Timm(model=model, path=files[model]), **settings)


@pytest.mark.parametrize("model", [RESNET, VIT])
def test_features_are_those_before_the_classifier(model, files):
    embedding = timm_embedding(model, files, crop=False).load()
    image = torch.rand(2, 3, 160, 160) * 2 - 1
    network = reference(model)
    mean, std = (torch.tensor(network.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    with torch.no_grad():
        own = ((image + 1) / 2 - mean) / std
        expected = network.forward_head(network.forward_features(own), pre_logits=True)
        found = embedding(image)
    assert embedding.num_features == found.shape[1] == expected.shape[1]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_with_its_head_the_network_is_whole(files):
    embedding = Pretrained(source=Timm(model=RESNET, path=files[RESNET], head=True), preprocessing="raw").load()
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(embedding(image), reference(RESNET)(image), atol=1e-5, rtol=1e-4)
    assert embedding.digest() != timm_embedding(RESNET, files, preprocessing="raw").digest()


def test_a_transformer_takes_another_resolution_by_its_own_rule(files):
    embedding = timm_embedding(VIT, files, resolution=96).load()
    resampled = imported("timm").create_model(
        VIT, pretrained=True, pretrained_cfg_overlay={"state_dict": reference(VIT).state_dict()}, img_size=96
    )
    assert torch.equal(embedding.network.pos_embed, resampled.pos_embed)
    assert embedding(torch.rand(1, 3, 32, 32)).shape == (1, embedding.num_features)
    with pytest.raises(UserError, match=r"resolution=100: the network refuses 100x100"):
        timm_embedding(VIT, files, resolution=100).load()


@pytest.mark.parametrize("model", [RESNET, VIT])
def test_maps_and_gradient(model, files):
    embedding = timm_embedding(model, files).load()
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    maps = embedding.feature_maps(image)
    assert 2 <= len(maps) <= 6
    assert all(m.ndim == 4 and m.shape[2] == m.shape[3] > 1 for m in maps)
    sizes = [m.shape[2] for m in maps]
    assert sizes == sorted(sizes, reverse=True)
    maps[-1].sum().backward()
    assert image.grad.abs().sum() > 0


def test_a_file_without_classifier_fits_and_one_of_another_network_does_not(files, tmp_path):
    state = reference(RESNET).state_dict()
    bare = {name: value for name, value in state.items() if not name.startswith("fc.")}
    save_file(bare, tmp_path / "bare.safetensors")
    image = torch.rand(1, 3, 64, 64)
    found = timm_embedding(RESNET, {RESNET: tmp_path / "bare.safetensors"}).load()(image)
    assert torch.equal(found, timm_embedding(RESNET, files).load()(image))
    for wrong in (
        {k: v for k, v in state.items() if k != "layer1.0.bn1.weight"},
        {**bare, "fc.weight": torch.zeros(3, 3)},
    ):
        save_file(wrong, tmp_path / "wrong.safetensors")
        with pytest.raises(UserError, match=r"wrong.safetensors: the weights are of another network") as error:
            timm_embedding(RESNET, {RESNET: tmp_path / "wrong.safetensors"}).load()
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="the weights are of another network"):
        timm_embedding(RESNET, {RESNET: files[VIT]}).load()


@pytest.mark.parametrize("model", ["no_such_network", "resnet50.no_such_weights", "hf-hub:timm/resnet18"])
def test_an_unknown_name_is_refused(model):
    with pytest.raises(UserError, match=r"timm has no such model or weights.*list_models"):
        Pretrained(source=Timm(model=model)).describe()


def test_unknown_arguments_are_refused(files):
    with pytest.raises(UserError, match=r"arguments=\{'nonsense': 1\}"):
        Pretrained(source=Timm(model=RESNET, path=files[RESNET], arguments={"nonsense": 1})).load()


def test_missing_weights_are_one_line_and_no_wait(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("asks the network"))
    embedding = Pretrained(source=Timm(model="resnet50.a1_in1k"))
    for use in (embedding.load, embedding.describe):
        with pytest.raises(UserError, match=r"timm:resnet50.a1_in1k: .*hf download timm/resnet50.a1_in1k") as error:
            use()
        assert "\n" not in str(error.value)


def test_the_constructor_imports_nothing(monkeypatch):
    monkeypatch.setattr("limbeck.embeddings.timm.imported", lambda name: pytest.fail(f"imports {name}"))
    lazy = Pretrained(source=Timm(model="vit_large_patch14_dinov2.lvd142m"))
    assert lazy.name == "timm:vit_large_patch14_dinov2.lvd142m"
    assert lazy.metric_suffix == "_vit_large_patch14_dinov2_lvd142m"


def test_a_metric_takes_it_like_any_embedding(files):
    embedding = timm_embedding(RESNET, files, resolution=32, suffix="tiny").load()
    real, fake = torch.rand(20, 3, 32, 32), torch.rand(20, 3, 32, 32) * 0.5

    class Given(Samples):
        def features(self, embedding):
            return embedding(fake)

        def reference_features(self, embedding):
            return embedding(real)

        def has_teacher(self):
            return False

        def paired(self, function, embedding, *, num_images):
            pytest.fail("not asked for")

    metric = KernelDistance(embedding=embedding)
    assert metric.of(Given())["kid_tiny"] > 0
    assert metric.describe()["embedding"] == f"timm:{RESNET}"
    assert metric.describe()["resize"].startswith("shorter side to 33, bilinear")
