//! `relay` and `clone`: accounts at relays, coming back, and running one.

use crate::args::{AdminArgs, AdminVerb, Args, RelayVerb, WhoArgs};
use crate::run::{first_line, home, until_told};
use crate::ui::Ui;
use cairn_node::{Credentials, Network, NodeError, ProjectChoice, Relay, RelayUrl, Reply};
use cairn_relay_cli::{ServeArgs, ServeError};
use cairn_relay_wire::{LogId, OperatorChange};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Proxies as the environment names them.
pub fn network() -> Network {
    let first = |names: &[&str]| names.iter().find_map(|n| std::env::var(n).ok().filter(|v| !v.is_empty()));
    Network { proxy: first(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]), no_proxy: first(&["NO_PROXY", "no_proxy"]) }
}

fn input(message: impl Into<String>) -> NodeError {
    NodeError::Input { message: message.into() }
}

/// A password from its file, or typed where somebody can.
fn password(file: Option<&PathBuf>, prompt: &str, twice: bool) -> Result<String, NodeError> {
    if let Some(path) = file {
        let line = first_line(path)?;
        return String::from_utf8(line).map_err(|_| input(format!("{}: the password is no text", path.display())));
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(input(format!("{prompt}: nobody is here to type it; put it into a file and give --password-file FILE")));
    }
    let ask = |prompt: &str| rpassword::prompt_password(format!("{prompt}: ")).map_err(|e| input(e.to_string()));
    let typed = ask(prompt)?;
    if twice && ask("once more")? != typed {
        return Err(input("the two are not the same; nothing was changed"));
    }
    Ok(typed)
}

fn user(who: &WhoArgs) -> Result<String, NodeError> {
    match &who.user {
        Some(user) => Ok(user.clone()),
        None if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() => {
            eprint!("user name: ");
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).map_err(|e| input(e.to_string()))?;
            Ok(line.trim().to_owned())
        }
        None => Err(input("a user name is needed: --user NAME")),
    }
}

fn credentials(relay: &str, who: &WhoArgs, prompt: &str, twice: bool) -> Result<Credentials, NodeError> {
    let user = Some(user(who)?);
    Ok(Credentials { relay: relay.to_owned(), user, password: password(who.password_file.as_ref(), prompt, twice)? })
}

/// `relay ...`.
pub fn relay(args: &Args, what: &RelayVerb, ui: &Ui) -> Result<Reply, NodeError> {
    match what {
        RelayVerb::Serve(serve) => serve_relay(serve, ui),
        RelayVerb::Admin(admin) => administer(admin),
        RelayVerb::Register { relay, who, code } => {
            home(args)?.relay_register(&credentials(relay, who, "password for the new account", true)?, code.as_deref())
        }
        RelayVerb::Login { relay, who } => home(args)?.relay_login(&credentials(relay, who, "password", false)?),
        RelayVerb::Recover { relay, who, words_file } => {
            let words = password(words_file.as_ref(), "the twelve recovery words", false)?;
            home(args)?.relay_recover(&credentials(relay, who, "new password", true)?, &words)
        }
        RelayVerb::Logout { relay, user } => home(args)?.relay_logout(relay.as_deref(), user.as_deref()),
        RelayVerb::Password { relay, who, new_password_file } => {
            let old = password(who.password_file.as_ref(), "password there is", false)?;
            let new = password(new_password_file.as_ref(), "new password", true)?;
            home(args)?.relay_password(relay.as_deref(), who.user.as_deref(), &old, &new)
        }
        RelayVerb::Projects { relay } => home(args)?.relay_projects(relay.as_deref()),
        RelayVerb::Accounts => home(args)?.relay_accounts(),
        RelayVerb::Forget { project, relay } => {
            let choice = ProjectChoice { project: project.clone(), relay: relay.clone(), device_name: None };
            home(args)?.relay_forget(&choice)
        }
    }
}

/// `clone`.
pub fn clone(args: &Args, choice: &ProjectChoice, ui: &Ui) -> Result<Reply, NodeError> {
    home(args)?.clone_project(choice, &|p| {
        ui.progress(p.sent + p.received, p.to_send.saturating_add(p.to_receive), p.sent_bytes + p.received_bytes);
    })
}

fn not_started(e: ServeError) -> NodeError {
    match e {
        ServeError::InUse(holder) => NodeError::InUse { holder: format!("another relay ({holder})") },
        ServeError::Usage(message) => NodeError::Input { message },
        ServeError::File { path, message } => NodeError::File { path, message },
        other => NodeError::Store { message: other.to_string() },
    }
}

fn serve_relay(serve: &ServeArgs, ui: &Ui) -> Result<Reply, NodeError> {
    let runtime = tokio::runtime::Runtime::new().map_err(|e| NodeError::Store { message: e.to_string() })?;
    runtime.block_on(async {
        let stop = until_told()?;
        let running = cairn_relay_cli::run(serve, |line| eprintln!("{line}")).await.map_err(not_started)?;
        ui.relay_ready(&running.ready);
        stop.await;
        running.stop().await;
        Ok(Reply { data: json!({"stopped": true}), ..Reply::default() })
    })
}

/// The relay's address and the operator's token: from its folder on this machine, or named.
fn operator(admin: &AdminArgs) -> Result<(RelayUrl, String), NodeError> {
    let line = |path: &Path| first_line(path).and_then(|l| String::from_utf8(l).map_err(|_| input(format!("{}: no text", path.display()))));
    let (url, token) = match (&admin.data, &admin.relay, &admin.token_file) {
        (Some(data), None, None) => (line(&data.join("address"))?, line(&data.join("operator-token"))?),
        (None, Some(relay), Some(token)) => (relay.clone(), line(token)?),
        _ => return Err(input("name the relay: --data DIR on its own machine, or --relay URL with --token-file FILE")),
    };
    Ok((RelayUrl::parse(&url).map_err(|e| input(e.to_string()))?, token))
}

fn as_json(value: &impl serde::Serialize) -> Result<Value, NodeError> {
    serde_json::to_value(value).map_err(|e| NodeError::Store { message: e.to_string() })
}

fn administer(admin: &AdminArgs) -> Result<Reply, NodeError> {
    let (url, token) = operator(admin)?;
    let network = network();
    let fault = cairn_node::relay_fault;
    let done = cairn_node::at_relay(&url, &network, |relay: &Relay| {
        let account = |user: &str, change: OperatorChange| relay.change_account(&token, user, &change).map_err(fault);
        Ok(match &admin.what {
            AdminVerb::Usage => as_json(&relay.usage(&token).map_err(fault)?)?,
            AdminVerb::Accounts => json!({"accounts": as_json(&relay.accounts(&token).map_err(fault)?)?}),
            AdminVerb::Logs => json!({"logs": as_json(&relay.logs(&token).map_err(fault)?)?}),
            AdminVerb::Code => as_json(&relay.code(&token).map_err(fault)?)?,
            AdminVerb::Quota { user, size } => {
                account(user, OperatorChange { quota_bytes: Some(*size), blocked: None })?;
                json!({"user": user, "quota_bytes": size})
            }
            AdminVerb::Block { what, undo } => {
                match what.parse::<LogId>() {
                    Ok(log) => relay.block_log(&token, log, !undo).map_err(fault)?,
                    Err(()) => account(what, OperatorChange { quota_bytes: None, blocked: Some(!undo) })?,
                }
                json!({"what": what, "blocked": !undo})
            }
            AdminVerb::Delete { what, yes } => {
                if !yes {
                    return Err(input(format!(
                        "`{what}` would be erased at the relay for good: add --yes if that is meant; devices keep what they have"
                    )));
                }
                match what.parse::<LogId>() {
                    Ok(log) => relay.delete_log(&token, log).map_err(fault)?,
                    Err(()) => relay.delete_account(&token, what).map_err(fault)?,
                }
                json!({"what": what, "deleted": true})
            }
        })
    })?;
    Ok(Reply { data: done, ..Reply::default() })
}
