//! libFuzzer's way to the target `engine_request` of `jwtrail::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jwtrail::fuzz::run("engine_request", data));
