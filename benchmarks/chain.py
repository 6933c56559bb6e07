"""What each way of making a model cheaper brings, one after the other: fewer channels, fewer steps, fewer bits.

    python benchmarks/chain.py gan          # bundled StyleGAN2, 70 % of its channels removed, a student of a few kimg
    python benchmarks/chain.py denoiser     # bundled U-Net, 30 % removed, 20 steps, then 8
    python benchmarks/chain.py gan --student student.safetensors     # one that was trained longer

Quality is that of the shipped program's images; latency is that of an image as shipped, all passes of it, batch 1, one
thread, float32 and int8 in turn. Ten minutes on one core, most of it training.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

import limbeck
from limbeck.configured import configured
from limbeck.evaluation.protocol import Protocol
from limbeck.export.base import inference_copy, standing_in, trial_inputs
from limbeck.export.runtimes import OnnxRuntime, OpenVino
from limbeck.metrics.kernel_distance import KernelDistance
from limbeck.metrics.perceptual import Perceptual
from limbeck.model import Model
from limbeck.profiling import profile
from limbeck.profiling.measured import spread, timed_in_turn

TEACHERS = Path(limbeck.__file__).with_name("teachers")
RUNTIMES = (OnnxRuntime(), OpenVino())
RECIPES = {
    "gan": ("robohash32", 0.7, 4.0, "quickstart"),
    "denoiser": ("robohash32_ddpm", 0.3, 6.0, "quickstart_ddpm"),
}
STEPS, FEWER_STEPS = 20, 8


@dataclass(frozen=True)
class Link:
    """A row: what was done last, the model, its format, and passes for one image."""

    name: str
    model: Model
    format: str
    steps: int


def links(teacher: Model, student: Model, denoiser: bool) -> list[Link]:
    """The chain, the most expensive first."""
    passes = STEPS if denoiser else 1
    fewest = FEWER_STEPS if denoiser else 1
    found = [Link("teacher", teacher, "onnx", passes), Link("fewer channels", student, "onnx", passes)]
    if denoiser:
        found.append(Link("fewer steps", student, "onnx", fewest))
    return [*found, Link("fewer bits", student, "onnx_int8", fewest)]


def protocol(num_images: int, steps: int) -> Protocol:
    """Two distances over Lite0; a denoiser's images with DDPM's noise and clipped, as in `quickstart_ddpm`."""
    lite0 = configured("embedding", "lite0")
    metrics = {"kid": KernelDistance(embedding=lite0, num_folds=10), "perceptual": Perceptual(embedding=lite0)}
    how = {"steps": steps, "grid": "quadratic", "eta": 1.0, "clip_sample": True}
    return Protocol(metrics=metrics, num_images=num_images, num_reference=2000, **how)


def table(chain: list[Link], data: limbeck.data.base.ImageSource, num_images: int, folder: Path) -> list[dict]:
    """One row for each link."""
    files = {}
    for link in chain:
        key = id(link.model), link.format
        if key not in files:
            limits = {"most": {}} if link.format != "onnx" else {}
            files[key] = configured("export", link.format, **limits)(link.model, folder / f"{len(files)}.onnx")
    paths = [files[id(link.model), link.format] for link in chain]
    programs = [[runtime.program(path) for runtime in RUNTIMES] for path in paths]
    inputs = [trial_inputs(inference_copy(link.model.generator), 1) for link in chain]
    timed = timed_in_turn([partial(p, i) for each, i in zip(programs, inputs, strict=True) for p in each])
    rows = []
    for number, link in enumerate(chain):
        played = Model(standing_in(programs[number][0], link.model.generator))
        judged = protocol(num_images, link.steps)(played, data=data, teacher=None if number == 0 else chain[0].model)
        row = {"chain": link.name, "steps": link.steps, "macs": profile(link.model.generator).macs * link.steps}
        row |= {"file_kib": round(paths[number].stat().st_size / 1024), **judged}
        for offset, runtime in enumerate(RUNTIMES):
            found = timed[number * len(RUNTIMES) + offset]
            row[f"{runtime.name} ms"] = min(found).seconds * 1e3 * link.steps
            row[f"{runtime.name} spread"] = spread(found)
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def markdown(rows: list[dict]) -> str:
    """The table as RESULTS.md has it."""
    names = [
        "steps",
        "MACs an image",
        "file KiB",
        "kid_lite0",
        "distance to teacher",
        *(f"{r.name} ms" for r in RUNTIMES),
    ]
    lines = ["| | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]
    for row in rows:
        cells = [row["steps"], f"{row['macs'] / 1e6:,.1f} M", row["file_kib"], f"{row['kid_lite0']:.3f}"]
        cells.append(f"{row['perceptual_lite0']:.2f}" if "perceptual_lite0" in row else "")
        for runtime in RUNTIMES:
            now, first = row[f"{runtime.name} ms"], rows[0][f"{runtime.name} ms"]
            cells.append(f"{now:.3g} (÷ {first / now:.3g})")
        lines.append(f"| {row['chain']} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=RECIPES)
    parser.add_argument("--student", help="a model file; otherwise a short training makes one")
    parser.add_argument("--kimg", type=float, help="of that training")
    parser.add_argument("--num-images", type=int, default=512)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    name, ratio, kimg, experiment = RECIPES[asked.family]
    teacher = limbeck.load(TEACHERS / f"{name}.safetensors")
    data = limbeck.data.robohash(kind="cats", resolution=32)
    if asked.student:
        student = limbeck.load(asked.student)
    else:
        pruned = limbeck.prune(teacher, "l1", ratio=ratio)
        kimg = kimg if asked.kimg is None else asked.kimg
        settings = {"experiment": experiment, "distillation.decay_kimg": kimg / 2}
        student = limbeck.distil(teacher, pruned, data, kimg=kimg, **settings)
    with tempfile.TemporaryDirectory() as folder:
        chain = links(teacher, student, asked.family == "denoiser")
        print(markdown(table(chain, data, asked.num_images, Path(folder))))


if __name__ == "__main__":
    main()
