#!/bin/sh
# Packages the models, and bakes them with the policy into the modules of the Worker.
set -e
mkdir -p packages
for model in models/*.onnx; do
  [ -e "$model" ] || { echo "build.sh: there is no .onnx file in models/" >&2; exit 1; }
  lockgate package "$model" --manifest "${model%.onnx}.manifest.yaml" --output packages
done
lockgate bake --policy policy.yaml --package packages --out worker
