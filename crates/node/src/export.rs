//! Rows out: from the store to a file that appears under its name when it is whole.

use crate::home::now_ms;
use crate::import::Told;
use crate::reading::filter;
use crate::request::{ExportRequest, Reply};
use crate::survey::survey;
use crate::workshop::Making;
use crate::{Node, NodeError};
use cairn_formats::{About, Encoded, FormatError, RowEncoder, RowWriter, Survey, Written, create, needs_survey, write_format};
use cairn_model::{Instant, ObservationRef, Place};
use cairn_store::{AsOf, Store, StoreError, Walk};
use serde_json::json;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};

/// Rows that are read and encoded together, and parts of them that each thread may be ahead.
const TOGETHER: usize = 256;
const AHEAD: usize = 4;

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

    pub(crate) fn apply(self, seen: &mut ObservationRef<'_>) {
        if let Some(place) = seen.place {
            let (lat, lon) = self.coarse(place.lat, place.lon);
            let more = self.uncertainty() + place.uncertainty.unwrap_or(0.0);
            seen.place = Some(Place { lat, lon, altitude: None, uncertainty: Some(more) });
        }
        // A track whose positions are moved shows its way all the same: only where it began is told.
        seen.shape = None;
    }
}

/// A moment: a number of a sync, a digest that `status` showed after one, or a time by the authors' clocks.
fn as_of(store: &Store, text: &str) -> Result<AsOf, NodeError> {
    if let Ok(until) = until(text) {
        return Ok(AsOf::Time(until));
    }
    store.moment(text)?.ok_or_else(|| {
        NodeError::input(format!("`{text}` is no moment: a time (2026-06-30), the number of a sync, or the beginning of a digest that `cairn status` showed after a sync"))
    })
}

/// A time as the end of a span, milliseconds: of a day alone its last moment.
pub(crate) fn until(text: &str) -> Result<i64, NodeError> {
    let whole_day = text.trim().len() == 10;
    let instant = Instant::parse(text).map_err(|e| NodeError::input(e.to_string()))?;
    Ok(instant.unix_ms() + if whole_day { 86_399_999 } else { 0 })
}

pub(crate) fn export(node: &Node, request: &ExportRequest, told: Told<'_>) -> Result<Reply, NodeError> {
    if request.pairs {
        return crate::pairs::export_pairs(node, request);
    }
    let path = Path::new(&request.file);
    let fault = |e: FormatError| NodeError::format(path, &e);
    let format = write_format(path, request.write.format.as_deref()).map_err(fault)?;
    let coarse = request.round.as_deref().map(Rounding::parse).transpose()?;
    // One look at the store for both walks: what came between them would have no column.
    let store = node.store();
    let moment = request.as_of.as_deref().map(|t| as_of(&store, t)).transpose()?;
    let (about, filter) = (about(&store, request)?, filter(&store, &request.filter)?);
    let walk = store.walk(&filter, moment.clone())?;
    let survey = match needs_survey(format) {
        true => survey(&store, &walk, moment.is_none() && Store::takes_all(&filter), coarse)?,
        false => Survey::default(),
    };
    let making = Making::of(path).map_err(|e| NodeError::io(path, &e))?;
    let writer = create(making.path(), format, &request.write, &survey, &about).map_err(fault)?;
    let written = write(&walk, coarse, writer, path, told)?;
    making.finish().map_err(|e| NodeError::io(path, &e))?;
    let mut reply = Reply::new(json!({"file": request.file, "format": format, "exported": written.rows, "left_out": written.left_out}));
    reply.warnings.extend(written.notes);
    if matches!(moment, Some(AsOf::Time(_))) {
        reply.warnings.push("the moment is by the clocks of those who wrote: it is as they say, and not checked".into());
    }
    reply.code = if written.left_out > 0 { 3 } else { 0 };
    Ok(reply)
}

pub(crate) fn about(store: &Store, request: &ExportRequest) -> Result<About, NodeError> {
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

/// As many threads as help: each reads rows and makes what stands in the file of them.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(4)
}

/// Rows `step`, `step + threads`, ... of a walk, in parts of [`TOGETHER`], each encoded and sent.
fn encode(walk: &Walk<'_>, encoder: &dyn RowEncoder, coarse: Option<Rounding>, steps: impl Iterator<Item = usize>, to: &SyncSender<Made>) {
    for step in steps {
        let mut part = Encoded::default();
        let rows = step * TOGETHER..((step + 1) * TOGETHER).min(walk.rows());
        let mut fault = None;
        let read = walk.part(rows, &mut |id, seen| {
            let done = match coarse {
                None => encoder.encode(id, seen, &mut part),
                Some(coarse) => {
                    let mut seen = seen.clone();
                    coarse.apply(&mut seen);
                    encoder.encode(id, &seen, &mut part)
                }
            };
            done.map_err(|e| {
                fault = Some(e);
                StoreError::Source("a row that the format cannot hold".into())
            })
        });
        let made = match (fault, read) {
            (Some(e), _) => Err(Fault::Format(e)),
            (None, Err(e)) => Err(Fault::Store(e)),
            (None, Ok(())) => Ok(part),
        };
        let failed = made.is_err();
        // Nobody receives any more once the writer stopped: what it says is the reason.
        if to.send(made).is_err() || failed {
            return;
        }
    }
}

enum Fault {
    Format(FormatError),
    Store(StoreError),
}

type Made = Result<Encoded, Fault>;

/// Several threads read and encode, each every so many parts; this one puts the parts into the file in their order.
fn write(
    walk: &Walk<'_>,
    coarse: Option<Rounding>,
    mut writer: Box<dyn RowWriter>,
    file: &Path,
    told: Told<'_>,
) -> Result<Written, NodeError> {
    let fault = |e: FormatError| NodeError::file(file, e);
    let (encoder, threads, total) = (writer.encoder(), threads(), walk.rows());
    std::thread::scope(|scope| {
        let mut lanes = Vec::new();
        for first in 0..threads {
            let (sender, receiver) = sync_channel::<Made>(AHEAD);
            let encoder = encoder.clone();
            let steps = (first..total.div_ceil(TOGETHER)).step_by(threads);
            scope.spawn(move || encode(walk, &*encoder, coarse, steps, &sender));
            lanes.push(receiver);
        }
        for step in 0..total.div_ceil(TOGETHER) {
            let ended = || NodeError::Store { message: "a reader of the project ended".into() };
            let part = lanes[step % threads].recv().map_err(|_| ended())?.map_err(|e| match e {
                Fault::Format(e) => fault(e),
                Fault::Store(e) => e.into(),
            })?;
            writer.put(&part).map_err(fault)?;
            let rows = ((step + 1) * TOGETHER).min(total) as u64;
            told(rows, total as u64, rows);
        }
        writer.finish().map_err(fault)
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
