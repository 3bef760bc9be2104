//! Where what stands on the emulator's screen was printed.
//!
//! The index has no use for colours, so a cell's colours are the number of its place: they go wherever the cell goes, when
//! lines are scrolled, moved, wrapped anew or kept while another screen is shown. Promise: a cell that is on the screen
//! has the place where it was printed, or, far behind many others, one shortly before.

use std::collections::BTreeMap;

use avt::parser::{SgrOp, SgrOps};
use avt::{Color, Line};
use serde::{Deserialize, Serialize};

use super::super::lines::At;

/// Places that are known. Beyond them those are forgotten that no row begins with.
const PLACES_MAX: usize = 4 << 10;

/// Places by number. A later one has a higher number; numbers are 48 bits long and never used up.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Places(BTreeMap<u64, At>);

impl Places {
    /// The number of a place, which is this one or later than all others.
    pub(super) fn number(&mut self, at: At) -> u64 {
        match self.0.last_key_value() {
            Some((number, last)) if *last == at => *number,
            last => {
                let number = last.map_or(0, |(number, _)| number + 1);
                self.0.insert(number, at);
                number
            }
        }
    }

    /// Where a row began, if anything is in it.
    pub(super) fn of(&self, line: &Line) -> Option<At> {
        let known = self.0.range(..=number_of(line)?).next_back().or_else(|| self.0.first_key_value());
        known.map(|(_, at)| *at)
    }

    /// There are too many.
    pub(super) fn are_many(&self) -> bool {
        self.0.len() > PLACES_MAX
    }

    /// Forgets what is not needed for these rows, nor the newest.
    pub(super) fn keep<'a>(&mut self, lines: impl Iterator<Item = &'a Line>) {
        let mut kept: BTreeMap<u64, At> = self.0.pop_last().into_iter().collect();
        let needed = lines.filter_map(number_of);
        kept.extend(needed.filter_map(|number| self.0.range(..=number).next_back()).map(|(number, at)| (*number, *at)));
        self.0 = kept;
    }
}

/// What makes the emulator give the next cells this number.
pub(super) fn pen(number: u64) -> SgrOps {
    let [.., r2, g2, b2, r, g, b] = number.to_be_bytes();
    let low = SgrOp::SetForegroundColor(Color::rgb(r, g, b));
    if number < 1 << 24 {
        return [low].as_slice().into();
    }
    [low, SgrOp::SetBackgroundColor(Color::rgb(r2, g2, b2))].as_slice().into()
}

/// What makes it give them none: blanks and what erases.
pub(super) fn no_pen() -> SgrOps {
    [SgrOp::Reset].as_slice().into()
}

/// The number of a row's first cell that has one.
fn number_of(line: &Line) -> Option<u64> {
    let of = |color| match color {
        Some(Color::RGB(color)) => Some(u64::from(color.r) << 16 | u64::from(color.g) << 8 | u64::from(color.b)),
        _ => None,
    };
    line.cells().iter().find_map(|cell| {
        let low = of(cell.pen().foreground())?;
        Some(of(cell.pen().background()).unwrap_or(0) << 24 | low)
    })
}

#[cfg(test)]
mod tests {
    use avt::Terminal;
    use avt::parser::Function;
    use shellkeep_journal::Seq;

    use super::*;

    fn at(number: u64) -> At {
        At { seq: Seq::new(number + 1), ..At::default() }
    }

    #[test]
    fn a_cell_tells_its_number_also_from_a_screen_that_was_put_by() {
        let mut terminal = Terminal::new(9, 3).unwrap();
        for number in [0, 5, (1 << 24) - 1, 1 << 24, (1 << 48) - 1] {
            terminal.execute(Function::Sgr(pen(number)));
            terminal.feed("  x");
            terminal.execute(Function::Sgr(no_pen()));
            terminal.feed(" ");
            let mut other = Terminal::new(9, 3).unwrap();
            other.feed(terminal.dump());
            for terminal in [&terminal, &other] {
                assert_eq!(number_of(terminal.screen().line(0).unwrap()), Some(number));
            }
            terminal.feed("\x1b[2K\r");
            assert_eq!(number_of(terminal.screen().line(0).unwrap()), None);
        }
    }

    #[test]
    fn many_places_are_forgotten_but_those_of_rows() {
        let (mut terminal, mut places) = (Terminal::new(9, 3).unwrap(), Places::default());
        for number in 0..=PLACES_MAX as u64 {
            assert_eq!((places.number(at(number)), places.number(at(number))), (number, number));
            if [7, 70].contains(&number) {
                terminal.execute(Function::Sgr(pen(number)));
                terminal.feed("row\r\n");
            }
        }
        assert!(places.are_many());
        places.keep(terminal.screen().visible_lines());
        assert_eq!(places.0.len(), 3);
        let found: Vec<_> = terminal.screen().visible_lines().map(|line| places.of(line)).collect();
        assert_eq!(found, [Some(at(7)), Some(at(70)), None]);
    }
}
