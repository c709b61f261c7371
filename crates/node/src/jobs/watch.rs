//! Installed jobs, run when they are due while the service runs.

use super::file::Job;
use super::run;
use crate::home::Heard;
use crate::{Node, now_ms};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How often files of jobs are looked at again: somebody may have changed a schedule.
const LOOK: Duration = Duration::from_secs(60);

/// Never ends. What was missed while nothing ran is due at once, and once.
pub(crate) async fn watch_jobs(node: &Arc<Node>) {
    loop {
        let mut wait = LOOK;
        let jobs = node.store().jobs().unwrap_or_default();
        for (name, file, installed) in jobs {
            let path = PathBuf::from(&file);
            // A file that cannot be read now is shown by `job list`, and may be back at the next look.
            let Ok(job) = Job::read(&path) else { continue };
            let job = Job { name, ..job };
            let Ok(Some(due)) = run::due(node, &job, installed) else { continue };
            let left = due - now_ms();
            if left > 0 {
                wait = wait.min(Duration::from_millis(left as u64));
                continue;
            }
            // A task of its own: an import blocks its thread, and links and requests go on meanwhile.
            let (of, doing) = (node.clone(), job.clone());
            let task = tokio::spawn(async move { run::run(&of, &doing, &path, false, &|_, _, _| {}).await });
            let done = task.await.unwrap_or_else(|e| Err(crate::NodeError::Store { message: e.to_string() }));
            let (state, message) = match &done {
                Ok(reply) => (reply.data["state"].as_str().unwrap_or("done").to_owned(), reply.warnings.join("; ")),
                Err(e) => ("failed".to_owned(), e.to_string()),
            };
            // Nobody may be listening: the log of runs has it.
            node.heard.send(Heard::Job { name: job.name, state, message }).ok();
            wait = Duration::ZERO;
        }
        tokio::select! {
            () = tokio::time::sleep(wait.max(Duration::from_millis(200))) => {}
            () = node.jobs_changed.notified() => {}
        }
    }
}
