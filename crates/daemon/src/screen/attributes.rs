//! Attributes made into those that the emulator knows.
//!
//! It knows one underline, takes 21 for the end of bold and the colour of an underline for other attributes. Promises
//! that what a terminal shows underlined is underlined, and that nothing is reset that the program did not reset. Pure.

use std::borrow::Cow;

/// A whole sequence that sets attributes (`CSI … m`), as the emulator understands it; empty if nothing is left of it.
pub fn known(sequence: &[u8]) -> Cow<'_, [u8]> {
    let has = |part: &[u8]| memchr::memmem::find(sequence, part).is_some();
    let parameters = sequence.strip_prefix(b"\x1b[").and_then(|rest| rest.strip_suffix(b"m"));
    let Some(parameters) = parameters.filter(|_| has(b"4:") || has(b"21") || has(b"58")) else {
        return Cow::Borrowed(sequence);
    };
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut rest = parameters.split(|byte| *byte == b';');
    while let Some(parameter) = rest.next() {
        match parameter {
            b"38" | b"48" | b"58" => {
                let colour: Vec<&[u8]> = rest.clone().take(4).collect();
                let used = match colour.first() {
                    Some(&b"2") => colour.len(),
                    Some(&b"5") => colour.len().min(2),
                    _ => 0,
                };
                if parameter != b"58" {
                    kept.push(parameter);
                    kept.extend(&colour[..used]);
                }
                rest.by_ref().take(used).for_each(drop);
            }
            b"4:0" => kept.push(b"24"),
            b"21" | [b'4', b':', ..] => kept.push(b"4"),
            [b'5', b'8', b':', ..] => {}
            other => kept.push(other),
        }
    }
    if kept.is_empty() {
        return Cow::Borrowed(&[]);
    }
    Cow::Owned([b"\x1b[", &*kept.join(&b';'), b"m"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_underline_is_one_and_its_colour_is_none() {
        let cases: [(&[u8], &[u8]); 14] = [
            (b"\x1b[m", b"\x1b[m"),
            (b"\x1b[1;31m", b"\x1b[1;31m"),
            (b"\x1b[4:3m", b"\x1b[4m"),
            (b"\x1b[1;4:3;31m", b"\x1b[1;4;31m"),
            (b"\x1b[4:0m", b"\x1b[24m"),
            (b"\x1b[1;21m", b"\x1b[1;4m"),
            (b"\x1b[58;5;1m", b""),
            (b"\x1b[58:2::1:2:3m", b""),
            (b"\x1b[58;2;1;5;7;4m", b"\x1b[4m"),
            (b"\x1b[38;5;21m", b"\x1b[38;5;21m"),
            (b"\x1b[38;2;58;21;4;21m", b"\x1b[38;2;58;21;4;4m"),
            (b"\x1b[58;5", b"\x1b[58;5"),
            (b"\x1b[58m", b""),
            (b"\x1b[;21m", b"\x1b[;4m"),
        ];
        for (given, wanted) in cases {
            assert_eq!(&*known(given), wanted, "{:?}", given.escape_ascii());
        }
    }
}
