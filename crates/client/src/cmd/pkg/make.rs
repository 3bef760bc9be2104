//! What makes packages: build and index. Neither looks at what is installed.

use serde::Serialize;
use shellkeep_daemon::packages::{self, Compression};

use super::bar::Bar;
use super::{failed, status};
use crate::cli::{PkgBuild, PkgFormat, PkgIndex};
use crate::report::{self, Failure, Outcome, printable, size};

/// What `build --json` shows. The names are a contract.
#[derive(Debug, Serialize)]
struct Built {
    name: String,
    version: String,
    path: String,
    sha256: String,
    size: u64,
}

/// What `index --json` shows. The names are a contract.
#[derive(Debug, Serialize)]
struct Indexed {
    path: String,
    packages: Vec<Listed>,
    failed: Vec<Failed>,
}

#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    version: String,
    path: String,
    sha256: String,
    size: u64,
}

#[derive(Debug, Serialize)]
struct Failed {
    path: String,
    error: String,
}

pub(super) fn build(args: &PkgBuild) -> Outcome {
    let compression = match args.format {
        PkgFormat::Gz => Compression::Gzip,
        PkgFormat::Zst => Compression::Zstd,
    };
    std::fs::create_dir_all(&args.output).map_err(|error| {
        Failure::refused(format_args!("cannot make {}: {error}", printable(&args.output.display().to_string())))
    })?;
    let built = packages::build(&args.directory, &args.output, compression).map_err(|error| failed(&error))?;
    let path = built.path.display().to_string();
    let text = if args.json {
        report::json(&report_of(&built, &path))?
    } else {
        format!("{}  {}  sha256 {}\n", printable(&path), size(built.size), built.sha256)
    };
    report::result(&text)?;
    Ok(status(true))
}

fn report_of(built: &packages::Built, path: &str) -> Built {
    Built {
        name: built.name.clone(),
        version: built.version.to_string(),
        path: path.to_owned(),
        sha256: built.sha256.clone(),
        size: built.size,
    }
}

pub(super) fn index(args: &PkgIndex) -> Outcome {
    let bar = Bar::count("reading archives");
    let indexed = packages::make_index(&args.directory, &|done, all| bar.at(done as u64, Some(all as u64)));
    drop(bar);
    let indexed = indexed.map_err(|error| failed(&error))?;
    for (path, why) in &indexed.failed {
        let left_out = crate::report::Failure::refused(format_args!("{} is left out: {why}", path.display()));
        // The status is told at the end, of all of them.
        let _status = report::failure(&left_out);
    }
    let all_is_well = indexed.failed.is_empty();
    let releases = indexed.index.packages.values().flatten();
    let text = if args.json {
        let listed = releases.map(|one| Listed {
            name: one.name.clone(),
            version: one.version.to_string(),
            path: one.path.clone(),
            sha256: one.sha256.clone(),
            size: one.size,
        });
        let broken = indexed
            .failed
            .iter()
            .map(|(path, error)| Failed { path: path.display().to_string(), error: error.clone() });
        let path = indexed.path.display().to_string();
        report::json(&Indexed { path, packages: listed.collect(), failed: broken.collect() })?
    } else {
        let (count, path) = (releases.count(), indexed.path.display().to_string());
        format!("{count} releases of {} packages in {}\n", indexed.index.packages.len(), printable(&path))
    };
    report::result(&text)?;
    Ok(status(all_is_well))
}
