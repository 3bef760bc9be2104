//! From what sources find to what the registry holds.
//!
//! Promise: nothing of a project is trusted here that the user has not agreed to as it is now.

use std::sync::Arc;

use shellkeep_protocol::registry::{Diagnostic, EntryState, Kind, Scope, Trust};

use super::entry::{Draft, Exec};
use super::names;
use super::slice::Slice;
use super::sources::{self, Item};

/// What an agent alone can do with it.
const LISTED_ONLY: &str = "it belongs to an agent, which runs it by itself";

/// The slices of one scope.
pub(super) fn slices(found: Vec<sources::Slice>, scope: sources::Scope) -> Vec<Slice> {
    found.into_iter().filter(|slice| slice.scope == scope).map(slice).collect()
}

/// Name of a source in the registry: of one that reads the home and the project there are two.
fn source_name(slice: &sources::Slice) -> String {
    match slice.scope {
        sources::Scope::User => format!("user:{}", slice.source),
        sources::Scope::Project => format!("project:{}", slice.source),
    }
}

fn slice(found: sources::Slice) -> Slice {
    let source = source_name(&found);
    let told = |told: sources::Diagnostic| Diagnostic {
        source: found.source.to_owned(),
        file: Some(names::shown(&told.file.to_string_lossy())),
        line: told.line,
        message: told.message,
        is_loss: told.is_loss,
    };
    let diagnostics = found.diagnostics.into_iter().map(told).collect();
    Slice::new(&source, found.items.into_iter().map(draft).collect(), diagnostics)
}

fn draft(item: Item) -> Draft {
    let scope = match item.scope {
        sources::Scope::User => Scope::User,
        sources::Scope::Project => Scope::Project,
    };
    Draft {
        name: item.name.clone(),
        qualified_name: item.qualified_name.clone(),
        kind: kind(item.kind),
        scope,
        owner: item.owner.clone(),
        path: Some(names::shown(&item.file.to_string_lossy())),
        description: item.description.clone(),
        args_hint: item.arguments.hint.clone(),
        schema: None,
        group: item.group.clone(),
        display_name: item.display_name.clone(),
        aliases: item.aliases.clone(),
        decides: item.trust_input(),
        trust: if scope == Scope::Project { Trust::Pending } else { Trust::Trusted },
        state: state(&item),
        installed: None,
        is_listed: item.listed,
        exec: Exec::Found(Arc::new(item)),
    }
}

fn kind(kind: sources::Kind) -> Kind {
    match kind {
        sources::Kind::UserCommand => Kind::UserCommand,
        sources::Kind::ProjectCommand => Kind::ProjectCommand,
        sources::Kind::Task => Kind::Task,
        sources::Kind::Prompt => Kind::Prompt,
        sources::Kind::Skill => Kind::Skill,
        sources::Kind::McpServer => Kind::McpServer,
        sources::Kind::Agent => Kind::Agent,
        sources::Kind::Hook => Kind::Hook,
    }
}

fn state(item: &Item) -> EntryState {
    match item.exec {
        sources::Exec::Nothing => EntryState::Unavailable(LISTED_ONLY.to_owned()),
        // Of a server it is said by who starts it.
        sources::Exec::McpServer(_) | sources::Exec::Program(_) | sources::Exec::Line(_) | sources::Exec::Prompt(_) => {
            EntryState::Ready
        }
    }
}
