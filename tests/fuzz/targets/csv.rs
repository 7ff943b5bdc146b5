//! libFuzzer's way to the target `csv` of `jwtrail::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jwtrail::fuzz::run("csv", data));
