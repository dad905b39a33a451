// The same forest in a Worker on onnxruntime-web: it reads the request's JSON, runs the model and writes the outputs. No decision, no checks.

import model from "./model.onnx";
import * as ort from "./ort.js";
import module from "./ort.wasm";

// workerd compiles no bytes at run time, so what onnxruntime-web would compile is imported.
WebAssembly.instantiate = async (_, imports) => ({ module, instance: new WebAssembly.Instance(module, imports) });
ort.env.wasm.wasmBinary = new ArrayBuffer(8);
ort.env.wasm.numThreads = 1;
ort.env.logLevel = "error";

let session;

export default {
  async fetch(request) {
    const { inputs: [input] } = await request.json();
    session ??= ort.InferenceSession.create(new Uint8Array(model), { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
    const found = await (await session).run({ [input.name]: new ort.Tensor("float32", Float32Array.from(input.data), input.shape) });
    const outputs = Object.entries(found).map(([name, { dims, data, type }]) => {
      const values = type === "int64" ? Array.from(data, Number) : Array.from(data);
      return { name, datatype: type === "int64" ? "INT64" : "FP32", shape: dims, data: values };
    });
    return Response.json({ model_name: "forest", outputs });
  },
};
