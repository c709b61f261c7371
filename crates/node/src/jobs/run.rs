//! A run of a job: its input, what is done with it, what follows, and what is written down.

use super::file::{BackupStep, Job, Step};
use super::secret::secret;
use super::{Schedule, Told, input, soda, time};
use crate::request::{BackupRequest, Reply, SyncRequest};
use crate::{Node, NodeError, now_ms};
use cairn_store::InstalledJob;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// The zone a job's schedule is in.
pub(crate) fn zone(node: &Node, job: &Job) -> Option<String> {
    job.zone.clone().or_else(|| node.surroundings.zone.clone())
}

/// When an installed job is due next; in the past if it was missed. `None` without a schedule.
pub(crate) fn due(node: &Node, job: &Job, installed: &InstalledJob) -> Result<Option<i64>, NodeError> {
    let Some(text) = &job.schedule else { return Ok(None) };
    let due = super::schedule::due(text, zone(node, job).as_deref(), installed.since_ms, installed.began_ms, now_ms());
    due.map(Some).map_err(NodeError::input)
}

/// One run of a job at a time: a second one would read what the first one writes.
struct Alone<'a> {
    node: &'a Node,
    name: String,
}

impl<'a> Alone<'a> {
    fn take(node: &'a Node, name: &str) -> Result<Self, NodeError> {
        let mut running = node.running_jobs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !running.insert(name.to_owned()) {
            return Err(NodeError::refused(
                format!("job `{name}` is running already"),
                "wait for it: `cairn job log` shows when it has ended",
            ));
        }
        Ok(Self { node, name: name.to_owned() })
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.node.running_jobs.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&self.name);
    }
}

/// What an error is for a scheduler.
fn told_error(e: &NodeError) -> Value {
    json!({"message": e.to_string(), "error": e})
}

/// Runs a job and writes down what came of it.
pub(crate) async fn run(node: &Arc<Node>, job: &Job, path: &Path, dry_run: bool, told: Told<'_>) -> Result<Reply, NodeError> {
    let began = now_ms();
    let _alone = Alone::take(node, &job.name)?;
    let mut reply = match attempt(node, job, path, dry_run, told).await {
        Ok(reply) => reply,
        Err(e) if dry_run => return Err(e),
        Err(e) => {
            let data =
                json!({"job": job.name, "began": time(began), "ended": time(now_ms()), "state": "failed", "problem": told_error(&e)});
            node.store().note_run(&job.name, began, &data.to_string())?;
            return Err(e);
        }
    };
    let state = match reply.code {
        0 | 9 => "done",
        3 => "partly",
        _ => "failed",
    };
    reply.data["began"] = time(began);
    reply.data["ended"] = time(now_ms());
    reply.data["state"] = json!(state);
    if !dry_run {
        node.store().note_run(&job.name, began, &reply.data.to_string())?;
    }
    Ok(reply)
}

async fn attempt(node: &Arc<Node>, job: &Job, path: &Path, dry_run: bool, told: Told<'_>) -> Result<Reply, NodeError> {
    let mut reply = Reply::new(json!({"job": job.name, "dry_run": dry_run, "steps": []}));
    if let Some(wanted) = &job.input {
        let input = input::input(node, job, wanted, path).await?;
        let request = job.import(&input.path, path, dry_run);
        let imported = tokio::task::block_in_place(|| node.handle_telling(crate::Request::Import(request), told))?;
        reply.data["input"] = json!(input.called);
        reply.data["import"] = imported.data;
        reply.code = imported.code;
        reply.warnings = imported.warnings;
    }
    if dry_run {
        return Ok(reply);
    }
    let mut steps = Vec::new();
    for step in &job.then {
        let (what, done) = follow(node, job, step, path, told).await;
        // One step that fails does not keep the others from being tried: each is told.
        match done {
            Ok(done) => {
                reply.code = worse(reply.code, done.code);
                reply.warnings.extend(done.warnings);
                steps.push(json!({"step": what, "code": done.code, "data": done.data}));
            }
            Err(e) => {
                reply.code = worse(reply.code, 1);
                reply.warnings.push(format!("{what}: {e}"));
                steps.push(json!({"step": what, "code": 1, "problem": told_error(&e)}));
            }
        }
    }
    reply.data["steps"] = json!(steps);
    Ok(reply)
}

/// One thing that follows, with its word.
async fn follow(node: &Arc<Node>, job: &Job, step: &Step, path: &Path, told: Told<'_>) -> (&'static str, Result<Reply, NodeError>) {
    let here = |request| tokio::task::block_in_place(|| node.handle_telling(request, told));
    match step {
        Step::Sync(targets) => {
            let folder = path.parent().map(|p| p.display().to_string());
            // A service's limit for the day holds for its jobs, too.
            let request = SyncRequest { targets: targets.clone(), folder, metered: true, ..SyncRequest::default() };
            ("sync", crate::network::sync(node, &request, &|_| {}).await)
        }
        Step::Export(export) => ("export", here(crate::Request::Export(export.request(path)))),
        Step::Soda(step) => ("soda", soda::publish(node, job, step, path).await),
        Step::Backup(backup) => ("backup", backup_request(node, backup, path).and_then(|request| here(crate::Request::Backup(request)))),
    }
}

fn backup_request(node: &Node, step: &BackupStep, path: &Path) -> Result<BackupRequest, NodeError> {
    let passphrase = step.passphrase.as_deref().map(|place| secret(node, place, path)).transpose()?;
    Ok(BackupRequest { to: Some(super::file::resolve(&step.to, path).display().to_string()), passphrase, keep: step.keep })
}

/// Failed is worse than partly, which is worse than done.
fn worse(a: u8, b: u8) -> u8 {
    let rank = |code: u8| match code {
        0 | 9 => 0,
        3 => 1,
        _ => 2,
    };
    if rank(b) > rank(a) { b } else { a }
}

/// What a run would do, and what is wrong with the job.
pub(crate) fn check(node: &Arc<Node>, path: &Path, told: Told<'_>) -> Result<Reply, NodeError> {
    let job = Job::read(path)?;
    let mut findings: Vec<Value> = Vec::new();
    let mut data = json!({"job": job.name});
    if let Some(schedule) = job.schedule.as_deref().map(Schedule::parse).transpose().map_err(NodeError::input)? {
        data["next"] = time(schedule.next_after(now_ms(), zone(node, &job).as_deref()).map_err(NodeError::input)?);
    }
    let mut warnings = Vec::new();
    match &job.input {
        Some(wanted) if !wanted.contains("://") => match input::look(&job, wanted, path) {
            Ok(file) => {
                let request = job.import(&file, path, true);
                data["input"] = json!(file.display().to_string());
                match node.handle_telling(crate::Request::Import(request), told) {
                    Ok(done) => {
                        if done.code != 0 {
                            findings.push(json!({"place": wanted, "what": format!("{} rows would be left out", done.data["rejected"])}));
                        }
                        if let Some(stop) = done.data["would_stop"].as_str() {
                            findings.push(json!({"place": wanted, "what": stop}));
                        }
                        data["import"] = done.data;
                        warnings = done.warnings;
                    }
                    Err(e) => findings.push(json!({"place": wanted, "what": e.to_string()})),
                }
            }
            Err(e) => findings.push(json!({"place": wanted, "what": e.to_string()})),
        },
        _ => {}
    }
    for step in &job.then {
        match step {
            Step::Export(export) => {
                let file = super::file::resolve(&export.file, path);
                if let Err(e) = cairn_formats::write_format(&file, export.format.as_deref()) {
                    findings.push(json!({"place": "export", "what": e.to_string()}));
                }
                if !file.parent().is_some_and(Path::is_dir) {
                    findings.push(json!({"place": "export", "what": format!("there is no folder for {}", file.display())}));
                }
            }
            Step::Soda(step) => {
                if let Err(e) = soda::secrets(node, step, path) {
                    findings.push(json!({"place": "soda", "what": e.to_string()}));
                }
            }
            Step::Backup(step) => {
                let to = super::file::resolve(&step.to, path);
                let is_file = step.keep.is_none() && to.extension().is_some() && to.parent().is_some_and(Path::is_dir);
                if !to.is_dir() && !is_file {
                    findings.push(json!({"place": "backup", "what": format!("there is no folder {}", to.display())}));
                }
                if let Err(e) = backup_request(node, step, path) {
                    findings.push(json!({"place": "backup", "what": e.to_string()}));
                }
            }
            Step::Sync(_) => {}
        }
    }
    data["findings"] = json!(findings);
    Ok(Reply { code: if findings.is_empty() { 0 } else { 7 }, data, warnings })
}
