use shellkeep_protocol::attach::Recording as Recorded;
use shellkeep_protocol::session::{Attrs, GapReason};

use super::*;

/// A session that began at second 100 and whose output ends at `output_bytes`.
pub(crate) fn recording(commands: &[(u64, u64, u64, Option<u64>)], output_bytes: u64) -> Recording {
    let commands = commands.iter().enumerate().map(|(place, (from, to, started, ended))| CommandInfo {
        id: place as u64 + 1,
        line: format!("command {}", place + 1),
        cwd: "/".to_owned(),
        started_at_us: *started,
        ended_at_us: *ended,
        exit: ended.map(|_| 0),
        first_seq: Seq::FIRST,
        output_from: *from,
        output_to: *to,
    });
    let attrs = Attrs { started_at_us: 100_000_000, size: (80, 24), ..Attrs::default() };
    let info = SessionInfo {
        session: "0197c0de-0000-7000-8000-000000000001".parse().unwrap(),
        attrs,
        state: SessionState::Ended,
        connected: false,
        ended_at_us: None,
        exit: None,
        output_bytes,
        gaps: 0,
    };
    Recording { info, commands: commands.collect(), output_bytes }
}

/// Gives `items` in pages of `page`.
pub(crate) fn pages(items: Vec<Item>, page: usize) -> impl FnMut(Seq) -> Result<Chunk, Failure> {
    move |from| {
        let at = usize::try_from(from.get() - 1).unwrap();
        let items: Vec<Item> = items.iter().skip(at).take(page).cloned().collect();
        let next = Seq::new(from.get() + items.len() as u64);
        Ok(Chunk { items, next, is_last: false })
    }
}

pub(crate) fn output(time_us: u64, offset: u64, text: &str) -> Item {
    Item::Output { time_us, offset, bytes: text.as_bytes().to_vec() }
}

fn all(recording: &Recording, items: &[Item], page: usize) -> Vec<Moment> {
    let mut reading = recording.read(pages(items.to_vec(), page));
    let mut moments = Vec::new();
    while let Some(moment) = reading.next().unwrap() {
        moments.push(moment);
    }
    moments
}

fn shown(moments: &[Moment]) -> Vec<String> {
    let one = |moment: &Moment| match &moment.what {
        What::Output(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        What::Begins(place) => format!("<{place}"),
        What::Ends(place) => format!("{place}>"),
        What::Told(_) => "!".to_owned(),
        What::Resized(cols, rows) => format!("{cols}x{rows}"),
        What::Input(_) => "i".to_owned(),
        What::Exited(_) => "x".to_owned(),
    };
    moments.iter().map(one).collect()
}

#[test]
fn output_is_cut_exactly_where_commands_begin_and_end() {
    let recording = recording(&[(2, 4, 1, Some(2)), (4, 4, 3, Some(4)), (6, 9, 5, None)], 9);
    let items = [output(1, 0, "abcde"), output(2, 5, "fghi"), output(3, 9, "later")];
    for page in [1, 2, 3] {
        assert_eq!(shown(&all(&recording, &items, page)), ["ab", "<0", "cd", "0>", "<1", "1>", "e", "f", "<2", "ghi"]);
    }
}

#[test]
fn what_was_printed_after_it_was_opened_is_left_out() {
    let recording = recording(&[], 3);
    assert_eq!(shown(&all(&recording, &[output(1, 0, "ab"), output(2, 2, "cd"), output(3, 4, "ef")], 10)), ["ab", "c"]);
}

#[test]
fn edges_that_lie_in_a_gap_are_told_and_times_never_go_back() {
    let recording = recording(&[(1, 5, 200_000_000, Some(200_000_001))], 9);
    let gap = Item::Gap { from: Seq::new(2), to: Seq::new(3), output_bytes: 6, reason: GapReason::SpoolFull };
    let paused = Item::Recording { time_us: 5, recording: Recorded::Paused };
    let resize = Item::Resize { time_us: 1, cols: 7, rows: 8 };
    let moments = all(&recording, &[output(150_000_000, 0, "a"), gap, output(3, 7, "hi"), paused, resize], 2);
    assert_eq!(shown(&moments), ["a", "<0", "!", "0>", "hi", "!", "7x8"]);
    assert!(moments.is_sorted_by_key(|moment| moment.time_us), "{moments:?}");
    assert_eq!(moments[0].time_us, 150_000_000);
}
