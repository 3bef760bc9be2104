//! Which command a name means, and what a search finds.

use super::*;

///
#[test]
fn names_that_differ_in_case_are_two_and_are_flagged() {
    let registry = registry();
    set_base(&registry, "user", vec![user("Deploy"), user("deploy")]);
    let view = registry.get_all();
    assert_eq!(resolved(&view, "Deploy"), "user/mine/Deploy");
    assert_eq!(resolved(&view, "deploy"), "user/mine/deploy");
    assert_eq!(view.case_variants(), [["Deploy", "deploy"]]);
    let error = view.one("DEPLOY").unwrap_err();
    assert!(matches!(&error, RegistryError::UnknownCommand { near, .. } if *near == ["Deploy", "deploy"]), "{error:?}");
}

/// Corner 1.
#[test]
fn a_bare_name_goes_to_the_builtin_then_the_user_then_packages_then_the_trusted_project_then_mcp() {
    let registry = registry();
    let session = SessionId::new();
    let package = Draft { installed: Some(1), ..Draft::new("n", "acme", Kind::Package, Scope::User, Exec::Nothing) };
    set_base(&registry, "packages", vec![package]);
    set_base(&registry, "user", vec![user("n"), user("cd")]);
    let slices =
        |trust| vec![Slice::new("just", vec![task("just", "n", trust), task("just", "pwd", trust)], Vec::new())];
    in_project(&registry, session, "/p", slices(Trust::Trusted));
    registry.set_session_entries(session, vec![mcp("n")]).unwrap();
    let view = || registry.get_for_session(Some(session));
    assert_eq!(resolved(&view(), "cd"), "builtin/shellkeep/cd");
    assert_eq!(resolved(&view(), "pwd"), "builtin/shellkeep/pwd");
    assert_eq!(resolved(&view(), "just:pwd"), "project/just/pwd");
    assert_eq!(resolved(&view(), "project:pwd"), "project/just/pwd");
    assert_eq!(resolved(&view(), "project/just/pwd"), "project/just/pwd");
    assert_eq!(resolved(&view(), "n"), "user/mine/n");
    let seen = view();
    let just = seen.entries().find(|entry| &*entry.id == "project/just/n").unwrap();
    assert_eq!(seen.shadowing(just).map(|entry| &*entry.id), Some("user/mine/n"));
    registry.clear_source("user");
    assert_eq!(resolved(&view(), "n"), "user/acme/n");
    registry.clear_source("packages");
    assert_eq!(resolved(&view(), "n"), "project/just/n");
    let look = registry.look_at_project(Path::new("/p")).unwrap();
    registry.found_project(&look, slices(Trust::Pending));
    assert_eq!(resolved(&view(), "n"), "session/server/n", "what is not trusted takes no name from anybody");
    registry.set_session_entries(session, Vec::new()).unwrap();
    assert_eq!(resolved(&view(), "n"), "project/just/n");
}

/// Section 5: of servers and their tools local > project > user, but never what the user has not agreed to.
#[test]
fn of_servers_with_one_name_the_nearest_that_is_trusted_is_meant() {
    let registry = registry();
    let session = SessionId::new();
    let server = |scope, trust| Draft { trust, ..Draft::new("db", "mcp", Kind::McpServer, scope, Exec::Nothing) };
    set_base(&registry, "user:mcp", vec![server(Scope::User, Trust::Trusted)]);
    for (trust, id) in [(Trust::Pending, "user/mcp/db"), (Trust::Trusted, "project/mcp/db")] {
        registry.remove_session(session);
        in_project(&registry, session, "/p", vec![Slice::new("mcp", vec![server(Scope::Project, trust)], Vec::new())]);
        let view = registry.get_for_session(Some(session));
        assert_eq!((&*resolved(&view, "db"), &*resolved(&view, "mcp:db")), (id, id), "{trust:?}");
        assert_eq!(resolved(&view, "user:db"), "user/mcp/db");
        assert_eq!(resolved(&view, "project:db"), "project/mcp/db");
    }
}

/// Corner 1: only the user's own setting turns it round.
#[test]
fn a_user_may_let_trusted_projects_go_first() {
    let registry = CommandRegistry::new(7, Preferences { project_first: true, ..Preferences::default() });
    let session = SessionId::new();
    set_base(&registry, "user", vec![user("n"), user("p")]);
    let drafts =
        vec![task("just", "n", Trust::Trusted), task("just", "p", Trust::Pending), task("just", "cd", Trust::Trusted)];
    in_project(&registry, session, "/p", vec![Slice::new("just", drafts, Vec::new())]);
    let view = registry.get_for_session(Some(session));
    assert_eq!(resolved(&view, "n"), "project/just/n");
    assert_eq!(resolved(&view, "p"), "user/mine/p");
    assert_eq!(resolved(&view, "cd"), "builtin/shellkeep/cd");
}

/// Corner 2.
#[test]
fn equals_are_ambiguous_unless_one_is_preferred_or_was_installed_first() {
    let prefer = [("test".to_owned(), "npm:test".to_owned())].into();
    let registry = CommandRegistry::new(7, Preferences { prefer, ..Preferences::default() });
    let session = SessionId::new();
    let slices = |names: [&str; 2]| -> Vec<Slice> {
        names
            .iter()
            .map(|owner| {
                let drafts = vec![task(owner, "test", Trust::Pending), task(owner, "lint", Trust::Pending)];
                Slice::new(owner, drafts, Vec::new())
            })
            .collect()
    };
    in_project(&registry, session, "/p", slices(["npm", "just"]));
    let view = registry.get_for_session(Some(session));
    assert_eq!(resolved(&view, "lint"), "just:lint | npm:lint");
    assert_eq!(resolved(&view, "npm:lint"), "project/npm/lint");
    assert_eq!(resolved(&view, "test"), "project/npm/test");
    assert!(
        matches!(view.one("lint"), Err(RegistryError::Ambiguous { candidates, .. }) if candidates == ["just:lint", "npm:lint"])
    );
    // Nothing depends on the order in which sources were read.
    let look = registry.look_at_project(Path::new("/p")).unwrap();
    registry.found_project(&look, slices(["just", "npm"]));
    let view = registry.get_for_session(Some(session));
    assert_eq!((&*resolved(&view, "lint"), &*resolved(&view, "test")), ("just:lint | npm:lint", "project/npm/test"));
    let package = |owner: &str, installed| Draft {
        installed: Some(installed),
        ..Draft::new("fmt", owner, Kind::Package, Scope::User, Exec::Nothing)
    };
    set_base(&registry, "packages", vec![package("later", 9), package("earlier", 2)]);
    let view = registry.get_all();
    assert_eq!(resolved(&view, "fmt"), "user/earlier/fmt");
    let later = view.entries().find(|entry| &*entry.owner == "later").unwrap();
    assert_eq!(view.shadowing(later).map(|entry| &*entry.id), Some("user/earlier/fmt"));
}

/// Errors of 4.1: near misses where they help.
#[test]
fn an_unknown_name_is_told_with_those_that_are_near() {
    let registry = registry();
    set_base(&registry, "user", vec![user("deploy"), user("deploy-all"), user("zzz")]);
    let error = registry.get_all().one("deplyo").unwrap_err();
    assert!(matches!(&error, RegistryError::UnknownCommand { near, .. } if near[0] == "deploy"), "{error:?}");
    assert!(
        matches!(registry.get_all().one("qqqq"), Err(RegistryError::UnknownCommand { near, .. }) if near.is_empty())
    );
}

///
#[test]
fn search_ranks_names_first_then_uses_then_the_list_and_starves_nobody() {
    let registry = registry();
    let session = SessionId::new();
    let mut drafts: Vec<Draft> = (0..200).map(|n| user(&format!("build-{n:03}"))).collect();
    drafts.push(Draft { description: "Makes a release build for all".into(), ..user("ship") });
    drafts.push(user("build"));
    set_base(&registry, "user", drafts);
    registry.set_session_entries(session, (0..10).map(|n| mcp(&format!("my-long-build-{n}"))).collect()).unwrap();
    let view = registry.get_for_session(Some(session));
    let search = |text: &str, limit| view.search(text, limit, &Usage::default(), 0);
    let found = search("build", 8);
    assert_eq!(&*found[0].name, "build");
    let own = found.iter().filter(|entry| entry.scope == Scope::Session).count();
    assert_eq!((found.len(), own), (8, 2), "{:?}", ids(&found));
    assert_eq!(ids(&found), ids(&search("build", 8)), "the same each time");
    assert_eq!(&*found[1].name, "build-000", "equals stay in order");
    // Words of descriptions fill up, in any order and case.
    assert_eq!(ids(&search("Release ALL", 5)), ["user/mine/ship"]);
    let all = search("build", 1000);
    assert_eq!(all.len(), 212);
    assert_eq!(&*all.last().unwrap().name, "ship");
    // What is used goes first among equals, and less so later.
    let mut usage = Usage::default();
    usage.note("user/mine/build-150", DAY_US);
    usage.note("user/mine/build-150", DAY_US);
    let found = view.search("buil", 3, &usage, 2 * DAY_US);
    assert_eq!(&*found[0].name, "build-150", "{:?}", ids(&found));
    let found = view.search("buil", 3, &usage, 400 * DAY_US);
    assert_ne!(&*found[0].name, "build-150", "{:?}", ids(&found));
}

#[test]
fn a_text_with_marks_and_one_that_is_no_pattern_is_found_as_it_is() {
    let registry = registry();
    set_base(&registry, "user", vec![user("déployer"), user("a+b"), user("^x!")]);
    for (text, id) in
        [("deploy", "user/mine/déployer"), ("a+", "user/mine/a+b"), ("^x", "user/mine/^x!"), ("!", "user/mine/^x!")]
    {
        assert_eq!(ids(&registry.search(text, 5)), [id], "{text}");
    }
    assert!(registry.search(&"z".repeat(10_000), 5).is_empty());
}
