//! A server over streamable HTTP.
//!
//! Promise: it talks to the address that was agreed to and to no other: redirects are not followed; every wait to connect is bounded.

use std::collections::HashMap;
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;

use super::quiet::LINE_BYTES_MAX;

/// How long a connection may take.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);

/// The way to the server at `url`.
///
/// # Errors
/// In words, what of it is wrong.
pub(super) fn transport(
    url: &str,
    headers: &[(String, String)],
) -> Result<StreamableHttpClientTransport<reqwest::Client>, String> {
    // Once per process; a second time changes nothing.
    let _was_chosen = rustls::crypto::ring::default_provider().install_default();
    let mut all = HashMap::new();
    for (name, value) in headers {
        let bad = || format!("its header \"{name}\" cannot be sent");
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| bad())?;
        value.set_sensitive(true);
        all.insert(name, value);
    }
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT_WAIT_MAX)
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(0) // a reused connection may stall for 40 ms; source: rmcp's own default
        .build()
        .map_err(|error| format!("HTTP cannot be spoken here: {error}"))?;
    let config = StreamableHttpClientTransportConfig::with_uri(url)
        .custom_headers(all)
        .max_sse_event_size(LINE_BYTES_MAX)
        .reinit_on_expired_session(true);
    Ok(StreamableHttpClientTransport::with_client(client, config))
}
