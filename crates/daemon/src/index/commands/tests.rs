use shellkeep_protocol::annotation::Run;

use super::*;

fn ended(piece: Piece<'_>) -> Option<CommandInfo> {
    if let Piece::Ended(command) = piece { Some(command) } else { None }
}

fn course(output: &str) -> Vec<CommandInfo> {
    let mut course = Course::new(Some("n".to_owned()), "/start".to_owned());
    let (mut offset, mut all) = (0, Vec::new());
    for (at, piece) in output.as_bytes().chunks(7).enumerate() {
        let seq = Seq::new(at as u64 + 1);
        let place = Place { seq, offset, time_us: offset };
        course.output(piece, place, &mut |piece| all.extend(ended(piece)));
        offset += piece.len() as u64;
    }
    all.extend(course.running());
    all
}

fn marked(text: &str) -> String {
    text.replace('<', "\x1b]133;").replace('>', ";sk=n\x07").replace('{', "\x1b]7;file://h").replace('}', "\x07")
}

#[test]
fn commands_have_their_lines_directories_statuses_and_output() {
    let output = marked("{/a}<A>$ <B>x\r\n<C;cmdline_url=one>out1\r\n<D;0>{/b}<A>$ <B>y\r\n<C;cmdline_url=two><D;7>");
    let all = course(&output);
    let seen: Vec<_> = all.iter().map(|c| (c.id, c.line.as_str(), c.cwd.as_str(), c.exit)).collect();
    assert_eq!(seen, [(1, "one", "/a", Some(0)), (2, "two", "/b", Some(7))]);
    let at = |offset: u64| usize::try_from(offset).unwrap();
    let range = |c: &CommandInfo| output[at(c.output_from)..at(c.output_to)].to_owned();
    assert_eq!((range(&all[0]), range(&all[1])), ("out1\r\n".to_owned(), String::new()));
}

/// What was run from outside is a command of its own, and nothing of the one that runs meanwhile.
#[test]
fn a_run_from_outside_is_one_more_command_and_touches_no_other() {
    let note = |exit| {
        let run = Run { line: "shellkeep run t".into(), cwd: "/p".into(), started_at_us: 1, exit };
        Annotation::Run(run).to_payload()
    };
    let whole = marked("<A>$ <B>x\r\n<C;cmdline_url=one>out1\r\nout2\r\n<D;0><A>$ <B>");
    let before = course(&whole);
    for cut in 0..whole.len() {
        let mut course = Course::new(Some("n".to_owned()), "/start".to_owned());
        let mut all = Vec::new();
        let place = |offset| Place { seq: Seq::new(1 + offset), offset, time_us: 5 };
        let (first, rest) = whole.as_bytes().split_at(cut);
        course.output(first, place(0), &mut |piece| all.extend(ended(piece)));
        course.noted(b"no note", (Seq::new(2), 6), &mut |piece| all.extend(ended(piece)));
        course.noted(&note(Some(3)), (Seq::new(2), 6), &mut |piece| all.extend(ended(piece)));
        course.output(rest, place(cut as u64), &mut |piece| all.extend(ended(piece)));
        let (outside, shell): (Vec<_>, Vec<_>) = all.into_iter().partition(|command| command.cwd == "/p");
        let [outside] = &outside[..] else { panic!("{outside:?}") };
        assert_eq!((outside.line.as_str(), outside.exit, outside.ended_at_us), ("shellkeep run t", Some(3), Some(6)));
        assert_eq!((outside.output_from, outside.output_to), (cut as u64, cut as u64));
        let [shell] = &shell[..] else { panic!("{shell:?}") };
        let (is, was) = (shell, &before[0]);
        assert_eq!(
            (&is.line, is.exit, is.output_from, is.output_to),
            (&was.line, was.exit, was.output_from, was.output_to)
        );
        assert_eq!(outside.id + shell.id, 3, "each has a number of its own");
    }
}

#[test]
fn a_shell_inside_a_command_and_an_empty_line_make_no_commands() {
    let output = marked("<A>$ <B>\r\n<A>$ <B>bash\r\n<C;cmdline_url=bash>{/x}<A><B><C;cmdline_url=in>text<D;0;more");
    let all = course(&(output + "\x07"));
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].line.as_str(), all[0].exit), ("bash", None), "{all:?}");
    assert_eq!(all[0].cwd, "/start");
}

#[test]
fn a_line_that_is_kept_out_of_the_history_is_read_from_the_screen() {
    let again = marked("<A>$ <B>ls -l\r\n<C>x<D;0;same_url=ls -l>");
    assert_eq!(course(&again)[0].line, "ls -l");
    let blank = marked("<A>$ <B>ls -l \r\n<C>x<D;0;same_url=ls -l >");
    assert_eq!(course(&blank)[0].line, "ls -l ");
    let hidden = marked("<A>$ <B> secret\r\n<C>x<D;0;same_url=ls -l>");
    assert_eq!(course(&hidden)[0].line, " secret");
}

#[test]
fn what_the_shell_prints_around_the_output_is_none_of_it() {
    let blanks = " ".repeat(79);
    for cut in [7, 1000] {
        let zsh = marked("<A>% <B>x\r\n<C;cmdline_url=x>out") + "\x1b[7m%\x1b[0m" + &blanks + "\r \r";
        let zsh = zsh + &marked("<D;0;fill=%1B[7m%25%1B[0m>");
        // A forged mark in the output, and one that fills nothing.
        let other = marked("<A>% <B>x\r\n<C;cmdline_url=y>100%\r<D;0;fill=%25>");
        let fish = marked("<A>> x\r\n<C;lead;cmdline_url=x>\x1b[?2004l\x1b]0;x\x07\x1b[30m\x1b(B\x1b[m\rout\r<D;0>");
        let fish = fish + &marked("<A>> y\r\n<C;lead;cmdline_url=y>\x1b[1mbold\r<D;0>");
        for (output, expected) in [(zsh + &other, ["out", "100%\r"]), (fish, ["out\r", "\x1b[1mbold\r"])] {
            let mut course = Course::new(Some("n".to_owned()), String::new());
            let (mut offset, mut all) = (0, Vec::new());
            for piece in output.as_bytes().chunks(cut) {
                let place = Place { seq: Seq::FIRST, offset, time_us: 0 };
                course.output(piece, place, &mut |piece| all.extend(ended(piece)));
                offset += piece.len() as u64;
            }
            let at = |offset: u64| usize::try_from(offset).unwrap();
            let ranges: Vec<&str> = all.iter().map(|c| &output[at(c.output_from)..at(c.output_to)]).collect();
            assert_eq!(ranges, expected, "cut {cut}");
        }
    }
}

#[test]
fn of_lines_that_were_pasted_each_is_a_command_and_a_running_one_has_its_line() {
    let pasted = marked("<A>$ <B>echo one\r\necho two\r\n<C>one\r\n<C>two\r\n<D;3;cmdline_url=echo two>");
    let all = course(&(pasted + &marked("<A>$ <B>exit\r\n<C>bye")));
    let seen: Vec<_> = all.iter().map(|c| (c.id, c.line.as_str(), c.exit, c.output_to - c.output_from)).collect();
    assert_eq!(seen, [(1, "echo one", None, 5), (2, "echo two", Some(3), 5), (3, "exit", None, 3)]);
}

/// What was given of an output that came in pieces, of a session that has no end yet, or one without or with a status: the
/// text of each command, and how each text ended.
#[allow(clippy::option_option)] // three cases of a test
fn given(output: &str, cut: usize, exit: Option<Option<u8>>) -> (Vec<(u64, String)>, Vec<CommandInfo>) {
    let mut course = Course::new(Some("n".to_owned()), String::new());
    let (mut offset, mut texts, mut is_open) = (0, Vec::<(u64, Vec<u8>)>::new(), false);
    let mut commands = Vec::new();
    let mut give = |piece: Piece<'_>| match piece {
        Piece::Text(bytes, at) => {
            match texts.last_mut().filter(|_| is_open) {
                Some((command, text)) if *command == at.command => text.extend_from_slice(bytes),
                _ => texts.push((at.command, bytes.to_vec())),
            }
            is_open = true;
        }
        Piece::End => is_open = false,
        Piece::Ended(command) => commands.push(command),
    };
    for piece in output.as_bytes().chunks(cut) {
        course.output(piece, Place { seq: Seq::FIRST, offset, time_us: offset }, &mut give);
        offset += piece.len() as u64;
    }
    match exit {
        Some(exit) => course.exited(exit, 99_999, &mut give),
        None => course.waiting(&mut give),
    }
    let shown = |text: Vec<u8>| String::from_utf8(text).unwrap().split("\x1b]").next().unwrap().to_owned();
    let texts = texts.into_iter().map(|(command, text)| (command, shown(text)));
    commands.extend(course.running());
    (texts.filter(|(_, text)| !text.is_empty()).collect(), commands)
}

#[test]
fn what_is_given_is_what_each_command_printed_and_nothing_that_stood_at_prompts() {
    let long = "many words\r\n".repeat(3000);
    let blanks = " ".repeat(79);
    let output =
        marked("welcome\r\n<A>~ line one\r\n$ <B>seq 2\r\n<C>1\r\n2\r\n<D;0;cmdline_url=seq 2>hook\r\n<A>$ <B>^C\r\n")
            + &marked("<A>$ <B>printf end\x1b[Ktab tab\x1b[A<B>again\r\n<C;cmdline_url=printf end>end\x1b[7m%\x1b[0m")
            + &blanks
            + &marked("\r \r<D;0;fill=%1B[7m%25%1B[0m><A>$ <B>long\r\n<C;cmdline_url=long>")
            + &long
            + &marked(
                "<D;1><A>$ <B>one\r\ntwo\r\n<C>first\r\n<C>second\r\n<D;0;cmdline_url=two><A>$ <B>sleep\r\n<C>tick",
            );
    let expected = [
        (0, "welcome\r\n"),
        (1, "1\r\n2\r\n"),
        (2, "end"),
        (3, &long),
        (4, "first\r\n"),
        (5, "second\r\n"),
        (6, "tick"),
    ];
    for cut in [1, 7, 500, 20_000, output.len()] {
        let (texts, commands) = given(&output, cut, None);
        let texts: Vec<(u64, &str)> = texts.iter().map(|(command, text)| (*command, text.as_str())).collect();
        assert!(texts == expected, "cut {cut}: {:?}", texts.iter().map(|(n, t)| (n, t.len())).collect::<Vec<_>>());
        for (command, (_, text)) in commands.iter().zip(&expected[1..]) {
            let at = |offset: u64| usize::try_from(offset).unwrap();
            assert_eq!(&output[at(command.output_from)..at(command.output_to)], *text, "cut {cut}: {command:?}");
        }
    }
}

#[test]
fn the_end_of_the_session_ends_what_runs_in_it_with_its_status() {
    let output = marked("<A>$ <B>true\r\n<C><D;0;cmdline_url=true><A>$ <B>exit 3\r\n<C>exit\r\n");
    for status in [Some(3), None] {
        let (texts, commands) = given(&output, 9, Some(status));
        assert_eq!(texts, [(2, "exit\r\n".to_owned())]);
        assert_eq!((commands[1].line.as_str(), commands[1].exit), ("exit 3", status));
        assert_eq!((commands[1].ended_at_us, commands[1].output_to), (Some(99_999), output.len() as u64));
    }
    let at_prompt = marked("<A>$ <B>true\r\n<C><D;0;cmdline_url=true><A>$ <B>exit\r\n");
    let (texts, commands) = given(&at_prompt, 9, Some(Some(0)));
    assert_eq!((texts.len(), commands.len(), commands[0].ended_at_us < Some(99_999)), (0, 1, true));
}

/// `shopt -u promptvars` is enough for that.
#[test]
fn what_a_shell_prints_that_tells_of_prompts_but_not_of_commands_is_output_of_none() {
    let output = marked("<A>$ <B>ls\r\nfile\r\n<A>$ <B>\r\n<A>$ <B>ls\r\nlast\r\n");
    let (texts, _) = given(&output, 5, Some(Some(0)));
    assert_eq!(texts, [(0, "ls\r\nfile\r\n".to_owned()), (0, "ls\r\nlast\r\n".to_owned())]);
    let flood = marked("<A>$ <B>") + &"x".repeat(2 * ECHO_BYTES_MAX);
    let (texts, _) = given(&flood, 1000, None);
    assert_eq!(texts.iter().map(|(_, text)| text.len()).sum::<usize>(), 2 * ECHO_BYTES_MAX);
}

#[test]
fn the_sessions_own_record_printed_in_it_changes_nothing() {
    let one = marked("<A;sn=1>$ <B;sn=1>x\r\n<C;sn=2>out\r\n<D;1;sn=2;cmdline_url=one>");
    let two = marked("<A;sn=3>$ <B;sn=3>y\r\n<C;sn=4>");
    let two_ends = marked("<D;3;sn=4;cmdline_url=two>");
    let last = marked("<A;sn=5>$ <B;sn=5>exit\r\n<C;sn=6;cmdline_url=exit>");
    let seen = |all: &[CommandInfo]| -> Vec<_> {
        all.iter().map(|c| (c.id, c.line.clone(), c.exit, c.output_to - c.output_from)).collect()
    };
    let plain = seen(&course(&[&one, &two, &two_ends, &last].map(String::as_str).concat()));
    assert_eq!(plain.len(), 3, "{plain:?}");
    let record = format!("{one}{two}");
    for cut in 0..=record.len() {
        // The command prints what is recorded when it runs, or a part of it; twice, and then a part of that.
        let (printed, part) = (&record[..cut], &record[cut..]);
        let all = course(&[&one, &two, printed, &record, part, &two_ends, &last].map(ToString::to_string).concat());
        let mut expected = plain.clone();
        expected[1].3 = (2 * record.len()) as u64;
        assert_eq!(seen(&all), expected, "cut at {cut}");
    }
}
