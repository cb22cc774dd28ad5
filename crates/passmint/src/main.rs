//! The one binary: hands the command line to `cli`.

use std::process::ExitCode;

/// Gives freed memory back to the system, which matters after the hashing pool has rested.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    passmint::cli::main()
}
