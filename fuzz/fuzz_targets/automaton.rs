#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    lockgate_fuzz::targets::automaton(data);
});

// Most numbers of an automaton may only be a few others.
libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    lockgate_fuzz::change(lockgate_fuzz::targets::changed_automaton, data, size, max_size, seed)
        .unwrap_or_else(|| libfuzzer_sys::fuzzer_mutate(data, size, max_size))
});
