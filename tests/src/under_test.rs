//! The program under test, built with this package, so that its tests can name its file.

fn main() -> std::process::ExitCode {
    shellkeep::cmd::main()
}
