//! `relay serve`, shared by `cairn` and by the relay's own small binary: from options to a running node.

mod acme;
mod serve;

pub use serve::{Running, ServeError, run};

use clap::{Args, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Who may make an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RegistrationArg {
    /// Anyone
    Open,
    /// Who has a code (`relay admin code`)
    Code,
    /// Nobody
    Closed,
}

/// Whether a project needs an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccountsArg {
    /// Any project may have a log within the default quota
    Optional,
    /// Only accounts make logs
    Required,
}

/// What can be typed.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Where the relay keeps everything; made if it is not there
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Keep logs and accounts in PostgreSQL instead of in DIR, for several nodes: postgres://USER@HOST1,HOST2/DATABASE
    #[arg(long, value_name = "URL", env = "CAIRN_RELAY_DATABASE", hide_env_values = true)]
    pub database: Option<String>,
    /// Certificate (PEM) of the authority that vouches for the database, if none does that this machine believes
    #[arg(long, value_name = "FILE", requires = "database")]
    pub database_root: Option<PathBuf>,
    /// Keep large parts in an S3-compatible bucket instead of in DIR: s3://BUCKET; the rest is read from the environment (AWS_ACCESS_KEY_ID,
    /// AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT, AWS_ALLOW_HTTP)
    #[arg(long, value_name = "URL", env = "CAIRN_RELAY_PARTS", requires = "database")]
    pub parts: Option<String>,
    /// Where to listen; port 0 takes any
    #[arg(long, default_value = "0.0.0.0:8443", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// A self-made certificate, known by its key: the address shown carries its pin (the default)
    #[arg(long, conflicts_with_all = ["cert", "acme", "plain"])]
    pub self_signed: bool,
    /// Certificate chain (PEM); read again when it changes
    #[arg(long, value_name = "FILE", requires = "key", conflicts_with_all = ["acme", "plain"])]
    pub cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Get a certificate for this name by ACME; port 443 must reach this listener (not tested against a public authority)
    #[arg(long, value_name = "DOMAIN", conflicts_with = "plain")]
    pub acme: Vec<String>,
    /// Where the authority writes if something is wrong with it
    #[arg(long, value_name = "MAIL", requires = "acme")]
    pub acme_email: Option<String>,
    /// Another authority's directory
    #[arg(long, value_name = "URL", requires = "acme")]
    pub acme_directory: Option<String>,
    /// Certificate (PEM) of that authority's own web server, if no public one vouches for it
    #[arg(long, value_name = "FILE", requires = "acme_directory")]
    pub acme_root: Option<PathBuf>,
    /// No encryption: behind a proxy that ends TLS, or on this machine only
    #[arg(long)]
    pub plain: bool,
    /// Requests come through a proxy that says from whom (X-Forwarded-For)
    #[arg(long)]
    pub behind_proxy: bool,
    /// A name clients know this relay by, HOST or HOST:PORT; may be given several times
    #[arg(long, value_name = "NAME")]
    pub name: Vec<String>,
    /// Whether a project needs an account
    #[arg(long, value_enum, default_value = "optional")]
    pub accounts: AccountsArg,
    /// Who may make one
    #[arg(long, value_enum, default_value = "open")]
    pub registration: RegistrationArg,
    /// What a log without an account, or all logs of an account, may hold
    #[arg(long, value_name = "SIZE", default_value = "10G", value_parser = size)]
    pub quota: u64,
    /// Days for which trimmed chunks can be brought back
    #[arg(long, value_name = "DAYS", default_value_t = 14)]
    pub retention: u32,
    /// Requests a second from one address, and on one log
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: u32,
    /// Log-ins and new accounts a minute from one address
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub logins: u32,
    /// Connections at once
    #[arg(long, value_name = "N", default_value_t = 8_192)]
    pub connections: usize,
    /// Of those, from one address
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub connections_per_address: usize,
    /// Show numbers to whoever asks for /metrics, not only to the operator
    #[arg(long)]
    pub open_metrics: bool,
    /// A line of JSON on stderr for every request; without addresses and names
    #[arg(long)]
    pub log: bool,
}

impl ServeArgs {
    /// A relay over this folder that only this machine reaches, on any port; the rest as if nothing was typed.
    pub fn on_this_machine(data: &std::path::Path) -> Self {
        #[derive(clap::Parser)]
        struct Typed {
            #[command(flatten)]
            serve: ServeArgs,
        }
        let words = ["relay".into(), "--data".into(), data.as_os_str().to_owned(), "--listen".into(), "127.0.0.1:0".into()];
        // Nothing of what this machine's environment says of other relays.
        ServeArgs { database: None, parts: None, ..<Typed as clap::Parser>::parse_from(words).serve }
    }
}

/// `10G`, `500M`, `64k`, or bytes.
pub fn size(text: &str) -> Result<u64, String> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor: u64 = match unit.to_lowercase().trim_end_matches(['b', 'i']) {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return Err(format!("`{text}` is no size: 10G, 500M, or bytes")),
    };
    digits.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(|| format!("`{text}` is no size: 10G, 500M, or bytes"))
}
