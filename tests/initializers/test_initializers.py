"""Where the student starts: kept or fresh weights."""

import torch

from limbeck.architectures import stylegan3
from limbeck.architectures.stylegan2 import Generator
from limbeck.initializers import Keep, Random, SingularValueScaling
from limbeck.model import Model, Pair


def noisy_pair():
    generator = Generator(resolution=8, widths=[6, 5, 7, 8], z_dim=8, w_dim=8, mapping_depth=2).eval()
    with torch.no_grad():
        for tensor in generator.state_dict().values():
            tensor.copy_(torch.randn_like(tensor))
    model = Model(generator)
    return Pair(model, model)


def equal_names(one, other):
    pairs = zip(one.state_dict().items(), other.state_dict().values(), strict=True)
    return {name for (name, a), b in pairs if torch.equal(a, b)}


def test_keep_changes_the_history_only():
    pair = noisy_pair()
    student = Keep()(pair).student
    assert student.generator is pair.student.generator
    assert student.history == ({"stage": "initialize", "initializer": "keep"},)


def test_random_keeps_the_mapping_network_and_buffers():
    pair = noisy_pair()
    student = Random(seed=1)(pair).student
    same = equal_names(student.generator, pair.student.generator)
    buffers = {name for name, _ in student.generator.named_buffers()}
    mapping = {name for name in student.generator.state_dict() if name.startswith("mapping.")}
    assert same == buffers | mapping
    # Fresh affine biases start at one and fresh noise strengths at zero.
    assert torch.equal(student.generator.synthesis.b8.conv0.affine.bias, torch.ones(5))
    assert student.generator.synthesis.b8.conv0.noise_strength == 0


def test_random_forgets_what_was_measured_of_the_old_weights():
    generator = stylegan3.Generator(resolution=16, widths=[4, 4], num_layers=1, num_critical=0, z_dim=4, w_dim=4)
    for index in range(2):
        generator.synthesis.get_submodule(f"L{index}").magnitude_ema.fill_(7.0)
    model = Model(generator)
    student = Random(seed=1)(Pair(model, model)).student.generator
    assert [student.synthesis.get_submodule(f"L{index}").magnitude_ema.item() for index in range(2)] == [1, 1]
    assert torch.equal(student.synthesis.input.freqs, generator.synthesis.input.freqs)
    assert not torch.equal(student.synthesis.L0.weight, generator.synthesis.L0.weight)


def test_random_follows_its_seed_alone():
    pair = noisy_pair()
    first = Random(seed=1)(pair).student.generator
    torch.manual_seed(123)
    state = torch.get_rng_state()
    again = Random(seed=1)(pair).student.generator
    assert torch.equal(torch.get_rng_state(), state)
    assert len(equal_names(first, again)) == len(first.state_dict())
    other = Random(seed=2)(pair).student.generator
    assert "synthesis.b8.conv1.weight" not in equal_names(first, other)


def test_random_without_anything_kept():
    pair = noisy_pair()
    same = equal_names(Random(keep=[])(pair).student.generator, pair.student.generator)
    assert same == {name for name, _ in pair.student.generator.named_buffers()}


def test_every_initializer_leaves_the_teacher_alone():
    for initializer in (Keep(), Random(), SingularValueScaling()):
        pair = noisy_pair()
        before = {name: value.clone() for name, value in pair.teacher.generator.state_dict().items()}
        after = initializer(pair)
        assert after.teacher is pair.teacher
        assert all(torch.equal(before[name], value) for name, value in pair.teacher.generator.state_dict().items())
