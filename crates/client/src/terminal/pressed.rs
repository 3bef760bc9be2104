//! A key as a terminal reports it in a control sequence.
//!
//! Promises to tell what the same key would have sent as a plain byte, whichever protocol reports it: xterm's
//! modifyOtherKeys in both formats, and kitty's keyboard protocol with its event types and alternate keys. Knows no
//! other sequences. Source: xterm's control sequences, `modifyOtherKeys` and `formatOtherKeys`; kitty's keyboard
//! protocol.

const SHIFT: u32 = 1;
const CTRL: u32 = 4;
const CTRL_SHIFT: u32 = CTRL | SHIFT;
/// Caps lock and num lock: they say nothing about what is pressed now.
const LOCKS: u32 = 64 | 128;
/// Keys that only modify others, and locks, in kitty's numbers.
const MODIFIERS: [std::ops::RangeInclusive<u32>; 2] = [57_358..=57_360, 57_441..=57_454];

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It went down.
    Press,
    /// It is held down.
    Repeat,
    /// It went up.
    Release,
}

/// One report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pressed {
    /// What happened; a terminal that does not say so means a press.
    pub event: Event,
    /// The key's character, or kitty's number for it. 0 for keys that have none.
    key: u32,
    /// What the key gives with shift, where that was told.
    shifted: Option<u32>,
    /// The key in its place on a keyboard of the US, where that was told.
    base: Option<u32>,
    /// A bit each; the locks are left out.
    modifiers: u32,
}

impl Pressed {
    /// Of a whole control sequence; `None` if it reports no key.
    pub fn of(sequence: &[u8]) -> Option<Self> {
        let (last, parameters) = sequence.strip_prefix(b"\x1b[")?.split_last()?;
        let mut parameters = parameters.split(|byte| *byte == b';').map(parts);
        let (first, second, third) = (parameters.next()?, parameters.next().unwrap_or_default(), parameters.next());
        let event = match second[1] {
            None | Some(1) => Event::Press,
            Some(2) => Event::Repeat,
            Some(3) => Event::Release,
            Some(_) => return None,
        };
        let modifiers = second[0].unwrap_or(1).checked_sub(1)? & !LOCKS;
        let plain = Self { event, key: 0, shifted: None, base: None, modifiers };
        match (last, first[0], third) {
            (b'u', Some(key), _) => Some(Self { key, shifted: first[1], base: first[2], ..plain }),
            // xterm tells what shift makes of a key.
            (b'~', Some(27), Some([Some(key), ..])) => Some(Self { key, shifted: Some(key), ..plain }),
            (b'~' | b'A'..=b'Z', ..) => Some(plain),
            _ => None,
        }
    }

    /// Whether it only modifies other keys.
    pub fn is_modifier(&self) -> bool {
        MODIFIERS.iter().any(|range| range.contains(&self.key))
    }

    /// Whether it is the key that is sent as this control character.
    pub fn is_control(&self, control: u8) -> bool {
        matches!(self.modifiers, CTRL | CTRL_SHIFT) && self.sends(control)
    }

    /// Whether it is that key, whatever modifies it by now.
    pub fn is_key_of(&self, control: u8) -> bool {
        Self { modifiers: CTRL, ..*self }.sends(control)
    }

    /// Whether it types this character.
    pub fn is_character(&self, character: u8) -> bool {
        let character = u32::from(character);
        let is_letter = |key: u32| (u32::from(b'a')..=u32::from(b'z')).contains(&key);
        let uppercase = |key: u32| if is_letter(key) { Some(key - u32::from(b'a') + u32::from(b'A')) } else { None };
        match self.modifiers {
            0 => [Some(self.key), self.place()].contains(&Some(character)),
            SHIFT => {
                [self.shifted.or(uppercase(self.key)), self.place().and_then(uppercase)].contains(&Some(character))
            }
            _ => false,
        }
    }

    /// Whether terminals send this for it, with Ctrl. Source: kitty's keyboard protocol, "Legacy ctrl mapping of ASCII
    /// keys".
    fn sends(&self, control: u8) -> bool {
        let is_shifted = self.modifiers & SHIFT != 0;
        let key = self.shifted.filter(|_| is_shifted).unwrap_or(self.key);
        let keys = [Some(key), self.place()].into_iter().flatten().filter_map(|key| u8::try_from(key).ok());
        keys.into_iter().any(|key| match key {
            // Programs tell these with Ctrl and Shift from Ctrl alone.
            b' ' | b'a'..=b'z' | b'A'..=b'Z' if is_shifted => false,
            b' ' | b'2' => control == 0,
            b'3'..=b'7' => control == key - b'3' + 0x1b,
            b'/' => control == 0x1f,
            // Terminals differ on the case of letters.
            b'@'..=b'_' | b'a'..=b'z' => control == key & 0x1f,
            _ => false,
        })
    }

    /// On a keyboard of another script the key's place counts.
    fn place(&self) -> Option<u32> {
        self.base.filter(|_| self.key > 0x7f)
    }
}

/// The numbers of one parameter; beyond the third nobody asks. What is no number is as good as left out.
fn parts(parameter: &[u8]) -> [Option<u32>; 3] {
    let mut numbers = [None; 3];
    for (number, digits) in numbers.iter_mut().zip(parameter.split(|byte| *byte == b':')) {
        *number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    }
    numbers
}
