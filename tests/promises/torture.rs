//! The torture runs, as short as they can be and still meet every kind of moment. Long ones: `cargo run -rp torture`.

use anyhow::Result;
use torture::ordeal::kill::Who;
use torture::ordeal::{Every, Run, adopt, kill, log, sockrm, stop};

const SHORT: Every = Every { from_ms: 1, to_ms: 25 };

/// F1. In a build for tests a daemon takes longer to come up: some are killed before, most while they stream.
#[test]
fn killed_daemons_lose_nothing() -> Result<()> {
    kill::kill(&Run::small(60), Who::Daemon, Every { from_ms: 5, to_ms: 50 }).map(drop)
}

/// F2: every byte that the terminal showed is in the record.
#[test]
fn what_a_terminal_showed_is_recorded_whoever_kills_the_keeper() -> Result<()> {
    kill::kill(&Run::small(12), Who::Keeper, SHORT).map(drop)
}

/// F2, with the daemon killed before or after the keeper.
#[test]
fn what_a_terminal_showed_is_recorded_whoever_kills_keeper_and_daemon() -> Result<()> {
    kill::kill(&Run::small(12), Who::Both, SHORT).map(drop)
}

#[test]
fn killed_terminals_cost_neither_session_nor_tty() -> Result<()> {
    kill::kill(&Run::small(15), Who::Terminal, SHORT).map(drop)
}

/// F3: of several daemons one adopts; a bad spool stays where it is, and holds up no other.
#[test]
fn orphan_spools_are_adopted_once_beside_a_bad_one() -> Result<()> {
    adopt::adopt(&Run::small(6)).map(drop)
}

/// F10: file, directory, symlink, FIFO, a dead socket, nothing.
#[test]
fn whatever_lies_at_the_sockets_path_is_respected_and_the_daemon_bound_again() -> Result<()> {
    sockrm::sockrm(&Run::small(6)).map(drop)
}

/// F4.
#[test]
fn a_wiped_log_is_written_again_from_what_the_keeper_has() -> Result<()> {
    log::wipe(&Run::small(3)).map(drop)
}

/// F25: cut or deleted under the daemon that writes it.
#[test]
fn a_log_that_is_cut_or_deleted_under_the_daemon_is_completed_again() -> Result<()> {
    log::yank(&Run::small(4)).map(drop)
}

/// F13, in small pieces.
#[test]
fn a_daemon_that_stutters_is_not_replaced_and_has_everything() -> Result<()> {
    stop::stutter(&Run::small(25)).map(drop)
}

/// F5.
#[test]
fn a_log_set_back_to_an_old_copy_is_completed_again() -> Result<()> {
    log::rollback(&Run::small(3)).map(drop)
}
