//! A new job's file: what a table's columns would be taken for, and the file itself.

use super::file::Job;
use crate::NodeError;
use crate::request::{ReadOptions, Reply};
use cairn_formats::{Part, Position, open_rows, taken_for};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// Rows shown of a table.
const SHOWN: usize = 5;

/// Columns with what they are taken for, and the first rows.
pub(crate) fn preview(path: &Path, read: &ReadOptions) -> Result<Reply, NodeError> {
    let fault = |e: cairn_formats::FormatError| NodeError::file(path, e);
    let mut rows = open_rows(path, read, &Arc::default()).map_err(fault)?;
    let notes = rows.notes();
    let mut names: Vec<String> = Vec::new();
    let mut shown = Vec::new();
    while let Some(row) = rows.next().filter(|_| shown.len() < SHOWN) {
        let row = row.map_err(fault)?;
        match rows.raw() {
            Some((columns, cells)) => {
                names = columns.clone();
                shown.push(columns.into_iter().zip(cells).map(|(n, c)| (n, json!(c))).collect::<serde_json::Map<_, _>>());
            }
            None => {
                let row = row.unwrap_or_default();
                let mut cells = serde_json::Map::new();
                if let Part::Set(Position::Place(place)) = &row.place {
                    cells.insert("position".into(), json!(format!("{},{}", place.lat, place.lon)));
                }
                for (name, cell) in &row.fields {
                    cells.insert(name.to_string(), json!(cell.text()));
                    if !names.iter().any(|n| *n == **name) {
                        names.push(name.to_string());
                    }
                }
                shown.push(cells);
            }
        }
    }
    let columns: Vec<Value> = names.iter().map(|n| json!({"column": n, "taken_for": taken_for(n, read)})).collect();
    Ok(Reply { data: json!({"columns": columns, "rows": shown}), warnings: notes, code: 0 })
}

/// Writes a job's file; one that is there stays.
pub(crate) fn write(path: &Path, job: &Job) -> Result<Reply, NodeError> {
    use std::io::Write;
    let text = toml::to_string(job).map_err(|e| NodeError::file(path, e))?;
    let head = "# A job of Cairn: `cairn job check FILE` looks at it, `cairn job run FILE` does it, `cairn job install FILE` gives it to `serve`.\n";
    let mut file = std::fs::File::create_new(path).map_err(|e| NodeError::file(path, e))?;
    file.write_all(head.as_bytes()).and_then(|()| file.write_all(text.as_bytes())).map_err(|e| NodeError::file(path, e))?;
    // What was written is read as a run would read it.
    let job = Job::read(path)?;
    Ok(Reply::new(json!({"file": path.display().to_string(), "job": job.name})))
}
