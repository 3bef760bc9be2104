//! What counts as a secret: the shipped patterns, and what of a match is hidden.
//!
//! Promises that a pattern sees one line at a time and is linear in its length. Knows neither files nor settings.

use regex::bytes::{Captures, Regex};

/// One shape of secrets.
#[derive(Debug)]
pub(super) struct Rule {
    /// Group 1, if it has one, is what is hidden; otherwise all of it.
    pub(super) regex: Regex,
    /// Whether a match is one, where that is more than a pattern can say.
    pub(super) accepts: fn(&Captures<'_>) -> bool,
}

/// A shipped pattern.
pub(super) struct Shipped {
    /// What must occur for `pattern` to be tried: cheap to look for in text without any.
    pub(super) hint: &'static str,
    /// As for [`Rule::regex`].
    pub(super) pattern: &'static str,
    /// As for [`Rule::accepts`].
    pub(super) accepts: fn(&Captures<'_>) -> bool,
}

/// Begins a private key of several lines. Source: RFC 7468; PGP's: RFC 9580, 6.2.
pub(super) const KEY_BEGINS: &str = r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----";

/// Ends it.
pub(super) const KEY_ENDS: &str = r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----";

/// Shipped patterns, without Unicode: what they look for is ASCII, and output may be anything.
pub(super) const SHIPPED: &[Shipped] = &[
    // AWS access key ids. Source: IAM identifiers in AWS's documentation.
    whole(r"(?-u)A(?:KIA|SIA)[A-Z0-9]{4}", r"(?-u:\b)(?-u:A(?:KIA|SIA)[A-Z0-9]{16})(?-u:\b)"),
    // GitHub, GitLab, Slack, npm, Stripe, Google: each documents its prefix so that it can be found.
    whole(r"(?-u)gh[pousr]_[A-Za-z0-9]{4}", r"(?-u)gh[pousr]_[A-Za-z0-9]{36,}"),
    whole(r"(?-u)github_pat_", r"(?-u)github_pat_[A-Za-z0-9_]{22,}"),
    whole(r"(?-u)glpat-", r"(?-u)glpat-[A-Za-z0-9_-]{20,}"),
    whole(r"(?-u)xox[a-z]-[0-9A-Za-z]", r"(?-u)xox[abceoprs]-[A-Za-z0-9-]{10,}"),
    whole(r"(?-u)npm_[A-Za-z0-9]{4}", r"(?-u)npm_[A-Za-z0-9]{36,}"),
    whole(r"(?-u)[rs]k_live_", r"(?-u)[rs]k_live_[A-Za-z0-9]{16,}"),
    whole(r"(?-u)AIza[A-Za-z0-9]{4}", r"(?-u)AIza[A-Za-z0-9_-]{35,}"),
    // JSON Web Tokens: two objects in base64url, and a signature. Source: RFC 7519.
    whole(r"(?-u)eyJ[A-Za-z0-9_-]{5}", r"(?-u)eyJ[A-Za-z0-9_-]{5,}\.eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*"),
    // user:password@ in an address. Source: RFC 3986, 3.2.1.
    whole(r"(?-u)://[^\s/:@]*:", r#"(?-u)://[^\s/:@"'<>]*:([^\s/@"'<>]+)@"#),
    // Source: RFC 6750, RFC 7617.
    whole(r"(?i-u)bearer[ \t]", r"(?i-u)bearer[ \t]+([A-Za-z0-9._~+/=-]{8,})"),
    whole(
        r"(?i-u)authorization[\x22']?:",
        r"(?i-u)authorization[\x22']?:[ \t]*[\x22']?(?:basic|token|digest|apikey)[ \t]+([^\s\x22']{4,})",
    ),
    // Assigned without a blank: in environments, addresses, options, JSON.
    whole(
        r"(?i-u)(?:pass|pwd|secret|token|key|credential)[a-z0-9_.-]*[\x22']?[:=][^\s]",
        concat!(
            r"(?i-u)(?:passw(?:or)?d|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?)",
            r"[a-z0-9_.-]{0,64}[\x22']?[:=](?:\x22([^\x22]+)|'([^']+)|([^\s\x22'`]+))"
        ),
    ),
    // With one: as people and YAML write it; and source code, which is why a value must look like one.
    Shipped {
        hint: r"(?i-u)(?:pass|pwd|secret|token|key|credential)[a-z0-9_.-]*[\x22']?[ \t]*[:=][ \t]",
        pattern: concat!(
            r"(?i-u)(?:(passw(?:or)?d|passphrase|pwd)|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?)",
            r"[a-z0-9_.-]{0,64}[\x22']?[ \t]*[:=][ \t]+(?:\x22([^\x22]+)|'([^']+)|([^\s\x22'`]+))"
        ),
        accepts: looks_like_a_value,
    },
    // A whole private key on one line, as JSON has it.
    whole(r"(?-u)PRIVATE KEY", r"(?-u)-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----((?:[^\x22'-]|-[^-])+)"),
];

const fn whole(hint: &'static str, pattern: &'static str) -> Shipped {
    Shipped { hint, pattern, accepts: any }
}

pub(super) fn any(_: &Captures<'_>) -> bool {
    true
}

/// Whether what stands behind `name = ` is a secret and no source code: in quotes; or of letters and digits mixed; or, of
/// a password, no word that types and programs use.
fn looks_like_a_value(found: &Captures<'_>) -> bool {
    const WORDS: [&[u8]; 12] =
        [b"string", b"str", b"none", b"null", b"nil", b"true", b"false", b"bytes", b"text", b"varchar", b"yes", b"no"];
    let Some(bare) = found.get(4).map(|value| value.as_bytes()) else { return true };
    let is_code = bare.iter().any(|byte| b"(){}<>[]&;".contains(byte)) || bare.windows(2).any(|pair| pair == b"::");
    let is_mixed = bare.iter().any(u8::is_ascii_digit) && bare.iter().any(u8::is_ascii_alphabetic);
    if found.get(1).is_some() {
        let word = bare.strip_suffix(b",").unwrap_or(bare).to_ascii_lowercase();
        return bare.len() >= 4 && (is_mixed || !is_code) && !WORDS.contains(&word.as_slice());
    }
    bare.len() >= 8 && is_mixed && !is_code
}
