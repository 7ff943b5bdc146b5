//! libFuzzer's way to the target `mmdb` of `jwtrail::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jwtrail::fuzz::run("mmdb", data));
