//! libFuzzer's way to the target `jwe` of `jwtrail::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jwtrail::fuzz::run("jwe", data));
