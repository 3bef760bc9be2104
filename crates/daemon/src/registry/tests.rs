//! What the registry promises, by the numbers of its specification, and a naive model beside it.

mod model;
mod naming;
mod searching;

use std::path::Path;
use std::sync::Arc;

use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::registry::{Diagnostic, EntryState, Kind, RegistryError, Scope, Trust};

use super::delta::Delta;
use super::entry::Exec;
use super::slice::SOURCE_ENTRIES_MAX;
use super::usage::Usage;
use super::*;

const DAY_US: u64 = 24 * 3600 * 1_000_000;

fn registry() -> CommandRegistry {
    CommandRegistry::new(7, Preferences::default())
}

fn mcp(name: &str) -> Draft {
    Draft::new(name, "server", Kind::McpTool, Scope::Session, Exec::Nothing)
}

fn task(owner: &str, name: &str, trust: Trust) -> Draft {
    Draft { trust, ..Draft::new(name, owner, Kind::Task, Scope::Project, Exec::Nothing) }
}

fn user(name: &str) -> Draft {
    Draft::new(name, "mine", Kind::UserCommand, Scope::User, Exec::Nothing)
}

fn names(view: &View) -> Vec<String> {
    view.entries().map(|entry| entry.name.to_string()).collect()
}

fn ids(entries: &[Arc<Entry>]) -> Vec<&str> {
    entries.iter().map(|entry| &*entry.id).collect()
}

fn set_base(registry: &CommandRegistry, source: &str, drafts: Vec<Draft>) -> bool {
    let look = registry.look_for_base(source);
    registry.found(&look, Slice::new(source, drafts, Vec::new()))
}

/// As a session that has come into a project of these tasks.
fn in_project(registry: &CommandRegistry, session: SessionId, root: &str, slices: Vec<Slice>) {
    registry.add_session(session).unwrap();
    if let Some(look) = registry.set_project(session, Some(Path::new(root))) {
        assert!(registry.found_project(&look, slices));
    }
}

fn resolved(view: &View, name: &str) -> String {
    match view.resolve(name) {
        Resolved::Found(entry) => entry.id.to_string(),
        Resolved::Ambiguous(all) => all.iter().map(|entry| &*entry.qualified_name).collect::<Vec<_>>().join(" | "),
        Resolved::Unknown => "unknown".to_owned(),
    }
}

///
#[test]
fn a_new_registry_has_the_builtins_and_an_unknown_session_sees_just_them() {
    let registry = registry();
    for view in [registry.get_all(), registry.get_for_session(Some(SessionId::new())), registry.get_for_session(None)] {
        assert_eq!(names(&view), ["cd", "pwd", "exit", "exit-daemon", "reload-remote", "pkg", "bash"]);
        assert!(view.entries().all(|entry| entry.kind != Kind::McpTool));
        assert!(view.entries().any(|entry| &*entry.name == "bash" && !entry.is_listed));
    }
}

///
#[test]
fn a_sessions_entries_are_seen_by_it_alone_behind_the_base_until_it_is_removed() {
    let registry = registry();
    let (one, other, nobody) = (SessionId::new(), SessionId::new(), SessionId::new());
    registry.set_session_entries(one, vec![mcp("b-tool"), mcp("a-tool")]).unwrap();
    registry.set_session_entries(other, vec![mcp("else")]).unwrap();
    let base = names(&registry.get_all());
    assert_eq!(names(&registry.get_for_session(Some(one))), [&base[..], &["b-tool".into(), "a-tool".into()]].concat());
    assert_eq!(names(&registry.get_for_session(Some(other))), [&base[..], &["else".into()]].concat());
    registry.remove_session(nobody);
    registry.remove_session(one);
    registry.remove_session(one);
    assert_eq!(names(&registry.get_for_session(Some(one))), base);
    assert_eq!(names(&registry.get_for_session(Some(other))), [&base[..], &["else".into()]].concat());
}

///
#[test]
fn setting_a_sessions_entries_replaces_them_also_by_none() {
    let registry = registry();
    let session = SessionId::new();
    let count = || registry.get_for_session(Some(session)).len() - registry.get_all().len();
    registry.set_session_entries(session, vec![mcp("a"), mcp("b")]).unwrap();
    registry.set_session_entries(session, vec![mcp("c")]).unwrap();
    assert_eq!(count(), 1);
    registry.set_session_entries(session, Vec::new()).unwrap();
    assert_eq!(count(), 0);
    assert!(registry.has_session(session));
}

///
#[test]
fn searching_a_session_finds_both_layers_in_any_case_and_searching_the_base_only_that() {
    let registry = registry();
    let session = SessionId::new();
    registry.set_session_entries(session, vec![mcp("My-Search-Target"), mcp("other")]).unwrap();
    let found = registry.search_for_session(session, "search-target", 10);
    assert_eq!(ids(&found), ["session/server/My-Search-Target"]);
    assert_eq!(ids(&registry.search_for_session(session, "PWD", 10)), ["builtin/shellkeep/pwd"]);
    assert!(registry.search("search-target", 10).is_empty());
    assert_eq!(registry.search_for_session(session, "e", 2).len(), 2);
    assert!(registry.search_for_session(session, "e", 0).is_empty());
    assert!(names(&registry.get_all()).iter().all(|name| name != "other"));
    assert!(registry.search("bash", 10).is_empty(), "it is not listed");
}

///
#[test]
fn clearing_a_source_takes_just_its_entries_of_the_base() {
    let registry = registry();
    let session = SessionId::new();
    set_base(&registry, "claude-code", vec![user("review")]);
    set_base(&registry, "user", vec![user("mine")]);
    registry.set_session_entries(session, vec![mcp("tool")]).unwrap();
    registry.clear_source("claude-code");
    registry.clear_source("nobody");
    registry.clear_source(super::core::BUILTIN);
    let expected = ["cd", "pwd", "exit", "exit-daemon", "reload-remote", "pkg", "bash", "mine"];
    assert_eq!(names(&registry.get_all()), expected);
    assert!(names(&registry.get_for_session(Some(session))).contains(&"tool".to_owned()));
}

/// looking again for the base and the project keeps what others have set.
#[test]
fn looking_again_keeps_what_it_does_not_own() {
    let registry = registry();
    let session = SessionId::new();
    in_project(
        &registry,
        session,
        "/p",
        vec![Slice::new("just", vec![task("just", "old", Trust::Trusted)], Vec::new())],
    );
    registry.set_session_entries(session, vec![mcp("tool")]).unwrap();
    set_base(&registry, "user", vec![user("mine")]);
    let look = registry.look_at_project(Path::new("/p")).unwrap();
    assert!(registry.found_project(&look, vec![Slice::new("just", vec![task("just", "new", Trust::Trusted)], vec![])]));
    set_base(&registry, "user", Vec::new());
    let seen = names(&registry.get_for_session(Some(session)));
    assert!(seen.contains(&"tool".to_owned()) && seen.contains(&"new".to_owned()), "{seen:?}");
    assert!(!seen.contains(&"old".to_owned()) && !seen.contains(&"mine".to_owned()), "{seen:?}");
}

///
#[test]
fn the_end_of_one_session_leaves_the_others_view_as_it_was() {
    let registry = registry();
    let (one, other) = (SessionId::new(), SessionId::new());
    let slices = || vec![Slice::new("just", vec![task("just", "t", Trust::Pending)], Vec::new())];
    in_project(&registry, one, "/p", slices());
    in_project(&registry, other, "/p", slices());
    let before = registry.get_for_session(Some(other));
    registry.remove_session(one);
    let after = registry.get_for_session(Some(other));
    assert_eq!(before.revision(), after.revision());
    assert!(before.entries().zip(after.entries()).all(|(one, other)| Arc::ptr_eq(one, other)));
    assert_eq!(before.len(), after.len());
    assert_eq!(registry.projects(), [Path::new("/p")]);
    registry.remove_session(other);
    assert!(registry.projects().is_empty());
}

///
#[test]
fn what_is_found_too_late_is_thrown_away() {
    let registry = registry();
    let session = SessionId::new();
    registry.add_session(session).unwrap();
    let slice = |name| Slice::new("mcp", vec![mcp(name)], Vec::new());
    let old = registry.look_for_session(session, "mcp").unwrap();
    let new = registry.look_for_session(session, "mcp").unwrap();
    assert!(registry.found(&new, slice("new")));
    assert!(!registry.found(&old, slice("old")));
    assert!(names(&registry.get_for_session(Some(session))).contains(&"new".to_owned()));
    // Of the life before, though the id is the same.
    registry.remove_session(session);
    assert!(!registry.found(&new, slice("ghost")));
    registry.add_session(session).unwrap();
    assert!(!registry.found(&new, slice("ghost")));
    assert_eq!(registry.get_for_session(Some(session)).len(), registry.get_all().len());
    let look = registry.look_for_base("user");
    registry.clear_source("user");
    assert!(!registry.found(&look, Slice::new("user", vec![user("ghost")], Vec::new())));
    // A project that everybody has left.
    let look = registry.set_project(session, Some(Path::new("/p"))).unwrap();
    registry.set_project(session, None);
    assert!(!registry.found_project(&look, vec![slice("ghost")]));
}

/// R-24, the part of the core: nothing makes a layer for a session that is unknown.
#[test]
fn an_unknown_session_gets_no_layer() {
    let registry = registry();
    let session = SessionId::new();
    assert!(registry.look_for_session(session, "mcp").is_none());
    assert!(registry.set_project(session, Some(Path::new("/p"))).is_none());
    assert!(!registry.has_session(session) && registry.projects().is_empty());
}

///
#[test]
fn a_view_stays_as_it_was_taken() {
    let registry = registry();
    let session = SessionId::new();
    registry.set_session_entries(session, vec![mcp("a")]).unwrap();
    let view = registry.get_for_session(Some(session));
    let before = names(&view);
    registry.set_session_entries(session, vec![mcp("b")]).unwrap();
    set_base(&registry, "user", vec![user("mine")]);
    registry.remove_session(session);
    assert_eq!(names(&view), before);
    assert_eq!(resolved(&view, "a"), "session/server/a");
}

/// a reader beside a busy writer sees all of one state or all of another.
#[test]
fn a_reader_sees_wholly_the_old_or_wholly_the_new() {
    let registry = Arc::new(registry());
    let session = SessionId::new();
    let state = |n: usize| (0..50).map(|k| mcp(&format!("s{n}-{k}"))).collect::<Vec<_>>();
    registry.set_session_entries(session, state(0)).unwrap();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (registry, stop) = (Arc::clone(&registry), Arc::clone(&stop));
        move || {
            for n in 1..200 {
                registry.set_session_entries(session, state(n)).unwrap();
            }
            stop.store(true, std::sync::atomic::Ordering::Release);
        }
    });
    let mut last = registry.get_for_session(Some(session)).revision();
    while !stop.load(std::sync::atomic::Ordering::Acquire) {
        let view = registry.get_for_session(Some(session));
        let own: Vec<String> = names(&view).split_off(entry::builtins().len());
        let prefix = own[0].split_once('-').unwrap().0.to_owned();
        assert!(own.len() == 50 && own.iter().all(|name| name.split_once('-').unwrap().0 == prefix), "{own:?}");
        assert!(view.revision() >= last);
        last = view.revision();
    }
    writer.join().unwrap();
}

///
#[test]
fn every_change_raises_the_revision_and_what_changes_nothing_does_not() {
    let registry = registry();
    let (session, other) = (SessionId::new(), SessionId::new());
    let mut changes = registry.subscribe();
    let revision = |session| registry.get_for_session(Some(session)).revision();
    registry.set_session_entries(session, vec![mcp("a")]).unwrap();
    let first = revision(session);
    changes.mark_unchanged();
    registry.set_session_entries(session, vec![mcp("a")]).unwrap();
    registry.add_session(session).unwrap();
    registry.clear_source("nobody");
    assert_eq!(revision(session), first);
    assert!(!changes.has_changed().unwrap(), "nobody is woken for nothing");
    registry.set_session_entries(session, vec![Draft { description: "other".into(), ..mcp("a") }]).unwrap();
    let second = revision(session);
    assert!(second > first && changes.has_changed().unwrap());
    registry
        .set_session_entries(session, vec![Draft { trust: Trust::Pending, description: "other".into(), ..mcp("a") }])
        .unwrap();
    let third = revision(session);
    assert!(third > second);
    // Another session's change is not this one's.
    registry.set_session_entries(other, vec![mcp("b")]).unwrap();
    assert_eq!(revision(session), third);
    set_base(&registry, "user", vec![user("mine")]);
    assert!(revision(session) > third);
    let before = revision(session);
    registry.remove_session(session);
    assert!(revision(session) > before, "a list never goes back to an older number");
}

///
#[test]
fn a_source_that_fails_hides_no_other_and_is_told() {
    let registry = registry();
    let session = SessionId::new();
    let told = Diagnostic {
        source: "mise".into(),
        file: Some("mise.toml".into()),
        line: Some(3),
        message: "bad".into(),
        is_loss: false,
    };
    let slices = vec![
        Slice::new("mise", Vec::new(), vec![told.clone()]),
        Slice::new("just", vec![task("just", "t", Trust::Pending)], Vec::new()),
    ];
    in_project(&registry, session, "/p", slices);
    let view = registry.get_for_session(Some(session));
    assert_eq!(resolved(&view, "t"), "project/just/t");
    assert_eq!(view.diagnostics().collect::<Vec<_>>(), [&told]);
}

///
#[test]
fn the_total_is_cut_at_the_limit_the_same_way_each_time_and_it_is_told() {
    let slices = || {
        let of = |source: usize| {
            let drafts = (0..SOURCE_ENTRIES_MAX).map(|n| mcp(&format!("s{source}-{n}"))).collect();
            Arc::new(Slice::new(&format!("s{source}"), drafts, Vec::new()))
        };
        (0..21).map(of).collect::<Vec<_>>()
    };
    let (one, other) = (group::Group::new(1, slices()), group::Group::new(1, slices()));
    assert_eq!(one.entries().len(), group::GROUP_ENTRIES_MAX);
    assert!(one.entries().iter().zip(other.entries()).all(|(one, other)| one == other));
    assert_eq!(one.slices()[20].diagnostics().len(), 1);
}

/// what the delta says makes the new list of the old, for shadowing too.
#[test]
fn a_delta_tells_what_was_added_what_is_another_and_what_is_gone() {
    let registry = registry();
    let session = SessionId::new();
    let just = |names: &[&str]| {
        vec![Slice::new("just", names.iter().map(|name| task("just", name, Trust::Trusted)).collect(), Vec::new())]
    };
    in_project(&registry, session, "/p", just(&["a", "b"]));
    let old = registry.get_for_session(Some(session));
    let look = registry.look_at_project(Path::new("/p")).unwrap();
    registry.found_project(&look, just(&["b", "c"]));
    let new = registry.get_for_session(Some(session));
    let delta = Delta::between(&old, &new);
    assert_eq!(ids(&delta.added), ["project/just/c"]);
    assert_eq!((delta.updated.len(), &*delta.removed), (0, &["project/just/a".into()][..]));
    // Now the user has a "b": the project's gives way.
    set_base(&registry, "user", vec![user("b")]);
    let newer = registry.get_for_session(Some(session));
    let delta = Delta::between(&new, &newer);
    assert_eq!((ids(&delta.added), ids(&delta.updated)), (vec!["user/mine/b"], vec!["project/just/b"]));
    assert!(Delta::between(&newer, &newer.clone()).is_empty());
}

#[test]
fn a_session_that_moves_sees_the_project_it_is_in_and_knows_whether_that_is_all() {
    let registry = registry();
    let session = SessionId::new();
    registry.add_session(session).unwrap();
    assert!(!registry.get_for_session(Some(session)).is_complete());
    let look = registry.look_for_base("user");
    assert!(registry.found_all(&look, "user:", vec![Slice::new("user:claude", vec![user("u")], Vec::new())]));
    assert!(registry.get_all().is_complete() && !registry.get_for_session(Some(session)).is_complete());
    let look = registry.set_project(session, Some(Path::new("/a"))).unwrap();
    assert!(registry.set_project(session, Some(Path::new("/a"))).is_none(), "somebody looks already");
    assert!(!registry.get_for_session(Some(session)).is_complete());
    registry.found_project(&look, vec![Slice::new("just", vec![task("just", "t", Trust::Pending)], Vec::new())]);
    let view = registry.get_for_session(Some(session));
    assert!(view.is_complete() && matches!(view.resolve("t"), Resolved::Found(_)));
    registry.set_project(session, None);
    let view = registry.get_for_session(Some(session));
    assert!(view.is_complete() && matches!(view.resolve("t"), Resolved::Unknown));
}

/// Corner 9, the part of the core: all of it in one revision, for all sessions in the project.
#[test]
fn trust_is_given_and_withdrawn_in_one_revision() {
    let registry = registry();
    let (one, other) = (SessionId::new(), SessionId::new());
    let slices =
        || vec![Slice::new("just", vec![task("just", "a", Trust::Pending), task("just", "b", Trust::Pending)], vec![])];
    in_project(&registry, one, "/p", slices());
    in_project(&registry, other, "/p", slices());
    let trusts = |session| -> Vec<Trust> {
        registry
            .get_for_session(Some(session))
            .entries()
            .skip(entry::builtins().len())
            .map(|entry| entry.trust)
            .collect()
    };
    let before = registry.get_for_session(Some(one));
    let changes = registry.subscribe();
    let newest = *changes.borrow();
    registry.retrust(Path::new("/p"), |_| Trust::Trusted);
    assert_eq!((trusts(one), trusts(other)), (vec![Trust::Trusted; 2], vec![Trust::Trusted; 2]));
    let granted = registry.get_for_session(Some(one));
    assert_eq!(granted.revision().n, newest + 1);
    assert_eq!(Delta::between(&before, &granted).updated.len(), 2);
    registry.retrust(Path::new("/p"), |_| Trust::Pending);
    assert_eq!(trusts(other), [Trust::Pending; 2]);
    assert_eq!(registry.get_for_session(Some(one)).revision().n, granted.revision().n + 1);
    registry.retrust(Path::new("/p"), |_| Trust::Pending);
    assert_eq!(registry.get_for_session(Some(one)).revision().n, granted.revision().n + 1);
}

/// Corner 9, for what servers of tools have brought: it goes in the same revision, and what comes from one too late is seen by nobody.
#[test]
fn what_a_server_offers_goes_in_the_revision_that_takes_its_trust() {
    let registry = registry();
    let (session, root) = (SessionId::new(), Path::new("/p"));
    let server =
        Draft { trust: Trust::Trusted, ..Draft::new("s", "mcp", Kind::McpServer, Scope::Project, Exec::Nothing) };
    in_project(&registry, session, "/p", vec![Slice::new("project:mcp", vec![server], Vec::new())]);
    let view = || registry.get_for_session(Some(session));
    let entry = match view().resolve("mcp:s") {
        Resolved::Found(entry) => Arc::clone(entry),
        other => panic!("{other:?}"),
    };
    let offers = || {
        let tool = Draft::new("one", "s", Kind::McpTool, Scope::Project, Exec::Nothing);
        Slice::new(&super::core::source_of(&entry), vec![tool], Vec::new())
    };
    registry.bring(Some(root), &entry, EntryState::Ready, Some(offers()));
    assert_eq!(resolved(&view(), "s:one"), "project/s/one");
    let before = view();
    registry.retrust(root, |_| Trust::Pending);
    let after = view();
    assert_eq!(after.revision().n, before.revision().n + 1);
    assert_eq!(resolved(&after, "s:one"), "unknown");
    assert_eq!(&*Delta::between(&before, &after).removed, ["project/s/one".into()]);
    // Its process may still be on its way down.
    registry.bring(Some(root), &entry, EntryState::Ready, Some(offers()));
    assert_eq!(resolved(&view(), "s:one"), "unknown");
    // Nor is another one seen that has taken its place without being what was started.
    let other =
        Draft { decides: b"other".to_vec(), ..Draft::new("s", "mcp", Kind::McpServer, Scope::Project, Exec::Nothing) };
    let look = registry.look_at_project(root).unwrap();
    registry.found_project(&look, vec![Slice::new("project:mcp", vec![other], Vec::new())]);
    assert_eq!(resolved(&view(), "s:one"), "unknown");
}

#[test]
fn unavailable_is_another_state_and_is_told() {
    let registry = registry();
    let session = SessionId::new();
    registry.set_session_entries(session, vec![mcp("t")]).unwrap();
    let old = registry.get_for_session(Some(session));
    let state = EntryState::Unavailable("its server is gone".into());
    registry.set_session_entries(session, vec![Draft { state, ..mcp("t") }]).unwrap();
    let delta = Delta::between(&old, &registry.get_for_session(Some(session)));
    assert_eq!(ids(&delta.updated), ["session/server/t"]);
}
