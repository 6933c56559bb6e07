"""LPIPS between the teacher's and the student's image, by the `lpips` package with trunk weights from a local file.

Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018, version 0.1.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.embeddings.torchvision_shim import imported
from limbeck.errors import UserError
from limbeck.frozen import Frozen
from limbeck.losses.steps import GeneratorStep
from limbeck.losses.weighted import Term
from limbeck.model import Pair

TRUNKS = {"vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth"}


class Lpips(Term):
    """Mean LPIPS (weight 3 in CAGAN, StyleKD, DCP-GAN and SVS).

    net: "vgg" or "alex". trunk_path: torchvision's ImageNet weights; None looks where torchvision keeps its downloads.
    max_size: larger images are reduced to this size by averaging areas.
    """

    def __init__(self, *, net: str = "vgg", trunk_path: str | None = None, max_size: int = 256):
        super().__init__()
        if net not in TRUNKS:
            raise UserError(f"lpips.net={net!r}: must be one of {', '.join(TRUNKS)}")
        self.net, self.trunk_path, self.max_size = net, trunk_path, max_size
        self.network: Frozen | None = None

    def prepare(self, pair: Pair, *, half: bool) -> None:
        default = Path(torch.hub.get_dir()) / "checkpoints" / TRUNKS[self.net]
        path = Path(self.trunk_path) if self.trunk_path else default
        if not path.is_file():
            raise UserError(
                f"loss/generator/lpips: trunk weights not found: {path}; put torchvision's {TRUNKS[self.net]} there or "
                "name it with loss.generator.lpips.term.trunk_path=FILE"
            )
        network = imported("lpips").LPIPS(net=self.net, pnet_rand=True, verbose=False)
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.net.load_state_dict(
            {name: state["features." + name.split(".", 1)[1]] for name in network.net.state_dict()}
        )
        self.network = Frozen(network.to(memory_format=torch.channels_last), half=half)

    def forward(self, step: GeneratorStep) -> Tensor:
        assert self.network is not None, "prepare() first"
        factor = max(1, step.student_image.shape[-1] // self.max_size)
        teacher, student = (F.avg_pool2d(image, factor) for image in (step.teacher_image, step.student_image))
        return self.network(student, teacher).float().mean()
