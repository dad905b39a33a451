//! `glue.js`, as Rust sees it.

use wasm_bindgen::prelude::*;
use worker::js_sys::{Float64Array, Promise, Uint8Array};

/// What `callCore` and its like return instead of a response's length.
pub(crate) mod outcome {
    pub(crate) const NO_ROOM: i32 = -2;
    pub(crate) const OUT_OF_MEMORY: i32 = -3;
    pub(crate) const MALFORMED: i32 = -4;
    pub(crate) const UNKNOWN: i32 = -5;
}

#[wasm_bindgen(raw_module = "./glue.js")]
extern "C" {
    #[wasm_bindgen(js_name = openCore)]
    pub(crate) fn open_core(which: u32) -> u32;
    #[wasm_bindgen(js_name = keepCores)]
    pub(crate) fn keep_cores(policy: u32, inference: u32);
    #[wasm_bindgen(js_name = closeCore)]
    pub(crate) fn close_core(core: u32);
    #[wasm_bindgen(js_name = loadCore)]
    pub(crate) fn load_core(core: u32, content: &[u8]) -> i32;
    #[wasm_bindgen(js_name = callCore)]
    pub(crate) fn call_core(core: u32, request: &[u8], into: &mut [u8]) -> i32;
    #[wasm_bindgen(js_name = coreLoaded)]
    pub(crate) fn core_loaded(core: u32, index: u32) -> i32;
    #[wasm_bindgen(js_name = takeResponse)]
    pub(crate) fn take_response(core: u32, into: &mut [u8]);
    #[wasm_bindgen(js_name = dropCore)]
    pub(crate) fn drop_core(core: u32);
    #[wasm_bindgen(js_name = coreFault)]
    pub(crate) fn core_fault() -> String;
    #[wasm_bindgen(js_name = coreContent)]
    pub(crate) fn core_content(core: u32, index: u32) -> Option<Uint8Array>;
    #[wasm_bindgen(js_name = coreIdentity)]
    pub(crate) fn core_identity(which: u32) -> Uint8Array;
    #[wasm_bindgen(js_name = coreFigures)]
    pub(crate) fn core_figures() -> Float64Array;
    #[wasm_bindgen(js_name = bakedCatalog)]
    pub(crate) fn baked_catalog() -> String;
    #[wasm_bindgen(js_name = moduleManifest)]
    pub(crate) fn module_manifest() -> String;

    #[wasm_bindgen(js_name = setting)]
    pub(crate) fn setting(env: &JsValue, name: &str) -> Option<String>;
    #[wasm_bindgen(js_name = settingNames)]
    pub(crate) fn setting_names(env: &JsValue) -> String;

    #[wasm_bindgen(js_name = keep)]
    pub(crate) fn keep(name: &str, bytes: &[u8]);
    #[wasm_bindgen(js_name = recall)]
    pub(crate) fn recall(name: &str) -> Option<Uint8Array>;

    #[wasm_bindgen(catch, js_name = respond)]
    pub(crate) fn respond(status: u16, headers: &str, body: &[u8]) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(catch, js_name = respondText)]
    pub(crate) fn respond_text(status: u16, headers: &str, body: &str) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(js_name = hasBinding)]
    pub(crate) fn has_binding(env: &JsValue, name: &str) -> bool;
    /// Bytes, nothing, or what went wrong. It never rejects.
    #[cfg(feature = "fetched")]
    #[wasm_bindgen(js_name = readKv)]
    pub(crate) fn read_kv(env: &JsValue, key: &str, age: u32) -> Promise;
    #[cfg(feature = "fetched")]
    #[wasm_bindgen(js_name = readBucket)]
    pub(crate) fn read_bucket(env: &JsValue, key: &str) -> Promise;
    #[wasm_bindgen(js_name = isAddress)]
    pub(crate) fn is_address(text: &str) -> bool;
    /// `[status, headers, body]`; a status of 0 stands for no answer, -1 for none in time. It never rejects.
    #[wasm_bindgen(js_name = fetchOrigin)]
    pub(crate) fn fetch_origin(
        service: &JsValue,
        url: &str,
        headers: &str,
        body: &[u8],
        timeout: f64,
        limit: f64,
    ) -> Promise;
    /// A boolean. It never rejects.
    #[wasm_bindgen(js_name = verifyJwk)]
    pub(crate) fn verify_jwk(algorithm: &str, key: &str, input: &[u8], signature: &[u8]) -> Promise;
    /// A boolean. It never rejects.
    #[wasm_bindgen(js_name = verifyEd25519)]
    pub(crate) fn verify_ed25519(key: &[u8], statement: &[u8], signature: &[u8]) -> Promise;
    #[wasm_bindgen(js_name = random)]
    pub(crate) fn random(into: &mut [u8]);
}
