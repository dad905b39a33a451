//! `lockgate-worker-bindgen SHELL.wasm FOLDER`: writes `shell.js` and `shell_bg.wasm`, which `worker.js` imports, into the folder.
//!
//! It is the `wasm-bindgen` program's library, so that nothing has to be installed and its version is the one in the lock file.

use std::env::args_os;

use anyhow::{Context, Result};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<()> {
    let mut arguments = args_os().skip(1);
    let (Some(shell), Some(folder), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: lockgate-worker-bindgen SHELL.wasm FOLDER");
    };
    let mut bindgen = Bindgen::new();
    bindgen
        .input_path(&shell)
        .out_name("shell")
        .module(true)?
        .typescript(false)
        .remove_name_section(true)
        .remove_producers_section(true)
        // A shell that trapped is made anew by `worker.js`, through the functions that these add.
        .reset_state_function(true)
        .force_enable_abort_handler(true);
    bindgen.generate(&folder).with_context(|| format!("cannot process {}", shell.display()))
}
