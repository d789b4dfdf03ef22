#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| skn_fuzz::gguf(bytes));
