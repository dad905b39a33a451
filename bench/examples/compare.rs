//! Two builds of a module (or more) against each other on one package, in turns in one process, and native onnxruntime if asked:
//!
//!     cargo run -p lockgate-bench --example compare -- ROWS POOL PACKAGE ROW_SHAPE [ONNX LIBRARY] -- A.wasm B.wasm …
//!
//! `POOL` holds rows of little-endian f32; `ROW_SHAPE` is written `20x17`. A figure is the time of one call without writing the
//! request; compare columns, and repeat.

#![expect(clippy::print_stdout, reason = "a program for people")]

use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};
use lockgate_abi::{Reply, write_predict_request};
use lockgate_package::{Datatype, TensorView};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, Linker, Memory, PoolingAllocationConfig, Store, TypedFunc,
};

const TURN: u128 = 4_000_000;
const ROUNDS: usize = 60;
const REQUESTS: usize = 512;

struct Module {
    store: Store<()>,
    memory: Memory,
    entry: TypedFunc<u32, u32>,
    input: u32,
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{error:#}")
}

impl Module {
    fn new(path: &str, package: &[u8], room: usize) -> Result<Self> {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_core_instances(2)
            .total_tables(8)
            .total_memories(2)
            .table_elements(20_000)
            .max_memory_size(128 << 20);
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .wasm_relaxed_simd(false)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config).map_err(failed)?;
        let module = wasmtime::Module::new(&engine, std::fs::read(path)?).map_err(failed)?;
        if let Some(dump) = std::env::var_os("DUMP") {
            println!("{:?} {:?}", module.image_range(), module.text().as_ptr());
            std::fs::write(dump, module.text())?;
        }
        let mut store = Store::new(&engine, ());
        store.set_epoch_deadline(u64::MAX / 2);
        // What the compiler wrote still imports what components are made with; a released module imports nothing.
        let mut linker = Linker::new(&engine);
        linker.define_unknown_imports_as_traps(&module).map_err(failed)?;
        let instance = linker.instantiate(&mut store, &module).map_err(failed)?;
        let memory = instance.get_memory(&mut store, "memory").context("no memory")?;
        let mut function = |name| instance.get_typed_func::<u32, u32>(&mut store, name).map_err(failed);
        let (reserve, load, entry) =
            (function("lockgate_reserve")?, function("lockgate_load")?, function("lockgate_predict")?);
        let empty = memory.data_size(&store);
        let at = reserve.call(&mut store, package.len() as u32).map_err(failed)?;
        memory.write(&mut store, at as usize, package)?;
        let answer = load.call(&mut store, package.len() as u32).map_err(failed)?;
        if let Reply::Failed(failure) = Reply::read(memory.data(&store), answer)? {
            bail!("{failure:?}");
        }
        let loaded = memory.data_size(&store);
        let input = reserve.call(&mut store, room as u32).map_err(failed)?;
        println!(
            "{path}: package {} KB, memory {} KB, then {} KB",
            package.len() / 1024,
            empty / 1024,
            loaded / 1024
        );
        Ok(Self { store, memory, entry, input })
    }

    fn call(&mut self, request: &[u8]) -> Result<u32> {
        self.memory.write(&mut self.store, self.input as usize, request)?;
        self.entry.call(&mut self.store, request.len() as u32).map_err(failed)
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (front, modules) = arguments.split_at(arguments.iter().position(|it| it == "--").context("no --")?);
    let [rows, pool, package, shape, peer @ ..] = front else { bail!("arguments are missing") };
    let rows: usize = rows.parse()?;
    let pool: Vec<f32> =
        std::fs::read(pool)?.as_chunks::<4>().0.iter().map(|it| f32::from_le_bytes(*it)).collect();
    let package = std::fs::read(package)?;
    let row_shape: Vec<i64> = shape.split('x').map(str::parse).collect::<Result<_, _>>()?;
    let row_len = row_shape.iter().product::<i64>() as usize;
    let shape: Vec<i64> = [rows as i64].into_iter().chain(row_shape).collect();
    let count = pool.len() / row_len;
    let slice = |call: usize| {
        let first = if rows == 1 { call % count } else { call * 37 % (count - rows + 1) };
        &pool[first * row_len..(first + rows) * row_len]
    };
    let mut requests = Vec::new();
    for call in 0..if rows == 1 { REQUESTS * 8 } else { 16 } {
        let data: Vec<u8> = slice(call).iter().flat_map(|value| value.to_le_bytes()).collect();
        let input = TensorView { name: "input", datatype: Datatype::Fp32, shape: &shape, data: &data };
        let mut request = Vec::new();
        write_predict_request(&mut request, 0, &[input], &[])?;
        requests.push(request);
    }
    let room = requests[0].len();
    let mut modules: Vec<(String, Module)> = modules[1..]
        .iter()
        .map(|path| Ok((path.clone(), Module::new(path, &package, room)?)))
        .collect::<Result<_>>()?;
    let mut session = match peer {
        [onnx, library] => {
            let environment = ort::init_from(library)?.with_telemetry(false).build().map_err(failed)?;
            let builder = ort::session::Session::builder(&environment)
                .map_err(failed)?
                .with_intra_threads(1)
                .map_err(failed)?;
            Some(builder.with_inter_threads(1).map_err(failed)?.commit_from_file(onnx).map_err(failed)?)
        }
        _ => None,
    };
    // What every module answers, to see that they agree.
    let mut answers: Vec<Vec<u8>> = Vec::new();
    for (_, module) in &mut modules {
        let at = module.call(&requests[3])?;
        let Reply::Done(response) = Reply::read(module.memory.data(&module.store), at)? else {
            bail!("refused")
        };
        let outputs = response.outputs().map(|output| output.map(|output| output.data.to_vec()));
        answers.push(outputs.collect::<Result<Vec<_>, _>>()?.concat());
    }
    println!("answers equal: {}", answers.windows(2).all(|two| two[0] == two[1]));
    let names: Vec<String> = modules
        .iter()
        .map(|(name, _)| name.clone())
        .chain(session.is_some().then(|| "onnxruntime".to_owned()))
        .collect();
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); names.len()];
    let mut call = 0;
    let mut turn = |which: usize, calls: usize| -> Result<u128> {
        let started = Instant::now();
        for _ in 0..calls {
            call += 1;
            if let Some((_, module)) = modules.get_mut(which) {
                module.call(&requests[call % requests.len()])?;
            } else if let Some(session) = &mut session {
                let input = ort::value::TensorRef::from_array_view((&shape[..], slice(call)))?;
                std::hint::black_box(session.run(ort::inputs![input])?);
            }
        }
        Ok(started.elapsed().as_nanos())
    };
    let mut calls = Vec::new();
    for which in 0..names.len() {
        turn(which, 3)?;
        let once = turn(which, 3)? / 3;
        calls.push((TURN / once.max(1)).max(1) as usize);
    }
    for _ in 0..ROUNDS {
        for which in 0..names.len() {
            times[which].push(turn(which, calls[which])? as f64 / calls[which] as f64 / 1000.0);
        }
    }
    let mut first = None;
    for (name, times) in names.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        let (least, quarter, half) = (times[0], times[times.len() / 4], times[times.len() / 2]);
        let base = *first.get_or_insert((least, quarter));
        println!(
            "{name:>40}: least {least:9.2}  quarter {quarter:9.2}  median {half:9.2} µs   ×{:.3} ×{:.3}",
            base.0 / least,
            base.1 / quarter
        );
    }
    Ok(())
}
