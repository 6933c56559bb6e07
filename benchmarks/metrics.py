"""Speed of embeddings and distances beside torch-fidelity and scipy, with the difference of the results.

Interleaved in one process, medians; the same random weights and the same allocator on both sides:
    python benchmarks/metrics.py [--repeats 5] [--threads 1] [--only inception lite0 frechet kid]
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import scipy.linalg
import torch
from timing import interleaved, others_line, prepare, spread

from limbeck.embeddings.inception import Inception
from limbeck.embeddings.lite0 import EfficientNetLite0
from limbeck.embeddings.torchvision_shim import imported
from limbeck.functional.frechet import frechet_distance, moments
from limbeck.functional.kernel_distance import squared_mmd_with_error

BATCH = 64  # torch-fidelity's default


def fidelity_inception() -> Any:
    """torch-fidelity's extractor with random weights whose features are of ordinary size."""
    module = imported("torch_fidelity.feature_extractor_inceptionv3")
    extractor = module.FeatureExtractorInceptionV3
    with (
        mock.patch.object(module, "load_state_dict_from_url", return_value=None),
        mock.patch.object(extractor, "load_state_dict", return_value=None),
    ):
        network = extractor("inception", ["2048"])
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_var.uniform_(0.5, 1.5)
            layer.bias.data.normal_(0, 0.1)
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.data.normal_(0, (2 / layer.weight[0].numel()) ** 0.5)
    return network


def inception(repeats: int) -> None:
    theirs = fidelity_inception()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.pth"
        torch.save(theirs.state_dict(), path)
        ours = Inception(path=path).load()
    for size in (32, 256):
        image = torch.randint(0, 256, (BATCH, 3, size, size), dtype=torch.uint8)
        floats = image.float() / 127.5 - 1
        expected = theirs(image)[0]
        difference = (ours(floats) - expected).abs().max() / expected.abs().max()
        runs = {"torch-fidelity": partial(theirs, image), "limbeck": partial(ours, floats)}
        times = interleaved(runs, repeats)
        print(f"Inception, {size} px, batch {BATCH}: features differ by {difference:.1e} of the largest")
        for name, found in times.items():
            print(f"  {name:15} {found.per_second(BATCH)} images/s")
        print(f"  torch-fidelity takes {times['torch-fidelity'].ratio_to(times['limbeck'])}; {others_line(times)}")


def lite0(repeats: int) -> None:
    image = torch.rand(50, 3, 32, 32) * 2 - 1
    embeddings = {side: EfficientNetLite0(resolution=side).load() for side in (64, 96, 128, 224)}
    times = interleaved({f"{side} px": partial(net, image) for side, net in embeddings.items()}, repeats)
    for name, found in times.items():
        print(f"EfficientNet-Lite0, resized to {name}: {found.per_second(len(image))} images/s")


def frechet(repeats: int) -> None:
    x, y = (torch.randn(5000, 2048) @ torch.randn(2048, 2048) / 45 for _ in range(2))
    first, second = moments(x), moments(y)
    (mean_a, a), (mean_b, b) = (tuple(t.numpy() for t in part) for part in (first, second))

    def by_scipy() -> float:
        root = scipy.linalg.sqrtm(a @ b)
        return float(((mean_a - mean_b) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * np.trace(root).real)

    def ours() -> float:
        return float(frechet_distance(*first, *second))

    difference = abs(ours() / by_scipy() - 1)
    times = interleaved({"scipy": by_scipy, "limbeck": ours}, max(2, repeats // 2))
    print(f"Fréchet distance, 2048 features, float64: relative difference {difference:.1e}")
    for name, found in times.items():
        print(f"  {name:10} {spread(found.wall)} s")
    print(f"  scipy takes {times['scipy'].ratio_to(times['limbeck'])}; {others_line(times)}")


def kid(repeats: int) -> None:
    metric = imported("torch_fidelity.metric_kid")
    x, y = torch.randn(10000, 1280), torch.randn(10000, 1280) * 1.01
    exact = squared_mmd_with_error(x.double(), y.double())
    found = squared_mmd_with_error(x, y)
    settings = {"kid_subsets": 100, "kid_subset_size": 1000, "verbose": False}
    subsets = metric.kid_features_to_metric(x, y, **settings)
    mean, spread_of_mean = subsets.values()
    print(
        f"Kernel distance, 10,000 images each: {found.value:.6g} ± {found.standard_error:.2g} over all pairs "
        f"(in float64 {exact.value:.6g}), 100 subsets {mean:.6g} ± {spread_of_mean / 10:.2g}"
    )
    runs: dict[str, Callable[[], object]] = {
        "subsets": lambda: metric.kid_features_to_metric(x, y, **settings),
        "all pairs": lambda: squared_mmd_with_error(x, y),
    }
    for name, times in interleaved(runs, max(2, repeats // 2)).items():
        print(f"  {name:10} {spread(times.wall)} s")


def main() -> None:
    parts = {"inception": inception, "lite0": lite0, "frechet": frechet, "kid": kid}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts))
    options = parser.parse_args()
    print(prepare(options.threads))
    with torch.inference_mode():
        for name in options.only:
            parts[name](options.repeats)


if __name__ == "__main__":
    main()
