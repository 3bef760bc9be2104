//! Any sequence of changes, done to the registry and to lists that are copied and searched one by one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Base(usize, Vec<usize>),
    Clear(usize),
    Add(usize),
    Own(usize, Vec<usize>),
    Remove(usize),
    Move(usize, Option<usize>),
    Look(usize, Vec<usize>),
}

const NAMES: [&str; 6] = ["a", "b", "c", "cd", "test", "Test"];
const SOURCES: [&str; 3] = ["user", "claude", "packages"];

/// What a session sees, as lists.
#[derive(Default)]
struct Model {
    base: Vec<(usize, Vec<usize>)>,
    own: BTreeMap<usize, Vec<usize>>,
    place: BTreeMap<usize, usize>,
    projects: BTreeMap<usize, Vec<usize>>,
}

impl Model {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Base(source, names) => {
                let at = self.base.iter().position(|(known, _)| known == source);
                match (at, names.is_empty()) {
                    (Some(at), true) => drop(self.base.remove(at)),
                    (Some(at), false) => self.base[at].1.clone_from(names),
                    (None, true) => {}
                    (None, false) => self.base.push((*source, names.clone())),
                }
            }
            Step::Clear(source) => self.base.retain(|(known, _)| known != source),
            Step::Add(session) => drop(self.own.entry(*session).or_default()),
            Step::Own(session, names) => drop(self.own.insert(*session, names.clone())),
            Step::Remove(session) => {
                self.own.remove(session);
                self.leave(*session);
            }
            Step::Move(session, to) if self.own.contains_key(session) && self.place.get(session) != to.as_ref() => {
                self.leave(*session);
                self.place.extend(to.map(|to| (*session, to)));
            }
            Step::Move(..) => {}
            Step::Look(root, names) => {
                if self.place.values().any(|place| place == root) {
                    self.projects.insert(*root, names.clone());
                }
            }
        }
    }

    fn leave(&mut self, session: usize) {
        if let Some(root) = self.place.remove(&session)
            && !self.place.values().any(|place| *place == root)
        {
            self.projects.remove(&root);
        }
    }

    fn seen(&self, session: usize) -> Vec<String> {
        let list = |prefix: String, names: &[usize]| -> Vec<String> {
            names.iter().map(|name| format!("{prefix}/{}", NAMES[*name])).collect()
        };
        let mut all: Vec<String> = registry().get_all().entries().map(|entry| entry.id.to_string()).collect();
        for (source, names) in &self.base {
            all.extend(list(format!("user/{}", SOURCES[*source]), names));
        }
        if let Some(names) = self.place.get(&session).and_then(|root| self.projects.get(root)) {
            all.extend(list("project/just".into(), names));
        }
        all.extend(self.own.get(&session).map(|names| list("session/server".into(), names)).unwrap_or_default());
        all
    }
}

fn root(at: usize) -> PathBuf {
    format!("/{at}").into()
}

fn apply(registry: &CommandRegistry, sessions: &[SessionId], step: &Step) {
    let tasks = |names: &[usize]| -> Vec<Slice> {
        let drafts = names.iter().map(|name| task("just", NAMES[*name], Trust::Trusted)).collect();
        vec![Slice::new("just", drafts, Vec::new())]
    };
    match step {
        Step::Base(source, names) => {
            let draft = |name: &usize| {
                Draft::new(NAMES[*name], SOURCES[*source], Kind::UserCommand, Scope::User, Exec::Nothing)
            };
            set_base(registry, SOURCES[*source], names.iter().map(draft).collect());
        }
        Step::Clear(source) => registry.clear_source(SOURCES[*source]),
        Step::Add(session) => registry.add_session(sessions[*session]).unwrap(),
        Step::Own(session, names) => {
            let drafts = names.iter().map(|name| mcp(NAMES[*name])).collect();
            registry.set_session_entries(sessions[*session], drafts).unwrap();
        }
        Step::Remove(session) => registry.remove_session(sessions[*session]),
        Step::Move(session, to) => drop(registry.set_project(sessions[*session], to.map(root).as_deref())),
        Step::Look(at, names) => {
            if let Some(look) = registry.look_at_project(&root(*at)) {
                registry.found_project(&look, tasks(names));
            }
        }
    }
}

/// Applies a delta to a list, as a client does.
fn patched(mut list: BTreeMap<String, String>, delta: &Delta, new: &View) -> BTreeMap<String, String> {
    for id in &delta.removed {
        list.remove(&**id);
    }
    for entry in delta.added.iter().chain(&delta.updated) {
        list.insert(entry.id.to_string(), shown(new, entry));
    }
    list
}

fn shown(view: &View, entry: &Entry) -> String {
    format!("{} {:?}", entry.digest, view.shadowing(entry).map(|other| &other.id))
}

fn listed(view: &View) -> BTreeMap<String, String> {
    view.entries().map(|entry| (entry.id.to_string(), shown(view, entry))).collect()
}

/// The name's candidates, one by one, by the order of precedence.
fn naive_resolve(seen: &[String], name: &str) -> String {
    let all: Vec<&String> = seen.iter().filter(|id| id.rsplit('/').next() == Some(name)).collect();
    let rank = |id: &&String| match id.split('/').next() {
        Some("builtin") => 0,
        Some("user") => 1,
        Some("project") => 2,
        _ => 3,
    };
    let Some(best) = all.iter().map(rank).min() else { return "unknown".to_owned() };
    let mut best: Vec<&str> = all.into_iter().filter(|id| rank(id) == best).map(String::as_str).collect();
    best.sort_unstable();
    if let [one] = best[..] {
        return one.to_owned();
    }
    let owner = |id: &&str| id.split('/').nth(1).map(|owner| format!("{owner}:{name}")).unwrap();
    best.iter().map(owner).collect::<Vec<_>>().join(" | ")
}

fn step() -> impl Strategy<Value = Step> {
    let names = || proptest::sample::subsequence((0..NAMES.len()).collect::<Vec<_>>(), 0..=NAMES.len());
    prop_oneof![
        (0..SOURCES.len(), names()).prop_map(|(source, names)| Step::Base(source, names)),
        (0..SOURCES.len()).prop_map(Step::Clear),
        (0..3_usize).prop_map(Step::Add),
        (0..3_usize, names()).prop_map(|(session, names)| Step::Own(session, names)),
        (0..3_usize).prop_map(Step::Remove),
        (0..3_usize, proptest::option::of(0..2_usize)).prop_map(|(session, to)| Step::Move(session, to)),
        (0..2_usize, names()).prop_map(|(root, names)| Step::Look(root, names)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_changes_give_what_a_naive_model_gives(steps in proptest::collection::vec(step(), 1..30)) {
        let (registry, mut model) = (registry(), Model::default());
        let sessions = [SessionId::new(), SessionId::new(), SessionId::new()];
        for step in &steps {
            let old: Vec<View> = sessions.iter().map(|session| registry.get_for_session(Some(*session))).collect();
            apply(&registry, &sessions, step);
            model.apply(step);
            for (nth, session) in sessions.iter().enumerate() {
                let view = registry.get_for_session(Some(*session));
                let seen: Vec<String> = view.entries().map(|entry| entry.id.to_string()).collect();
                prop_assert_eq!(&seen, &model.seen(nth), "session {}", nth);
                for name in NAMES {
                    prop_assert_eq!(resolved(&view, name), naive_resolve(&seen, name));
                }
                let delta = Delta::between(&old[nth], &view);
                prop_assert_eq!(patched(listed(&old[nth]), &delta, &view), listed(&view), "{:?}", delta);
                prop_assert!(view.revision() >= old[nth].revision());
                prop_assert!(delta.is_empty() || view.revision() > old[nth].revision());
            }
        }
    }
}
