"""NVIDIA's pickles: files written here in the same layout, with network classes as calls that execute source."""

import io
import pickle
import sys
import types
from collections import OrderedDict

import pytest
import torch

import limbeck
from limbeck.architectures.stylegan2 import Discriminator, Generator

KERNEL = torch.outer(torch.tensor([1.0, 3.0, 3.0, 1.0]), torch.tensor([1.0, 3.0, 3.0, 1.0])) / 64
BUFFERS = ("w_avg", "noise_const", "resample_filter", "freqs", "phases", "transform", "magnitude_ema", "up_filter")
BUFFERS += ("down_filter",)
CANARY = "raise SystemExit('the source in the file was executed')"


class EasyDict(dict):
    """Stands for dnnlib.util.EasyDict while a file is written."""


def _reconstruct_persistent_obj(_meta):
    raise AssertionError("the file's own loader was called")


@pytest.fixture(autouse=True)
def nvlabs_modules(monkeypatch):
    """Importable names under which the writer below stores its calls, as NVIDIA's code would."""
    for name, attribute in (("dnnlib.util", EasyDict), ("torch_utils.persistence", _reconstruct_persistent_obj)):
        module = types.ModuleType(name)
        attribute.__module__ = name
        setattr(module, attribute.__name__, attribute)
        monkeypatch.setitem(sys.modules, name.split(".")[0], types.ModuleType(name.split(".")[0]))
        monkeypatch.setitem(sys.modules, name, module)


class Persistent:
    """An object that pickles as a call of NVIDIA's loader with class name, source and state."""

    def __init__(self, class_name, **state):
        self.class_name, self.state = class_name, state

    def __reduce__(self):
        meta = {"type": "class", "version": 6, "module_src": CANARY, "class_name": self.class_name, "state": self.state}
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,)


def tree(state, class_name, settings, prefix=""):
    """Nested modules of a state dict; `settings` gives further attributes by dotted module name."""
    own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    children = sorted({name.split(".")[0] for name in own if "." in name})
    # NVIDIA's widths and steps are NumPy numbers in places; one shows that such values do no harm.
    attributes = settings.get(prefix.rstrip("."), {})
    buffers = {name: value for name, value in own.items() if name in BUFFERS}
    parameters = {
        name: torch.nn.Parameter(value) for name, value in own.items() if "." not in name and name not in buffers
    }
    modules = OrderedDict((child, tree(state, f"Layer{child}", settings, f"{prefix}{child}.")) for child in children)
    return Persistent(
        class_name, training=False, _parameters=parameters, _buffers=buffers, _modules=modules, **attributes
    )


def noisy(network):
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.copy_(torch.randn_like(tensor))
    return network.eval()


def generator_record(generator, **changes):
    import numpy

    state = {name: value.detach().clone() for name, value in generator.state_dict().items()}
    clamp = generator.arguments["clamp"]
    settings = {"synthesis.b4.conv1": {"conv_clamp": clamp, "activation": "lrelu", "up": numpy.float64(1.0)}}
    settings["synthesis.b4"] = {"architecture": "skip"}
    settings[""] = {"_init_args": (), "_init_kwargs": EasyDict(z_dim=8, widths=numpy.arange(3))}
    settings["mapping.fc0"] = {"bias_gain": 0.01, "activation": "lrelu"}
    state["synthesis.b8.resample_filter"] = KERNEL
    state["synthesis.b8.conv0.resample_filter"] = KERNEL.clone()
    state |= changes.pop("state", {})
    return tree(state, "Generator", {**settings, **changes})


def discriminator_record(discriminator, architecture="resnet"):
    state = {name: value.detach().clone() for name, value in discriminator.state_dict().items()}
    arguments = discriminator.arguments
    settings = {
        "": {"img_resolution": 8},
        "b8": {"architecture": architecture},
        "b8.conv0": {"conv_clamp": arguments["clamp"]},
    }
    record = tree(state, "Discriminator", settings)
    empty = {"_parameters": {}, "_buffers": {}, "_modules": {}}
    epilogue = record.state["_modules"]["b4"].state["_modules"]
    epilogue["mbstd"] = Persistent("MinibatchStdLayer", group_size=arguments["group_size"], **empty)
    return record


def small_generator(widths=(5, 7, 6, 4), **changes):
    settings = {"resolution": 8, "widths": list(widths), "z_dim": 8, "w_dim": 8, "mapping_depth": 2, "clamp": 256.0}
    return noisy(Generator(**(settings | changes)))


def small_discriminator(**changes):
    settings = {"resolution": 8, "widths": [4, 6], "group_size": 8, "clamp": 256.0, "mapping_depth": 2}
    return noisy(Discriminator(**(settings | changes)))


def written(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def nvlabs_file(path, generator, discriminator=None, *, protocol=4, **changes):
    record = generator_record(generator, **changes)
    content = {"G": generator_record(small_generator()), "D": None, "G_ema": record, "augment_pipe": None}
    if discriminator is not None:
        content["D"] = discriminator_record(discriminator)
    content["training_set_kwargs"] = EasyDict(class_name="training.dataset", resolution=8)
    return written(path, content, protocol)


@torch.no_grad()
@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("protocol", [3, 4])
def test_images_and_logits_are_the_source_s(tmp_path, num_classes, protocol):
    generator = small_generator(num_classes=num_classes)
    discriminator = small_discriminator(num_classes=num_classes)
    path = nvlabs_file(tmp_path / "ffhq.pkl", generator, discriminator, protocol=protocol)
    model = limbeck.load(path)
    latent, image = torch.randn(4, 8), torch.randn(4, 3, 8, 8)
    label = {"label": torch.tensor([0, 1, 2, 0])} if num_classes else {}
    assert torch.equal(model.generator(latent, truncation=0.5, **label), generator(latent, truncation=0.5, **label))
    assert torch.equal(model.discriminator(image, **label), discriminator(image, **label))
    assert model.generator.arguments == generator.arguments
    assert model.discriminator.arguments["group_size"] == 8
    entry = {"stage": "import", "format": "nvlabs_pickle", "network": "G_ema", "file": "ffhq.pkl"}
    assert model.history == (entry,)
    assert "NVIDIA" in model.terms


def test_pruned_students_need_no_pruning_code(tmp_path):
    student = small_generator((2, 3, 1, 5), clamp=None)
    model = limbeck.load(nvlabs_file(tmp_path / "pruned-network-0.7.pkl", student))
    assert model.generator.arguments == student.arguments
    assert model.discriminator is None


def test_training_copy_is_used_only_without_ema(tmp_path):
    generator = small_generator()
    path = written(tmp_path / "a.pkl", {"G": generator_record(generator)})
    model = limbeck.load(path)
    assert model.history[0]["network"] == "G"
    assert torch.equal(model.generator.synthesis.b4.const, generator.synthesis.b4.const)


def test_nothing_of_the_file_was_imported_or_executed(tmp_path):
    path = nvlabs_file(tmp_path / "a.pkl", small_generator())
    assert CANARY.encode() in path.read_bytes()
    limbeck.load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"synthesis.b8": {"architecture": "resnet"}}, "b8: architecture 'resnet', expected 'skip'"),
        ({"synthesis.b8.conv1": {"activation": "relu"}}, "b8.conv1: activation 'relu'"),
        ({"mapping.fc1": {"bias_gain": 1.0}}, "mapping.fc1: learning-rate multiplier 1.0"),
        ({"state": {"synthesis.b8.resample_filter": torch.ones(4, 4)}}, "resample_filter: a filter other than"),
        ({"state": {"synthesis.input.freqs": torch.ones(4, 2)}}, "StyleGAN3"),
        ({"state": {"synthesis.b8.torgb.bias": torch.zeros(4)}}, r"'synthesis.b8.torgb.bias' has shape \(4,\)"),
        ({"state": {"synthesis.b8.torgb.bias": torch.full([3], float("inf"))}}, "holds NaN or infinity"),
        ({"state": {"synthesis.b8.extra": torch.zeros(4)}}, "'synthesis.b8.extra' does not belong"),
    ],
)
def test_other_networks_are_refused_by_name(tmp_path, changes, message):
    with pytest.raises(limbeck.CheckpointError, match=message):
        limbeck.load(nvlabs_file(tmp_path / "a.pkl", small_generator(), **changes))


def test_discriminators_of_other_architecture_are_left_out_with_a_note(tmp_path):
    content = {"G_ema": generator_record(small_generator())}
    content["D"] = discriminator_record(small_discriminator(), architecture="orig")
    model = limbeck.load(written(tmp_path / "a.pkl", content))
    assert model.discriminator is None
    assert "'orig'" in model.history[0]["discriminator"]


@pytest.mark.parametrize("content", [[1, 2], {"G_ema": 3}, {"weights": {}}, None])
def test_pickles_of_something_else(tmp_path, content):
    with pytest.raises(limbeck.CheckpointError, match="no network named G_ema"):
        limbeck.load(written(tmp_path / "a.pkl", content))


def test_state_dict_in_nvidia_names(tmp_path):
    generator = small_generator(clamp=None)
    torch.save(generator.state_dict(), tmp_path / "a.pt")
    again = limbeck.load(tmp_path / "a.pt").generator
    assert again.arguments == generator.arguments
    assert torch.equal(again.synthesis.b8.conv0.weight, generator.synthesis.b8.conv0.weight)


def test_storage_is_embedded_as_torch_embeds_it():
    # The layout rests on this: tensors in plain pickles are calls of _load_from_bytes on a nested file.
    data = pickle.dumps(torch.ones(3), 4)
    assert b"_load_from_bytes" in data
    assert b"_rebuild_tensor_v2" in data
    assert isinstance(pickle.load(io.BytesIO(data)), torch.Tensor)
