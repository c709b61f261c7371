//! From arguments to requests.

use crate::args::{Args, BundleVerb, ConfigVerb, FilterArgs, PassphraseVerb, RemoteVerb, ServeArgs, Set, SyncArgs, Verb};
use crate::args_care::{BackupVerb, RestoreArgs, ShowArgs};
use crate::ui::Ui;
use crate::{care, config, demo, job, membership, relay, render, rows, service};
use cairn_node::{
    AddRequest, BundleRequest, Client, CreateBundle, EditRequest, Home, JoinRequest, KeyPlace, ListRequest, NewRequest, NodeError,
    ProjectChoice, RemoteRequest, Reply, Request, ServeOptions, Surroundings, SyncRequest, Variable, serve,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub fn home(args: &Args) -> Result<Home, NodeError> {
    let path = args.home.clone().or_else(|| std::env::home_dir().map(|h| h.join(".cairn")));
    let home = Home::at(path.ok_or_else(|| NodeError::Input { message: "no home directory: give --home DIR".into() })?)?;
    let home = if args.key_store == "auto" { home.with_key_store() } else { home };
    let home = home.with_network(relay::network());
    let variable: Variable = Arc::new(|name| std::env::var(name).ok());
    let zone = jiff::tz::TimeZone::system().iana_name().map(str::to_owned);
    let home = home.with_surroundings(Surroundings { variable: Some(variable), zone });
    let home = home.with_passphrase(args.passphrase_file.as_deref().map(first_line).transpose()?);
    Ok(home.used_by(&format!("cairn {}", verb_word(&args.verb))))
}

/// A passphrase from its file: the first line, as it is but for the line's end.
pub fn first_line(path: &Path) -> Result<Vec<u8>, NodeError> {
    let fault = |message: String| NodeError::File { path: path.display().to_string(), message };
    let text = std::fs::read(path).map_err(|e| fault(e.to_string()))?;
    let line = text.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() { Err(fault("its first line is empty: a passphrase is expected there".into())) } else { Ok(line.to_vec()) }
}

fn verb_word(verb: &Verb) -> String {
    // The derived name of a variant is the verb, in capitals.
    let name = format!("{verb:?}");
    name.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_lowercase()
}

/// The node may be another process: relative paths are of this one.
pub fn absolute(path: &Path) -> Result<String, NodeError> {
    let full = std::path::absolute(path).map_err(|e| NodeError::File { path: path.display().to_string(), message: e.to_string() })?;
    Ok(full.to_string_lossy().into_owned())
}

pub fn absolute_opt(path: &Option<PathBuf>) -> Result<Option<String>, NodeError> {
    path.as_deref().map(absolute).transpose()
}

/// Carries out one command. Where a new device's key went is said once.
pub fn run(args: &Args, ui: &Ui) -> Result<Reply, NodeError> {
    let makes = matches!(args.verb, Verb::New { .. } | Verb::Join { dry_run: false, .. } | Verb::Clone { .. });
    let fresh = makes && home(args)?.key_place().is_none();
    let mut reply = carry_out(args, ui)?;
    if fresh && args.key_store == "auto" && home(args)?.key_place() == Some(KeyPlace::File) {
        let file =
            "no key store is open on this machine: this device's key is in a file that only you can read (see `cairn passphrase --help`)";
        reply.warnings.push(file.into());
    }
    Ok(reply)
}

fn carry_out(args: &Args, ui: &Ui) -> Result<Reply, NodeError> {
    match &args.verb {
        Verb::New { name, config, device_name } => {
            let new = NewRequest { name: name.clone(), device_name: device_name.clone(), config: absolute_opt(config)? };
            home(args)?.create_project(&new)
        }
        Verb::Join { ticket, device_name, via, dry_run, timeout } => {
            let request = JoinRequest {
                ticket: ticket.clone(),
                device_name: device_name.clone(),
                via: self::via(via)?,
                dry_run: *dry_run,
                timeout_s: *timeout,
            };
            enter(&home(args)?, &request, args.json, ui)
        }
        Verb::Invite { .. } => membership::invite(args, &client(args)?, ui),
        Verb::Demo => demo::run(ui),
        Verb::Relay { what } => relay::relay(args, what, ui),
        Verb::Clone { project, relay, device_name } => {
            let choice = ProjectChoice { project: project.clone(), relay: relay.clone(), device_name: device_name.clone() };
            relay::clone(args, &choice, ui)
        }
        Verb::Passphrase { what: PassphraseVerb::Set { new } } => home(args)?.set_passphrase(Some(&first_line(new)?)),
        Verb::Passphrase { what: PassphraseVerb::Remove } => home(args)?.set_passphrase(None),
        Verb::Whoami if home(args)?.projects()?.is_empty() => {
            let device = home(args)?.keys()?.device().to_string();
            Ok(Reply { data: serde_json::json!({"device": device, "name": null, "projects": []}), ..Reply::default() })
        }
        Verb::Whoami if args.project.is_none() => {
            let home = home(args)?;
            let wait = Duration::from_secs(args.wait);
            home.whoami(|project| Client::new(home.clone(), Some(project.to_owned()), wait).ask(Request::Whoami, &|_, _, _| {}))
        }
        Verb::Config { what: ConfigVerb::Import { file, dry_run: false, new_lineage: true, yes } } => {
            config::new_lineage(&client(args)?, file, *yes, ui)
        }
        Verb::Backup { what: BackupVerb::List { at } } => home(args)?.list_backups(args.project.as_deref(), at.as_deref()),
        Verb::Backup { what: BackupVerb::Restore(restore) } => care::restore(&home(args)?, args, restore),
        Verb::Events => {
            client(args)?.events(&mut |event| ui.event(event))?;
            Ok(Reply { data: serde_json::json!({"event": "ended"}), ..Reply::default() })
        }
        Verb::Job { what } => job::job(args, what, ui),
        Verb::Serve(serve) if serve.install => service::install(args, serve),
        Verb::Serve(serve) => stay_on(&client(args)?, serve, ui),
        _ => client(args)?.ask(request(args)?, &|done, planned, bytes| ui.progress(done, planned, bytes)),
    }
}

/// Says first what is received; a code tells nothing before it is used.
fn enter(home: &Home, request: &JoinRequest, json: bool, ui: &Ui) -> Result<Reply, NodeError> {
    if !request.dry_run
        && !json
        && let Ok(told) = home.join_project(&JoinRequest { dry_run: true, ..request.clone() })
    {
        ui.say(&render::before_entering(&told.data));
    }
    home.join_project(request)
}

pub fn client(args: &Args) -> Result<Client, NodeError> {
    Ok(Client::new(home(args)?, args.project.clone(), Duration::from_secs(args.wait)))
}

/// Ends with Ctrl-C or SIGTERM.
pub fn until_told() -> Result<impl Future<Output = ()>, NodeError> {
    let fault = |e: std::io::Error| NodeError::Store { message: e.to_string() };
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(fault)?;
    Ok(async move {
        tokio::select! {
            // Without a handler for Ctrl-C the default ends the process, which the store survives.
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// What work under way may take at the end.
pub(crate) const LAST_WORK: Duration = Duration::from_secs(5);

fn stay_on(client: &Client, args: &ServeArgs, ui: &Ui) -> Result<Reply, NodeError> {
    let node = client.open()?;
    let fault = |e: std::io::Error| NodeError::Store { message: e.to_string() };
    let runtime = tokio::runtime::Runtime::new().map_err(fault)?;
    let done = runtime.block_on(async {
        let stop = until_told()?;
        let options = ServeOptions { listen: args.listen, discovery: !args.no_discovery, max_bytes: args.max_bytes };
        serve(node, options, |ready| ui.ready(&ready), |heard| ui.heard(heard), stop).await
    });
    // A visit that waits for a relay or a share that does not answer is not waited for: what it took is durable.
    runtime.shutdown_timeout(LAST_WORK);
    done?;
    Ok(Reply { data: serde_json::json!({"stopped": true}), ..Reply::default() })
}

fn set(set: &Set, category: &Option<String>) -> AddRequest {
    AddRequest {
        category: category.clone(),
        at: set.at.clone(),
        time: set.time.clone(),
        note: set.note.clone(),
        uncertainty: set.uncertainty,
        fields: set.fields.clone(),
    }
}

pub fn list(filter: &FilterArgs, limit: usize) -> ListRequest {
    ListRequest {
        category: filter.category.clone(),
        since: filter.since.clone(),
        until: filter.until.clone(),
        bbox: filter.bbox.clone(),
        fields: filter.fields.clone(),
        deleted: filter.deleted,
        sync: filter.sync.clone(),
        dataset: filter.dataset.clone(),
        limit,
    }
}

/// The folder this command runs in: where relative targets begin.
fn here() -> Result<String, NodeError> {
    absolute(Path::new("."))
}

fn sync(args: &SyncArgs) -> Result<SyncRequest, NodeError> {
    Ok(SyncRequest {
        targets: args.targets.clone(),
        folder: Some(here()?),
        dry_run: args.dry_run,
        pull: args.pull,
        push: args.push,
        only: args.only.clone(),
        timeout_s: args.timeout,
        all: args.all,
        max_bytes: args.max_bytes,
        metered: false,
    })
}

fn remote(what: Option<&RemoteVerb>) -> Result<RemoteRequest, NodeError> {
    Ok(match what {
        None => RemoteRequest::List,
        Some(RemoteVerb::Add { name, target, pull, push, at, every }) => RemoteRequest::Add {
            name: name.clone(),
            target: target.clone(),
            folder: Some(here()?),
            pull: *pull,
            push: *push,
            at: at.clone(),
            every: every.clone(),
        },
        Some(RemoteVerb::Rm { name }) => RemoteRequest::Remove { name: name.clone() },
        Some(RemoteVerb::Seen { name }) => RemoteRequest::Seen { name: name.clone() },
    })
}

fn bundle(what: &BundleVerb) -> Result<BundleRequest, NodeError> {
    Ok(match what {
        BundleVerb::Create { file, device, since, split, only } => BundleRequest::Create(CreateBundle {
            file: absolute(file)?,
            device: device.clone(),
            since: match since {
                Some(earlier) if earlier.ends_with(".cairn") => Some(absolute(Path::new(earlier))?),
                other => other.clone(),
            },
            split: *split,
            only: only.clone(),
        }),
        BundleVerb::Inspect { file } => BundleRequest::Inspect { file: absolute(file)? },
        BundleVerb::Verify { file } => BundleRequest::Verify { file: absolute(file)? },
    })
}

/// A place to enter through that is a file or a folder, in full.
fn via(typed: &Option<String>) -> Result<Option<String>, NodeError> {
    match typed {
        Some(path) if path.ends_with(".cairn") || path.contains('/') || Path::new(path).is_dir() => absolute(Path::new(path)).map(Some),
        other => Ok(other.clone()),
    }
}

fn request(args: &Args) -> Result<Request, NodeError> {
    Ok(match &args.verb {
        Verb::Devices { what } => Request::Devices(membership::device_request(what.as_ref())?),
        Verb::Policy { what } => Request::Policy(membership::policy_request(what.as_ref())),
        Verb::Add { category, set: s } => Request::Add(set(s, category)),
        Verb::Edit { id, category, unset, set: s } => {
            Request::Edit(EditRequest { id: id.clone(), set: set(s, category), unset: unset.clone() })
        }
        Verb::Rm { ids } => Request::Remove { ids: ids.clone(), deleted: true },
        Verb::Restore(RestoreArgs { from: Some(sync), .. }) => Request::RestoreFrom { sync: sync.clone() },
        Verb::Restore(RestoreArgs { ids, from: None }) => Request::Remove { ids: ids.clone(), deleted: false },
        Verb::Show(ShowArgs { id, version, at }) => Request::Show { id: id.clone(), version: version.clone(), at: at.clone() },
        Verb::List { filter, limit } => Request::List(list(filter, *limit)),
        Verb::Log(_)
        | Verb::Diff(_)
        | Verb::Undo(_)
        | Verb::Redo { .. }
        | Verb::Revert(_)
        | Verb::Conflicts(_)
        | Verb::Purge(_)
        | Verb::Doctor(_)
        | Verb::Backup { .. }
        | Verb::Status(_) => care::request(&args.verb)?,
        Verb::Config { what } => Request::Config(config::request(what)?),
        Verb::Import(import) => Request::Import(rows::import(import)?),
        Verb::Export(export) => Request::Export(rows::export(export)?),
        Verb::Datasets => Request::Datasets,
        Verb::Sync(args) => Request::Sync(sync(args)?),
        Verb::Remote { what } => Request::Remote(remote(what.as_ref())?),
        Verb::Bundle { what } => Request::Bundle(bundle(what)?),
        Verb::Peers { near } => Request::Peers { near: *near },
        Verb::Check { repair: true } => Request::Repair,
        Verb::Check { .. } => Request::Check,
        Verb::Whoami
        | Verb::New { .. }
        | Verb::Join { .. }
        | Verb::Invite { .. }
        | Verb::Passphrase { .. }
        | Verb::Serve(_)
        | Verb::Events
        | Verb::Relay { .. }
        | Verb::Clone { .. }
        | Verb::Job { .. }
        | Verb::Demo => Request::Whoami,
    })
}
