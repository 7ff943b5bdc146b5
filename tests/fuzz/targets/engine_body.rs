//! libFuzzer's way to the target `engine_body` of `jwtrail::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jwtrail::fuzz::run("engine_body", data));
