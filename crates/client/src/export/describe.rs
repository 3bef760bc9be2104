//! Words for people on what is in a record: durations, statuses, what is missing.

use shellkeep_protocol::query::{CommandInfo, SessionInfo};

/// How long something took, for people.
pub fn duration(us: u64) -> String {
    let (seconds, tenths) = (us / 1_000_000, us % 1_000_000 / 100_000);
    match seconds {
        0 if us < 100_000 => format!("{} ms", us / 1000),
        0..60 => format!("{seconds}.{tenths} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// How a command ended and how long it took.
pub fn status(command: &CommandInfo) -> String {
    let took = command.ended_at_us.map(|end| duration(end.saturating_sub(command.started_at_us)));
    match (command.exit, took) {
        (Some(exit), Some(took)) => format!("exit {exit}, {took}"),
        (None, Some(took)) => format!("exit unknown, {took}"),
        (_, None) => "no end recorded".to_owned(),
    }
}

/// What a session is called: its name, else its program.
pub fn title(session: &SessionInfo) -> String {
    let command = session.attrs.command.join(" ");
    match &session.attrs.name {
        Some(name) => name.clone(),
        None if command.is_empty() => session.session.to_string(),
        None => command,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn durations_are_short_and_true() {
        let told = [0, 12_345, 340_000, 3_140_000, 61_000_000, 7_260_000_000].map(super::duration);
        assert_eq!(told, ["0 ms", "12 ms", "0.3 s", "3.1 s", "1 min 01 s", "2 h 01 min"]);
    }
}
