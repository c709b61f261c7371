//! The local socket of a service: where it is, who may talk to it, and what a line says.

use crate::NodeError;
use crate::request::{Reply, Request};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};

/// Version of the request vocabulary and of the events: raised when a word changes its meaning, not when words are added.
pub(crate) const VOCABULARY: u64 = 1;
/// Bytes of a socket's path that every system takes.
const PATH_BYTES: usize = 100;
const NAME: &str = "serve.sock";

/// One line of an answer over the socket.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Line {
    Event(Value),
    Progress { done: u64, planned: u64, bytes: u64 },
    Done(Result<Reply, NodeError>),
}

pub(crate) async fn write_line(write: &mut (impl AsyncWriteExt + Unpin), line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    write.write_all(&text).await
}

/// A path to the socket that is short enough: of a folder deep down through an open handle, which must live as long as the path is used.
fn reachable(folder: &Path) -> io::Result<(PathBuf, Option<File>)> {
    let path = folder.join(NAME);
    if path.as_os_str().len() <= PATH_BYTES {
        return Ok((path, None));
    }
    let handle = File::open(folder)?;
    Ok((PathBuf::from(format!("/proc/self/fd/{}/{NAME}", handle.as_raw_fd())), Some(handle)))
}

/// Connects to the service of a project's folder, if one runs there.
pub(crate) fn connect(folder: &Path) -> io::Result<StdUnixStream> {
    let (path, _handle) = reachable(folder)?;
    StdUnixStream::connect(path)
}

/// Listens; whoever listened before and was killed left a socket that nobody hears, which the store's lock tells from a living one.
pub(crate) fn listen(folder: &Path) -> Result<UnixListener, NodeError> {
    let fault = |e: io::Error| NodeError::file(&folder.join(NAME), e);
    let (path, _handle) = reachable(folder).map_err(fault)?;
    fs::remove_file(&path).ok();
    let listener = UnixListener::bind(&path).map_err(fault)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(fault)?;
    Ok(listener)
}

pub(crate) fn remove(folder: &Path) -> Result<(), NodeError> {
    let path = folder.join(NAME);
    fs::remove_file(&path).map_err(|e| NodeError::file(&path, e))
}

/// `true` if it is this service's own user who talks, or root: other users of the machine are not answered.
pub(crate) fn is_own(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|who| who.uid() == rustix::process::geteuid().as_raw() || who.uid() == 0)
}

/// A request as a line, with the version of the words it is written in.
pub(crate) fn line(request: &Request) -> serde_json::Result<Vec<u8>> {
    let mut value = serde_json::to_value(request)?;
    value["vocabulary"] = VOCABULARY.into();
    let mut text = serde_json::to_vec(&value)?;
    text.push(b'\n');
    Ok(text)
}

/// Reads a request. One in other words is told from one that is wrong.
pub(crate) fn request(text: &str) -> Result<Request, NodeError> {
    let value: Value = serde_json::from_str(text).map_err(|e| NodeError::input(format!("not a request: {e}")))?;
    let spoken = value["vocabulary"].as_u64().unwrap_or(VOCABULARY);
    let own = env!("CARGO_PKG_VERSION");
    if spoken > VOCABULARY {
        return Err(NodeError::Versions {
            message: format!("the running service is older than this command (it is cairn {own})"),
            service: true,
        });
    }
    if spoken < VOCABULARY {
        return Err(NodeError::Versions {
            message: format!("this command is older than the running service (cairn {own})"),
            service: false,
        });
    }
    let verb = value["verb"].as_str().unwrap_or_default().to_owned();
    serde_json::from_value(value).map_err(|e| {
        // A word that came later than this service.
        if e.to_string().contains("unknown variant") {
            let message = format!("the running service (cairn {own}) does not know `{verb}`: it is older than this command");
            return NodeError::Versions { message, service: true };
        }
        NodeError::input(format!("not a request: {e}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_and_newer_words_are_told_from_wrong_ones() {
        let text = String::from_utf8(line(&Request::Status).unwrap()).unwrap();
        assert_eq!(request(&text).unwrap(), Request::Status);
        assert_eq!(request(r#"{"verb":"status"}"#).unwrap(), Request::Status, "who says nothing speaks the first words");
        let fault = |text: &str| request(text).unwrap_err();
        assert!(matches!(fault(r#"{"verb":"status","vocabulary":2}"#), NodeError::Versions { service: true, .. }));
        assert!(matches!(fault(r#"{"verb":"status","vocabulary":0}"#), NodeError::Versions { service: false, .. }));
        assert!(matches!(fault(r#"{"verb":"teleport","vocabulary":1}"#), NodeError::Versions { service: true, .. }));
        assert!(matches!(fault(r#"{"verb":"show","vocabulary":1}"#), NodeError::Input { .. }));
        assert!(matches!(fault("hello"), NodeError::Input { .. }));
    }
}
