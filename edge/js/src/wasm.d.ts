// What a `.wasm` file is to those who import it.
declare module "*.wasm" {
  const module: WebAssembly.Module;
  export default module;
}
