//! Getting a file by HTTP: the only place of packages that speaks to a network.
//!
//! Promise: bounded in bytes and in every wait; certificates are checked against those of the system; what began with https does not
//! go on without. It blocks: never called on a thread that serves others.

use std::time::Duration;

use reqwest::header::{ETAG, IF_NONE_MATCH};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{StatusCode, Url};

/// How long a connection may take.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long nothing may come.
const READ_WAIT_MAX: Duration = Duration::from_secs(15);
/// How long all of it may take.
const WAIT_MAX: Duration = Duration::from_mins(10);
/// Addresses that one leads to, one after the other.
const REDIRECTS_MAX: usize = 5;
/// Longest tag that is remembered; a longer one counts as none.
const ETAG_BYTES_MAX: usize = 1_024;

/// Why it cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The server does not give it.
    #[error("the server says {0}")]
    Status(StatusCode),
    /// It is too large.
    #[error("it has more than {max} bytes")]
    TooLarge {
        /// The limit.
        max: u64,
    },
    /// The network, the server or its certificate.
    #[error("{0}")]
    Network(String),
    /// It cannot be put down here.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// It is the one with the tag that was said.
    NotModified,
    /// All of it was handed on.
    Whole {
        /// Its tag.
        etag: Option<String>,
    },
}

/// Called with each piece, and the size of all if the server says it.
pub(super) type OnPiece<'a> = &'a mut dyn FnMut(&[u8], Option<u64>) -> std::io::Result<()>;

/// Whether it is this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Gets `url`, unless it is still the one with `etag`.
///
/// # Errors
/// See [`HttpError`]; pieces may have been handed on then.
pub(super) fn get(url: &Url, etag: Option<&str>, bytes_max: u64, on_piece: OnPiece<'_>) -> Result<Got, HttpError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let got = runtime.block_on(async {
        let whole = tokio::time::timeout(WAIT_MAX, transfer(url, etag, bytes_max, on_piece)).await;
        whole.unwrap_or_else(|_late| Err(HttpError::Network(format!("it took more than {} s", WAIT_MAX.as_secs()))))
    });
    runtime.shutdown_background(); // a resolver that hangs holds nobody up
    got
}

async fn transfer(url: &Url, etag: Option<&str>, bytes_max: u64, on_piece: OnPiece<'_>) -> Result<Got, HttpError> {
    // Once per process; a second time changes nothing.
    let _was_chosen = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .user_agent(concat!("shellkeep/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_WAIT_MAX)
        .read_timeout(READ_WAIT_MAX)
        .redirect(Policy::custom(onward))
        .build()
        .map_err(network)?;
    let mut request = client.get(url.clone());
    if let Some(etag) = etag {
        request = request.header(IF_NONE_MATCH, etag);
    }
    let mut response = request.send().await.map_err(network)?;
    match response.status() {
        StatusCode::NOT_MODIFIED if etag.is_some() => return Ok(Got::NotModified),
        StatusCode::OK => {}
        other => return Err(HttpError::Status(other)),
    }
    let tag = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok()).filter(|tag| tag.len() <= ETAG_BYTES_MAX);
    let etag = tag.map(str::to_owned);
    let total = response.content_length();
    let mut got = 0;
    while let Some(piece) = response.chunk().await.map_err(network)? {
        got += piece.len() as u64;
        if got > bytes_max || total.is_some_and(|total| total > bytes_max) {
            return Err(HttpError::TooLarge { max: bytes_max });
        }
        on_piece(&piece, total)?;
    }
    Ok(Got::Whole { etag })
}

fn onward(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let was_protected = attempt.previous().iter().any(|url| url.scheme() == "https");
    if attempt.previous().len() > REDIRECTS_MAX {
        attempt.error("too many redirects")
    } else if was_protected && attempt.url().scheme() != "https" {
        attempt.error("it leads from https to an unprotected address")
    } else {
        attempt.follow()
    }
}

/// The library's own words repeat the address and end where it becomes interesting: the cause is further down.
fn network(error: reqwest::Error) -> HttpError {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let what = match &error {
        error if error.is_timeout() => "the server takes too long",
        error if error.is_connect() => "there is no connection",
        error if error.is_redirect() => "it leads elsewhere",
        error if error.is_body() || error.is_decode() => "the connection broke",
        _ => "the server's answer is none",
    };
    HttpError::Network(format!("{what}: {cause}"))
}
