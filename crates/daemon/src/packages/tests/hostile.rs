//! P-23: archives that want something else. Each is made here, byte by byte.

use std::io::Write as _;

use tar::{EntryType, Header};

use super::*;

/// A tar as it is written by hand.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    /// A package that is fine, for something to be put behind it.
    fn good() -> Self {
        let manifest = "[package]\nname = \"p\"\nversion = \"1.0.0\"\n[[command]]\nname = \"a\"\npath = \"bin/a\"\n";
        Self::default().file("package.toml", manifest.as_bytes()).entry(
            EntryType::Regular,
            b"bin/a",
            0o755,
            b"#!/bin/sh\n",
        )
    }

    fn file(self, path: &str, content: &[u8]) -> Self {
        self.entry(EntryType::Regular, path.as_bytes(), 0o644, content)
    }

    fn entry(self, kind: EntryType, path: &[u8], mode: u32, content: &[u8]) -> Self {
        self.raw(kind, path, b"", mode, content.len() as u64, content)
    }

    fn link(self, kind: EntryType, path: &str, target: &str) -> Self {
        self.raw(kind, path.as_bytes(), target.as_bytes(), 0o777, 0, b"")
    }

    fn raw(mut self, kind: EntryType, path: &[u8], target: &[u8], mode: u32, size: u64, content: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(0);
        header.as_old_mut().name[..path.len()].copy_from_slice(path);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn pax(self, kind: EntryType, records: &[(&str, &str)]) -> Self {
        let mut text = String::new();
        for (key, value) in records {
            let length = |digits: usize| digits + 1 + key.len() + 1 + value.len() + 1;
            let digits = (1..9).find(|digits| length(*digits).to_string().len() == *digits).unwrap();
            text.extend([format!("{} {key}={value}\n", length(digits))]);
        }
        self.entry(kind, b"pax", 0o644, text.as_bytes())
    }

    fn ended(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }

    fn gz(self) -> Vec<u8> {
        gz(&self.ended())
    }
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// Everything beside the packages themselves: what is there, its mode and its bytes.
fn outside(home: &Home) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    fn walk(at: &Path, all: &mut BTreeMap<PathBuf, (u32, Vec<u8>)>) {
        for name in names(at) {
            let path = at.join(name);
            let meta = fs::symlink_metadata(&path).unwrap();
            let bytes = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            all.insert(path.clone(), (meta.permissions().mode(), bytes));
            if meta.is_dir() && !path.ends_with("staging") {
                walk(&path, all);
            }
        }
    }
    let mut all = BTreeMap::new();
    walk(home.directory.path(), &mut all);
    all
}

/// The archive is refused with these words, and nothing outside staging is touched.
fn refused(what: &str, bytes: &[u8], words: &str) {
    let home = Home::new();
    let archive = home.directory.path().join("archive");
    fs::write(&archive, bytes).unwrap();
    fs::write(home.directory.path().join("victim"), "untouched").unwrap();
    home.install(&home.source("q", "1.0.0", &["q"])).unwrap();
    let before = outside(&home);
    let error = home.install(&archive).expect_err(what);
    let mut said = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(deeper) = cause {
        said.extend([format!(": {deeper}")]);
        cause = deeper.source();
    }
    assert!(said.contains(words), "{what}: {said}");
    assert!(!said.chars().any(char::is_control), "{what}: {said:?}");
    assert_eq!(outside(&home), before, "{what}");
    assert_eq!(whole(&home.packages).len(), 1, "{what}: and the next operation cleans up");
}

#[test]
fn the_good_one_is_taken_so_what_is_put_behind_it_is_what_is_refused() {
    let home = Home::new();
    let archive = home.directory.path().join("archive");
    let pax = [("mtime", "1.5"), ("path", "c/long"), ("SCHILY.xattr.security.capability", "x")];
    let tar = Tar::good()
        .pax(EntryType::XGlobalHeader, &[("comment", "0123456789abcdef")])
        .entry(EntryType::Directory, b"./", 0o755, b"")
        .entry(EntryType::Directory, b"bin/", 0o755, b"")
        .pax(EntryType::XHeader, &pax)
        .file("ignored", b"x")
        .entry(EntryType::GNULongName, b"././@LongLink", 0o644, format!("{}\0", "n".repeat(150)).as_bytes())
        .file("ignored", b"y")
        .link(EntryType::Symlink, "c/up", "../bin/a");
    fs::write(&archive, tar.gz()).unwrap();
    home.install(&archive).unwrap();
    let store = home.packages.layout().store.join(&home.in_store()[0]);
    assert_eq!(names(&store.join("c")), ["long", "up"]);
    assert_eq!(fs::read_link(store.join("c/up")).unwrap(), Path::new("../bin/a"));
    assert!(store.join("n".repeat(150)).exists());
    whole(&home.packages);
}

#[test]
fn p23_paths_that_lead_outside_are_refused() {
    for (path, words) in [
        ("/etc/x", "is absolute"),
        ("../victim", "leads out"),
        ("a/../../victim", "leads out"),
        ("..", "leads out"),
        ("a//b", "shortest form"),
        ("a/./b", "shortest form"),
        ("a/", "shortest form"),
        (".shellkeep.json", "shellkeep's own"),
        ("a\u{1b}[2Jb", "control"),
        ("a\u{202e}b", "control"),
    ] {
        refused(path, &Tar::good().file(path, b"x").gz(), words);
        refused(path, &Tar::good().pax(EntryType::XHeader, &[("path", path)]).file("x", b"x").gz(), words);
    }
    refused("no UTF-8", &Tar::good().entry(EntryType::Regular, b"a\xff", 0o644, b"").gz(), "UTF-8");
    refused(
        "long part",
        &Tar::good().pax(EntryType::XHeader, &[("path", &"x".repeat(256))]).file("x", b"").gz(),
        "255",
    );
    let deep = ["d"; 33].join("/");
    refused("depth", &Tar::good().file(&deep, b"x").gz(), "32 directories");
}

#[test]
fn p23_a_nul_in_a_name_is_refused_wherever_it_stands() {
    refused("in the header", &Tar::good().entry(EntryType::Regular, b"a\0b", 0o644, b"").gz(), "NUL");
    refused("in PAX", &Tar::good().pax(EntryType::XHeader, &[("path", "a\0b")]).file("x", b"").gz(), "control");
    refused(
        "in a long name",
        &Tar::good().entry(EntryType::GNULongName, b"l", 0, b"a\0b\0").file("x", b"").gz(),
        "control",
    );
}

#[test]
fn p23_links_that_lead_outside_and_files_through_links_are_refused() {
    for target in ["/etc/passwd", "../victim", "..", "", "bin/../..", "./a", "bin/"] {
        refused(target, &Tar::good().link(EntryType::Symlink, "l", target).gz(), "is a link");
    }
    let through = Tar::good().link(EntryType::Symlink, "l", "bin").file("l/evil", b"x").gz();
    refused("a file through a link", &through, "is a file or link, and something is to be in it");
    let twice = Tar::good().link(EntryType::Symlink, "l", "bin/a").file("l", b"x").gz();
    refused("a file over a link", &twice, "is there twice");
    refused("hard link", &Tar::good().link(EntryType::Link, "l", "bin/a").gz(), "is a hard link");
    refused("hard link outside", &Tar::good().link(EntryType::Link, "l", "/etc/passwd").gz(), "is a hard link");
    let program = Tar::default()
        .file("package.toml", b"[package]\nname='p'\nversion='1.0.0'\n[[command]]\nname='a'\npath='bin/a'\n")
        .file("x", b"")
        .link(EntryType::Symlink, "bin/a", "../x");
    refused("a program that is a link", &program.gz(), "name the file itself");
}

#[test]
fn p23_what_is_no_file_is_refused() {
    for (kind, words) in [
        (EntryType::Char, "is a device"),
        (EntryType::Block, "is a device"),
        (EntryType::Fifo, "is a FIFO"),
        (EntryType::GNUSparse, "has holes"),
        (EntryType::new(b'V'), "of a kind"),
        (EntryType::new(b'Z'), "of a kind"),
    ] {
        refused(words, &Tar::good().entry(kind, b"x", 0o644, b"").gz(), words);
    }
    for mode in [0o4755, 0o2755, 0o1755] {
        refused("mode", &Tar::good().entry(EntryType::Regular, b"x", mode, b"").gz(), "set-user-id");
        refused("mode", &Tar::good().entry(EntryType::Directory, b"x/", mode, b"").gz(), "set-user-id");
    }
    refused(
        "a directory with content",
        &Tar::good().entry(EntryType::Directory, b"x/", 0o755, b"y").gz(),
        "with content",
    );
}

#[test]
fn p23_names_that_are_there_twice_in_whatever_case_are_refused() {
    refused("twice", &Tar::good().file("x", b"1").file("x", b"2").gz(), "twice");
    refused("the manifest twice", &Tar::good().file("package.toml", b"x").gz(), "twice");
    refused("case", &Tar::good().file("x", b"1").file("X", b"2").gz(), "only in case");
    refused("case of a directory", &Tar::good().file("Bin/b", b"1").gz(), "only in case");
    refused("case beyond ASCII", &Tar::good().file("ä", b"1").file("Ä", b"2").gz(), "only in case");
    refused("file as directory", &Tar::good().file("x", b"1").file("x/y", b"2").gz(), "something is to be in it");
    refused("directory as file", &Tar::good().file("x/y", b"1").file("x", b"2").gz(), "twice");
}

#[test]
fn p23_bombs_are_refused_by_size_ratio_count_and_depth() {
    let zeros = vec![0; 8 << 20];
    refused("ratio", &Tar::good().file("x", &zeros).gz(), "200 times");
    let mut many = Tar::good();
    for n in 0..20_000 {
        many = many.file(&format!("f{n}"), b"");
    }
    refused("count", &many.gz(), "20000 entries");
    let size = Tar::good().raw(EntryType::Regular, b"x", b"", 0o644, (512 << 20) + 1, b"").gz();
    refused("size", &size, "bytes unpacked");
    refused("a huge size", &Tar::good().raw(EntryType::Regular, b"x", b"", 0o644, u64::MAX, b"").gz(), "damaged");
    refused(
        "a large size",
        &Tar::good().raw(EntryType::Regular, b"x", b"", 0o644, 1 << 62, b"").gz(),
        "bytes unpacked",
    );
    let name = Tar::good().entry(EntryType::GNULongName, b"l", 0, &vec![b'n'; 70 << 10]).file("x", b"").gz();
    refused("a long name's size", &name, "bytes of a name");
    let name = Tar::good().raw(EntryType::XHeader, b"x", b"", 0, 1 << 40, b"").gz();
    refused("a PAX header's size", &name, "bytes of a name");
    let manifest = Tar::default().file("package.toml", &vec![b'#'; (4 << 20) + 1]).gz();
    refused("a manifest's size", &manifest, "bytes of manifest");
}

/// Half a GiB is not written for it: the limit is looked at before the bytes.
#[test]
fn p23_an_archive_of_more_than_64_mib_is_refused_before_it_is_read() {
    let home = Home::new();
    let archive = home.directory.path().join("archive");
    fs::File::create(&archive).unwrap().set_len((64 << 20) + 1).unwrap();
    let error = home.install(&archive).unwrap_err();
    assert!(error.to_string().contains("67108864"), "{error}");
}

#[test]
fn p23_sizes_that_disagree_are_refused() {
    for said in ["0", "1", "99999999", "-1", "x", "18446744073709551616"] {
        let tar = Tar::good().pax(EntryType::XHeader, &[("size", said)]).file("x", b"1234").gz();
        refused(said, &tar, "size");
    }
    let fine = Tar::good().pax(EntryType::XHeader, &[("size", "4")]).file("x", b"1234").gz();
    let home = Home::new();
    fs::write(home.directory.path().join("archive"), fine).unwrap();
    home.install(&home.directory.path().join("archive")).unwrap();
    refused(
        "global size",
        &Tar::good().pax(EntryType::XGlobalHeader, &[("size", "4")]).file("x", b"1").gz(),
        "for all entries",
    );
    let holes = Tar::good().pax(EntryType::XHeader, &[("GNU.sparse.major", "1")]).file("x", b"").gz();
    refused("holes", &holes, "holes");
    let twice = Tar::good().pax(EntryType::XHeader, &[("mtime", "1")]).pax(EntryType::XHeader, &[("mtime", "1")]);
    refused("two headers", &twice.file("x", b"").gz(), "two headers");
    refused("a header of nothing", &Tar::good().pax(EntryType::XHeader, &[("mtime", "1")]).gz(), "has no entry");
}

#[test]
fn p23_trailing_data_and_missing_ends_are_refused() {
    let good = Tar::good().ended();
    refused("behind the tar", &gz(&[good.clone(), b"x".to_vec()].concat()), "behind the archive's end");
    refused("another tar behind it", &gz(&[good.clone(), good.clone()].concat()), "behind the archive's end");
    refused("behind gzip", &[gz(&good), b"x".to_vec()].concat(), "behind the archive's end");
    refused("another member", &[gz(&good), gz(&good)].concat(), "behind the archive's end");
    let zst = zstd::encode_all(good.as_slice(), 1).unwrap();
    refused("behind zstd", &[zst.clone(), b"x".to_vec()].concat(), "behind the archive's end");
    refused("another frame", &[zst.clone(), zst].concat(), "behind the archive's end");
    refused("too many zeros", &gz(&[good.clone(), vec![0; 2 << 20]].concat()), "behind the archive's end");
    refused("no end", &gz(&good[..good.len() - 1024]), "its end is missing");
    let whole = gz(&good);
    for cut in [0, 3, 10, whole.len() / 2, whole.len() - 1] {
        refused("cut", &whole[..cut], if cut < 4 { "neither" } else { "damaged" });
    }
    let mut flipped = gz(&good);
    let crc = flipped.len() - 8;
    flipped[crc] ^= 1;
    refused("another checksum", &flipped, "damaged");
    let mut header = good.clone();
    header[0] ^= 1;
    refused("another header", &gz(&header), "damaged");
}

#[test]
fn p12_what_is_no_archive_or_no_package_is_refused() {
    refused("text", b"hello, this is text", "neither a .tar.gz nor a .tar.zst");
    refused("zip", b"PK\x03\x04aaaaaaaa", "neither");
    refused("a plain tar", &Tar::good().ended(), "neither");
    refused("no manifest", &Tar::default().file("x", b"").gz(), "no package.toml at its root");
    refused("nested", &Tar::default().file("p-1/package.toml", b"").gz(), "but p-1/package.toml");
    refused("empty", &Tar::default().gz(), "no package.toml");
    refused(
        "a bad manifest",
        &Tar::default().file("package.toml", b"[package]\nname = 1\n").gz(),
        "package.toml: line 2",
    );
    let missing = Tar::default()
        .file("package.toml", b"[package]\nname='p'\nversion='1.0.0'\n[[command]]\nname='a'\npath='bin/a'\n");
    refused("no program", &missing.gz(), "which is not in the package");
}

#[test]
fn files_that_are_not_as_the_manifest_lists_them_are_refused() {
    let with = |files: &str| {
        let manifest =
            format!("[package]\nname='p'\nversion='1.0.0'\n[[command]]\nname='a'\npath='bin/a'\n[files]\n{files}");
        Tar::default().file("package.toml", manifest.as_bytes()).entry(EntryType::Regular, b"bin/a", 0o755, b"x")
    };
    // printf x | sha256sum
    let x = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
    refused("another content", &with(&format!("'bin/a'='{}'", x.replace("2d", "2e"))).gz(), "is not what [files]");
    refused("one more", &with(&format!("'bin/a'='{x}'")).file("y", b"").gz(), "is not in [files]");
    refused("one less", &with(&format!("'bin/a'='{x}'\n'y'='{x}'")).gz(), "and not in the package");
    let home = Home::new();
    fs::write(home.directory.path().join("archive"), with(&format!("'bin/a'='{x}'")).gz()).unwrap();
    home.install(&home.directory.path().join("archive")).unwrap();
}

#[test]
fn a_directory_is_held_to_the_same_rules() {
    let home = Home::new();
    let from = home.source("p", "1.0.0", &["a"]);
    let refused = |words: &str| {
        let said = home.install(&from).unwrap_err().to_string();
        assert!(said.contains(words), "{said}");
    };
    std::os::unix::fs::symlink("/etc/passwd", from.join("l")).unwrap();
    refused("absolute");
    fs::remove_file(from.join("l")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, from.join("f"), rustix::fs::Mode::RUSR).unwrap();
    refused("neither a file");
    fs::remove_file(from.join("f")).unwrap();
    fs::set_permissions(from.join("bin/a"), fs::Permissions::from_mode(0o4755)).unwrap();
    refused("set-user-id");
    fs::set_permissions(from.join("bin/a"), fs::Permissions::from_mode(0o755)).unwrap();
    home.install(&from).unwrap();
}
