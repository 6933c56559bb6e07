import torch
from torch import nn

from limbeck.losses.regularization import path_lengths, squared_gradient


def test_r1_of_a_linear_judge_is_half_the_squared_norm_of_its_weights():
    weight = torch.randn(3, 4, 4)
    image = torch.randn(5, 3, 4, 4, requires_grad=True)
    logits = (image * weight).sum(dim=(1, 2, 3))
    torch.testing.assert_close(squared_gradient(logits, image), weight.square().sum() / 2)


def test_r1_reaches_the_judge_by_the_second_derivative():
    judge = nn.Conv2d(3, 1, 4)
    image = torch.randn(2, 3, 4, 4, requires_grad=True)
    squared_gradient(judge(image).flatten(), image).backward()
    torch.testing.assert_close(judge.weight.grad, judge.weight.detach())  # d/dw of |w|^2 / 2
    assert judge.bias.grad is None


def test_path_length_of_a_linear_generator_by_hand():
    """image = A w per layer summed: the gradient by each layer is A^T noise / sqrt(h w)."""
    matrix, noise = torch.randn(3 * 4 * 4, 6), torch.randn(2, 3, 4, 4)
    style = torch.randn(2, 5, 6, requires_grad=True)
    image = (style.sum(dim=1) @ matrix.T).reshape(2, 3, 4, 4)
    expected = (noise.flatten(1) / 4 @ matrix).norm(dim=1)  # equal in all layers, so their root mean is the same
    torch.testing.assert_close(path_lengths(image, style, noise), expected)
