//! What can be typed about relays.

use clap::Subcommand;
use std::path::PathBuf;

/// Who somebody is at a relay.
#[derive(clap::Args, Debug)]
pub struct WhoArgs {
    /// User name
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// File with the password (its first line); asked for on a terminal
    #[arg(long, env = "CAIRN_RELAY_PASSWORD_FILE", value_name = "FILE", hide_env_values = true)]
    pub password_file: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub enum RelayVerb {
    /// Run a relay
    Serve(Box<cairn_relay_cli::ServeArgs>),
    /// Make an account; its twelve recovery words are shown once
    Register {
        #[arg(value_name = "URL")]
        relay: String,
        #[command(flatten)]
        who: WhoArgs,
        /// From the operator, where accounts are by code
        #[arg(long, value_name = "CODE")]
        code: Option<String>,
    },
    /// Log in on this device; the password stays here
    Login {
        #[arg(value_name = "URL")]
        relay: String,
        #[command(flatten)]
        who: WhoArgs,
    },
    /// Log this device out
    Logout {
        /// Which relay; not needed where this device has one account
        #[arg(value_name = "URL")]
        relay: Option<String>,
        /// User name
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
    /// Projects of this device's accounts: name, size, last push
    Projects {
        /// Only at this relay
        #[arg(long, value_name = "URL")]
        relay: Option<String>,
    },
    /// Accounts this device is logged in to
    Accounts,
    /// Another password; other devices are logged out
    Password {
        /// Which relay; not needed where this device has one account
        #[arg(value_name = "URL")]
        relay: Option<String>,
        #[command(flatten)]
        who: WhoArgs,
        /// File with the new password (its first line)
        #[arg(long, value_name = "FILE")]
        new_password_file: Option<PathBuf>,
    },
    /// A lost password: the recovery words set another
    Recover {
        #[arg(value_name = "URL")]
        relay: String,
        #[command(flatten)]
        who: WhoArgs,
        /// File with the twelve recovery words (its first line)
        #[arg(long, value_name = "FILE")]
        words_file: Option<PathBuf>,
    },
    /// Take a project off the account's list; its data stays at the relay and on devices
    Forget {
        /// Its name, or the beginning of its id
        project: String,
        /// Only at this relay
        #[arg(long, value_name = "URL")]
        relay: Option<String>,
    },
    /// For who runs the relay: accounts, quotas, usage, blocking, erasing
    Admin(AdminArgs),
}

/// `relay admin`.
#[derive(clap::Args, Debug)]
pub struct AdminArgs {
    /// The relay's folder, on its own machine
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The relay, from elsewhere
    #[arg(long, value_name = "URL", requires = "token_file")]
    pub relay: Option<String>,
    /// File with the operator's token (`operator-token` in the relay's folder)
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    #[command(subcommand)]
    pub what: AdminVerb,
}

#[derive(Subcommand, Debug)]
pub enum AdminVerb {
    /// Sums
    Usage,
    /// Accounts: what they pay for, how much it holds
    Accounts,
    /// Logs: how much each holds, who pays, when it grew last
    Logs,
    /// A code for one new account
    Code,
    /// What all logs of an account may hold
    Quota {
        user: String,
        #[arg(value_parser = cairn_relay_cli::size)]
        size: u64,
    },
    /// Refuse an account or a log from now on
    Block {
        /// User name, or a log as `logs` shows it
        #[arg(value_name = "USER|LOG")]
        what: String,
        /// Let it go on
        #[arg(long)]
        undo: bool,
    },
    /// Erase an account or a log at the relay; devices keep what they have
    Delete {
        /// User name, or a log as `logs` shows it
        #[arg(value_name = "USER|LOG")]
        what: String,
        /// It is meant
        #[arg(long)]
        yes: bool,
    },
}
