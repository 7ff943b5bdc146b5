//! The binary. All of it is a library, so that the fuzz targets can reach it.

fn main() -> std::process::ExitCode {
    jwtrail::main()
}
