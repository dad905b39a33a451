//! `regorus` with the three rules of the benchmark: `reserve`, then `load` a policy or `decide` for an input, JSON.

use std::cell::RefCell;

use regorus::{Engine, Value};

#[derive(Default)]
struct State {
    input: Vec<u8>,
    output: String,
    engine: Option<Engine>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

fn text(state: &State, len: usize) -> &str {
    std::str::from_utf8(&state.input[..len]).expect("the input is UTF-8")
}

/// The address of a buffer of at least `len` bytes.
#[unsafe(no_mangle)]
pub extern "C" fn reserve(len: usize) -> usize {
    STATE.with_borrow_mut(|state| {
        state.input.resize(len, 0);
        state.input.as_ptr().addr()
    })
}

/// Takes the policy that lies in the buffer.
#[unsafe(no_mangle)]
pub extern "C" fn load(len: usize) {
    STATE.with_borrow_mut(|state| {
        let mut engine = Engine::new();
        engine.add_policy("policy.rego".to_owned(), text(state, len).to_owned()).expect("the policy is Rego");
        state.engine = Some(engine);
    });
}

/// Decides for the input that lies in the buffer, and returns the answer's address and length.
#[unsafe(no_mangle)]
pub extern "C" fn decide(len: usize) -> u64 {
    STATE.with_borrow_mut(|state| {
        let input = Value::from_json_str(text(state, len)).expect("the input is JSON");
        let engine = state.engine.as_mut().expect("a policy is loaded");
        engine.set_input(input);
        let answer = engine.eval_rule("data.route.variant".to_owned()).expect("the rule is there");
        state.output.clear();
        state.output.push_str(answer.as_string().expect("the answer is a text"));
        (state.output.as_ptr().addr() as u64) << 32 | state.output.len() as u64
    })
}
