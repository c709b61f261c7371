//! Secrets that a job's file names by the place where they are.

use super::file::resolve;
use crate::{Node, NodeError};
use std::path::Path;

/// What lies at `env:NAME`, `file:PATH` (readable by its owner only) or `keystore:NAME`. Nothing is no secret: it would open to anybody.
pub(crate) fn secret(node: &Node, place: &str, job: &Path) -> Result<String, NodeError> {
    let found = find(node, place, job)?;
    match found.trim().is_empty() {
        true => Err(NodeError::refused(format!("{place}: there is nothing there"), "put the secret there, on the first line of a file")),
        false => Ok(found),
    }
}

fn find(node: &Node, place: &str, job: &Path) -> Result<String, NodeError> {
    let missing = |what: String, remedy: &str| NodeError::refused(what, remedy);
    if let Some(name) = place.strip_prefix("env:") {
        let found = node.surroundings.variable.as_ref().and_then(|look| look(name));
        return found.filter(|s| !s.is_empty()).ok_or_else(|| missing(format!("{name} is not set"), "set it where the job runs"));
    }
    if let Some(file) = place.strip_prefix("file:") {
        use std::os::unix::fs::PermissionsExt;
        let path = resolve(file, job);
        let mode = std::fs::metadata(&path).map_err(|e| NodeError::file(&path, e))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(missing(format!("{}: others can read it", path.display()), "chmod 600"));
        }
        let text = std::fs::read_to_string(&path).map_err(|e| NodeError::file(&path, e))?;
        return Ok(text.lines().next().unwrap_or_default().trim_end().to_owned());
    }
    let name = place.strip_prefix("keystore:").unwrap_or(place);
    crate::keystore::find_text(name)
        .ok_or_else(|| missing(format!("the key store has no secret `{name}`, or is locked"), "`cairn job secret NAME` keeps one there"))
}
