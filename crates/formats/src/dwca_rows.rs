//! The core rows of a Darwin Core Archive (TDWG text guide), in a ZIP, a TAR or a folder; extensions are told and left.

use crate::archive::Archive;
use crate::csv_rows::CsvRows;
use crate::rows::Rows;
use crate::xml::{Element, Node, Xml, decode};
use crate::{FormatError, ReadOptions};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

/// Bytes of a core file.
const CORE_BYTES: u64 = 4 << 30;
/// Bytes of a descriptor.
const META_BYTES: u64 = 1 << 20;

/// Darwin Core terms and what they are here.
const TERMS: [(&str, &str); 8] = [
    ("dynamicProperties", "json? dynamicProperties"),
    ("minimumElevationInMeters", "altitude"),
    ("decimalLatitude", "lat"),
    ("decimalLongitude", "lon"),
    ("coordinateUncertaintyInMeters", "uncertainty"),
    ("eventDate", "time? eventDate"),
    ("occurrenceRemarks", "note"),
    ("footprintWKT", "position"),
];

enum Place {
    Packed(Box<Archive>),
    Folder(PathBuf),
}

impl Place {
    fn names(&self) -> Result<Vec<String>, FormatError> {
        match self {
            Place::Packed(archive) => Ok(archive.names()),
            Place::Folder(path) => {
                let entries = std::fs::read_dir(path)?.flatten().filter(|e| e.path().is_file());
                Ok(entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect())
            }
        }
    }

    fn read(&mut self, name: &str) -> Result<Vec<u8>, FormatError> {
        match self {
            Place::Packed(archive) => archive.read(name, META_BYTES),
            Place::Folder(path) => {
                use std::io::Read;
                let mut out = Vec::new();
                std::fs::File::open(path.join(name))?.take(META_BYTES).read_to_end(&mut out)?;
                Ok(out)
            }
        }
    }

    fn unpacked(&mut self, name: &str) -> Result<std::fs::File, FormatError> {
        match self {
            Place::Folder(path) => Ok(std::fs::File::open(path.join(name)).map_err(|e| FormatError::part(name, e))?),
            Place::Packed(archive) => {
                let mut file = std::io::BufWriter::new(tempfile::tempfile()?);
                archive.unpack(name, CORE_BYTES, &mut file)?;
                file.flush()?;
                let mut file = file.into_inner().map_err(|e| FormatError::Io(e.to_string()))?;
                file.rewind()?;
                Ok(file)
            }
        }
    }
}

/// Reads the core of an archive; one without a descriptor has one table with terms for a header.
pub(crate) fn read(path: &Path, options: &ReadOptions) -> Result<Box<dyn Rows>, FormatError> {
    let mut place = if path.is_dir() { Place::Folder(path.to_owned()) } else { Place::Packed(Box::new(Archive::open(path)?)) };
    let names = place.names()?;
    // People zip the folder rather than what is in it.
    let meta = names.iter().find(|n| *n == "meta.xml" || (n.ends_with("/meta.xml") && n.matches('/').count() == 1)).cloned();
    let mut notes = Vec::new();
    let (file, options) = match meta {
        Some(meta) => described(&mut place, &names, &meta, options, &mut notes)?,
        None => simple(&names, options)?,
    };
    let input = place.unpacked(&file)?;
    let rows = CsvRows::new(Box::new(std::io::BufReader::new(input)), &options).map_err(|e| FormatError::part(file, e))?;
    Ok(Box::new(Noted { rows, notes }))
}

struct Noted {
    rows: CsvRows,
    notes: Vec<String>,
}

impl Iterator for Noted {
    type Item = crate::rows::RowResult;
    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next()
    }
}

impl Rows for Noted {
    fn raw(&self) -> Option<(Vec<String>, Vec<String>)> {
        self.rows.raw()
    }

    fn notes(&self) -> Vec<String> {
        [self.notes.clone(), self.rows.notes()].concat()
    }
}

fn simple(names: &[String], options: &ReadOptions) -> Result<(String, ReadOptions), FormatError> {
    let tables: Vec<&String> = names.iter().filter(|n| !n.to_lowercase().ends_with(".xml")).collect();
    let [table] = tables.as_slice() else {
        return Err(FormatError::part("the archive", format!("without `meta.xml` it must have one table; it has {}", tables.len())));
    };
    // The header is not known yet: these terms are asked for if they are there.
    let mut options = options.clone();
    options.soft_map = TERMS.iter().map(|(t, m)| ((*t).to_owned(), (*m).to_owned())).collect();
    Ok(((*table).clone(), options))
}

fn described(
    place: &mut Place,
    names: &[String],
    meta: &str,
    options: &ReadOptions,
    notes: &mut Vec<String>,
) -> Result<(String, ReadOptions), FormatError> {
    let text = decode(place.read(meta)?, None).map_err(|e| FormatError::part("meta.xml", e))?;
    let mut xml = Xml::new(&text);
    let mut core = None;
    let mut extensions = Vec::new();
    loop {
        match xml.next(&["core", "extension"]).map_err(|e| FormatError::part("meta.xml", e))? {
            Node::Whole(e) if e.name == "core" => core = Some(e),
            Node::Whole(e) => {
                extensions.push(e.attribute("rowType").unwrap_or_default().rsplit(['/', '#']).next().unwrap_or_default().to_owned())
            }
            Node::EndOfFile => break,
            _ => {}
        }
    }
    let core = core.ok_or_else(|| FormatError::part("meta.xml", "it describes no core"))?;
    if !extensions.is_empty() {
        notes.push(format!("extensions were not taken: {}", extensions.join(", ")));
    }
    let location = core.child("files").and_then(|f| f.text_of("location")).unwrap_or_default();
    let location = location.to_owned();
    let folder = meta.strip_suffix("meta.xml").unwrap_or_default();
    let file = format!("{folder}{location}");
    if !names.contains(&file) {
        return Err(FormatError::part("meta.xml", format!("the core file `{location}` is not in the archive")));
    }
    Ok((file, core_options(&core, options)?))
}

fn unescaped(text: &str) -> Option<char> {
    match text {
        "\\t" => Some('\t'),
        "\\n" => Some('\n'),
        "\\r" => Some('\r'),
        other => other.chars().next(),
    }
}

fn core_options(core: &Element, options: &ReadOptions) -> Result<ReadOptions, FormatError> {
    let fault = |reason: String| FormatError::part("meta.xml", reason);
    let index = |e: &Element| -> Result<Option<usize>, FormatError> {
        let read = |t: &str| t.trim().parse::<usize>().ok().filter(|n| *n < 10_000).ok_or_else(|| fault(format!("`{t}` is no index")));
        e.attribute("index").map(read).transpose()
    };
    let mut columns: Vec<String> = Vec::new();
    let mut defaults = Vec::new();
    let set = |columns: &mut Vec<String>, n: usize, name: &str| {
        columns.resize(columns.len().max(n + 1), String::new());
        columns[n] = name.to_owned();
    };
    if let Some(n) = core.child("id").map(index).transpose()?.flatten() {
        set(&mut columns, n, "id");
    }
    for field in core.all("field") {
        let term = field.attribute("term").ok_or_else(|| fault("a field without a term".into()))?;
        let name = term.rsplit(['/', '#']).next().unwrap_or(term);
        let at = index(field)?;
        if let Some(n) = at {
            set(&mut columns, n, name);
        }
        match (field.attribute("default"), at) {
            (Some(value), _) => defaults.push((name.to_owned(), value.to_owned())),
            (None, None) => return Err(fault(format!("field `{name}` has neither an index nor a default"))),
            (None, Some(_)) => {}
        }
    }
    let attribute = |name: &str, otherwise: &str| core.attribute(name).unwrap_or(otherwise).to_owned();
    let quote = attribute("fieldsEnclosedBy", "\"");
    let skip = attribute("ignoreHeaderLines", "0");
    let mut out = ReadOptions {
        encoding: options.encoding.clone().or(Some(attribute("encoding", "UTF-8"))),
        delimiter: options.delimiter.or(unescaped(&attribute("fieldsTerminatedBy", ","))),
        quote: options.quote.clone().or(Some(if quote.is_empty() { "none".into() } else { quote })),
        skip: skip.trim().parse().map_err(|_| fault(format!("`{skip}` header lines")))?,
        no_header: true,
        ragged: true,
        defaults,
        ..options.clone()
    };
    let all: Vec<String> = columns.iter().cloned().chain(out.defaults.iter().map(|(n, _)| n.clone())).collect();
    if let Some(gone) = out.map.keys().find(|m| !all.contains(m)) {
        return Err(FormatError::Options(format!("there is no column `{gone}` to map; the archive has: {}", all.join(", "))));
    }
    out.soft_map = TERMS.iter().map(|(t, m)| ((*t).to_owned(), (*m).to_owned())).chain(std::mem::take(&mut out.map)).collect();
    out.columns = columns;
    Ok(out)
}
