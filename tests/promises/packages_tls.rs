//! Packages over TLS, from a server of this machine whose certificate a CA of its own has signed; and the bar that is drawn meanwhile.

use std::io::{BufRead as _, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::prompt_shells::{kept, shows, write};
use crate::world::World;

/// Of the file that makes the archive large; nothing can make it smaller.
const LARGE_BYTES: usize = 512 << 10;

/// What is sent at a time as long as nobody has seen that it comes, and the pause behind it: the bar is for work that takes its time.
const DRIP_BYTES: usize = 1 << 10;
const DRIP_PAUSE: Duration = Duration::from_millis(10);

/// A server of files below a directory, until the test ends.
struct Server {
    address: String,
    ca: PathBuf,
    /// Archives come at once from now on.
    is_seen: Arc<AtomicBool>,
}

fn serve(world: &World, root: &Path) -> Result<Server> {
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate()?;
    let pem = ca.self_signed(&ca_key)?.pem();
    let key = KeyPair::generate()?;
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, &Issuer::new(ca, ca_key))?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key)?);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("https://localhost:{}/", listener.local_addr()?.port());
    write(world, "ca.pem", &pem)?;
    let is_seen = Arc::new(AtomicBool::new(false));
    let (root, seen) = (root.to_owned(), Arc::clone(&is_seen));
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            // Who does not like the certificate goes away.
            let _refused = answer(&config, stream, &root, &seen);
        }
    });
    Ok(Server { address, ca: world.outside().join("ca.pem"), is_seen })
}

fn answer(config: &Arc<ServerConfig>, stream: TcpStream, root: &Path, is_seen: &AtomicBool) -> Result<()> {
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(Arc::clone(config))?, stream));
    let (mut first, mut line) = (String::new(), String::from("x"));
    stream.read_line(&mut first)?;
    while !line.trim().is_empty() {
        line.clear();
        stream.read_line(&mut line)?;
    }
    let stream = stream.get_mut();
    let name = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    let Ok(bytes) = std::fs::read(root.join(&name)) else {
        return Ok(stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?);
    };
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len())?;
    let mut rest = bytes.as_slice();
    let is_archive = Path::new(&name).extension().is_some_and(|extension| extension == "gz");
    while is_archive && !is_seen.load(Ordering::SeqCst) && rest.len() > DRIP_BYTES {
        let (piece, behind) = rest.split_at(DRIP_BYTES);
        stream.write_all(piece)?;
        stream.flush()?;
        std::thread::sleep(DRIP_PAUSE); // the server's slowness is what is tested
        rest = behind;
    }
    stream.write_all(rest)?;
    stream.conn.send_close_notify();
    Ok(stream.flush()?)
}

/// A package whose archive takes its time.
fn shop(world: &World) -> Result<PathBuf> {
    let shop = world.outside().join("shop");
    std::fs::create_dir_all(&shop)?;
    let manifest = "[package]\nname = \"large\"\nversion = \"1.0.0\"\ndescription = \"d\"\n[[command]]\nname = \"large-one\"\npath = \"x\"\n";
    write(world, "from/package.toml", manifest)?;
    write(world, "from/x", "#!/bin/sh\necho large-$((40+2))\n")?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(world.outside().join("from/x"), mode)?;
    let random: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(LARGE_BYTES).collect();
    std::fs::write(world.outside().join("from/data"), random)?;
    let place = shop.to_string_lossy().into_owned();
    world.ok(&["pkg", "build", &world.outside().join("from").to_string_lossy(), "--output", &place])?;
    world.ok(&["pkg", "index", &place])?;
    Ok(shop)
}

#[test]
fn a_package_comes_over_tls_from_whom_the_user_trusts_and_a_bar_is_drawn_while_it_does() -> Result<()> {
    let world = World::new()?;
    let server = serve(&world, &shop(&world)?)?;
    // A stranger's certificate.
    let refused = world.run(&["pkg", "install", "large", "--index", &server.address])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(1) && said.contains("certificate"), "{said}");
    ensure!(world.ok(&["pkg", "list", "--json"])? == "[]\n");
    let exported = format!("export SSL_CERT_FILE={} SHELLKEEP_PKG_INDEX={}", server.ca.display(), server.address);
    let mut screen = kept(&world, "bash", &exported)?;
    screen.keys(b"pkg install large\r")?;
    shows(&screen, "getting large ")?;
    // Drawn anew as it grows: the part that is there, of all, and how fast.
    shows(&screen, "KiB/s")?;
    server.is_seen.store(true, Ordering::SeqCst);
    shows(&screen, "installed large 1.0.0: large-one")?;
    let shown = String::from_utf8_lossy(&screen.shown()).into_owned();
    let bar = shown.split("getting large ").nth(1).context("it was drawn")?;
    ensure!(bar.contains('░') || bar.contains('█'), "{bar:?}");
    // And taken away: the line that is left says what became of it.
    let last = shown.rsplit("getting large ").next().unwrap_or_default();
    ensure!(last.contains("\x1b[2K"), "{last:?}");
    screen.keys(b"large-one\r")?;
    shows(&screen, "large-42")?;
    // A hint of the session that knows of the index says nothing of what is installed, and what was seen is known without the server.
    let listed = world.command(["pkg", "search", "large", "--index", &server.address, "--json"]).output()?;
    ensure!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    Ok(())
}
