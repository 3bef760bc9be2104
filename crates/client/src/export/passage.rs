//! The one place where what was recorded becomes text of an export: output, input, command lines, names, directories.
//!
//! Promises whole characters: one that records cut in two is given with the record that ends it, and bytes that are none
//! are shown as such. Patterns that no export may have are to be taken out here, and only here.

/// Recorded bytes on their way, in order. One for output, one for input.
#[derive(Debug, Default)]
pub struct Passage {
    /// The beginning of a character whose rest is still to come.
    cut: Vec<u8>,
}

impl Passage {
    /// The text of the next piece.
    pub fn text(&mut self, bytes: &[u8]) -> String {
        let joined;
        let mut rest = if self.cut.is_empty() {
            bytes
        } else {
            joined = [std::mem::take(&mut self.cut).as_slice(), bytes].concat();
            &joined
        };
        let mut text = String::with_capacity(rest.len());
        loop {
            match std::str::from_utf8(rest) {
                Ok(whole) => {
                    text.push_str(whole);
                    return text;
                }
                Err(error) => {
                    let (whole, behind) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(whole));
                    let Some(bad) = error.error_len() else {
                        behind.clone_into(&mut self.cut);
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &behind[bad..];
                }
            }
        }
    }

    /// The text of what is left when nothing follows, or something else does.
    pub fn rest(&mut self) -> String {
        if self.cut.is_empty() {
            return String::new();
        }
        self.cut.clear();
        char::REPLACEMENT_CHARACTER.to_string()
    }
}

/// A text that is whole: a command line, a directory, a name.
pub fn line(text: &str) -> String {
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_whole_wherever_records_cut_them() {
        let bytes = "a\u{e9}\u{1f600}\u{4e16}z".as_bytes();
        for cut in 0..=bytes.len() {
            let mut passage = Passage::default();
            let text = passage.text(&bytes[..cut]) + &passage.text(&bytes[cut..]) + &passage.rest();
            assert_eq!(text.as_bytes(), bytes, "cut at {cut}");
        }
    }

    #[test]
    fn bytes_that_are_no_characters_are_shown_as_such() {
        let mut passage = Passage::default();
        let text: String = [b"a\xff".as_slice(), b"b\xe2\x82", b"c\xf0\x9f"].map(|piece| passage.text(piece)).concat();
        assert_eq!(text + &passage.rest(), "a\u{fffd}b\u{fffd}c\u{fffd}");
        assert_eq!(passage.rest(), "");
    }
}
