//! Saved jobs: a file that says where rows come from, what is done with them, when, and what follows.

mod file;
mod input;
mod new;
mod run;
pub(crate) mod schedule;
mod secret;
mod soda;
mod watch;

pub use file::{BackupStep, ExportStep, Job, SodaStep, Step};
pub use schedule::Schedule;
pub(crate) use watch::watch_jobs;

use crate::request::{JobRequest, Reply};
use crate::{Node, NodeError};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Looks up a name in the environment.
pub type Variable = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What jobs need of the machine, handed in by the program that embeds this.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// Looks up a name in the environment.
    pub variable: Option<Variable>,
    /// IANA name of the local time zone; UTC if absent.
    pub zone: Option<String>,
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").field("zone", &self.zone).finish_non_exhaustive()
    }
}

/// (done, planned, rows)
type Told<'a> = &'a (dyn Fn(u64, u64, u64) + Sync);

/// Answers a request about jobs. A run blocks its thread where it imports and exports.
pub(crate) async fn job(node: &Arc<Node>, request: &JobRequest, told: Told<'_>) -> Result<Reply, NodeError> {
    match request {
        JobRequest::Run { file, dry_run } => {
            let path = Path::new(file);
            let job = Job::read(path)?;
            run::run(node, &job, path, *dry_run, told).await
        }
        JobRequest::Check { file } => run::check(node, Path::new(file), told),
        JobRequest::Preview { file, read } => new::preview(Path::new(file), read.as_ref()),
        JobRequest::Write { file, job } => new::write(Path::new(file), job),
        JobRequest::Install { file } => install(node, Path::new(file)),
        JobRequest::Remove { name } => {
            if !node.store().forget_job(name)? {
                return Err(NodeError::NotFound { what: format!("job `{name}`") });
            }
            node.jobs_changed.notify_one();
            Ok(Reply::new(json!({"removed": name})))
        }
        JobRequest::List => list(node),
        JobRequest::Log { name, limit } => log(node, name.as_deref(), *limit),
        JobRequest::Secret { name, secret } => {
            if !crate::keystore::keep_text(name, secret) {
                return Err(NodeError::KeyStore { gone: false });
            }
            Ok(Reply::new(json!({"secret": name})))
        }
    }
}

fn install(node: &Arc<Node>, path: &Path) -> Result<Reply, NodeError> {
    let job = Job::read(path)?;
    let zone = run::zone(node, &job);
    let Some(text) = &job.schedule else {
        return Err(NodeError::refused(
            format!("{}: it has no schedule", path.display()),
            "add one, as `schedule = \"daily 02:30\"`, or use a timer of the system: `--systemd`, `--cron`",
        ));
    };
    let schedule = Schedule::parse(text).map_err(|e| NodeError::file(path, e))?;
    let now = crate::now_ms();
    let next = schedule.next_after(now, zone.as_deref()).map_err(|e| NodeError::file(path, e))?;
    let file = path.display().to_string();
    let known = node.store().jobs()?;
    if let Some(other) = known.iter().find(|j| j.name == job.name && j.file != file) {
        return Err(NodeError::refused(
            format!("job `{}` is installed from {}", job.name, other.file),
            "give this one another `name`, or remove that one: `cairn job remove`",
        ));
    }
    node.store().keep_job(&job.name, &file, now)?;
    node.jobs_changed.notify_one();
    let mut reply = Reply::new(json!({"job": job.name, "file": path.display().to_string(), "schedule": text, "next": time(next)}));
    reply.warnings.push("it runs while `cairn serve` runs on this device; what was missed runs once when it starts again".into());
    Ok(reply)
}

fn time(ms: i64) -> Value {
    json!(cairn_model::Instant::from_unix_ms(ms).map(|i| i.to_rfc3339()))
}

/// Installed jobs, with what their files say now.
fn list(node: &Arc<Node>) -> Result<Reply, NodeError> {
    let mut rows = Vec::new();
    let jobs = node.store().jobs()?;
    for installed in jobs {
        let (name, file) = (&installed.name, &installed.file);
        let path = PathBuf::from(file);
        let last = node.store().runs(Some(name), 1)?.into_iter().next();
        let ran: Option<Value> = last.as_deref().and_then(|t| serde_json::from_str(t).ok());
        let read = Job::read(&path);
        let next = read.as_ref().ok().and_then(|job| run::due(node, job, &installed).ok().flatten());
        rows.push(json!({
            "name": name, "file": file, "schedule": read.as_ref().ok().and_then(|j| j.schedule.clone()),
            "next": next.map(time), "last": ran.as_ref().map(|r| r["ended"].clone()), "state": ran.as_ref().map(|r| r["state"].clone()),
            "problem": read.err().map(|e| e.to_string()),
        }));
    }
    Ok(Reply::new(json!({"jobs": rows})))
}

fn log(node: &Arc<Node>, name: Option<&str>, limit: usize) -> Result<Reply, NodeError> {
    let runs: Vec<Value> = node.store().runs(name, limit)?.iter().filter_map(|t| serde_json::from_str(t).ok()).collect();
    Ok(Reply::new(json!({"runs": runs})))
}
