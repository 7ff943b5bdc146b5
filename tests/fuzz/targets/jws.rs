//! libFuzzer's way to the target `jws` of `jwtrail::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jwtrail::fuzz::run("jws", data));
