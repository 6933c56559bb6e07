"""Images per second of translation networks at their published sizes, whole and at half of their channels.

    python benchmarks/translation.py [--repeats 5] [--threads 1]

Interleaved, medians; process CPU time compares on a busy machine too.
"""

import argparse
from collections.abc import Callable

import torch
from timing import interleaved, others_line, prepare
from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.architectures.translation_resnet import ResNet
from limbeck.architectures.translation_unet import UNet
from limbeck.profiling import profile


def halved(network: Network) -> Network:
    """The network with half of every group's channels."""
    return network.resized({group.name: -(-group.size // 2) for group in network.channel_groups()})


def drawing(network: Network) -> Callable[[], Tensor]:
    """One image of the network at its published size."""
    inputs = {name: torch.randn_like(value) for name, value in network.eval().example_inputs().items()}

    def draw() -> Tensor:
        with torch.no_grad():
            return network(**inputs)

    return draw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    print(prepare(options.threads))
    for name, whole in (("U-Net-256", UNet()), ("ResNet-9, 256 px", ResNet())):
        networks = {"whole": whole, "half": halved(whole)}
        times = interleaved({key: drawing(network) for key, network in networks.items()}, options.repeats)
        fewer = profile(networks["whole"]).macs / profile(networks["half"]).macs
        print(f"{name}: whole {times['whole'].per_second(1)} images/s, half {times['half'].per_second(1)} images/s")
        ratio = times["whole"].ratio_to(times["half"])
        print(f"  whole against half: {ratio} ({fewer:.2f} times the MACs); {others_line(times)}")


if __name__ == "__main__":
    main()
