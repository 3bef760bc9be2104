//! Where the program comes back to when it leaves the alternate screen, after the window has changed.
//!
//! Mode 1049 saves the cursor, and the emulator keeps what is saved where it was, though another size moves the lines
//! of the main screen: a shell would go on in the midst of older text. It does move the main screen's own cursor, which
//! stood at the same place. Terminals that people use restore that one. Pure: works on a dump.

/// Selects the alternate screen, in a dump.
const ALTERNATE: &str = "\x1b[?1047h";

/// Has a dump of an alternate screen save the cursor where the main screen's stands, with the attributes that were
/// saved; `None` if the main screen is the one that is shown.
pub fn at_main_cursor(dump: &str) -> Option<String> {
    let (main, alternate) = dump.split_once(ALTERNATE)?;
    // The last place that the cursor is sent to before that is where the main screen's stands.
    let places = main.rmatch_indices("\x1b[").filter_map(|(at, _)| Some((at, place(&main[at..])?)));
    let (at, place) = places.into_iter().next()?;
    let (before, behind) = main.split_at(at);
    // Restoring brings attributes and modes; the modes end again, and `behind` sends the cursor to its place once more.
    Some(format!("{before}\x1b8{place}\x1b7\x1b[?6l\x1b[?7h{behind}{ALTERNATE}{alternate}"))
}

/// The sequence that `text` begins with, if it sends the cursor to a place.
fn place(text: &str) -> Option<&str> {
    let end = text.find('H')?;
    text[2..end].bytes().all(|byte| matches!(byte, b'0'..=b'9' | b';')).then_some(&text[..=end])
}
