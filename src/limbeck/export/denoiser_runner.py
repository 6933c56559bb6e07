"""Draw images from a denoiser that was exported to .onnx or .xml (OpenVINO), with NumPy and that runtime alone.

    python student_sampler.py student.onnx images.npy --num-images 16 --steps 50 --seed 0

DDIM: Song et al., "Denoising Diffusion Implicit Models", 2021, Eq. 12 and 16. The noise schedule lies in the file.
"""

import argparse
import json
import math

import numpy as np


def opened(path):
    """(estimate of the noise: image float32 [n, c, h, w], time step int64 [n] -> same shape; facts of sampling)."""
    if str(path).endswith(".xml"):
        import openvino

        read = openvino.Core().read_model(str(path))
        compiled = openvino.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        facts = read.get_rt_info(["sampling"]).value
        return lambda image, step: compiled({"noisy_image": image, "timestep": step})[0], json.loads(facts)
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map["sampling"]
    return lambda image, step: session.run(None, {"noisy_image": image, "timestep": step})[0], json.loads(facts)


def time_grid(steps, kind, total):
    """Ascending time steps: evenly spread from 0, or the squares of numbers evenly spread up to sqrt(0.8 total)."""
    if kind == "uniform":
        return [index * total // steps for index in range(steps)]
    end = math.sqrt(total * 0.8)
    roots = [index * (end / max(1, steps - 1)) for index in range(steps - 1)] + [end if steps > 1 else 0.0]
    return [int(root**2) for root in roots]


def sample(estimate, facts, noise, steps=100, grid="uniform", eta=0.0, clip_sample=False, seed=0):
    """Images in [-1, 1] from standard normal noise [n, c, h, w]. eta: 0 repeats exactly, 1 adds noise as DDPM does."""
    times, numbers = time_grid(steps, grid, len(facts["alpha_bar"])), np.random.default_rng(seed)
    shares = [facts["alpha_bar"][time] for time in times]
    image = noise.astype(np.float32)
    for time, now, after in zip(times[::-1], shares[::-1], [1.0, *shares[:-1]][::-1], strict=True):
        guess = estimate(image, np.full(len(image), time, np.int64))
        clean = (image - math.sqrt(1 - now) * guess) / math.sqrt(now) if now else np.zeros_like(image)
        clean = clean.clip(-1, 1) if clip_sample else clean
        sigma = eta * math.sqrt((1 - after) / (1 - now)) * math.sqrt(max(0.0, 1 - now / after))
        image = math.sqrt(after) * clean + math.sqrt(max(0.0, 1 - after - sigma**2)) * guess
        if sigma > 0:
            image = image + sigma * numbers.standard_normal(image.shape, dtype=np.float32)
    return image.clip(-1, 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="the .onnx or .xml file")
    parser.add_argument("output", help="the .npy file to write: float32 [n, c, h, w] in [-1, 1]")
    for name, default in {"num-images": 16, "steps": 100, "seed": 0, "eta": 0.0}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--grid", choices=["uniform", "quadratic"], default="uniform")
    parser.add_argument("--clip-sample", action="store_true", help="keep estimates of the image within [-1, 1]")
    asked = parser.parse_args()
    estimate, facts = opened(asked.model)
    start = np.random.default_rng(asked.seed).standard_normal((asked.num_images, *facts["shape"]), dtype=np.float32)
    how = {name: getattr(asked, name) for name in ("steps", "grid", "eta", "clip_sample", "seed")}
    np.save(asked.output, sample(estimate, facts, start, **how))
