//! Where a job's rows come from: a file that is whole, the newest of several, or an address.

use super::file::{Job, resolve};
use crate::{Node, NodeError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// Bytes of what is fetched from an address.
const FETCH_BYTES: u64 = 4 << 30;
/// Tries of an input that is absent or still being written.
const TRIES: u32 = 5;

/// A file to read; one that was fetched is gone when this is dropped.
pub(crate) struct Input {
    pub path: PathBuf,
    /// What the job called it.
    pub called: String,
    /// Removed when this is dropped.
    _fetched: Option<tempfile::NamedTempFile>,
}

/// Waits for the input as the job says. Nothing has been changed when it gives up.
pub(crate) async fn input(node: &Arc<Node>, job: &Job, wanted: &str, beside: &Path) -> Result<Input, NodeError> {
    let tries = job.retries.unwrap_or(TRIES) + 1;
    let mut last = None;
    for n in 0..tries {
        if n > 0 {
            tokio::time::sleep(job.pause()).await;
        }
        let found = if wanted.starts_with("https://") || wanted.starts_with("http://") {
            fetch(node, wanted).await
        } else {
            settled(job, wanted, beside).await
        };
        match found {
            Ok(input) => return Ok(input),
            Err(e) => last = Some(e),
        }
    }
    let why = last.map(|e| e.to_string()).unwrap_or_default();
    let message = format!("{why}; tried {tries} times, and nothing was changed");
    Err(NodeError::refused(message, "is the share there, and the file whole? it is tried again at the next run"))
}

/// The newest file of a pattern, or the one file.
fn newest(job: &Job, wanted: &str, beside: &Path) -> Result<PathBuf, NodeError> {
    let full = resolve(wanted, beside);
    if !wanted.contains(['*', '?', '[']) {
        return Ok(full);
    }
    // Only what the job says is a pattern, not the folder it lies in.
    let pattern = if Path::new(wanted).is_absolute() {
        wanted.to_owned()
    } else {
        format!("{}/{wanted}", glob::Pattern::escape(&beside.parent().unwrap_or(Path::new("/")).display().to_string()))
    };
    let own = job.writes(beside);
    let found = glob::glob(&pattern).map_err(|e| NodeError::input(format!("`{wanted}`: {e}")))?;
    let age = |p: &PathBuf| std::fs::metadata(p).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let hidden = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
    // What the job writes itself is not its input.
    let files = found.flatten().filter(|p| p.is_file() && !hidden(p) && !own.contains(p));
    // Of two from the same moment the name decides.
    files.max_by_key(|p| (age(p), p.clone())).ok_or_else(|| NodeError::input(format!("no file fits `{wanted}`")))
}

/// The file as it is now, without waiting.
pub(crate) fn look(job: &Job, wanted: &str, beside: &Path) -> Result<PathBuf, NodeError> {
    let path = newest(job, wanted, beside)?;
    std::fs::metadata(&path).map_err(|e| NodeError::file(&path, e))?;
    Ok(path)
}

/// A file whose size and time stay as they are for a while.
async fn settled(job: &Job, wanted: &str, beside: &Path) -> Result<Input, NodeError> {
    let path = newest(job, wanted, beside)?;
    let look = || -> Result<(u64, SystemTime), NodeError> {
        let meta = std::fs::metadata(&path).map_err(|e| NodeError::file(&path, e))?;
        Ok((meta.len(), meta.modified().map_err(|e| NodeError::file(&path, e))?))
    };
    let before = look()?;
    tokio::time::sleep(job.settling()).await;
    if look()? != before {
        return Err(NodeError::file(&path, "it is still being written"));
    }
    Ok(Input { path, called: wanted.to_owned(), _fetched: None })
}

async fn fetch(node: &Arc<Node>, address: &str) -> Result<Input, NodeError> {
    use tokio::io::AsyncWriteExt;
    let fault = |e: &dyn std::fmt::Display| NodeError::input(format!("{}: {e}", without_secrets(address)));
    let url = super::soda::https_or_here(address).map_err(|e| fault(&e))?;
    let client = cairn_relay::web_client(&node.network, true).map_err(|e| fault(&e))?;
    let mut response = client.get(url.clone()).send().await.map_err(|e| fault(&e.without_url()))?;
    if !response.status().is_success() {
        return Err(fault(&format!("the answer is {}", response.status())));
    }
    let ending = Path::new(url.path()).extension().map(|e| e.to_string_lossy().into_owned());
    let kept = tempfile::Builder::new()
        .prefix("fetched-")
        .suffix(&format!(".{}", ending.as_deref().unwrap_or("csv")))
        .tempfile_in(node.folder())
        .map_err(|e| NodeError::file(node.folder(), e))?;
    let path = kept.path().to_owned();
    let input = Input { path: path.clone(), called: without_secrets(address), _fetched: Some(kept) };
    let promised = response.content_length();
    let mut file = tokio::fs::File::create(&path).await.map_err(|e| NodeError::file(&path, e))?;
    let mut bytes = 0;
    while let Some(part) = response.chunk().await.map_err(|e| fault(&e.without_url()))? {
        bytes += part.len() as u64;
        if bytes > FETCH_BYTES {
            return Err(fault(&"it has more than 4 GiB"));
        }
        file.write_all(&part).await.map_err(|e| NodeError::file(&path, e))?;
    }
    file.flush().await.map_err(|e| NodeError::file(&path, e))?;
    if promised.is_some_and(|p| p != bytes) {
        return Err(fault(&"it was cut short"));
    }
    Ok(input)
}

/// An address for logs: what may be a secret in it is left out.
fn without_secrets(address: &str) -> String {
    let plain = address.split(['?', '#']).next().unwrap_or_default();
    match plain.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            format!("{scheme}://{}/{path}", host.rsplit('@').next().unwrap_or_default())
        }
        None => plain.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_show_no_secrets_of_an_address() {
        assert_eq!(without_secrets("https://ana:pw@host.example/a/b.csv?token=x"), "https://host.example/a/b.csv");
    }
}
