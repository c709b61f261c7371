//! What an import says: its reply, and the rows it refused as a file.

use super::rows::Maker;
use super::{LISTED, broken};
use crate::request::{ImportRequest, Reply};
use crate::{NodeError, show};
use cairn_formats::{ReadOptions, open_rows};
use cairn_model::Value;
use cairn_store::{ImportStats, RowRefusal};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

pub(super) fn with_column(r: &RowRefusal) -> String {
    r.column.as_ref().map_or_else(|| r.reason.clone(), |c| format!("column `{c}`: {}", r.reason))
}

pub(super) fn reply(stats: &ImportStats, request: &ImportRequest, maker: &Maker) -> Reply {
    let bad: Vec<_> =
        stats.rejected.iter().take(LISTED).map(|r| json!({"line": r.line, "column": r.column, "reason": with_column(r)})).collect();
    let repeats: Vec<_> = maker.repeats.iter().map(|(line, key)| json!({"line": line, "key": key})).collect();
    let mut data = json!({
        "import": stats.unit.map(|u| u.to_string()), "mode": if request.mode.is_empty() { "append" } else { request.mode.as_str() },
        "created": stats.created, "updated": stats.updated, "unchanged": stats.unchanged, "deleted": stats.deleted,
        "restored": stats.restored, "unknown": stats.unknown, "repeated": stats.repeated, "rejected": stats.rejected_count,
        "rejects": bad, "repeats": repeats, "dry_run": request.dry_run,
    });
    if let Some(dataset) = &maker.dataset {
        data["dataset"] = json!({"name": dataset.name, "key": dataset.key});
    }
    if request.dry_run {
        data["rows"] = stats.changes.iter().map(change).collect();
        let limit = request.max_delete.filter(|most| stats.deleted > *most);
        if let Some(most) = limit {
            data["would_stop"] = json!(format!("{} would be deleted; --max-delete allows {most}", stats.deleted));
        }
    }
    let mut warnings = Vec::new();
    if stats.withheld > 0 {
        warnings.push(format!(
            "{} observations are not in the file and were kept all the same: rows without an identifier were refused, and could be any of them",
            stats.withheld
        ));
    }
    if (stats.rejected.len() as u64) < stats.rejected_count {
        warnings.push(format!("only the first {} refused rows are told one by one", stats.rejected.len()));
    }
    if stats.repeated > 0 {
        warnings.push(format!("{} rows have an identifier that stands again further down: the last one counts", stats.repeated));
    }
    if request.dry_run && !maker.unknown_fields.is_empty() && maker.configuration.is_some() {
        let names: Vec<String> = maker.unknown_fields.iter().take(20).cloned().collect();
        warnings.push(format!("kept as they are, since the configuration has no such fields: {}", names.join(", ")));
    }
    Reply { data, code: if stats.rejected_count > 0 { 3 } else { 0 }, warnings }
}

fn change(c: &cairn_store::RowChange) -> serde_json::Value {
    let value = |v: &Option<Value>| v.as_ref().map(show::value);
    let keys: Vec<_> = c.keys.iter().map(|(key, from, to)| json!({"key": key, "from": value(from), "to": value(to)})).collect();
    let line = (c.line > 0).then_some(c.line);
    json!({"line": line, "id": c.id.to_string(), "action": c.action, "changes": keys})
}

/// Each refused row as it stands in the file, where the format has such, with line, column and reason. The names of these
/// three begin with a colon: the file can be repaired and imported as it is.
pub(super) fn write_rejects(to: &Path, from: &Path, options: &ReadOptions, stats: &ImportStats) -> Result<(), NodeError> {
    let fault = |e: &dyn std::fmt::Display| NodeError::file(to, e);
    let mut left: BTreeMap<u64, &RowRefusal> = stats.rejected.iter().map(|r| (r.line, r)).collect();
    let mut out = csv::WriterBuilder::new().flexible(true).from_path(to).map_err(|e| fault(&e))?;
    let own = [":line", ":column", ":reason"].map(str::to_owned);
    let told = |r: &RowRefusal| [r.line.to_string(), r.column.clone().unwrap_or_default(), r.reason.clone()];
    let mut headed = false;
    let mut rows = if left.is_empty() { None } else { Some(open_rows(from, options, &Arc::new(AtomicU64::new(0))).map_err(broken(from))?) };
    while let Some((rows, row)) = rows.as_mut().and_then(|rows| rows.next().map(|row| (rows, row))) {
        let line = row.map_err(broken(from))?.map_or_else(|f| f.line, |r| r.line);
        let Some((refusal, (names, cells))) = left.get(&line).copied().zip(rows.raw()) else { continue };
        if !std::mem::replace(&mut headed, true) {
            out.write_record(own.iter().cloned().chain(names)).map_err(|e| fault(&e))?;
        }
        left.remove(&line);
        out.write_record(told(refusal).into_iter().chain(cells)).map_err(|e| fault(&e))?;
    }
    if !headed {
        out.write_record(&own).map_err(|e| fault(&e))?;
    }
    // Formats without lines tell the number and the reason.
    for refusal in left.values() {
        out.write_record(told(refusal)).map_err(|e| fault(&e))?;
    }
    out.flush().map_err(|e| fault(&e))
}
