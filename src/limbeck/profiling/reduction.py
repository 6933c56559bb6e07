"""The share of operations that compression saves, by the rule of NICKEL & DiME; not that of `Network.macs`.

Source: Yeo, Jang and Yoo, "Nickel and Diming Your GAN", 2024. The rule is inferred from the published rates 90.73,
98.92 and 99.69 %, which it gives to the second decimal; the published 95.73 % is 95.87 % by this and every other rule
tried.
"""

from limbeck.architectures.style_based import EqualLinear
from limbeck.architectures.stylegan2 import Generator, StyledConvolution, ToRGB


def operations(generator: Generator, *, biases: bool = True) -> int:
    """Multiply-accumulates of one image, every convolution at its output resolution; and one addition per bias used.

    Convolutions, ToRGB, mapping network and style affines; not resampling, noise, demodulation and activations.
    """
    total = 0
    for name, module in generator.named_modules():
        if isinstance(module, StyledConvolution | ToRGB):
            pixels = int(name.split(".b")[1].split(".")[0]) ** 2
        elif isinstance(module, EqualLinear):
            pixels = 1
        else:
            continue
        total += (module.weight.numel() + (module.bias.numel() if biases else 0)) * pixels
    return total


def reduction(teacher: Generator, student: Generator) -> float:
    """Share in [0, 1] of the teacher's operations that the student does without; 0.9892 is quoted as 98.92 %."""
    return 1 - operations(student) / operations(teacher)
