#!/bin/sh
# Makes models/*.lgp and models/policy.lgb, which src/worker.ts imports. LOCKGATE names the program, PARTS the folder of the models.
set -eu
lockgate=${LOCKGATE:-lockgate}
parts=${PARTS:-../../../../examples/eurusd/models}
for model in eurusd_lr eurusd_gb; do
  "$lockgate" package "$parts/$model.onnx" --manifest "$parts/$model.manifest.yaml" --output "models/$model.lgp"
done
"$lockgate" policy compile policy.yaml --packages models --output models/policy.lgb
