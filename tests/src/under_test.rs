//! The program under test: the released one, with pause points compiled in.

fn main() -> std::process::ExitCode {
    shellkeep::cmd::main()
}
