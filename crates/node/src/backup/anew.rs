//! A new project with what a backup shows: no members, no history, nothing that was deleted or purged.

use crate::home::now_ms;
use crate::request::Reply;
use crate::{Home, NodeError};
use cairn_model::{DocId, DocKey, Edit};
use cairn_store::{Filter, Store, StoreError};
use serde_json::json;

/// Observations written together.
const TOGETHER: usize = 2_000;

/// What stands in an observation, as an edit that makes it anew. Rows of a data set become ordinary observations: their ids come from the
/// project they were imported into.
fn anew(from: &Store, id: DocId) -> Result<(DocId, Edit), StoreError> {
    let mut edit = Edit::new();
    for (raw, values) in from.values_of(&id)? {
        let key = DocKey::decode(&raw);
        if !matches!(key, DocKey::MadeWith | DocKey::Dataset | DocKey::Deleted | DocKey::Purged) {
            edit.set(&key, values.into_iter().next());
        }
    }
    Ok((id, edit))
}

fn fill(into: &mut Store, from: &Store, ids: &[DocId]) -> Result<(), StoreError> {
    for part in ids.chunks(TOGETHER) {
        let edits = part.iter().map(|id| anew(from, *id)).collect::<Result<Vec<_>, _>>()?;
        into.edit_observations(edits, now_ms())?;
    }
    into.cut(now_ms())?;
    match into.count()? == ids.len() as u64 {
        true => Ok(()),
        false => Err(StoreError::Source("not every observation came over".into())),
    }
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
    let own = from.device_name(&from.device());
    let mut reply = Reply::default();
    reply.warnings.push(
        "all of it is recorded by this device there: who made what stays in the backup; where people had set two values apart, the one shown goes"
            .into(),
    );
    if dry_run {
        home.free_name(name)?;
        reply.data = json!({"name": name, "observations": ids.len(), "project": null, "as_new": true, "dry_run": true, "recovery": null});
    } else {
        let made = home.create_project_with(name, Some(&own), &configuration, |store| fill(store, from, &ids))?;
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
