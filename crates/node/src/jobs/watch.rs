//! Installed jobs, run when they are due while the service runs.

use super::file::Job;
use super::run;
use crate::heard::Heard;
use crate::{Node, now_ms};
use cairn_store::InstalledJob;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How often files of jobs are looked at again: somebody may have changed a schedule.
const LOOK: Duration = Duration::from_secs(60);
/// The shortest pause between two looks.
const BREATH: Duration = Duration::from_millis(200);

/// Never ends. What was missed while nothing ran is due at once, and once. Each job has a task of its own: one that waits for
/// its input holds up nobody.
pub(crate) async fn watch_jobs(node: &Arc<Node>) {
    // A run that could not be written down (the disk is full) must not begin again at once.
    let mut tried: BTreeMap<String, i64> = BTreeMap::new();
    loop {
        let mut wait = LOOK;
        let jobs = node.store().jobs();
        // What cannot be read now is looked at again.
        let none = jobs.as_ref().is_ok_and(Vec::is_empty);
        for installed in jobs.unwrap_or_default() {
            if let Some(left) = begin_if_due(node, installed, &mut tried) {
                wait = wait.min(left);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(wait.max(BREATH)), if !none => {}
            () = node.jobs_changed.notified() => {}
        }
    }
}

/// Time until it is due; zero once it has begun.
fn begin_if_due(node: &Arc<Node>, mut installed: InstalledJob, tried: &mut BTreeMap<String, i64>) -> Option<Duration> {
    let path = PathBuf::from(&installed.file);
    // A file that cannot be read now is shown by `job list`, and may be back at the next look.
    let job = Job { name: installed.name.clone(), ..Job::read(&path).ok()? };
    installed.began_ms = installed.began_ms.max(tried.get(&job.name).copied());
    let left = run::due(node, &job, &installed).ok()?? - now_ms();
    if left > 0 {
        return Some(Duration::from_millis(left as u64));
    }
    let busy = node.running_jobs.lock().unwrap_or_else(std::sync::PoisonError::into_inner).contains(&job.name);
    if busy {
        return None;
    }
    tried.insert(job.name.clone(), now_ms());
    let node = node.clone();
    tokio::spawn(async move {
        let done = run::run(&node, &job, &path, false, &|_, _, _| {}).await;
        let (state, message) = match &done {
            Ok(reply) => (reply.data["state"].as_str().unwrap_or("done").to_owned(), reply.warnings.join("; ")),
            Err(e) => ("failed".to_owned(), e.to_string()),
        };
        // Nobody may be listening: the log of runs has it.
        node.heard.send(Heard::Job { name: job.name, state, message }).ok();
        node.jobs_changed.notify_one();
    });
    Some(Duration::ZERO)
}
