//! What stands in a job's file.

use super::Schedule;
use crate::NodeError;
use crate::request::{ExportRequest, ImportRequest, ListRequest};
use cairn_formats::{ReadOptions, WriteOptions};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of a job's file.
const FILE_BYTES: u64 = 1 << 20;

/// A job. What is absent is as on the command line of `import`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Job {
    /// What it is called in lists and logs; the file's name if absent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// A path, a pattern (`boxes-*.csv`, the newest counts), or an https address. Without one only `then` is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The table the rows belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// Columns that identify a row.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// `append`, `upsert`, `replace`, `delete`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mode: String,
    /// Category for new rows without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// More deletions than this stop it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_delete: Option<u64>,
    /// One refused row stops it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,
    /// Replacing by nothing is meant.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_empty: bool,
    /// Where refused rows go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejects: Option<String>,
    /// When `serve` runs it: `hourly`, `every 15m`, `daily 02:30`, `weekly mon 02:30`, `monthly 1 02:30`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// Time zone of the schedule; the machine's if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// How often an input that is absent or still being written is tried again; 5 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Pause between tries, as `30s`, `5m`; a minute if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<String>,
    /// How long the size of the input must stay as it is, as `2s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settle: Option<String>,
    /// Column -> field.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub map: BTreeMap<String, String>,
    /// How the file is read.
    #[serde(skip_serializing_if = "is_default")]
    pub read: ReadOptions,
    /// What follows, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub then: Vec<Step>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// One thing that follows an import.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Exchange with these targets; none is the local network and all remotes.
    Sync(Vec<String>),
    /// Rows out to a file.
    Export(ExportStep),
    /// Rows out to a SODA endpoint (Socrata).
    Soda(SodaStep),
    /// A sealed backup.
    Backup(BackupStep),
}

/// A sealed backup of the whole project.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackupStep {
    /// A file, or a folder in which old ones are thinned; a relative path begins at the job's file.
    pub to: String,
    /// Keep so many of this device in the folder; 5 if absent.
    pub keep: Option<u32>,
    /// Where a passphrase is that opens it too: `env:NAME`, `file:PATH`, `keystore:NAME`.
    pub passphrase: Option<String>,
}

/// Rows out to a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExportStep {
    /// Where to; a relative path begins at the job's file.
    pub file: String,
    /// Format, where the ending does not tell.
    pub format: Option<String>,
    /// CSV: a byte order mark.
    pub bom: bool,
    /// CSV: texts that begin like a formula as they are.
    pub raw: bool,
    /// Positions less exact.
    pub round: Option<String>,
    /// Category id.
    pub category: Option<String>,
    /// Only rows of this data set.
    pub dataset: Option<String>,
    /// Not before.
    pub since: Option<String>,
    /// Not after.
    pub until: Option<String>,
    /// `W,S,E,N`.
    pub bbox: Option<String>,
}

/// Rows out to a SODA endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SodaStep {
    /// As `data.example.org`.
    pub domain: String,
    /// The data set there, as `abcd-1234`.
    pub id: String,
    /// `upsert`, `append`, `replace`, `delete`.
    pub method: String,
    /// Who publishes.
    pub user: Option<String>,
    /// Where the password is: `env:NAME`, `file:PATH` (mode 0600), `keystore:NAME`.
    pub password: Option<String>,
    /// Where an access token is, instead of user and password.
    pub token: Option<String>,
    /// Where the application token is.
    pub app_token: Option<String>,
    /// Our field -> column there; if absent all fields, under names made for that service.
    pub columns: BTreeMap<String, String>,
    /// The column that identifies a row there.
    pub key: Option<String>,
    /// Rows of one request; 1000 if absent.
    pub batch: Option<usize>,
    /// Category id.
    pub category: Option<String>,
    /// Only rows of this data set.
    pub dataset: Option<String>,
    /// Positions less exact.
    pub round: Option<String>,
}

impl Job {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// What is wrong in it, with its line.
    pub fn read(path: &Path) -> Result<Self, NodeError> {
        use std::io::Read;
        let fault = |e: &dyn std::fmt::Display| NodeError::file(path, e);
        let mut text = String::new();
        std::fs::File::open(path).map_err(|e| fault(&e))?.take(FILE_BYTES).read_to_string(&mut text).map_err(|e| fault(&e))?;
        let mut job: Job = toml::from_str(&text).map_err(|e| {
            // Without the line itself: somebody may have written a secret into it.
            let line = e.span().map_or(1, |s| 1 + text[..s.start.min(text.len())].matches('\n').count());
            fault(&format!("line {line}: {}", e.message()))
        })?;
        if job.name.is_empty() {
            job.name = path.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        }
        job.check().map_err(|e| fault(&e))?;
        Ok(job)
    }

    fn check(&self) -> Result<(), String> {
        if self.input.is_none() && self.then.is_empty() {
            return Err("it does nothing: `input` or `[[then]]` is needed".into());
        }
        if let Some(schedule) = &self.schedule {
            Schedule::parse(schedule)?;
        }
        if let Some(zone) = &self.zone {
            cairn_formats::zone(zone).map_err(|e| e.to_string())?;
        }
        for text in [&self.retry_after, &self.settle].into_iter().flatten() {
            super::schedule::duration(text)?;
        }
        for step in &self.then {
            match step {
                Step::Soda(soda) => soda.check()?,
                Step::Backup(backup) => backup.check()?,
                Step::Sync(_) | Step::Export(_) => {}
            }
        }
        Ok(())
    }

    /// Files that a run of it writes.
    pub(crate) fn writes(&self, beside: &Path) -> Vec<PathBuf> {
        let exports = self.then.iter().filter_map(|s| if let Step::Export(e) = s { Some(&e.file) } else { None });
        self.rejects.iter().chain(exports).map(|f| resolve(f, beside)).collect()
    }

    pub(crate) fn pause(&self) -> Duration {
        let told = self.retry_after.as_deref().and_then(|t| super::schedule::duration(t).ok());
        told.unwrap_or(Duration::from_secs(60))
    }

    pub(crate) fn settling(&self) -> Duration {
        let told = self.settle.as_deref().and_then(|t| super::schedule::duration(t).ok());
        told.unwrap_or(Duration::from_secs(2))
    }

    /// What is imported of `file`.
    pub(crate) fn import(&self, file: &Path, beside: &Path, dry_run: bool) -> ImportRequest {
        let mut read = self.read.clone();
        read.key.extend(self.key.iter().cloned());
        read.map.extend(self.map.iter().map(|(k, v)| (k.clone(), v.clone())));
        ImportRequest {
            file: file.display().to_string(),
            mode: self.mode.clone(),
            dataset: self.dataset.clone(),
            category: self.category.clone(),
            read,
            dry_run,
            strict: self.strict,
            max_delete: self.max_delete,
            allow_empty: self.allow_empty,
            change_key: false,
            rejects: self.rejects.as_ref().filter(|_| !dry_run).map(|r| resolve(r, beside).display().to_string()),
        }
    }
}

/// A path as the job means it: relative ones begin at its file.
pub(crate) fn resolve(path: &str, job: &Path) -> PathBuf {
    job.parent().unwrap_or(Path::new("/")).join(path)
}

impl ExportStep {
    pub(crate) fn request(&self, job: &Path) -> ExportRequest {
        ExportRequest {
            file: resolve(&self.file, job).display().to_string(),
            write: WriteOptions { format: self.format.clone(), bom: self.bom, raw: self.raw, delimiter: None },
            round: self.round.clone(),
            as_of: None,
            pairs: false,
            filter: ListRequest {
                category: self.category.clone(),
                dataset: self.dataset.clone(),
                since: self.since.clone(),
                until: self.until.clone(),
                bbox: self.bbox.clone(),
                ..ListRequest::default()
            },
        }
    }
}

impl SodaStep {
    fn check(&self) -> Result<(), String> {
        let id = self.id.len() == 9 && self.id.as_bytes()[4] == b'-' && self.id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !id {
            return Err(format!("`{}` is no data set of SODA: as abcd-1234", self.id));
        }
        if self.domain.contains('@') {
            return Err("a secret does not belong into a job's file: write `user` and where the password is".into());
        }
        if !matches!(self.method.as_str(), "upsert" | "append" | "replace" | "delete") {
            return Err(format!("`{}` is no method: upsert, append, replace, delete", self.method));
        }
        [&self.password, &self.token, &self.app_token].into_iter().flatten().try_for_each(|place| is_place(place))
    }
}

/// A secret itself does not lie in a job's file.
fn is_place(place: &str) -> Result<(), String> {
    match ["env:", "file:", "keystore:"].iter().any(|p| place.starts_with(p)) {
        true => Ok(()),
        false => Err("a secret does not belong into a job's file: write where it is, as `env:NAME`, `file:PATH` or `keystore:NAME`".into()),
    }
}

impl BackupStep {
    fn check(&self) -> Result<(), String> {
        if self.to.is_empty() {
            return Err("a backup needs `to`: a file or a folder".into());
        }
        if self.keep == Some(0) {
            return Err("`keep = 0` would keep nothing: at least 1".into());
        }
        self.passphrase.as_deref().map_or(Ok(()), is_place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Job, NodeError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("boxes.toml");
        std::fs::write(&path, text).unwrap();
        Job::read(&path)
    }

    #[test]
    fn a_job_says_it_all_in_one_file() {
        let job = read(
            "input = \"boxes-*.csv\"\ndataset = \"boxes\"\nkey = [\"Box No\"]\nmode = \"upsert\"\nschedule = \"daily 02:30\"\n\
             [map]\n\"Common name\" = \"species\"\n[read]\ntz = \"America/Lima\"\ndates = [\"dd.MM.yyyy\"]\n\
             [[then]]\nexport = { file = \"out.csv\", dataset = \"boxes\" }\n[[then]]\nsync = [\"lab\"]\n",
        )
        .unwrap();
        assert_eq!((job.name.as_str(), job.then.len()), ("boxes", 2));
        let request = job.import(Path::new("/x.csv"), Path::new("/jobs/boxes.toml"), false);
        assert_eq!((request.read.key.as_slice(), request.read.map["Common name"].as_str()), (&["Box No".to_owned()][..], "species"));
        assert!(toml::from_str::<Job>(&toml::to_string(&job).unwrap()).unwrap() == job);
    }

    #[test]
    fn what_is_wrong_in_it_is_told() {
        for (text, part) in [
            ("mode = \"upsert\"\n", "does nothing"),
            ("input = \"a\"\nshedule = \"x\"\n", "shedule"),
            ("input = \"a\"\nschedule = \"yearly\"\n", "yearly"),
            ("[[then]]\nsoda = { domain = \"x\", id = \"abcd-1234\", method = \"upsert\", password = \"hunter2\" }\n", "does not belong"),
        ] {
            let said = read(text).unwrap_err().to_string();
            assert!(said.contains(part) && !said.contains("hunter2"), "{said}");
        }
    }
}
