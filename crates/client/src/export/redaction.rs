//! Secrets of known shapes on their way into an export: left out, wherever records cut them.
//!
//! Promises that everything comes out once and in order, with its own time, and that only characters of secrets are
//! others; later by a line at the most. What was typed comes out where its line ended. Knows no form of an export.

use std::borrow::Cow;
use std::sync::Arc;

use shellkeep_daemon::index::secrets::{Secrets, Stream};

use crate::recording::{Moment, What};

/// What a piece of output carries along: its time, and what happened there if it is none.
type Along = (u64, Option<What>);

/// Moments on their way, in order.
pub struct Redaction {
    secrets: Arc<Secrets>,
    output: Stream<Along>,
    input: Stream<()>,
}

impl Redaction {
    /// Of a session whose window has so many columns.
    pub fn new(secrets: Arc<Secrets>, columns: u16) -> Self {
        let (output, input) = (secrets.stream(columns), secrets.stream(columns));
        Self { secrets, output, input }
    }

    /// A text that is whole: a command line, a directory, a name.
    pub fn line<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.secrets.text(text)
    }

    /// Takes the next moment; returns those that are done.
    pub fn take(&mut self, Moment { time_us, what }: Moment) -> Vec<Moment> {
        let mut done = Vec::new();
        let mut give = |along, bytes| push(&mut done, along, bytes);
        match what {
            What::Output(bytes) => self.output.feed((time_us, None), &bytes, give),
            What::Input(bytes) if !bytes.is_empty() => {
                let mut typed = Vec::new();
                self.input.feed((), &bytes, |(), bytes| typed.extend(bytes));
                if !typed.is_empty() {
                    self.output.feed((time_us, Some(What::Input(typed))), &[], give);
                }
            }
            other => {
                match &other {
                    What::Resized(columns, _) => {
                        self.output.resize(*columns);
                        self.input.resize(*columns);
                    }
                    What::Told(_) => self.output.interrupt(&mut give),
                    _ => {}
                }
                self.output.feed((time_us, Some(other)), &[], give);
            }
        }
        done
    }

    /// What is left at the end, which was at `time_us`.
    pub fn finish(mut self, time_us: u64) -> Vec<Moment> {
        let mut done = Vec::new();
        let mut typed = Vec::new();
        self.input.finish(|(), bytes| typed.extend(bytes));
        if !typed.is_empty() {
            self.output.feed((time_us, Some(What::Input(typed))), &[], |along, bytes| push(&mut done, along, bytes));
        }
        self.output.finish(|along, bytes| push(&mut done, along, bytes));
        done
    }
}

fn push(done: &mut Vec<Moment>, (time_us, what): Along, bytes: Vec<u8>) {
    done.push(Moment { time_us, what: what.unwrap_or(What::Output(bytes)) });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Output and input of all moments, each cut into pieces of `size` bytes.
    fn passed(output: &str, input: &str, size: usize) -> (String, String, bool) {
        let mut redaction = Redaction::new(Secrets::new(&[]).unwrap(), 80);
        let mut moments = Vec::new();
        for (at, bytes) in output.as_bytes().chunks(size).enumerate() {
            moments.extend(redaction.take(Moment { time_us: at as u64, what: What::Output(bytes.to_vec()) }));
        }
        let end = 1_000;
        for bytes in input.as_bytes().chunks(size) {
            moments.extend(redaction.take(Moment { time_us: end, what: What::Input(bytes.to_vec()) }));
        }
        moments.extend(redaction.take(Moment { time_us: end, what: What::Begins(7) }));
        moments.extend(redaction.finish(end));
        let in_order = moments.is_sorted_by_key(|moment| moment.time_us);
        let (mut seen, mut typed, mut begun) = (Vec::new(), Vec::new(), false);
        for moment in moments {
            match moment.what {
                What::Output(bytes) => seen.extend(bytes),
                What::Input(bytes) => typed.extend(bytes),
                other => begun |= other == What::Begins(7),
            }
        }
        (String::from_utf8(seen).unwrap(), String::from_utf8(typed).unwrap(), in_order && begun)
    }

    #[test]
    fn secrets_are_left_out_of_what_was_printed_and_typed_wherever_records_cut_them() {
        let secret = format!("{}_{}", "ghp", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
        let output = format!("before\r\ntoken is \x1b[31m{secret}\x1b[0m here\r\nbehind");
        for size in [1, 7, 4096] {
            let (seen, typed, in_order) = passed(&output, &format!("export X={secret}\r"), size);
            assert!(!seen.contains(&secret[8..]) && !typed.contains(&secret[8..]), "{seen:?} {typed:?}");
            assert!(
                seen.starts_with("before\r\ntoken is \x1b[31m") && seen.ends_with("\x1b[0m here\r\nbehind"),
                "{seen:?}"
            );
            assert!(typed.starts_with("export X=") && typed.ends_with('\r') && in_order, "{typed:?}");
        }
    }

    #[test]
    fn what_has_no_secret_passes_unchanged() {
        let (output, input) = ("one\r\n\x1b[1mtwo\x1b[0m\r 50%\r100%\r\n", "ls -l\rexit\r");
        for size in [1, 3, 100] {
            assert_eq!(passed(output, input, size), (output.to_owned(), input.to_owned(), true));
        }
    }
}
