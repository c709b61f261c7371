//! Jobs that the service runs, and what came of their runs. Of this device alone: nothing of it travels.

use crate::tables::{from_bytes, to_bytes};
use crate::{Store, StoreError};
use redb::ReadableTable;
use serde::{Deserialize, Serialize};

/// Runs remembered, of all jobs together.
const RUNS_KEPT: u64 = 10_000;

#[derive(Serialize, Deserialize)]
struct JobRow {
    file: String,
    since_ms: i64,
    /// When it began last.
    began_ms: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct RunRow {
    job: String,
    began_ms: i64,
    told: String,
}

/// A job that the service runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledJob {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: String,
    /// Since when it is installed, milliseconds.
    pub since_ms: i64,
    /// When it began last.
    pub began_ms: Option<i64>,
}

impl Store {
    /// Remembers a job's file, from now on.
    pub fn keep_job(&mut self, name: &str, file: &str, now_ms: i64) -> Result<(), StoreError> {
        let row = JobRow { file: file.to_owned(), since_ms: now_ms, began_ms: None };
        self.write(|t, _, _| {
            t.jobs.insert(name, &to_bytes(&row)[..])?;
            Ok(())
        })
    }

    /// Forgets it; its runs stay in the log. `false` if it was not there.
    pub fn forget_job(&mut self, name: &str) -> Result<bool, StoreError> {
        self.write(|t, _, _| Ok(t.jobs.remove(name)?.is_some()))
    }

    /// Name, file, since when, and when it began last (milliseconds).
    pub fn jobs(&self) -> Result<Vec<InstalledJob>, StoreError> {
        let mut out = Vec::new();
        for row in self.view()?.jobs.iter()? {
            let (name, bytes) = row?;
            let row: JobRow = from_bytes(bytes.value(), "job")?;
            out.push(InstalledJob { name: name.value().to_owned(), file: row.file, since_ms: row.since_ms, began_ms: row.began_ms });
        }
        Ok(out)
    }

    /// Writes down what a run did.
    pub fn note_run(&mut self, job: &str, began_ms: i64, told: &str) -> Result<(), StoreError> {
        let row = RunRow { job: job.to_owned(), began_ms, told: told.to_owned() };
        self.write(|t, _, _| {
            let next = t.runs.last()?.map_or(0, |(n, _)| n.value() + 1);
            t.runs.insert(next, &to_bytes(&row)[..])?;
            let installed = t.jobs.get(job)?.map(|b| from_bytes::<JobRow>(b.value(), "job")).transpose()?;
            if let Some(installed) = installed {
                t.jobs.insert(job, &to_bytes(&JobRow { began_ms: Some(began_ms), ..installed })[..])?;
            }
            if next >= RUNS_KEPT {
                t.runs.remove(next - RUNS_KEPT)?;
            }
            Ok(())
        })
    }

    /// What runs did, newest first; 0 is no limit.
    pub fn runs(&self, job: Option<&str>, limit: usize) -> Result<Vec<String>, StoreError> {
        let mut out = Vec::new();
        for row in self.view()?.runs.iter()?.rev() {
            let row: RunRow = from_bytes(row?.1.value(), "run")?;
            if job.is_none_or(|j| j == row.job) {
                out.push(row.told);
            }
            if limit > 0 && out.len() == limit {
                break;
            }
        }
        Ok(out)
    }
}
