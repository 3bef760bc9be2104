//! Bytes of text made into characters that the emulator counts as a terminal does.
//!
//! The emulator gives each character a cell of its own. Marks that join the character before them (accents, joiners)
//! would shift the rest of their line, so each such pair is one placeholder on the grid, and itself again in a dump.
//! Promises that a session cannot forge a placeholder, and bounded memory: beyond the limit marks are left out.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use unicode_width::UnicodeWidthChar as _;

use super::emulator::Emulator;

/// Different pairs that one screen may have shown.
const CLUSTERS_MAX: u32 = 4096;
/// Longest of them, in bytes. Further marks are left out.
const CLUSTER_BYTES_MAX: usize = 64;
/// Placeholders of one column: private use, which nothing else is shown for.
const NARROW: u32 = 0xf_0000;
/// Placeholders of two columns: unassigned, and wide.
const WIDE: u32 = 0x3_a000;

/// What is joined on one screen.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Joined {
    clusters: Vec<String>,
    #[serde(skip)]
    known: HashMap<String, char>,
    /// What was printed last, if nothing else was done since.
    last: Option<char>,
}

impl PartialEq for Joined {
    fn eq(&self, other: &Self) -> bool {
        (&self.clusters, self.last) == (&other.clusters, other.last)
    }
}

impl Joined {
    /// Something other than text was done: what follows joins nothing.
    pub fn interrupted(&mut self) {
        self.last = None;
    }

    /// Shows text on the emulator.
    pub fn show(&mut self, bytes: &[u8], emulator: &mut dyn Emulator) {
        if let Ok(text) = std::str::from_utf8(bytes)
            && text.is_ascii()
            && !bytes.contains(&0x7f)
        {
            self.last = bytes.last().filter(|byte| **byte >= 0x20).map(|byte| char::from(*byte));
            emulator.feed(text);
            return;
        }
        let text = String::from_utf8_lossy(bytes);
        let mut ready = String::with_capacity(text.len());
        for character in text.chars() {
            match character {
                '\u{7f}'..='\u{9f}' => {} // terminals differ on 8-bit controls; most ignore them
                '\0'..='\x1f' => {
                    self.last = None;
                    ready.push(character);
                }
                _ if character.width() == Some(0) => {
                    emulator.feed(&ready);
                    ready.clear();
                    self.join(character, emulator);
                }
                _ => {
                    let shown = if expanded(character).is_some() { char::REPLACEMENT_CHARACTER } else { character };
                    self.last = Some(shown);
                    ready.push(shown);
                }
            }
        }
        emulator.feed(&ready);
    }

    /// Puts a mark on the character that was printed last.
    fn join(&mut self, mark: char, emulator: &mut dyn Emulator) {
        let Some(last) = self.last else { return };
        let mut cluster = self.cluster(last).map_or_else(|| last.to_string(), str::to_owned);
        cluster.push(mark);
        let width = last.width().unwrap_or(1).max(1);
        let (col, _) = emulator.cursor();
        let (Some(from), Some(placeholder)) = (col.checked_sub(width), self.placeholder(cluster, width)) else {
            return;
        };
        emulator.feed(&format!("\x1b[{}G{placeholder}", from + 1));
        self.last = Some(placeholder);
    }

    fn placeholder(&mut self, cluster: String, width: usize) -> Option<char> {
        if cluster.len() > CLUSTER_BYTES_MAX {
            return None;
        }
        if self.known.is_empty() {
            self.known =
                self.clusters.iter().zip(0..).filter_map(|(text, at)| Some((text.clone(), made(at, text)?))).collect();
        }
        if let Some(known) = self.known.get(&cluster) {
            return Some(*known);
        }
        let at = u32::try_from(self.clusters.len()).ok().filter(|at| *at < CLUSTERS_MAX)?;
        let placeholder = char::from_u32(at + if width == 2 { WIDE } else { NARROW })?;
        self.known.insert(cluster.clone(), placeholder);
        self.clusters.push(cluster);
        Some(placeholder)
    }

    fn cluster(&self, placeholder: char) -> Option<&str> {
        self.clusters.get(expanded(placeholder)?).map(String::as_str)
    }

    /// Writes text of the emulator as a terminal must see it.
    pub fn expand(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for character in text.chars() {
            match self.cluster(character) {
                Some(cluster) => out.push_str(cluster),
                None => out.push(character),
            }
        }
        out
    }
}

/// The placeholder that the cluster at this place has.
fn made(at: u32, cluster: &str) -> Option<char> {
    let is_wide = cluster.chars().next()?.width() == Some(2);
    char::from_u32(at + if is_wide { WIDE } else { NARROW })
}

/// The cluster that a placeholder stands for.
fn expanded(placeholder: char) -> Option<usize> {
    let code = u32::from(placeholder);
    let at = code.checked_sub(NARROW).or_else(|| code.checked_sub(WIDE)).filter(|at| *at < CLUSTERS_MAX)?;
    usize::try_from(at).ok()
}
