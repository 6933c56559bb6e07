# Limbeck on a CPU: docker build -t limbeck . && docker run --rm -v "$PWD/outputs:/data/outputs" limbeck train
FROM python:3.11-slim
COPY . /source
RUN pip install --no-cache-dir -c /source/constraints.txt "/source[onnx,openvino]" \
 && rm -rf /source
WORKDIR /data
ENTRYPOINT ["limbeck"]
CMD ["--help"]
