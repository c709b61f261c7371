//! One thread that writes. What waits while a transaction is being made durable goes together into the next one, so a thousand
//! small appends a second cost some hundred syncs.

use super::tables::{Tables, engine};
use crate::storage::StorageError;
use redb::{Database, Durability, ReadTransaction, ReadableDatabase};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{mpsc, oneshot};

/// Jobs that wait before callers do.
const WAITING: usize = 1_024;
/// Jobs in one transaction.
const TOGETHER: usize = 512;
/// Memory for pages.
const CACHE_BYTES: usize = 32 << 20;

/// Tells whoever waits how the transaction ended.
type Answer = Box<dyn FnOnce(Result<(), StorageError>) + Send>;
/// Changes tables; an engine's failure takes the whole transaction with it, any other refusal has changed nothing.
type Job = Box<dyn FnOnce(&mut Tables<'_>) -> (Option<StorageError>, Answer) + Send>;

/// The database and the thread that writes to it.
pub(super) struct Writer {
    db: Arc<Shared>,
    /// `None` only while it is being dropped.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The file is closed when this returns.
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

struct Shared {
    path: PathBuf,
    /// `None` after a failed commit, until it opens again.
    db: RwLock<Option<Database>>,
}

fn open(path: &Path) -> Result<Database, StorageError> {
    let opened = std::panic::catch_unwind(|| Database::builder().set_cache_size(CACHE_BYTES).create(path));
    match opened {
        Ok(opened) => opened.map_err(engine),
        Err(_) => Err(StorageError::Engine(format!("{} does not open: it is damaged", path.display()))),
    }
}

impl Shared {
    /// After a commit that failed nobody knows what is durable: the file is opened anew, which tells.
    fn reopen(&self) -> Result<(), StorageError> {
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        if db.is_none() {
            *db = Some(open(&self.path)?);
        }
        Ok(())
    }

    /// Runs the jobs in one transaction, and answers them.
    fn transact(&self, jobs: Vec<Job>) {
        let mut answers = Vec::with_capacity(jobs.len());
        let run = std::panic::AssertUnwindSafe(|| self.reopen().and_then(|()| self.run(jobs, &mut answers)));
        let panicked = |_| Err(StorageError::Engine("the engine failed inside".into()));
        let done = std::panic::catch_unwind(run).unwrap_or_else(panicked);
        if matches!(done, Err(StorageError::Engine(_) | StorageError::Full)) {
            *self.db.write().unwrap_or_else(PoisonError::into_inner) = None;
            // Reads go on at once. If it does not open, the next read or write tries again.
            self.reopen().ok();
        }
        answers.into_iter().for_each(|answer: Answer| answer(done.clone()));
    }

    fn run(&self, jobs: Vec<Job>, answers: &mut Vec<Answer>) -> Result<(), StorageError> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let db = db.as_ref().ok_or_else(|| StorageError::Engine("closed".into()))?;
        let mut tx = db.begin_write().map_err(engine)?;
        tx.set_durability(Durability::Immediate).map_err(engine)?;
        // After a crash the file is not read through: it may be large.
        tx.set_quick_repair(true);
        let mut failed = None;
        {
            let mut tables = Tables::open(&tx)?;
            for job in jobs {
                let (error, answer) = job(&mut tables);
                answers.push(answer);
                failed = failed.or(error);
            }
        }
        match failed {
            None => tx.commit().map_err(engine),
            Some(e) => {
                tx.abort().map_err(engine)?;
                Err(e)
            }
        }
    }
}

impl Writer {
    /// Opens or makes the file.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let db = Arc::new(Shared { path: path.to_owned(), db: RwLock::new(Some(open(path)?)) });
        let (jobs, mut waiting) = mpsc::channel::<Job>(WAITING);
        let of = db.clone();
        let run = move || {
            while let Some(first) = waiting.blocking_recv() {
                let mut jobs = vec![first];
                while jobs.len() < TOGETHER
                    && let Ok(next) = waiting.try_recv()
                {
                    jobs.push(next);
                }
                of.transact(jobs);
            }
        };
        let started = std::thread::Builder::new().name("relay-writer".into()).spawn(run);
        let thread = Some(started.map_err(|e| StorageError::Engine(e.to_string()))?);
        Ok(Self { db, jobs: Some(jobs), thread })
    }

    /// One job, durable when this returns. A job that refuses must not have changed anything.
    pub async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Tables<'_>) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (tx, rx) = oneshot::channel();
        let job: Job = Box::new(move |tables| {
            let done = job(tables);
            let failed = match &done {
                Err(e @ (StorageError::Engine(_) | StorageError::Full | StorageError::Damaged(_))) => Some(e.clone()),
                _ => None,
            };
            // Whoever asked may have gone meanwhile.
            let answer: Answer = Box::new(move |ended| drop(tx.send(ended.and(done))));
            (failed, answer)
        });
        let gone = || StorageError::Engine("the writer has stopped".into());
        self.jobs.as_ref().ok_or_else(gone)?.send(job).await.map_err(|_| gone())?;
        rx.await.map_err(|_| gone())?
    }

    /// An error when nothing can be written any more.
    pub fn alive(&self) -> Result<(), StorageError> {
        match &self.thread {
            Some(thread) if !thread.is_finished() => Ok(()),
            _ => Err(StorageError::Engine("the writer has stopped".into())),
        }
    }

    /// Reads, on a thread where that may block.
    pub async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&ReadTransaction) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let of = self.db.clone();
        let read = move || {
            if of.db.read().unwrap_or_else(PoisonError::into_inner).is_none() {
                of.reopen()?;
            }
            let tx = {
                let db = of.db.read().unwrap_or_else(PoisonError::into_inner);
                db.as_ref().ok_or_else(|| StorageError::Engine("closed".into()))?.begin_read().map_err(engine)?
            };
            job(&tx)
        };
        tokio::task::spawn_blocking(read).await.map_err(|e| StorageError::Engine(e.to_string()))?
    }
}
