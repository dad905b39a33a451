#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    lockgate_fuzz::targets::onnx(data);
});

// Inputs are changed as what they are; without that, nearly all would be refused at the door.
libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    lockgate_fuzz::change(lockgate_fuzz::targets::wire::changed_file, data, size, max_size, seed)
        .unwrap_or_else(|| libfuzzer_sys::fuzzer_mutate(data, size, max_size))
});
