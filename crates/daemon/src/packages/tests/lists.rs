//! The index: made from a directory, read from there or by HTTP, remembered.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Mutex;

use super::*;

/// A directory with an index of `hello` 1.0.0 and 1.1.0 and of `other`.
fn shop(home: &Home) -> PathBuf {
    let shop = home.directory.path().join("shop");
    fs::create_dir_all(&shop).unwrap();
    for (name, version) in [("hello", "1.0.0"), ("hello", "1.1.0"), ("hello", "2.0.0-rc.1"), ("other", "0.1.0")] {
        build(&home.source(name, version, &[name]), &shop, Compression::Gzip).unwrap();
    }
    let indexed = make_index(&shop, &|_, _| ()).unwrap();
    assert!(indexed.failed.is_empty());
    shop
}

fn source(text: impl AsRef<Path>) -> Source {
    Source::parse(text.as_ref().to_str().unwrap()).unwrap()
}

fn get(home: &Home, held: &Held, name: &str, version: Option<&str>) -> Result<Changed, PackageError> {
    let version = version.map(|version| version.parse().unwrap());
    let listed = Packages::choose(held, name, version.as_ref())?;
    let fetched = home.packages.fetch_listed(held, listed, &|_, _| ())?;
    home.packages.install(fetched, &Wishes::default(), &|_| ())
}

#[test]
fn p10_a_name_is_installed_from_the_index_and_a_version_is_that_version() {
    let home = Home::new();
    let held = home.packages.read_index(&source(shop(&home)), Freshness::Now).unwrap();
    assert_eq!(get(&home, &held, "hello", None).unwrap().version.to_string(), "1.1.0", "no pre-release unasked");
    home.packages.remove("hello", false).unwrap();
    assert_eq!(get(&home, &held, "hello", Some("1.0.0")).unwrap().version.to_string(), "1.0.0");
    let error = get(&home, &held, "other", Some("9.0.0")).unwrap_err();
    assert_eq!(error.to_string(), "other 9.0.0 is not available; 0.1.0 is");
    let error = get(&home, &held, "helo", None).unwrap_err();
    assert_eq!(error.hint().unwrap(), "did you mean \"hello\"?");
    whole(&home.packages);
}

#[test]
fn p14_search_finds_names_descriptions_and_commands_in_whatever_case() {
    let home = Home::new();
    let held = home.packages.read_index(&source(shop(&home)), Freshness::Now).unwrap();
    let found = |text| held.index.search(text).into_iter().map(|one| one.name.as_str()).collect::<Vec<_>>();
    assert_eq!(found("HELL"), ["hello"]);
    assert_eq!(found("says"), ["hello", "other"]);
    assert_eq!(found("nothing of it"), [""; 0]);
}

#[test]
fn p20_another_checksum_or_another_package_than_the_index_says_changes_nothing() {
    let home = Home::new();
    let shop = shop(&home);
    let held = home.packages.read_index(&source(&shop), Freshness::Now).unwrap();
    let archive = shop.join("hello-1.1.0.tar.gz");
    let good = fs::read(&archive).unwrap();
    fs::write(&archive, [good.clone(), b"x".to_vec()].concat()).unwrap();
    let error = get(&home, &held, "hello", None).unwrap_err();
    assert!(matches!(error, PackageError::Mismatch { .. }), "{error:?}");
    // Before it is unpacked: what is behind the checksum is not even looked at.
    fs::write(&archive, b"no archive at all").unwrap();
    assert!(matches!(get(&home, &held, "hello", None), Err(PackageError::Mismatch { .. })));
    // The right bytes of the wrong package.
    let mut lying = held.clone();
    let other = lying.index.packages["other"][0].clone();
    let hello = &mut lying.index.packages.get_mut("hello").unwrap()[1];
    (hello.path, hello.sha256) = (other.path, other.sha256);
    assert!(get(&home, &lying, "hello", None).unwrap_err().to_string().contains("hello expected, other found"));
    assert_eq!(whole(&home.packages), State::new());
    fs::write(&archive, good).unwrap();
    get(&home, &held, "hello", None).unwrap();
}

#[test]
fn an_index_is_refreshed_and_what_cannot_be_in_it_is_said() {
    let home = Home::new();
    let shop = shop(&home);
    let before = fs::read(shop.join("index.json")).unwrap();
    fs::write(shop.join("bad.tar.gz"), "no archive").unwrap();
    fs::copy(shop.join("other-0.1.0.tar.gz"), shop.join("twin.tar.gz")).unwrap();
    let indexed = make_index(&shop, &|_, _| ()).unwrap();
    let failed: Vec<String> = indexed.failed.iter().map(|(path, why)| format!("{}: {why}", path.display())).collect();
    assert!(
        failed[0].contains("bad.tar.gz") && failed[1].contains("the same version as other-0.1.0.tar.gz"),
        "{failed:?}"
    );
    assert_eq!(fs::read(shop.join("index.json")).unwrap(), before, "the same archives give the same index");
    fs::remove_file(shop.join("hello-1.1.0.tar.gz")).unwrap();
    make_index(&shop, &|_, _| ()).unwrap();
    let held = home.packages.read_index(&source(&shop), Freshness::Now).unwrap();
    assert_eq!(held.index.newest("hello").unwrap().version.to_string(), "1.0.0");
}

#[test]
fn hostile_entries_of_an_index_are_left_out_and_counted() {
    let home = Home::new();
    let shop = shop(&home);
    let text = fs::read_to_string(shop.join("index.json")).unwrap();
    for (from, to) in [
        ("\"other\"", "\"../other\""),
        ("other-0.1.0.tar.gz", "../other.tar.gz"),
        ("other-0.1.0.tar.gz", "/etc/passwd"),
        ("Says other", "Says \\u001b[2J"),
        ("\"0.1.0\"", "\"0.1\""),
    ] {
        fs::write(shop.join("index.json"), text.replacen(from, to, 1)).unwrap();
        let held = home.packages.read_index(&source(&shop), Freshness::Now).unwrap();
        assert_eq!((held.index.left_out, held.index.packages.len()), (1, 1), "{to}");
    }
    for bad in ["", "[]", "{}", "{\"version\":2,\"packages\":[]}"] {
        fs::write(shop.join("index.json"), bad).unwrap();
        assert!(home.packages.read_index(&source(&shop), Freshness::Seen).is_err(), "{bad}");
    }
}

#[test]
fn an_index_is_a_directory_or_an_address() {
    assert_eq!(source("/a/b"), Source::Directory("/a/b".into()));
    assert_eq!(source("file:///a/b%20c/index.json"), Source::Directory("/a/b c/".into()));
    assert_eq!(source("https://x.org/p").to_string(), "https://x.org/p/");
    assert_eq!(source("https://x.org/p/index.json").to_string(), "https://x.org/p/");
    for (address, is_unprotected) in
        [("http://x.org", true), ("https://x.org", false), ("http://127.0.0.1:8/", false), ("http://[::1]/", false)]
    {
        assert_eq!(source(address).is_unprotected(), is_unprotected, "{address}");
    }
    for bad in ["", "ftp://x.org", "ssh://x"] {
        assert!(Source::parse(bad).is_err(), "{bad}");
    }
}

/// A server of files, as simple as one can be: path → answer. Every request is kept.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = Vec::new();
                let mut chunk = [0; 1024];
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut chunk).unwrap() {
                        0 => break,
                        count => request.extend_from_slice(&chunk[..count]),
                    }
                }
                let request = String::from_utf8(request).unwrap();
                let _reader_may_have_gone = stream.write_all(&answer(&request));
                requests.lock().unwrap().push(request);
            }
        });
        Self { address, asked }
    }

    fn of(directory: PathBuf) -> Self {
        Self::start(move |request| {
            let path = request.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
            let Ok(bytes) = fs::read(directory.join(path)) else { return plain("404 Not Found", "", b"") };
            let tag = format!("\"{}\"", crate::packages::intake::hex(&bytes[bytes.len() - 8..]));
            let is_same =
                request.lines().any(|line| line.to_lowercase().starts_with("if-none-match") && line.contains(&tag));
            if is_same {
                return plain("304 Not Modified", &format!("ETag: {tag}\r\n"), b"");
            }
            plain("200 OK", &format!("ETag: {tag}\r\n"), &bytes)
        })
    }
}

fn plain(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[test]
fn an_index_by_http_is_asked_for_by_its_tag_and_remembered_when_nobody_answers() {
    let home = Home::new();
    let shop = shop(&home);
    let server = Server::of(shop.clone());
    let at = source(&server.address);
    let held = home.packages.read_index(&at, Freshness::Now).unwrap();
    assert_eq!(get(&home, &held, "hello", None).unwrap().version.to_string(), "1.1.0");
    let again = home.packages.read_index(&at, Freshness::Now).unwrap();
    assert_eq!(again.index, held.index);
    {
        let asked = server.asked.lock().unwrap();
        assert!(!asked[0].to_lowercase().contains("if-none-match"), "{}", asked[0]);
        assert!(asked[1].starts_with("GET /hello-1.1.0.tar.gz"), "{}", asked[1]);
        assert!(asked[2].to_lowercase().contains("if-none-match"), "{}", asked[2]);
    }
    let count = server.asked.lock().unwrap().len();
    assert_eq!(home.packages.read_index(&at, Freshness::Seen).unwrap().index, held.index);
    assert_eq!(server.asked.lock().unwrap().len(), count, "what was seen asks nobody");
    assert_eq!(index::seen(&home.packages.layout().cache, &at).unwrap(), held.index);
    // The index is gone, as far as anybody can tell.
    fs::remove_file(shop.join("index.json")).unwrap();
    let stale = home.packages.read_index(&at, Freshness::NowIfPossible).unwrap();
    assert_eq!(stale.index, held.index);
    assert!(stale.stale.unwrap().contains("404"));
    assert!(home.packages.read_index(&at, Freshness::Now).is_err());
}

#[test]
fn a_server_that_sends_too_much_too_little_or_elsewhere_is_an_error() {
    let home = Home::new();
    let refused = |answer: Vec<u8>, words: &str| {
        let server = Server::start(move |_| answer.clone());
        let error = home.packages.read_index(&source(&server.address), Freshness::NowIfPossible).unwrap_err();
        let mut said = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(deeper) = cause {
            said += &deeper.to_string();
            cause = deeper.source();
        }
        assert!(said.contains(words), "{said}");
    };
    refused(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n{}".to_vec(), "more than 16777216 bytes");
    refused(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}".to_vec(), "cannot fetch");
    refused(plain("500 Oh", "", b""), "500");
    refused(plain("304 Not Modified", "", b""), "304");
    refused(plain("302 Found", "Location: /again\r\n", b""), "redirect");
    refused(b"nonsense\r\n\r\n".to_vec(), "cannot fetch");
    refused(plain("200 OK", "", b"<html>"), "is no index");
    let unreachable = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = home.packages.read_index(&source(format!("http://{unreachable}")), Freshness::Seen).unwrap_err();
    assert!(error.to_string().contains("cannot fetch"), "{error}");
}

#[test]
fn no_path_of_an_index_leads_to_another_place() {
    let at = reqwest::Url::parse("https://x.org/p/").unwrap();
    for (path, leads_to) in [
        ("a-1.0.0.tar.gz", "https://x.org/p/a-1.0.0.tar.gz"),
        ("sub/a.tar.gz", "https://x.org/p/sub/a.tar.gz"),
        ("http:evil.org", "https://x.org/p/http:evil.org"),
        ("ftp:", "https://x.org/p/ftp:"),
        ("a?b#c%2e%2e", "https://x.org/p/a%3Fb%23c%252e%252e"),
    ] {
        assert_eq!(index::beneath(&at, path).unwrap().as_str(), leads_to);
    }
}

#[test]
fn what_others_keep_where_indexes_are_remembered_stays() {
    let home = Home::new();
    home.packages.look().unwrap();
    home.install(&home.source("p", "1.0.0", &["a"])).unwrap();
    let theirs = home.packages.layout().cache.join("theirs.json");
    fs::write(&theirs, "{}").unwrap();
    for number in 0..12 {
        let shop = home.directory.path().join(format!("shop-{number}"));
        fs::create_dir(&shop).unwrap();
        make_index(&shop, &|_, _| ()).unwrap();
        home.packages.read_index(&source(shop), Freshness::Now).unwrap();
    }
    assert!(theirs.exists());
    let kept = names(&home.packages.layout().cache);
    assert_eq!(
        kept.iter().filter(|name| Path::new(name).extension().is_some_and(|end| end == "json")).count(),
        8 + 1,
        "{kept:?}"
    );
}

#[test]
fn what_was_last_seen_says_when_and_being_seen_again_counts() {
    let home = Home::new();
    let shop = shop(&home);
    let server = Server::of(shop);
    let at = source(&server.address);
    home.packages.read_index(&at, Freshness::Now).unwrap();
    let file = fs::read_dir(&home.packages.layout().cache).unwrap().flatten().map(|entry| entry.path());
    let file = file.into_iter().find(|path| path.extension().is_some_and(|end| end == "json")).unwrap();
    let long_ago = std::time::UNIX_EPOCH + Duration::from_hours(1);
    fs::File::open(&file).unwrap().set_modified(long_ago).unwrap();
    let seen = || home.packages.read_index(&at, Freshness::Seen).unwrap().seen.unwrap();
    assert_eq!(seen(), long_ago);
    assert_eq!(home.packages.read_index(&at, Freshness::Now).unwrap().seen, None);
    assert!(seen().elapsed().unwrap() < Duration::from_hours(1), "it was looked at");
}
