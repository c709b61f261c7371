//! Configurations in and out: our own JSON, CoMapeo's category archives, Mapeo's older ones, and forms.

mod comapeocat;
mod legacy;
mod native;
mod svg;
mod xlsform;

use crate::FormatError;
use crate::archive::Archive;
use cairn_model::{Configuration, Scalar};
use serde_json::Value;
use std::io::Read;
use std::path::Path;

pub use native::to_json as configuration_json;

/// Bytes of a configuration file that is text.
const TEXT_BYTES: u64 = 16 << 20;

/// Options of all fields together, and bytes of all icons: what a phone shows.
const OPTIONS: usize = 20_000;
const ICONS_BYTES: usize = 8 << 20;

/// Refuses what nobody can choose from, before it is compared with anything.
fn bounded(c: &Configuration) -> Result<(), FormatError> {
    let options: usize = c.fields.iter().map(|f| f.kind.choices().len()).sum();
    let icons: usize = c.icons.values().map(String::len).sum();
    if options > OPTIONS || icons > ICONS_BYTES {
        return Err(FormatError::Options(format!(
            "{options} options and {icons} bytes of icons: a configuration has at most {OPTIONS} and {ICONS_BYTES}"
        )));
    }
    Ok(())
}

/// A configuration from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct TakenConfiguration {
    /// What it says.
    pub configuration: Configuration,
    /// What the file was: `cairn`, `comapeocat`, `mapeo` or `xlsform`.
    pub kind: &'static str,
    /// What was not taken over, or taken otherwise.
    pub notes: Vec<String>,
}

/// Reads a configuration of any of the formats, told apart by content.
///
/// # Errors
/// What the file is not, with its place; nothing is half read.
pub fn read_configuration(path: &Path) -> Result<TakenConfiguration, FormatError> {
    let taken = read_any(path)?;
    bounded(&taken.configuration)?;
    Ok(taken)
}

fn read_any(path: &Path) -> Result<TakenConfiguration, FormatError> {
    let mut head = Vec::new();
    std::fs::File::open(path)?.take(512).read_to_end(&mut head)?;
    if head.starts_with(b"PK") || head.starts_with(&[0x1f, 0x8b]) || head.get(257..262) == Some(b"ustar") {
        let mut archive = Archive::open(path)?;
        if archive.has("xl/workbook.xml") || archive.has("content.xml") {
            return xlsform::read_book(path);
        }
        if archive.has("presets.json") {
            return legacy::read(&mut archive);
        }
        if archive.has("metadata.json") && !archive.has("VERSION") && !archive.has("categories.json") {
            return Err(FormatError::part("presets.json", "it is not there: this is no configuration"));
        }
        return comapeocat::read(&mut archive);
    }
    if head.starts_with(&[0xd0, 0xcf, 0x11, 0xe0]) {
        return xlsform::read_book(path);
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(TEXT_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > TEXT_BYTES {
        return Err(FormatError::Options("it has more than 16 MiB: this is no configuration".into()));
    }
    let text = head.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(&head).trim_ascii_start();
    match text.first() {
        Some(b'{') => native::read(&bytes),
        _ if xlsform::is_text(&bytes) => xlsform::read_text(&bytes),
        _ => Err(FormatError::Options(
            "this is no configuration: a .json of ours, a .comapeocat, a .mapeosettings or an XLSForm was expected".into(),
        )),
    }
}

/// Writes a category archive that CoMapeo reads. Gives what it cannot say.
///
/// # Errors
/// CoMapeo would not take it (no category for tracks), or the disk.
pub fn write_comapeocat(configuration: &Configuration, now_ms: i64, path: &Path) -> Result<Vec<String>, FormatError> {
    comapeocat::write(configuration, now_ms, path)
}

/// An icon's drawing without what acts or loads; `None` where nothing is left.
pub fn sanitise_svg(text: &str) -> Option<String> {
    svg::sanitise(text)
}

/// A scalar of JSON.
fn scalar(value: &Value) -> Option<Scalar> {
    Some(match value {
        Value::String(t) => Scalar::Text(t.clone()),
        Value::Number(n) => Scalar::Number(n.as_f64()?),
        Value::Bool(b) => Scalar::Bool(*b),
        Value::Null => Scalar::Null,
        _ => return None,
    })
}

fn scalar_json(scalar: &Scalar) -> Value {
    match scalar {
        Scalar::Text(t) => Value::from(t.as_str()),
        Scalar::Number(n) if n.fract() == 0.0 && n.abs() < 9e15 => Value::from(*n as i64),
        Scalar::Number(n) => Value::from(*n),
        Scalar::Bool(b) => Value::from(*b),
        Scalar::Null => Value::Null,
    }
}
