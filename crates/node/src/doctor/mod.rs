//! What keeps this device from meeting others, or endangers what is on it: plain causes with plain remedies.

mod disk;
mod lan;
mod project;
mod report;

use crate::request::{DoctorRequest, Reply};
use crate::{Node, NodeError};
use serde_json::{Value, json};
use std::sync::Arc;

/// What one look at something came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// As it should be.
    Fine,
    /// Worth knowing; nothing is wrong.
    Note,
    /// Wrong.
    Finding,
}

/// One look.
#[derive(Clone, Debug)]
pub(super) struct Look {
    topic: &'static str,
    state: State,
    what: String,
    remedy: String,
}

/// All looks, in order.
#[derive(Debug, Default)]
pub(super) struct Looks(Vec<Look>);

impl Looks {
    fn add(&mut self, topic: &'static str, state: State, what: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Look { topic, state, what: what.into(), remedy: remedy.into() });
    }

    fn fine(&mut self, topic: &'static str, what: impl Into<String>) {
        self.add(topic, State::Fine, what, "");
    }

    fn note(&mut self, topic: &'static str, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(topic, State::Note, what, remedy);
    }

    fn finding(&mut self, topic: &'static str, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(topic, State::Finding, what, remedy);
    }

    fn json(&self) -> Value {
        let row = |l: &Look| {
            let state = match l.state {
                State::Fine => "fine",
                State::Note => "note",
                State::Finding => "finding",
            };
            json!({"topic": l.topic, "state": state, "what": l.what, "remedy": l.remedy})
        };
        json!(self.0.iter().map(row).collect::<Vec<_>>())
    }
}

/// Looks at everything. Changes nothing but a file it writes and removes in this device's folder, and the report.
pub(crate) async fn doctor(node: &Arc<Node>, request: &DoctorRequest, told: &(dyn Fn(u64, u64, u64) + Sync)) -> Result<Reply, NodeError> {
    let mut looks = Looks::default();
    if !request.offline {
        lan::look(node, &mut looks).await?;
        lan::remotes(node, &mut looks).await?;
    }
    tokio::task::block_in_place(|| {
        disk::look(node, &mut looks)?;
        project::look(node, &mut looks)?;
        if !request.quick {
            project::store_check(node, &mut looks, told)?;
        }
        let findings = looks.0.iter().filter(|l| l.state == State::Finding).count();
        let mut data = json!({"findings": findings, "looks": looks.json(), "report": null});
        if let Some(file) = &request.report {
            report::write(node, &data, std::path::Path::new(file))?;
            data["report"] = json!(file);
        }
        Ok(Reply { data, code: if findings == 0 { 0 } else { 7 }, ..Reply::default() })
    })
}
