#!/bin/sh
# Remove from a worker's virtual environment the files that no worker reads: trim.sh VENV. About 400 MB of 1.5 GB.
set -eu
cd "$1"/lib/python3*/site-packages

# Torch's tests, C++ headers and build files, and the programs in bin/ except for the one that `import torch` looks up.
rm -rf torch/test torch/include torch/share
find torch/bin -mindepth 1 -maxdepth 1 ! -name torch_shm_manager -exec rm -rf {} +

# OpenVINO: a worker uses its CPU plugin and reads ONNX. Headers, plugins for Intel's GPUs and NPUs with their kernels,
# and the readers of other formats.
rm -rf openvino/include openvino/cmake openvino/libs/*_gpu_plugin* openvino/libs/*_npu_* openvino/libs/cache.json
for format in gguf jax paddle pytorch tensorflow tensorflow_lite; do
  rm -f openvino/libs/libopenvino_"$format"_frontend.so*
done

# The packages' own tests, onnx's test data, and zstandard's second implementation, for interpreters other than CPython.
rm -rf onnx/backend/test zstandard/_cffi.*.so
for package in mpmath networkx numpy sympy; do
  [ ! -d "$package" ] || find "$package" -type d -name tests -prune -exec rm -rf {} +
done

# botocore describes every service of AWS; s3:// needs S3 and what gives credentials for it.
if [ -d botocore/data ]; then
  find botocore/data -mindepth 1 -maxdepth 1 -type d \
    ! -name s3 ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -rf {} +
fi

# Bytecode of 400 model families: a worker compiles the one that it loads at its start.
[ ! -d transformers/models ] || find transformers/models -name __pycache__ -prune -exec rm -rf {} +
