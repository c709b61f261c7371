//! Rows out: from the store to a file that appears under its name when it is whole.

use crate::home::now_ms;
use crate::import::Told;
use crate::reading::filter;
use crate::request::{ExportRequest, Reply};
use crate::{Node, NodeError};
use cairn_formats::{About, ExportRow, FormatError, Kinds, Survey, Written, create, needs_survey, write_format};
use cairn_model::{DocId, DocKey, Instant, Observation, Place, ValueRef};
use cairn_store::{AsOf, Filter, Store, StoreError};
use serde_json::json;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

/// Rows that go to the writer together, and batches of them on their way.
const TOGETHER: usize = 256;
const AHEAD: usize = 8;

/// How positions are made less exact before they leave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rounding {
    /// To the middle of a cell of so many degrees.
    Degrees(f64),
}

impl Rounding {
    pub(crate) fn parse(text: &str) -> Result<Self, NodeError> {
        let wrong = || NodeError::input(format!("`{text}` is no rounding: degrees or metres, as 0.1deg or 10km"));
        let split = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
        let number: f64 = text[..split].trim().parse().map_err(|_| wrong())?;
        let degrees = match &text[split..] {
            "deg" => number,
            // A degree of latitude has 111.32 km everywhere; of longitude at most that.
            "km" => number / 111.32,
            "m" => number / 111_320.0,
            _ => return Err(wrong()),
        };
        if degrees.is_finite() && degrees > 0.0 && degrees <= 90.0 { Ok(Rounding::Degrees(degrees)) } else { Err(wrong()) }
    }

    /// The middle of the cell: the same for every position in it, so that nothing of the exact one is left.
    fn coarse(self, lat: f64, lon: f64) -> (f64, f64) {
        let Rounding::Degrees(step) = self;
        let middle = |v: f64, most: f64| {
            let digits = |v: f64| (v * 1e7).round() / 1e7;
            digits(((v / step).floor() * step + step / 2.0).clamp(-most, most))
        };
        (middle(lat, 90.0), middle(lon, 180.0))
    }

    /// Metres from the middle of a cell to its corner, at most.
    fn uncertainty(self) -> f64 {
        let Rounding::Degrees(step) = self;
        (step / 2.0 * 111_320.0 * std::f64::consts::SQRT_2).ceil()
    }

    pub(crate) fn apply(self, seen: &mut Observation) {
        if let Some(place) = seen.place {
            let (lat, lon) = self.coarse(place.lat, place.lon);
            let more = self.uncertainty() + place.uncertainty.unwrap_or(0.0);
            seen.place = Some(Place { lat, lon, altitude: None, uncertainty: Some(more) });
        }
        // A track whose positions are moved shows its way all the same: only where it began is told.
        seen.shape = None;
    }
}

fn ranged(seen: Observation, id: DocId, coarse: Option<Rounding>) -> ExportRow {
    let mut row = ExportRow { id, seen };
    if let Some(coarse) = coarse {
        coarse.apply(&mut row.seen);
    }
    row
}

fn survey(store: &Store, filter: &Filter, as_of: Option<&AsOf>, coarse: Option<Rounding>) -> Result<Survey, NodeError> {
    if as_of.is_none() && Store::takes_all(filter) {
        return survey_all(store, coarse);
    }
    let mut out = Survey::default();
    store.each_observation(filter, as_of, &mut |id, seen| {
        let row = ranged(seen, id, coarse);
        out.rows += 1;
        for (name, value) in &row.seen.fields {
            match out.fields.get_mut(name) {
                Some(kinds) => kinds.add(value),
                None => out.fields.entry(name.clone()).or_default().add(value),
            }
        }
        out.altitude |= row.seen.place.is_some_and(|p| p.altitude.is_some());
        out.uncertainty |= row.seen.place.is_some_and(|p| p.uncertainty.is_some());
        out.shapes |= row.seen.shape.is_some();
        Ok(())
    })?;
    Ok(out)
}

/// The same of everything, by the keys alone.
fn survey_all(store: &Store, coarse: Option<Rounding>) -> Result<Survey, NodeError> {
    let mut out = Survey::default();
    let mut rows = 0;
    let mut keys: HashMap<String, Kinds> = HashMap::new();
    store.each_key(&mut || rows += 1, &mut |key, value| {
        if key == "where" {
            out.shapes |= matches!(value, ValueRef::Bytes(_));
            if let ValueRef::Text(geo) = value {
                out.uncertainty |= geo.contains(";u=");
                out.altitude |= geo.bytes().take_while(|b| *b != b';').filter(|b| *b == b',').count() > 1;
            }
            return;
        }
        if let Some(kinds) = keys.get_mut(key) {
            return kinds.see(value);
        }
        let kinds = keys.entry(key.to_owned()).or_default();
        kinds.see(value);
    })?;
    for (key, kinds) in keys {
        match DocKey::decode(&key) {
            DocKey::Field(field) => out.fields.entry(field).or_default().join(kinds),
            // An option chosen is a text of its field, whatever stands there.
            DocKey::Choice(field, _) => out.fields.entry(field).or_default().join(Kinds { text: true, ..Kinds::default() }),
            _ => {}
        }
    }
    if coarse.is_some() {
        (out.altitude, out.uncertainty, out.shapes) = (false, true, false);
    }
    out.rows = rows;
    Ok(out)
}

/// A moment: a number of a sync, a digest that `status` showed after one, or a time by the authors' clocks.
fn as_of(store: &Store, text: &str) -> Result<AsOf, NodeError> {
    if let Ok(instant) = Instant::parse(text) {
        let whole_day = text.trim().len() == 10;
        return Ok(AsOf::Time(instant.unix_ms() + if whole_day { 86_399_999 } else { 0 }));
    }
    store.moment(text)?.ok_or_else(|| {
        NodeError::input(format!("`{text}` is no moment: a time (2026-06-30), the number of a sync, or the beginning of a digest that `cairn status` showed after a sync"))
    })
}

/// The name under which a file is written before it is whole: beside it, with the same ending.
fn unfinished(path: &Path) -> PathBuf {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".cairn-part-{}-{name}", std::process::id()))
}

pub(crate) fn export(node: &Node, request: &ExportRequest, told: Told<'_>) -> Result<Reply, NodeError> {
    let path = Path::new(&request.file);
    let fault = |e: FormatError| NodeError::file(path, e);
    let format = write_format(path, request.write.format.as_deref()).map_err(fault)?;
    let coarse = request.round.as_deref().map(Rounding::parse).transpose()?;
    // One look at the store for both walks: what came between them would have no column.
    let store = node.store();
    let moment = request.as_of.as_deref().map(|t| as_of(&store, t)).transpose()?;
    let (about, filter) = (about(&store, request)?, filter(&store, &request.filter)?);
    let survey = match needs_survey(format) {
        true => survey(&store, &filter, moment.as_ref(), coarse)?,
        false => Survey { rows: store.count()?, ..Survey::default() },
    };
    let temporary = unfinished(path);
    let done = write(&store, request, format, (&filter, moment.as_ref(), coarse), &survey, &about, &temporary, told);
    let written = match done.and_then(|w| std::fs::rename(&temporary, path).map(|()| w).map_err(|e| NodeError::file(path, e))) {
        Ok(written) => written,
        Err(e) => {
            // What is left of it helps nobody; that it cannot be removed is not what went wrong.
            std::fs::remove_file(&temporary).ok();
            return Err(e);
        }
    };
    let mut reply = Reply::new(json!({"file": request.file, "format": format, "exported": written.rows, "left_out": written.left_out}));
    reply.warnings.extend(written.notes);
    if matches!(moment, Some(AsOf::Time(_))) {
        reply.warnings.push("the moment is by the clocks of those who wrote: it is as they say, and not checked".into());
    }
    reply.code = if written.left_out > 0 { 3 } else { 0 };
    Ok(reply)
}

fn about(store: &Store, request: &ExportRequest) -> Result<About, NodeError> {
    let configuration = store.configuration();
    let labels = configuration.as_ref().iter().flat_map(|c| &c.fields).map(|f| (f.id.clone(), f.label.clone())).collect();
    let mut remarks = Vec::new();
    if let Some(round) = &request.round {
        remarks.push(format!("positions are rounded to {round}; tracks and areas are left out"));
    }
    if let Some(moment) = &request.as_of {
        remarks.push(format!("as of {moment}, as the devices' clocks and syncs say"));
    }
    Ok(About {
        project: store.genesis()?.name.clone(),
        project_id: store.project().to_string(),
        written: Instant::from_unix_ms(now_ms()).map(|i| i.to_rfc3339()).unwrap_or_default(),
        labels,
        remarks,
    })
}

type Which<'a> = (&'a Filter, Option<&'a AsOf>, Option<Rounding>);

/// The store reads on this thread while another one writes the file.
#[allow(clippy::too_many_arguments)]
fn write(
    store: &Store,
    request: &ExportRequest,
    format: &str,
    (filter, moment, coarse): Which<'_>,
    survey: &Survey,
    about: &About,
    to: &Path,
    told: Told<'_>,
) -> Result<Written, NodeError> {
    let fault = |e: FormatError| NodeError::file(Path::new(&request.file), e);
    let mut writer = create(to, format, &request.write, survey, about).map_err(fault)?;
    let (sender, receiver) = sync_channel::<Vec<ExportRow>>(AHEAD);
    std::thread::scope(|scope| {
        let work = scope.spawn(move || -> Result<Written, FormatError> {
            while let Ok(batch) = receiver.recv() {
                for row in &batch {
                    writer.write(row)?;
                }
            }
            writer.finish()
        });
        let mut batch = Vec::with_capacity(TOGETHER);
        let mut rows = 0;
        let stopped = || StoreError::Source("the writer stopped".into());
        let read = store.each_observation(filter, moment, &mut |id, seen| {
            batch.push(ranged(seen, id, coarse));
            if batch.len() == TOGETHER {
                rows += TOGETHER as u64;
                told(rows, survey.rows, rows);
                sender.send(std::mem::replace(&mut batch, Vec::with_capacity(TOGETHER))).map_err(|_| stopped())?;
            }
            Ok(())
        });
        let read = read.and_then(|_| sender.send(batch).map_err(|_| stopped()));
        drop(sender);
        let written = work.join().map_err(|_| NodeError::Store { message: "the writer of the file ended".into() })?;
        // What the writer says is why the reader stopped.
        let written = written.map_err(fault)?;
        read?;
        Ok(written)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_leaves_nothing_of_the_exact_position() {
        let coarse = Rounding::parse("0.1deg").unwrap();
        assert_eq!(coarse.coarse(-3.4653, -62.2159), (-3.45, -62.25));
        assert_eq!(coarse.coarse(-3.41, -62.29), (-3.45, -62.25));
        assert_eq!(coarse.coarse(90.0, 180.0), (90.0, 180.0));
        assert!((coarse.uncertainty() - 7872.0).abs() < 1.0);
        assert!(Rounding::parse("10").is_err() && Rounding::parse("-1deg").is_err() && Rounding::parse("0deg").is_err());
    }
}
