//! The one binary: hands the command line to `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    passmint::cli::main()
}
