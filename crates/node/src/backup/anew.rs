//! A new project with what a backup shows: no members, no history, nothing that was deleted or purged.

use crate::home::now_ms;
use crate::request::Reply;
use crate::{Home, Node, NodeError};
use cairn_model::{DocId, DocKey, Edit};
use cairn_store::{Filter, Store};
use serde_json::json;

/// Observations written together.
const TOGETHER: usize = 2_000;

/// What stands in an observation, as an edit that makes it anew. Rows of a data set become ordinary observations: their ids come from the
/// project they were imported into.
fn anew(from: &Store, id: DocId) -> Result<(DocId, Edit), NodeError> {
    let mut edit = Edit::new();
    for (raw, values) in from.values_of(&id)? {
        let key = DocKey::decode(&raw);
        if !matches!(key, DocKey::MadeWith | DocKey::Dataset | DocKey::Deleted | DocKey::Purged) {
            edit.set(&key, values.into_iter().next());
        }
    }
    Ok((id, edit))
}

fn fill(node: &Node, from: &Store, ids: &[DocId]) -> Result<(), NodeError> {
    for part in ids.chunks(TOGETHER) {
        let edits = part.iter().map(|id| anew(from, *id)).collect::<Result<Vec<_>, _>>()?;
        node.store().edit_observations(edits, now_ms())?;
    }
    node.cut()
}

pub(super) fn begin_with(home: &Home, from: &Store, name: &str, dry_run: bool) -> Result<Reply, NodeError> {
    let (mut ids, mut rows) = (Vec::new(), 0u64);
    from.each_observation(&Filter::default(), &mut |id, _| {
        ids.push(id);
        Ok(())
    })?;
    for (_, observations) in from.datasets()? {
        rows += observations;
    }
    let configuration = from.configuration().as_ref().clone().unwrap_or_else(cairn_model::default_configuration);
    let mut reply = Reply::default();
    if dry_run {
        home.free_name(name)?;
        reply.data = json!({"name": name, "observations": ids.len(), "project": null, "as_new": true, "dry_run": true, "recovery": null});
    } else {
        let made = home.create_project_with(name, None, &configuration)?;
        let project = made.data["project"].as_str().unwrap_or_default().to_owned();
        let filled = Node::open(home, Some(&project[..16])).and_then(|node| {
            fill(&node, from, &ids)?;
            Ok(node.store().count()?)
        });
        match filled {
            Ok(count) if count == ids.len() as u64 => {}
            other => {
                // Half a project would be taken for a whole one.
                home.drop_new_project(&project)?;
                other?;
                return Err(NodeError::Store { message: "not every observation came over".into() });
            }
        }
        reply.data = made.data;
        reply.data["observations"] = json!(ids.len());
        reply.data["as_new"] = json!(true);
        reply.data["dry_run"] = json!(false);
    }
    if rows > 0 {
        reply
            .warnings
            .push(format!("{rows} rows of data sets are ordinary observations in the new project: import the tables under new names"));
    }
    Ok(reply)
}
