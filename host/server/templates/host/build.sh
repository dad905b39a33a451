#!/bin/sh
# Packages the models. The server reads packages and policy again on SIGHUP.
set -e
mkdir -p packages
for model in models/*.onnx; do
  [ -e "$model" ] || { echo "build.sh: there is no .onnx file in models/" >&2; exit 1; }
  lockgate package "$model" --manifest "${model%.onnx}.manifest.yaml" --output packages
done
