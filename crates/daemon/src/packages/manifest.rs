//! What a package says of itself: `package.toml`, or jshell's `pkg.json`.
//!
//! Promise: what is parsed is valid: names, versions, paths inside the package, no text that a terminal acts on. An unknown key is
//! an error that names it; a package for a newer shellkeep says so in `requires`, which is looked at first. Knows no disk.

use std::collections::{BTreeMap, BTreeSet};

use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};

use super::names::{NAME_BYTES_MAX, TEXT_BYTES_MAX, is_command_name, is_package_name, is_unprintable, path_fault};

/// Name of the manifest, at the root of a package.
pub(super) const FILE: &str = "package.toml";
/// Name of jshell's.
pub(super) const JSHELL_FILE: &str = "pkg.json";
/// Largest manifest that is read; one with its 20,000 files fits.
pub(super) const BYTES_MAX: u64 = 4 << 20;
/// Commands of one package.
pub(super) const COMMANDS_MAX: usize = 256;
/// An extension with its arguments and capabilities, in bytes of JSON.
const EXTENSION_BYTES_MAX: usize = 64 << 10;
/// Tables and lists in one another in an extension. A database that has more of them than 128 cannot be read.
const EXTENSION_DEPTH_MAX: usize = 32;
/// Protocol of extensions that is known.
const EXTENSION_PROTOCOL: u32 = 1;

/// Why a manifest is none.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It cannot be parsed.
    #[error("{file}: {why}")]
    Syntax {
        /// Which.
        file: &'static str,
        /// In the words of the parser, on one line.
        why: String,
    },
    /// A value is not allowed.
    #[error("{file}: {key}: {why}")]
    Value {
        /// Which.
        file: &'static str,
        /// The key that has it.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// It is for another shellkeep.
    #[error("it needs shellkeep {needed}, this is {}", env!("CARGO_PKG_VERSION"))]
    Requires {
        /// What it needs.
        needed: VersionReq,
    },
    /// It is for other machines.
    #[error("it is for {}, this is {}", platforms.join(", "), platform())]
    Platform {
        /// Those that it is for.
        platforms: Vec<String>,
    },
    /// What it names is not there.
    #[error("{key} is {path}, which {why}")]
    Missing {
        /// Who names it.
        key: String,
        /// What is named.
        path: String,
        /// What is the matter.
        why: &'static str,
    },
    /// `[files]` and what is there differ.
    #[error("{path} {why}")]
    Files {
        /// Which file.
        path: String,
        /// What is the matter.
        why: &'static str,
    },
}

/// A package as its manifest says.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// `[a-z0-9][a-z0-9._-]{0,63}`.
    pub name: String,
    /// Strict semver.
    pub version: Version,
    /// One line.
    pub description: String,
    /// SPDX, or whatever it says.
    pub license: Option<String>,
    /// Where to read on.
    pub homepage: Option<String>,
    /// Versions of shellkeep that it needs.
    pub requires: Option<VersionReq>,
    /// Like `linux-x86_64`; all if empty.
    pub platforms: Vec<String>,
    /// What it brings, in its own order.
    pub commands: Vec<Command>,
    /// A process that adds commands; kept as it is said, run by nobody yet.
    pub extension: Option<Extension>,
    /// Path → `sha256:…` of every file, if it says so.
    pub files: Option<BTreeMap<String, String>>,
}

/// One command of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// As it is typed.
    pub name: String,
    /// The program, inside the package.
    pub path: String,
    /// One line; the package's own if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What may follow it, like `[NAME]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args_hint: Option<String>,
    /// Files that complete its arguments.
    #[serde(default)]
    pub completions: Completions,
}

/// Files of a package that complete a command's arguments, one for each shell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Completions {
    /// For bash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bash: Option<String>,
    /// For zsh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zsh: Option<String>,
    /// For fish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fish: Option<String>,
}

impl Completions {
    /// Those that there are, with their shells.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let all = [("bash", &self.bash), ("zsh", &self.zsh), ("fish", &self.fish)];
        all.into_iter().filter_map(|(shell, path)| Some((shell, path.as_ref()?)))
    }
}

/// A process that adds commands, as a package says. Source: the manifest's `[extension]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extension {
    /// What to start.
    pub run: ExtensionRun,
    /// For whom one process is.
    #[serde(default)]
    pub scope: ExtensionScope,
    /// Version of the conversation.
    pub protocol: u32,
    /// What it may do; what is not said it may not.
    #[serde(default)]
    pub capabilities: BTreeMap<String, serde_json::Value>,
}

/// What an extension's process is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtensionRun {
    /// The program, inside the package.
    pub command: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
}

/// For whom one process of an extension is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExtensionScope {
    /// One per daemon.
    #[default]
    User,
    /// One per project.
    Project,
    /// One per session.
    Session,
}

/// `package.toml` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    package: Package,
    #[serde(default)]
    command: Vec<Command>,
    extension: Option<Extension>,
    files: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Package {
    name: String,
    version: String,
    #[serde(default)]
    description: String,
    license: Option<String>,
    homepage: Option<String>,
    requires: Option<String>,
    #[serde(default)]
    platforms: Vec<String>,
}

/// `pkg.json` as it is written. Other keys are of other tools: they are left alone.
#[derive(Deserialize)]
struct JshellPackage {
    name: String,
    version: String,
    #[serde(default)]
    description: String,
    files: Vec<String>,
}

/// This machine, as `platforms` names it.
pub(super) fn platform() -> String {
    format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH)
}

impl Manifest {
    /// From the bytes of `package.toml`.
    ///
    /// # Errors
    /// See [`ManifestError`]; for another shellkeep before anything else is complained about.
    pub fn from_toml(bytes: &[u8]) -> Result<Self, ManifestError> {
        let checks = Checks { file: FILE };
        let text = checks.text(bytes)?;
        let table: toml::Table = toml::from_str(text).map_err(|error| checks.syntax(&error, text))?;
        if let Some(why) = table.get("extension").and_then(|extension| unkeepable(extension, 0)) {
            return Err(checks.value("extension", why));
        }
        let of_package = |key| table.get("package").and_then(|package| package.get(key));
        let requires = of_package("requires").and_then(toml::Value::as_str);
        checks.requirement(requires)?;
        let written: Written = toml::from_str(text).map_err(|error| checks.syntax(&error, text))?;
        let package = written.package;
        let manifest = Self {
            version: checks.version(&package.version)?,
            requires: checks.requirement(package.requires.as_deref())?,
            name: package.name,
            description: package.description,
            license: package.license,
            homepage: package.homepage,
            platforms: package.platforms,
            commands: written.command,
            extension: written.extension,
            files: written.files,
        };
        checks.whole(manifest)
    }

    /// From the bytes of jshell's `pkg.json`: each file of `bin/` is a command.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn from_jshell(bytes: &[u8]) -> Result<Self, ManifestError> {
        let checks = Checks { file: JSHELL_FILE };
        let written: JshellPackage = serde_json::from_slice(bytes)
            .map_err(|error| ManifestError::Syntax { file: JSHELL_FILE, why: error.to_string() })?;
        if written.files.is_empty() {
            return Err(checks.value("files", "is empty"));
        }
        let mut commands = Vec::new();
        for path in &written.files {
            checks.path("files", path)?;
            if let Some(name) = path.strip_prefix("bin/").filter(|name| !name.contains('/')) {
                let (name, path) = (name.to_owned(), path.clone());
                commands.push(Command {
                    name,
                    path,
                    description: None,
                    args_hint: None,
                    completions: Completions::default(),
                });
            }
        }
        let manifest = Self {
            version: checks.version(&written.version)?,
            name: written.name,
            description: written.description,
            license: None,
            homepage: None,
            requires: None,
            platforms: Vec::new(),
            commands,
            extension: None,
            files: None,
        };
        checks.whole(manifest)
    }

    /// Whether it is for this machine. Built and indexed it is elsewhere too.
    ///
    /// # Errors
    /// [`ManifestError::Platform`].
    pub fn fits_here(&self) -> Result<(), ManifestError> {
        if self.platforms.is_empty() || self.platforms.contains(&platform()) {
            return Ok(());
        }
        Err(ManifestError::Platform { platforms: self.platforms.clone() })
    }

    /// Every path that must be a file of the package, and who names it. Programs must be executable.
    pub fn named_files(&self) -> Vec<(String, &str, Use)> {
        let mut all = Vec::new();
        for command in &self.commands {
            all.push((format!("the program of {}", command.name), command.path.as_str(), Use::Program));
            for (shell, path) in command.completions.all() {
                all.push((format!("the {shell} completion of {}", command.name), path, Use::Read));
            }
        }
        if let Some(extension) = &self.extension {
            all.push(("the extension".to_owned(), &extension.run.command, Use::Program));
        }
        all
    }
}

/// Why something could not be kept as it is said: read from a database, it would be something else, or nothing.
fn unkeepable(value: &toml::Value, depth: usize) -> Option<String> {
    if depth > EXTENSION_DEPTH_MAX {
        return Some(format!("has more than {EXTENSION_DEPTH_MAX} tables in one another"));
    }
    match value {
        toml::Value::Array(all) => all.iter().find_map(|inner| unkeepable(inner, depth + 1)),
        toml::Value::Table(table) => table.iter().find_map(|(key, inner)| {
            let is_taken = key.starts_with("$serde_json");
            if is_taken { Some(format!("has the key {key:?}, which cannot be")) } else { unkeepable(inner, depth + 1) }
        }),
        _ => None,
    }
}

/// What a file of a package is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It is run.
    Program,
    /// It is read.
    Read,
}

/// Complaints about one file.
#[derive(Clone, Copy)]
struct Checks {
    file: &'static str,
}

impl Checks {
    fn value(self, key: &str, why: impl Into<String>) -> ManifestError {
        ManifestError::Value { file: self.file, key: key.to_owned(), why: why.into() }
    }

    fn syntax(self, error: &toml::de::Error, text: &str) -> ManifestError {
        let at = error.span().map_or(0, |span| span.start);
        let line = text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
        ManifestError::Syntax { file: self.file, why: format!("line {line}: {}", error.message().replace('\n', " ")) }
    }

    fn text(self, bytes: &[u8]) -> Result<&str, ManifestError> {
        std::str::from_utf8(bytes)
            .map_err(|_| ManifestError::Syntax { file: self.file, why: "is not UTF-8".to_owned() })
    }

    fn version(self, text: &str) -> Result<Version, ManifestError> {
        if text.len() > NAME_BYTES_MAX {
            return Err(self.value("version", "is longer than 64 bytes"));
        }
        let bad = |error| self.value("version", format!("\"{text}\" is no version like 1.2.0 ({error})"));
        Version::parse(text).map_err(bad)
    }

    /// What of shellkeep is needed, which this one must be.
    fn requirement(self, text: Option<&str>) -> Result<Option<VersionReq>, ManifestError> {
        let Some(text) = text else { return Ok(None) };
        let needed = VersionReq::parse(text)
            .map_err(|error| self.value("requires", format!("\"{text}\" is nothing like \">=0.2\" ({error})")))?;
        let own =
            Version::parse(env!("CARGO_PKG_VERSION")).map_err(|error| self.value("requires", error.to_string()))?;
        if needed.matches(&own) { Ok(Some(needed)) } else { Err(ManifestError::Requires { needed }) }
    }

    fn line(self, key: &str, text: &str) -> Result<(), ManifestError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(self.value(key, "is longer than 1024 bytes"));
        }
        if text.chars().any(is_unprintable) {
            return Err(self.value(key, "has control characters"));
        }
        Ok(())
    }

    fn path(self, key: &str, path: &str) -> Result<(), ManifestError> {
        path_fault(path).map_or(Ok(()), |why| Err(self.value(key, format!("\"{path}\" {why}"))))
    }

    fn whole(self, manifest: Manifest) -> Result<Manifest, ManifestError> {
        let name = &manifest.name;
        if !is_package_name(name) {
            let why =
                format!("\"{name}\" is no name: up to 64 of a-z 0-9 . _ -, the first a letter or digit, not \"all\"");
            return Err(self.value("name", why));
        }
        self.line("description", &manifest.description)?;
        for (key, text) in [("license", &manifest.license), ("homepage", &manifest.homepage)] {
            self.line(key, text.as_deref().unwrap_or_default())?;
        }
        for platform in &manifest.platforms {
            self.line("platforms", platform)?;
        }
        if manifest.commands.len() > COMMANDS_MAX {
            return Err(self.value("command", format!("more than {COMMANDS_MAX}")));
        }
        let mut seen = BTreeSet::new();
        for command in &manifest.commands {
            if !is_command_name(&command.name) {
                let why = format!("\"{}\" is no name for a command", command.name);
                return Err(self.value("command.name", why));
            }
            if !seen.insert(&command.name) {
                return Err(self.value("command.name", format!("\"{}\" is there twice", command.name)));
            }
            self.line("command.description", command.description.as_deref().unwrap_or_default())?;
            self.line("command.args_hint", command.args_hint.as_deref().unwrap_or_default())?;
        }
        for (who, path, _) in manifest.named_files() {
            self.path(&who, path)?;
        }
        if manifest.extension.as_ref().is_some_and(|extension| extension.protocol != EXTENSION_PROTOCOL) {
            return Err(self.value("extension.protocol", "only 1 is known"));
        }
        if serde_json::to_vec(&manifest.extension).is_ok_and(|bytes| bytes.len() > EXTENSION_BYTES_MAX) {
            return Err(self.value("extension", format!("takes more than {EXTENSION_BYTES_MAX} bytes")));
        }
        for (path, hash) in manifest.files.iter().flatten() {
            self.path("files", path)?;
            let hex = hash.strip_prefix("sha256:").unwrap_or_default();
            if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
                return Err(self.value("files", format!("\"{path}\" has no \"sha256:\" and 64 hexadecimal digits")));
            }
        }
        if manifest.commands.is_empty() && manifest.extension.is_none() {
            return Err(self.value("command", "there is none, and no extension: nothing would be installed"));
        }
        Ok(manifest)
    }
}

#[cfg(test)]
#[path = "manifest/tests.rs"]
mod tests;
