use std::process::ExitCode;

fn main() -> ExitCode {
    seawall_coordinator::main()
}
