"""ONNX with fewer bits: float16 weights, or int8 convolutions with scales found on the model's own inputs.

What such a file draws is no longer what its source draws, so both are compared on latents that no scale was found on:
by pixels, and by a protocol's distance between images of the same latents. A file that is too far off is not kept.
"""

import inspect
import json
import tempfile
from abc import abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.errors import UserError
from limbeck.evaluation.sampling import sample
from limbeck.export.base import Exporter, inference_copy
from limbeck.export.onnx import require_onnx, write_onnx
from limbeck.export.runtimes import OnnxRuntime, Program
from limbeck.files import written_aside
from limbeck.metrics.accumulated import PairMetric
from limbeck.model import Model

CALIBRATION_SEED, TRIAL_SEED = 1, 2
STEPS = 10  # of a denoiser, whose inputs on the way from noise to image are what it will see


class Compact(Exporter):
    """Writes a smaller `.onnx` file; `quality` in its metadata says how far its images are from the source's.

    most_error: root mean square difference to the source's output, as a share of that output's own.
    num_images: to compare by. judge: of images, None for pixels only; denoisers are compared by their estimates.
    """

    def __init__(self, *, most_error: float, num_images: int = 64, judge: PairMetric | None = None) -> None:
        self.most_error, self.num_images, self.judge = most_error, num_images, judge

    @abstractmethod
    def convert(self, source: Path, target: Path, inputs: list[dict[str, Tensor]]) -> None:
        """Write the smaller file. inputs: of forward passes, to find scales on."""

    def __call__(self, model: Model, path: str | Path) -> Path:
        require_onnx()
        import onnx

        network = inference_copy(model.generator)
        with tempfile.TemporaryDirectory() as folder, written_aside(path) as aside:
            source, target = Path(folder, "a.onnx"), Path(folder, "b.onnx")
            write_onnx(model, source)
            self.convert(source, target, recorded_inputs(network, self.num_images, CALIBRATION_SEED))
            trial = recorded_inputs(network, self.num_images, TRIAL_SEED)
            quality = self.compared(OnnxRuntime().program(target), network, trial)
            if not quality["error"] <= self.most_error:
                raise UserError(
                    f"{path}: not kept, its output is {quality['error']:.1%} off the source's; most_error is "
                    f"{self.most_error:.1%}"
                )
            made = onnx.load(target)
            onnx.helper.set_model_props(made, {**_props(source), "quality": json.dumps(quality)})
            onnx.save(made, aside)
        print(", ".join(f"{name} {value:.3g}" for name, value in quality.items()))
        return Path(path)

    def compared(self, written: Program, network: Network, inputs: list[dict[str, Tensor]]) -> dict[str, float]:
        """`error`, and where the output is an image the judge's distance between the two sets."""
        with torch.no_grad():
            expected = torch.cat([network(**part) for part in inputs])
        found = torch.cat([written(part) for part in inputs])
        quality = {"error": ((found - expected).square().mean() / expected.square().mean()).sqrt().item()}
        if self.judge is not None and "steps" not in network.draw_settings:
            self.judge.reset()
            self.judge.update(found.clamp(-1, 1), expected.clamp(-1, 1))
            quality |= {name: float(value) for name, value in self.judge.compute().items()}
        return quality


class Float16(Compact):
    """Weights and sums in float16, inputs and outputs in float32. Half the size; faster where the hardware has it."""

    def convert(self, source: Path, target: Path, inputs: list[dict[str, Tensor]]) -> None:
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16

        onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)


class Int8(Compact):
    """Convolutions in int8: one scale per output channel of the weights, one per tensor of the activations."""

    def convert(self, source: Path, target: Path, inputs: list[dict[str, Tensor]]) -> None:
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Given(CalibrationDataReader):
            def __init__(self) -> None:
                self.rest = iter([{name: value.numpy() for name, value in part.items()} for part in inputs])

            def get_next(self) -> Any:
                return next(self.rest, None)

        prepared = source.with_name("prepared.onnx")
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            Given(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            op_types_to_quantize=["Conv"],
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def recorded_inputs(network: Network, num_images: int, seed: int, batch_size: int = 16) -> list[dict[str, Tensor]]:
    """What the network is given while it draws `num_images`: latents, or noisy images with their time; float32, CPU."""
    names, found = list(network.example_inputs(1)), []
    takes = inspect.signature(network.forward)

    def note(_: Any, positional: tuple, named: dict[str, Any]) -> None:
        given = takes.bind(*positional, **named).arguments
        example = network.example_inputs(1)
        part = {name: given[name] if isinstance(given.get(name), Tensor) else example[name] for name in names}
        size = max(len(value) for value in part.values())
        found.append({name: value.expand(size, *value.shape[1:]).contiguous().cpu() for name, value in part.items()})

    hook = network.register_forward_pre_hook(note, with_kwargs=True)
    try:
        sample(Model(network), num_images, seed=seed, steps=STEPS, batch_size=batch_size)
    finally:
        hook.remove()
    return found


def _props(path: Path) -> dict[str, str]:
    import onnx

    return {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
