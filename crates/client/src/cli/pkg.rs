//! The arguments of `pkg`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

pub(super) const HELP: &str = "\
Packages are directories or archives with a package.toml. Their commands come to every shell of yours, and no script of theirs is run
by installing them. An index is a directory of archives, here or behind http(s), made by \"shellkeep pkg index\".

Examples:
  shellkeep pkg install ./hello            a directory or an archive
  shellkeep pkg install hello              from the index that [packages] of the settings names
  shellkeep pkg list --json | jq -r '.[].commands[]'

In a session \"pkg\" does the same. SSL_CERT_FILE names the CAs of an https index, if the system does not have them.";

/// Install and manage packages of commands.
#[derive(Debug, Args)]
pub struct Pkg {
    /// What to do.
    #[command(subcommand)]
    pub verb: PkgVerb,
}

/// Where packages are looked for.
#[derive(Debug, Args)]
pub struct IndexPlace {
    /// The index: a directory, or an address with file:, http: or https: [default: packages.index of the settings]
    #[arg(long = "index", env = "SHELLKEEP_PKG_INDEX", hide_env_values = true, value_name = "PLACE")]
    pub place: Option<String>,
}

/// What can be done with packages.
#[derive(Debug, Subcommand)]
pub enum PkgVerb {
    /// Install packages: by name from the index, from a path, or from an address
    #[command(
        after_help = "Examples:\n  shellkeep pkg install hello hello-extra@1.2.0\n  shellkeep pkg install ./hello-1.2.0.tar.gz --as hi\n  shellkeep pkg install all --index ~/shop"
    )]
    Install(PkgInstall),
    /// Remove packages; what runs of them goes on
    #[command(
        alias = "uninstall",
        after_help = "Examples:\n  shellkeep pkg remove hello\n  shellkeep pkg remove hello --force"
    )]
    Remove(PkgRemove),
    /// List what is installed
    #[command(after_help = "Examples:\n  shellkeep pkg list\n  shellkeep pkg list --json | jq -r '.[].name'")]
    List(PkgJson),
    /// Say what is known of a package, installed or not; status 1 if nothing
    #[command(
        after_help = "Examples:\n  shellkeep pkg info hello\n  shellkeep pkg info hello --json | jq -r .homepage"
    )]
    Info(PkgInfo),
    /// Find packages of the index by their names, descriptions and commands; status 1 if there is none
    #[command(
        after_help = "Examples:\n  shellkeep pkg search                 all there are\n  shellkeep pkg search serve --json | jq '.[].name'"
    )]
    Search(PkgSearch),
    /// Look at the index anew, and say what could be upgraded
    #[command(
        after_help = "Examples:\n  shellkeep pkg update\n  shellkeep pkg update --json | jq -r '.upgradable[].name'"
    )]
    Update(PkgUpdate),
    /// Upgrade packages, or all that came from an index; the version before stays to go back to
    #[command(
        after_help = "Examples:\n  shellkeep pkg upgrade\n  shellkeep pkg upgrade hello@1.1.0\n  shellkeep pkg upgrade ./hello"
    )]
    Upgrade(PkgUpgrade),
    /// Go back to the version before, or forth again
    #[command(after_help = "Examples:\n  shellkeep pkg rollback hello\n  shellkeep pkg rollback hello --json")]
    Rollback(PkgNamed),
    /// Compare installed files with what was installed; status 1 if one was changed
    #[command(after_help = "Examples:\n  shellkeep pkg verify\n  shellkeep pkg verify hello")]
    Verify(PkgVerify),
    /// Make an archive of a directory with a package.toml
    #[command(
        after_help = "Examples:\n  shellkeep pkg build ./hello\n  shellkeep pkg build ./hello --output ~/shop --format zst"
    )]
    Build(PkgBuild),
    /// Make or refresh the index of a directory of archives
    #[command(after_help = "Examples:\n  shellkeep pkg index ~/shop\n  shellkeep pkg index . --json | jq .packages")]
    Index(PkgIndex),
}

/// Install packages.
#[derive(Debug, Args)]
pub struct PkgInstall {
    /// NAME, NAME@VERSION, a path with a "/", an address, or "all"
    #[arg(required = true, value_name = "PACKAGE")]
    pub packages: Vec<String>,
    /// Call its command otherwise: NEW, or OLD=NEW where it has several
    #[arg(long = "as", value_name = "NEW")]
    pub rename: Vec<String>,
    /// Leave its commands out of the directory that is in PATH
    #[arg(long)]
    pub no_bin: bool,
    /// Its archive must have this SHA-256
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    pub sha256: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub index: IndexPlace,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Remove packages.
#[derive(Debug, Args)]
pub struct PkgRemove {
    /// Their names
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// End what runs of them
    #[arg(long)]
    pub force: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Only a form.
#[derive(Debug, Args)]
pub struct PkgJson {
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// One package.
#[derive(Debug, Args)]
pub struct PkgNamed {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// One package, wherever it is.
#[derive(Debug, Args)]
pub struct PkgInfo {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub index: IndexPlace,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Find packages.
#[derive(Debug, Args)]
pub struct PkgSearch {
    /// A part of a name, a description or a command, in whatever case; without it all there are
    #[arg(value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub text: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub index: IndexPlace,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Look at the index.
#[derive(Debug, Args)]
pub struct PkgUpdate {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub index: IndexPlace,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Upgrade packages.
#[derive(Debug, Args)]
pub struct PkgUpgrade {
    /// NAME, NAME@VERSION, a path with a "/", or an address; all that came from an index if left out
    #[arg(value_name = "PACKAGE")]
    pub packages: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub index: IndexPlace,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Compare files.
#[derive(Debug, Args)]
pub struct PkgVerify {
    /// Its name; all packages if left out
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Make an archive.
#[derive(Debug, Args)]
pub struct PkgBuild {
    /// The directory with the package.toml
    #[arg(value_name = "DIR", default_value = ".")]
    pub directory: PathBuf,
    /// The directory for NAME-VERSION.tar.gz
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub output: PathBuf,
    /// How it is compressed
    #[arg(long, value_enum, default_value_t = PkgFormat::Gz)]
    pub format: PkgFormat,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PkgFormat {
    /// .tar.gz
    Gz,
    /// .tar.zst
    Zst,
}

/// Make an index.
#[derive(Debug, Args)]
pub struct PkgIndex {
    /// The directory with the archives
    #[arg(value_name = "DIR", default_value = ".")]
    pub directory: PathBuf,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

fn sha256(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    let is_one = lower.len() == 64 && lower.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_one { Ok(lower) } else { Err("64 hexadecimal digits are needed".to_owned()) }
}
