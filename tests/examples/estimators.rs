//! What becomes of each model of a folder that `tests/estimators/generate.py` wrote, a line each: to find out quickly what is wrong.
//!
//!     cargo run -p lockgate-tests --example estimators FOLDER [PART OF A NAME]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for people at a terminal")]

use std::path::PathBuf;

#[path = "../tests/estimators/cases.rs"]
mod cases;
#[expect(dead_code, reason = "nothing is sent to wasmtime here")]
#[path = "../tests/support/mod.rs"]
mod support;

use support::{Outcome, names};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap());
    let wanted = arguments.next().unwrap_or_default();
    let (mut passed, mut tabular, mut failed) = (0, 0, 0);
    for name in names(&folder).into_iter().filter(|name| name.contains(&wanted)) {
        match cases::run(&folder, &name) {
            Outcome::Passed(cases::Passed { model, largest }) => {
                passed += 1;
                let engine = format!("{:?}", model.engine()).to_lowercase();
                tabular += usize::from(engine == "tabular");
                println!(
                    "passed {name} {engine} {largest:.1e} {} {}",
                    model.package.len(),
                    model.exchanges.len()
                );
            }
            Outcome::Refused(problem) => {
                failed += 1;
                println!("refused {name} {}", problem.replace('\n', " | "));
            }
            Outcome::Wrong(problem) => {
                failed += 1;
                println!("wrong {name} {problem}");
            }
        }
    }
    println!("{passed} pass, {tabular} of them in the tabular engine; {failed} do not");
}
