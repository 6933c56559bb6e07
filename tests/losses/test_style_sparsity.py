import torch

from limbeck.losses.style_sparsity import StyleSparsity


def test_sum_of_absolute_mean_scalars(generator_step):
    student = generator_step.players.student.synthesis
    style, total = generator_step.student_style, 0.0
    for index, r in enumerate((4, 8, 16)):
        block, first = student.get_submodule(f"b{r}"), 2 * index - 1
        if r > 4:
            total += block.conv0.affine(style[:, first]).mean(dim=0).abs().sum()
        total += block.conv1.affine(style[:, first + 1]).mean(dim=0).abs().sum()
        total += (block.torgb.affine(style[:, first + 2]) / 8**0.5).mean(dim=0).abs().sum()
    torch.testing.assert_close(StyleSparsity()(generator_step), total)


def test_reaches_styles_and_no_convolution(generator_step):
    StyleSparsity()(generator_step).backward()
    for name, parameter in generator_step.players.student.named_parameters():
        reached = parameter.grad is not None and parameter.grad.abs().sum() > 0
        assert reached == (".affine." in name or name.startswith("mapping."))
