"""int8 against float32 as shipped: StyleGAN2-256 without 70 % of its channels, batch 1, one thread.

    python benchmarks/int8.py        # random weights: time does not hang on them, the error does

Processor time of one pass, in turn, in every runtime; two minutes on one core.
"""

import math
import tempfile
from functools import partial
from pathlib import Path

import torch
from timing import interleaved, spread

import limbeck
from limbeck.architectures.stylegan2 import Generator, standard_widths
from limbeck.export.compact_onnx import Int8
from limbeck.export.onnx import write_onnx
from limbeck.export.runtimes import OnnxRuntime, OpenVino
from limbeck.model import Model

REPEATS, KEPT = 9, 0.3


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    widths = [math.ceil(width * KEPT) for width in standard_widths(256)]
    generator = Generator(resolution=256, widths=widths).eval().requires_grad_(False)
    print(f"{limbeck.profile(generator).macs / 1e9:.2f} GMAC")
    calls = {}
    inputs = {"latent": torch.randn(1, 512)}
    with tempfile.TemporaryDirectory() as folder:
        plain, small = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        write_onnx(Model(generator), plain)
        Int8(most={}).convert(plain, small, [{"latent": torch.randn(1, 512)} for _ in range(8)])
        for runtime in (OnnxRuntime(), OpenVino()):
            for path in (plain, small):
                calls[f"{runtime.name}, {path.stem}"] = partial(runtime.program(path), inputs)
        print(f"{plain.stat().st_size / 2**20:.1f} MiB in float32, {small.stat().st_size / 2**20:.1f} in int8")
        times = interleaved(calls, REPEATS)
    first = next(iter(times.values()))
    for name, found in times.items():
        print(f"{name:<24} {spread([1e3 * seconds for seconds in found.cpu])} ms; {found.ratio_to(first)}")


if __name__ == "__main__":
    main()
