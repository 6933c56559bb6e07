# Limbeck on a CPU: docker build -t limbeck . && docker run --rm -v "$PWD/outputs:/data/outputs" limbeck train
# --build-arg PIP_EXTRA_INDEX_URL=… with the index of PyTorch's CPU builds leaves out several GB of CUDA.
FROM python:3.11-slim AS build
COPY . /source
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source

FROM python:3.11-slim
ARG PIP_EXTRA_INDEX_URL
COPY constraints.txt /wheels/
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir -c /wheels/constraints.txt "$(echo /wheels/limbeck-*.whl)[onnx,openvino]"
WORKDIR /data
ENTRYPOINT ["limbeck"]
CMD ["--help"]
