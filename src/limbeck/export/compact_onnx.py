"""ONNX with fewer bits: float16 weights, or int8 convolutions with scales found on inputs of the model.

What such a file draws is no longer what its source draws, so both are compared on latents that no scale was found on:
by pixels, and by a protocol's metrics. A file that is too far off is not kept.
"""

import json
import tempfile
from abc import abstractmethod
from pathlib import Path
from typing import Any

from limbeck.export.base import inference_copy
from limbeck.export.calibration import Calibration, OwnInputs, PassInputs
from limbeck.export.int8_graph import beside_an_image, with_factors_as_maps, without_transposed_convolutions
from limbeck.export.onnx import require_onnx, write_onnx
from limbeck.export.quality import Compared, quality_lines
from limbeck.export.runtimes import OnnxRuntime
from limbeck.export.sampler import keep_sampler
from limbeck.files import written_aside
from limbeck.model import Model

CALIBRATION_SEED = 1


class Compact(Compared):
    """Writes a smaller `.onnx` file; `quality` in its metadata says how far its images are from the source's.

    calibration: where scales are found; None where none are needed. compared: see `Compared`.
    """

    def __init__(self, *, calibration: Calibration | None = None, **compared: Any) -> None:
        super().__init__(**compared)
        self.calibration = calibration

    @abstractmethod
    def convert(self, source: Path, target: Path, inputs: PassInputs) -> None:
        """Write the smaller file. inputs: to find scales on."""

    def __call__(self, model: Model, path: str | Path) -> Path:
        require_onnx()
        import onnx

        path, network = Path(path), inference_copy(model.generator)
        inputs = self.calibration(network, self.data, self.num_images, CALIBRATION_SEED) if self.calibration else []
        with tempfile.TemporaryDirectory() as folder, written_aside(path) as aside:
            source, target = Path(folder, "a.onnx"), Path(folder, "b.onnx")
            write_onnx(model, source)
            self.convert(source, target, inputs)
            program = OnnxRuntime().program(target)
            found = self.quality(program, network, path)
            made = onnx.load(target)
            onnx.helper.set_model_props(made, {**_props(source), "quality": json.dumps(found)})
            onnx.save(made, aside)
            keep_sampler(path, aside, program, network)
        print("\n".join(quality_lines(found)))
        return path


class Float16(Compact):
    """Weights and sums in float16, inputs and outputs in float32. Half the size; faster where the hardware has it."""

    def convert(self, source: Path, target: Path, inputs: PassInputs) -> None:
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16

        onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)


class Int8(Compact):
    """Convolutions in int8: one scale per output channel of the weights, one per tensor of the activations.

    Those that read or write an image stay in float32: little work, and their rounding is seen in the picture.
    """

    def __init__(self, *, calibration: Calibration | None = None, **settings: Any) -> None:
        super().__init__(calibration=calibration or OwnInputs(), **settings)

    def convert(self, source: Path, target: Path, inputs: PassInputs) -> None:
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Given(CalibrationDataReader):
            def __init__(self) -> None:
                self.rest = iter([{name: value.numpy() for name, value in part.items()} for part in inputs])

            def get_next(self) -> Any:
                return next(self.rest, None)

        prepared = source.with_name("prepared.onnx")
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)  # makes constants of computed weights
        made = onnx.load(prepared)
        without_transposed_convolutions(made)
        onnx.save(made, prepared)
        quantize_static(
            str(prepared),
            str(target),
            Given(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=beside_an_image(made),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        made = onnx.load(target)
        with_factors_as_maps(made)
        onnx.save(made, target)


def _props(path: Path) -> dict[str, str]:
    import onnx

    return {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
