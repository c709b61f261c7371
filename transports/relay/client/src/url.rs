//! Where a relay is: `https://HOST[:PORT][/PATH][#PIN]`.

use std::fmt;
use std::net::IpAddr;

/// A relay's address, as people type it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RelayUrl {
    base: String,
    authority: String,
    pin: Option<String>,
}

/// Why a text is no relay's address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not of the form.
    #[error("`{0}` is no relay's address: https://HOST[:PORT][#PIN] is expected")]
    Form(String),
    /// Without encryption, and not on this machine.
    #[error("`{0}`: a relay is reached by https; plain http is for this machine only")]
    Plain(String),
    /// What stands behind `#` is no pin.
    #[error("`{0}`: what stands behind `#` must be the 32 letters and digits that the relay showed when it started")]
    Pin(String),
}

const PIN_CHARS: usize = 32;

impl RelayUrl {
    /// Reads what was typed.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let form = || UrlError::Form(text.to_owned());
        let (front, pin) = text.trim().split_once('#').map_or((text.trim(), None), |(a, b)| (a, Some(b)));
        let is_pin = |p: &str| p.len() == PIN_CHARS && p.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b));
        let pin = match pin.filter(|p| !p.is_empty()) {
            Some(p) if !is_pin(p) => return Err(UrlError::Pin(text.to_owned())),
            other => other.map(str::to_owned),
        };
        let url = reqwest::Url::parse(front).map_err(|_| form())?;
        let host = url.host_str().ok_or_else(form)?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let here = bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        match url.scheme() {
            "https" => {}
            "http" if here => {}
            "http" => return Err(UrlError::Plain(text.to_owned())),
            _ => return Err(form()),
        }
        if url.query().is_some() || !url.username().is_empty() || url.password().is_some() {
            return Err(form());
        }
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let base = format!("{}://{authority}{}", url.scheme(), url.path().trim_end_matches('/'));
        Ok(Self { base, authority, pin })
    }

    /// Without the pin: paths are put behind it.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Pin of the key of a self-made certificate.
    pub fn pin(&self) -> Option<&str> {
        self.pin.as_deref()
    }

    /// What sessions are signed for: the pin, or the name.
    pub fn audience(&self) -> &str {
        self.pin.as_deref().unwrap_or(&self.authority)
    }
}

impl fmt::Display for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pin {
            Some(pin) => write!(f, "{}#{pin}", self.base),
            None => f.write_str(&self.base),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_and_print() {
        let pin = "abcdefghijklmnopqrstuvwxyz234567";
        for (text, audience) in [
            ("https://relay.example", "relay.example"),
            ("https://relay.example:8443/team", "relay.example:8443"),
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://[::1]:8080", "[::1]:8080"),
            (&format!("https://10.0.0.7:8443#{pin}"), pin),
        ] {
            let url = RelayUrl::parse(text).unwrap();
            assert_eq!((url.to_string().as_str(), url.audience()), (text, audience));
            assert_eq!(RelayUrl::parse(&url.to_string()), Ok(url));
        }
        assert_eq!(RelayUrl::parse("https://Relay.Example/").unwrap().to_string(), "https://relay.example");
        assert!(matches!(RelayUrl::parse("http://relay.example"), Err(UrlError::Plain(_))));
        assert!(matches!(RelayUrl::parse("https://relay.example#short"), Err(UrlError::Pin(_))));
        for bad in ["ftp://x", "https://", "relay.example", "https://a:b@c", "https://a?b"] {
            assert!(matches!(RelayUrl::parse(bad), Err(UrlError::Form(_))), "{bad}");
        }
    }
}
