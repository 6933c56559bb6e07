"""OpenVINO's format: `student.xml` with `student.bin` beside it, for Intel's runtime.

    compiled = openvino.Core().compile_model("student.xml", "CPU")
    image = compiled({"latent": latents})[0]

Inputs are as in `torch_export`; any number of images.
"""

import json
import tempfile
from pathlib import Path

from limbeck.errors import UserError
from limbeck.export.base import inference_copy, require_close
from limbeck.export.onnx import write_onnx
from limbeck.export.quality import Compared, quality_lines
from limbeck.export.runtimes import OpenVino as Runtime
from limbeck.export.sampler import keep_sampler, sampling_facts
from limbeck.export.torch_export import facts
from limbeck.files import written_aside
from limbeck.model import Model


class OpenVino(Compared):
    """Converts the ONNX file and compares it as OpenVINO runs it; `terms`, `history` and `quality` are facts in it.

    Outputs must equal the source's all the same.
    """

    def __call__(self, model: Model, path: str | Path) -> Path:
        Runtime().require()
        path = Path(path)
        if path.suffix != ".xml":
            raise UserError(f"output={path}: must end in .xml; the weights come beside it as .bin")
        import openvino

        with tempfile.TemporaryDirectory() as folder:
            source, whole = Path(folder, "a.onnx"), Path(folder, "a.xml")
            write_onnx(model, source)
            network, converted = inference_copy(model.generator), openvino.convert_model(str(source))
            program = Runtime().program(source)
            require_close(program, network, what=f"{path}: generator")
            found = self.quality(program, network, path)
            for name, text in {**facts(model), **sampling_facts(network), "quality": json.dumps(found)}.items():
                converted.set_rt_info(text, [name])
            openvino.save_model(converted, whole, compress_to_fp16=False)
            program = Runtime().program(whole)
            require_close(program, network, what=f"{path}: generator")
            keep_sampler(path, whole, program, network)
            for ending in (".bin", ".xml"):  # the weights first: whoever sees the .xml has both
                with written_aside(path.with_suffix(ending)) as aside:
                    aside.write_bytes(whole.with_suffix(ending).read_bytes())
        print("\n".join(quality_lines(found)))
        return path
