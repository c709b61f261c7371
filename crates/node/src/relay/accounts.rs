//! Accounts at relays: who pays, and who comes back to a project with nothing but a name and a password. The password is stretched
//! here and stays here; the account's key is kept sealed under this device's key.

use super::visit::from_relay;
use crate::NodeError;
use crate::home::{Home, Node, blocking};
use crate::request::{Reply, SyncRequest};
use cairn_model::{Instant, hex, unhex};
use cairn_relay::wire::{Code, Hex, LabelOf, LogId, Login, NewPassword, ProjectRow, Register, Sealed};
use cairn_relay::{Patience, Relay, RelayUrl};
use cairn_store::{Entropy, OsEntropy};
use cairn_sync::Progress;
use cairn_trust::{AccountProof, DeviceKeys, ProjectLabel, Ticket, account_words, open_own, seal_own};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Fewer letters are guessed too soon by somebody who has the relay's disk.
const PASSWORD_CHARS: usize = 10;

/// One account this device is logged in to.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Account {
    pub relay: String,
    pub user: String,
    pub token: String,
    #[serde(with = "hex_key")]
    pub key: [u8; 32],
    /// This device made the key (a new account, another password): it knows who cannot have it.
    #[serde(default)]
    pub made_here: bool,
}

mod hex_key {
    use cairn_model::{hex, unhex};
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(key: &[u8; 32], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex(key))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(d)?;
        unhex(&text).ok().and_then(|b| b.try_into().ok()).ok_or_else(|| serde::de::Error::custom("64 digits expected"))
    }
}

/// Who somebody is at a relay.
#[derive(Clone)]
pub struct Credentials {
    /// The relay's address.
    pub relay: String,
    /// User name; not needed where this device has one account there.
    pub user: Option<String>,
    /// The password; of `recover` and of a change, the new one.
    pub password: String,
}

/// Which project, of which relay.
#[derive(Clone, Debug, Default)]
pub struct ProjectChoice {
    /// Its name, or the beginning of its id.
    pub project: String,
    /// Only at this relay.
    pub relay: Option<String>,
    /// Name of this device in the project.
    pub device_name: Option<String>,
}

fn random<const N: usize>() -> [u8; N] {
    let random: &mut dyn Entropy = &mut OsEntropy;
    random.bytes()
}

/// Accounts this device is logged in to, in the order they were used last.
pub(crate) fn read_accounts(home: &Path, keys: &DeviceKeys) -> Result<Vec<Account>, NodeError> {
    let path = home.join("accounts");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(NodeError::file(&path, e)),
    };
    let opened = unhex(text.trim()).ok().and_then(|sealed| open_own(keys, &sealed));
    let read = opened.and_then(|plain| serde_json::from_slice(&plain).ok());
    read.ok_or_else(|| NodeError::file(&path, "this file is damaged, or of another device: remove it and log in again"))
}

fn parse(text: &str) -> Result<RelayUrl, NodeError> {
    RelayUrl::parse(text).map_err(|e| NodeError::input(e.to_string()))
}

fn proof(user: &str, password: &str) -> Result<AccountProof, NodeError> {
    AccountProof::of_password(user, password)
        .ok_or_else(|| NodeError::Store { message: "the password could not be stretched: is there memory for it (64 MB)?".into() })
}

fn good(password: &str) -> Result<(), NodeError> {
    match password.chars().count() {
        n if n < PASSWORD_CHARS => {
            Err(NodeError::input(format!("a password of at least {PASSWORD_CHARS} characters is needed: three or four words do")))
        }
        _ => Ok(()),
    }
}

fn words_of(phrase: &str) -> Result<AccountProof, NodeError> {
    AccountProof::of_words(phrase).ok_or_else(|| NodeError::input("these are not the twelve recovery words of an account"))
}

/// Projects, a summary of each account, and what could not be asked.
type Lists = (Vec<Listed>, Vec<serde_json::Value>, Vec<NodeError>);

/// One project as `relay projects` shows it.
struct Listed {
    account: Account,
    row: ProjectRow,
    label: Option<ProjectLabel>,
}

impl Home {
    fn relay(&self, url: &RelayUrl) -> Result<Relay, NodeError> {
        Relay::new(url, self.network(), Patience::default(), Handle::current()).map_err(from_relay)
    }

    /// Does `work` where it may block and the network runs.
    fn online<T: Send>(&self, work: impl FnOnce() -> Result<T, NodeError> + Send) -> Result<T, NodeError> {
        blocking(async { tokio::task::block_in_place(work) })
    }

    fn accounts(&self) -> Result<Vec<Account>, NodeError> {
        read_accounts(self.path(), &self.keys()?)
    }

    fn write_accounts(&self, accounts: &[Account]) -> Result<(), NodeError> {
        let plain = serde_json::to_vec(accounts).map_err(|e| NodeError::Store { message: e.to_string() })?;
        self.write_file("accounts", hex(&seal_own(&self.keys()?, random(), &plain)).as_bytes())
    }

    /// Puts an account first.
    fn keep_account(&self, mut account: Account) -> Result<(), NodeError> {
        let mut all = self.accounts()?;
        // Logging in once more to what was made here.
        account.made_here |= all.iter().any(|a| a.made_here && a.key == account.key);
        all.retain(|a| (&a.relay, &a.user) != (&account.relay, &account.user));
        all.insert(0, account);
        self.write_accounts(&all)
    }

    fn account_of(&self, relay: Option<&str>, user: Option<&str>) -> Result<Account, NodeError> {
        let relay = relay.map(parse).transpose()?.map(|u| u.to_string());
        let fits = |a: &Account| relay.as_ref().is_none_or(|r| *r == a.relay) && user.is_none_or(|u| u.to_lowercase() == a.user);
        let none = || NodeError::not_allowed("this device is logged in to no such account", "`cairn relay login URL --user NAME`");
        self.accounts()?.into_iter().find(fits).ok_or_else(none)
    }

    fn logged_in(account: &Account) -> Reply {
        Reply { data: json!({"relay": account.relay, "user": account.user}), ..Reply::default() }
    }

    /// `relay register`: a new account. Its recovery words are told once.
    pub fn relay_register(&self, who: &Credentials, code: Option<&str>) -> Result<Reply, NodeError> {
        let url = parse(&who.relay)?;
        let user = who.user.as_deref().ok_or_else(|| NodeError::input("a user name is needed: --user NAME"))?.to_lowercase();
        good(&who.password)?;
        let (password, phrase, key) = (proof(&user, &who.password)?, account_words(&random()), random::<32>());
        let recovery = words_of(&phrase)?;
        let new = Register {
            user: user.clone(),
            auth: Hex(password.auth),
            wrapped: Sealed(password.wrap(&key, random())),
            recovery_auth: Hex(recovery.auth),
            recovery_wrapped: Sealed(recovery.wrap(&key, random())),
            code: code.map(str::to_owned),
        };
        let done = self.online(|| {
            let relay = self.relay(&url)?;
            relay.about().map_err(from_relay)?;
            match relay.register(&new) {
                // Perhaps taken by this very request, whose answer was lost on the way: then its proof opens, and its key is ours.
                Err(e) if e.code() == Some(Code::NameTaken) => {
                    let login = Login { user: user.clone(), auth: Hex(password.auth), recovery: false };
                    let ours = relay.login(&login).ok().filter(|there| password.unwrap(&there.wrapped.0) == Some(key));
                    ours.ok_or_else(|| from_relay(e))
                }
                done => done.map_err(from_relay),
            }
        })?;
        let account = Account { relay: url.to_string(), user, token: done.token, key, made_here: true };
        self.keep_account(account.clone())?;
        let mut reply = Self::logged_in(&account);
        reply.data["recovery"] = json!(phrase);
        Ok(reply)
    }

    fn log_in(&self, who: &Credentials, user: &str, proof: &AccountProof, recovery: bool) -> Result<Account, NodeError> {
        let url = parse(&who.relay)?;
        let login = Login { user: user.to_owned(), auth: Hex(proof.auth), recovery };
        let done = self.online(|| {
            let relay = self.relay(&url)?;
            relay.about().map_err(from_relay)?;
            relay.login(&login).map_err(from_relay)
        })?;
        let key = proof.unwrap(&done.wrapped.0);
        let key = key.ok_or_else(|| NodeError::Store { message: "the relay gave another account's key: do not trust it".into() })?;
        Ok(Account { relay: url.to_string(), user: user.to_owned(), token: done.token, key, made_here: false })
    }

    /// `relay login`.
    pub fn relay_login(&self, who: &Credentials) -> Result<Reply, NodeError> {
        let user = who.user.as_deref().ok_or_else(|| NodeError::input("a user name is needed: --user NAME"))?.to_lowercase();
        let account = self.log_in(who, &user, &proof(&user, &who.password)?, false)?;
        self.keep_account(account.clone())?;
        Ok(Self::logged_in(&account))
    }

    /// `relay recover`: the recovery words set another password.
    pub fn relay_recover(&self, who: &Credentials, phrase: &str) -> Result<Reply, NodeError> {
        let user = who.user.as_deref().ok_or_else(|| NodeError::input("a user name is needed: --user NAME"))?.to_lowercase();
        good(&who.password)?;
        let words = words_of(phrase)?;
        let account = self.log_in(who, &user, &words, true)?;
        let account = self.change(account, &words, &words, &who.password)?;
        self.keep_account(account.clone())?;
        Ok(Self::logged_in(&account))
    }

    /// Another password, and with it another key of the account: whoever had the old one reads no list written from now on.
    fn change(&self, account: Account, old: &AccountProof, words: &AccountProof, password: &str) -> Result<Account, NodeError> {
        let fresh = proof(&account.user, password)?;
        let key = random::<32>();
        let url = parse(&account.relay)?;
        self.online(|| {
            let relay = self.relay(&url)?;
            let there = relay.account(&account.token).map_err(from_relay)?.projects;
            let again = |p: &ProjectRow| {
                // Whoever was removed before now does not know this key.
                let mut label = ProjectLabel::open(&account.key, &p.log.0, &p.label.0)?;
                label.since = None;
                Some(LabelOf { log: p.log, label: Sealed(label.seal(&key, random())) })
            };
            let new = NewPassword {
                old: Hex(old.auth),
                auth: Hex(fresh.auth),
                wrapped: Sealed(fresh.wrap(&key, random())),
                recovery_auth: Some(Hex(words.auth)),
                recovery_wrapped: Some(Sealed(words.wrap(&key, random()))),
                labels: there.iter().filter_map(again).collect(),
            };
            relay.set_password(&account.token, &new).map_err(from_relay)
        })?;
        Ok(Account { key, made_here: true, ..account })
    }

    /// `relay password`: another password and other recovery words, which are told once; other devices are logged out.
    pub fn relay_password(&self, relay: Option<&str>, user: Option<&str>, old: &str, new: &str) -> Result<Reply, NodeError> {
        good(new)?;
        let account = self.account_of(relay, user)?;
        let (old, phrase) = (proof(&account.user, old)?, account_words(&random()));
        let account = self.change(account, &old, &words_of(&phrase)?, new)?;
        self.keep_account(account.clone())?;
        let mut reply = Self::logged_in(&account);
        reply.data["recovery"] = json!(phrase);
        Ok(reply)
    }

    /// `relay logout`. Where the relay is not reached, this device forgets the account all the same.
    pub fn relay_logout(&self, relay: Option<&str>, user: Option<&str>) -> Result<Reply, NodeError> {
        let account = self.account_of(relay, user)?;
        let url = parse(&account.relay)?;
        let told = self.online(|| self.relay(&url)?.logout(&account.token).map_err(from_relay));
        let mut all = self.accounts()?;
        all.retain(|a| (&a.relay, &a.user) != (&account.relay, &account.user));
        self.write_accounts(&all)?;
        let mut reply = Self::logged_in(&account);
        if let Err(e) = told {
            reply.warnings.push(format!("the relay was not told: {e}; change the password if this device is lost"));
        }
        Ok(reply)
    }

    /// `relay accounts`: who this device is logged in as.
    pub fn relay_accounts(&self) -> Result<Reply, NodeError> {
        let rows: Vec<_> = self.accounts()?.iter().map(|a| json!({"relay": a.relay, "user": a.user})).collect();
        Ok(Reply { data: json!({"accounts": rows}), ..Reply::default() })
    }

    fn list_of(&self, account: &Account) -> Result<(cairn_relay::wire::Account, Vec<Listed>), NodeError> {
        let relay = self.relay(&parse(&account.relay)?)?;
        let mut there = relay.account(&account.token).map_err(from_relay)?;
        let rows = std::mem::take(&mut there.projects).into_iter();
        let open =
            |row: ProjectRow| Listed { label: ProjectLabel::open(&account.key, &row.log.0, &row.label.0), account: account.clone(), row };
        Ok((there, rows.map(open).collect()))
    }

    /// All projects of the accounts of this device, and what could not be asked.
    fn listed(&self, relay: Option<&str>) -> Result<Lists, NodeError> {
        let wanted = relay.map(parse).transpose()?.map(|u| u.to_string());
        let accounts: Vec<Account> = self.accounts()?.into_iter().filter(|a| wanted.as_ref().is_none_or(|w| *w == a.relay)).collect();
        if accounts.is_empty() {
            return Err(NodeError::not_allowed("this device is logged in to no account", "`cairn relay login URL --user NAME`"));
        }
        self.online(|| {
            let (mut rows, mut sums, mut failed) = (Vec::new(), Vec::new(), Vec::new());
            for account in &accounts {
                match self.list_of(account) {
                    Ok((there, listed)) => {
                        let (relay, user) = (&account.relay, &account.user);
                        sums.push(json!({"relay": relay, "user": user, "bytes": there.bytes, "quota": there.quota_bytes, "devices": there.devices}));
                        rows.extend(listed);
                    }
                    Err(e) => failed.push(e),
                }
            }
            Ok((rows, sums, failed))
        })
    }

    /// `relay projects`: names, sizes, and when each was pushed to last.
    pub fn relay_projects(&self, relay: Option<&str>) -> Result<Reply, NodeError> {
        let (listed, accounts, mut failed) = self.listed(relay)?;
        if accounts.is_empty()
            && let Some(e) = failed.pop()
        {
            return Err(e);
        }
        let row = |l: &Listed| {
            let label = l.label.as_ref();
            let last = l.row.last_append.and_then(|s| Instant::from_unix_ms(s as i64 * 1000)).map(|i| i.to_rfc3339());
            let project = label.map(ProjectLabel::project);
            json!({
                "name": label.map(|l| &l.name), "project": project.map(|p| p.to_string()), "observations": label.and_then(|l| l.observations),
                "bytes": l.row.bytes, "chunks": l.row.chunks, "last_push": last, "relay": l.account.relay, "user": l.account.user,
                "pays": l.row.pays, "here": project.is_some_and(|p| self.has_project(&p)), "way_in": label.is_some_and(|l| l.ticket.is_some()),
            })
        };
        let rows: Vec<_> = listed.iter().map(row).collect();
        let code = if failed.is_empty() { 0 } else { 3 };
        let warnings = failed.iter().map(ToString::to_string).collect();
        Ok(Reply { data: json!({"projects": rows, "accounts": accounts}), warnings, code })
    }

    /// `relay forget`: takes a project off the account's list.
    pub fn relay_forget(&self, choice: &ProjectChoice) -> Result<Reply, NodeError> {
        let found = self.choose(choice)?;
        let (url, log): (RelayUrl, LogId) = (parse(&found.account.relay)?, found.row.log);
        self.online(|| self.relay(&url)?.unlabel(&found.account.token, log).map_err(from_relay))?;
        Ok(Reply {
            data: json!({"project": found.label.map(|l| l.project().to_string()), "relay": found.account.relay}),
            ..Reply::default()
        })
    }

    fn choose(&self, choice: &ProjectChoice) -> Result<Listed, NodeError> {
        let (listed, _, mut failed) = self.listed(choice.relay.as_deref())?;
        let typed = choice.project.as_str();
        let fits = |l: &ProjectLabel| l.name == typed || (typed.len() >= 4 && l.project().to_string().starts_with(typed));
        let mut found: Vec<Listed> = listed.into_iter().filter(|l| l.label.as_ref().is_some_and(fits)).collect();
        // The same project at several relays is one: the account used last comes first.
        let projects: std::collections::BTreeSet<_> = found.iter().filter_map(|l| l.label.as_ref().map(|l| l.project())).collect();
        match projects.len() {
            1 => Ok(found.remove(0)),
            0 => Err(failed.pop().unwrap_or_else(|| NodeError::NotFound {
                what: format!("project `{typed}` among those of your accounts (`cairn relay projects`)"),
            })),
            _ => Err(NodeError::Ambiguous { prefix: typed.to_owned() }),
        }
    }

    /// `clone`: a project of an account comes to this device. One that is here already is synced. Again after an interruption goes on
    /// where it stopped.
    pub fn clone_project(&self, choice: &ProjectChoice, seen: &(dyn Fn(&Progress) + Sync)) -> Result<Reply, NodeError> {
        let found = self.choose(choice)?;
        let label = found.label.ok_or_else(|| NodeError::NotFound { what: format!("project `{}`", choice.project) })?;
        let (relay, name) = (found.account.relay, label.name.clone());
        let here = self.has_project(&label.project());
        if !here {
            let remedy = "ask a coordinator for a ticket (`cairn invite`), then `cairn join TICKET`";
            let text = label.ticket.as_deref().ok_or_else(|| {
                NodeError::not_allowed(format!("`{name}`: the devices of this account may not let another one in"), remedy)
            })?;
            let ticket = Ticket::decode(text).map_err(|e| NodeError::input(e.to_string()))?;
            self.join_by_bearer(&ticket, choice.device_name.as_deref())?;
        }
        let mut reply = blocking(async {
            let node = Arc::new(Node::open(self, Some(&label.project().to_string()[..16]))?);
            let target = {
                let mut store = node.store();
                let known = store.remotes()?.into_iter().find(|(_, target)| *target == relay);
                match known {
                    Some((name, _)) => name,
                    None => {
                        let name = if store.remotes()?.iter().any(|(n, _)| n == "relay") { relay.clone() } else { "relay".to_owned() };
                        if name == "relay" {
                            store.set_remote(&name, Some(&relay))?;
                        }
                        name
                    }
                }
            };
            let sync = SyncRequest { targets: vec![target], ..SyncRequest::default() };
            let mut reply = crate::network::sync(&node, &sync, seen).await?;
            let store = node.store();
            reply.data["observations"] = json!(store.count()?);
            reply.data["device"] = json!(store.device().to_string());
            Ok(reply)
        })?;
        (reply.data["project"], reply.data["name"]) = (json!(label.project().to_string()), json!(name));
        reply.data["was_here"] = json!(here);
        if here {
            reply.warnings.insert(0, format!("`{name}` is on this device already: it was synced"));
        }
        Ok(reply)
    }
}
