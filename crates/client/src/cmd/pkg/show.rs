//! What tells of packages: list, info, search, update, verify.

use serde::Serialize;
use shellkeep_daemon::packages::{Freshness, Held, Listed, Package, PackageError};

use super::super::{local_time, utc_time};
use super::{Here, failed, status, told};
use crate::cli::{PkgInfo, PkgSearch, PkgUpdate, PkgVerify};
use crate::report::{self, Failure, Outcome, printable};

/// An installed package as `list --json` shows it. The names are a contract.
#[derive(Debug, Serialize)]
struct Row<'a> {
    name: &'a str,
    version: String,
    description: &'a str,
    commands: Vec<&'a str>,
    installed_at: String,
}

/// A package as `search --json` shows it. The names are a contract.
#[derive(Debug, Serialize)]
struct Found<'a> {
    name: &'a str,
    version: String,
    description: &'a str,
    commands: &'a [String],
    size: u64,
    installed: Option<String>,
}

/// A package as `info --json` shows it. The names are a contract.
#[derive(Debug, Serialize)]
struct Known<'a> {
    name: &'a str,
    version: Option<String>,
    previous_version: Option<String>,
    description: &'a str,
    license: Option<&'a str>,
    homepage: Option<&'a str>,
    commands: Vec<&'a str>,
    installed_at: Option<String>,
    origin: Option<String>,
    has_extension: bool,
    available: Vec<String>,
}

/// What `update --json` shows. The names are a contract.
#[derive(Debug, Serialize)]
struct Updated {
    index: String,
    packages: usize,
    upgradable: Vec<Upgradable>,
}

/// A package of which the index has a newer release.
#[derive(Debug, Serialize)]
struct Upgradable {
    name: String,
    installed: String,
    available: String,
}

/// What `verify --json` shows. The names are a contract.
#[derive(Debug, Serialize)]
struct Checked {
    name: String,
    version: String,
    ok: bool,
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct Problem {
    path: String,
    problem: &'static str,
}

pub(super) fn list(here: &Here<'_>, as_json: bool) -> Outcome {
    let look = here.packages.look().map_err(|error| failed(&error))?;
    told(&look.notes);
    let rows = look.db.packages.values().map(|package| Row {
        name: &package.name,
        version: package.current.version.to_string(),
        description: &package.current.description,
        commands: names(package),
        installed_at: utc_time(package.current.installed_at_us),
    });
    let rows: Vec<Row<'_>> = rows.collect();
    let text = if as_json {
        report::json(&rows)?
    } else {
        let lines = rows
            .iter()
            .map(|row| [row.name, &row.version, &row.commands.join(" "), row.description].map(str::to_owned));
        table(&["NAME", "VERSION", "COMMANDS", "DESCRIPTION"], lines.collect())
    };
    report::result(&text)?;
    if rows.is_empty() && !as_json {
        report::notice("nothing is installed; \"shellkeep pkg search\" lists what can be");
    }
    Ok(status(true))
}

pub(super) fn search(here: &Here<'_>, args: &PkgSearch) -> Outcome {
    let held = here.index(&args.index, Freshness::Seen)?;
    let look = here.packages.look().map_err(|error| failed(&error))?;
    told(&look.notes);
    let found = held.index.search(&args.text);
    let installed = |one: &Listed| look.db.packages.get(&one.name).map(|package| package.current.version.to_string());
    let rows: Vec<Found<'_>> = found
        .iter()
        .map(|one| Found {
            name: &one.name,
            version: one.version.to_string(),
            description: &one.description,
            commands: &one.commands,
            size: one.size,
            installed: installed(one),
        })
        .collect();
    let text = if args.json {
        report::json(&rows)?
    } else {
        let lines = rows.iter().map(|row| {
            let is_here = row.installed.as_ref().map_or_else(String::new, |version| format!(" (installed: {version})"));
            [row.name.to_owned(), row.version.clone(), row.commands.join(" "), format!("{}{is_here}", row.description)]
        });
        table(&["NAME", "VERSION", "COMMANDS", "DESCRIPTION"], lines.collect())
    };
    report::result(&text)?;
    if rows.is_empty() && !args.json {
        report::notice(format_args!("no package of {} matches", held.source));
    }
    Ok(status(!rows.is_empty()))
}

pub(super) fn update(here: &Here<'_>, args: &PkgUpdate) -> Outcome {
    let held = here.index(&args.index, Freshness::Now)?;
    let look = here.packages.look().map_err(|error| failed(&error))?;
    told(&look.notes);
    let newer = |package: &Package| {
        let newest = held.index.newest(&package.name)?;
        (newest.version > package.current.version).then(|| Upgradable {
            name: package.name.clone(),
            installed: package.current.version.to_string(),
            available: newest.version.to_string(),
        })
    };
    let upgradable: Vec<Upgradable> = look.db.packages.values().filter_map(newer).collect();
    let updated = Updated { index: held.source.to_string(), packages: held.index.packages.len(), upgradable };
    if args.json {
        report::result(&report::json(&updated)?)?;
        return Ok(status(true));
    }
    let mut text = format!("{} packages in {}\n", updated.packages, printable(&updated.index));
    for one in &updated.upgradable {
        text.extend([format!("{} {} can be upgraded to {}\n", one.name, one.installed, one.available)]);
    }
    report::result(&text)?;
    Ok(status(true))
}

pub(super) fn verify(here: &Here<'_>, args: &PkgVerify) -> Outcome {
    let verified = here.packages.verify(args.name.as_deref()).map_err(|error| failed(&error))?;
    let problem = |(path, fault): (String, shellkeep_daemon::packages::Fault)| Problem { path, problem: fault.word() };
    let rows: Vec<Checked> = verified
        .into_iter()
        .map(|one| Checked {
            name: one.name,
            version: one.version.to_string(),
            ok: one.faults.is_empty(),
            problems: one.faults.into_iter().map(problem).collect(),
        })
        .collect();
    let text = if args.json {
        report::json(&rows)?
    } else {
        let mut text = String::new();
        for row in &rows {
            let word = if row.ok { "whole" } else { "changed since it was installed" };
            text.extend([format!("{} {}  {word}\n", row.name, row.version)]);
            text.extend(row.problems.iter().map(|one| format!("  {}  {}\n", one.problem, printable(&one.path))));
        }
        text
    };
    report::result(&text)?;
    let all_is_well = rows.iter().all(|row| row.ok);
    if !all_is_well && !args.json {
        report::notice(
            "\"shellkeep pkg remove NAME\" and \"shellkeep pkg install NAME\" bring a package back as it was",
        );
    }
    Ok(status(all_is_well))
}

pub(super) fn info(here: &Here<'_>, args: &PkgInfo) -> Outcome {
    let look = here.packages.look().map_err(|error| failed(&error))?;
    told(&look.notes);
    let package = look.db.packages.get(&args.name);
    let held = index_if_any(here, args, package.is_some())?;
    let listed = held.as_ref().and_then(|held| held.index.packages.get(&args.name)).map_or(&[][..], Vec::as_slice);
    let newest = held.as_ref().and_then(|held| held.index.newest(&args.name));
    let Some(description) =
        package.map(|package| &package.current.description).or_else(|| newest.map(|listed| &listed.description))
    else {
        let index = held.as_ref().map_or_else(|| "what is installed".to_owned(), |held| held.source.to_string());
        let known = look.db.packages.keys().chain(held.iter().flat_map(|held| held.index.packages.keys()));
        let near = nearest(&args.name, known);
        return Err(failed(&PackageError::Unknown { name: args.name.clone(), index, near }));
    };
    let release = package.map(|package| &package.current);
    let of_index = || newest.map(|listed| listed.commands.iter().map(String::as_str).collect()).unwrap_or_default();
    let known = Known {
        name: &args.name,
        version: release.map(|release| release.version.to_string()),
        previous_version: package.and_then(|package| Some(package.previous.as_ref()?.version.to_string())),
        description,
        license: release.map_or_else(|| newest?.license.as_deref(), |release| release.license.as_deref()),
        homepage: release.map_or_else(|| newest?.homepage.as_deref(), |release| release.homepage.as_deref()),
        commands: package.map_or_else(of_index, names),
        installed_at: release.map(|release| utc_time(release.installed_at_us)),
        origin: release.map(|release| release.origin.to_string()),
        has_extension: release.is_some_and(|release| release.extension.is_some()),
        available: listed.iter().map(|listed| listed.version.to_string()).collect(),
    };
    let text = if args.json {
        report::json(&known)?
    } else {
        let when = release.map(|release| local_time(release.installed_at_us));
        described(&known, when.as_deref())
    };
    report::result(&text)?;
    Ok(status(true))
}

/// An index is no condition for telling of what is installed.
fn index_if_any(here: &Here<'_>, args: &PkgInfo, is_installed: bool) -> Result<Option<Held>, Failure> {
    if here.source(&args.index).is_err() && args.index.place.is_none() {
        return Ok(None);
    }
    match here.index(&args.index, Freshness::Seen) {
        Ok(held) => Ok(Some(held)),
        Err(failure) if is_installed => {
            report::notice(&failure.message);
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Option<String> {
    let near = known.map(|known| (strsim::jaro(known, name), known)).filter(|(alike, _)| *alike > super::super::NEAR);
    near.max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, known)| known.clone())
}

fn described(known: &Known<'_>, when: Option<&str>) -> String {
    let or_none = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let rows = [
        ("name", known.name.to_owned()),
        ("installed", or_none(known.version.as_deref())),
        ("since", or_none(when)),
        ("before", or_none(known.previous_version.as_deref())),
        ("available", known.available.join(" ")),
        ("description", known.description.to_owned()),
        ("commands", known.commands.join(" ")),
        ("license", or_none(known.license)),
        ("homepage", or_none(known.homepage)),
        ("from", or_none(known.origin.as_deref())),
        ("extension", if known.has_extension { "yes, not run yet".to_owned() } else { String::new() }),
    ];
    let full = rows.into_iter().filter(|(_, value)| !value.is_empty());
    full.fold(String::new(), |text, (name, value)| text + &format!("{name:<12} {}\n", printable(&value)))
}

fn names(package: &Package) -> Vec<&str> {
    package.commands().map(|(name, _)| name).collect()
}

/// A line each, columns as wide as they must be; nothing for nothing.
fn table<const N: usize>(head: &[&str; N], rows: Vec<[String; N]>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let rows: Vec<[String; N]> = rows.into_iter().map(|row| row.map(|cell| printable(&cell))).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let line = |cells: [&str; N]| {
        let padded = cells.iter().enumerate().map(|(column, cell)| format!("{cell:<0$}", width(column)));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let body = rows.iter().map(|row| line(row.each_ref().map(String::as_str)));
    std::iter::once(line(*head)).chain(body).collect()
}
