//! Darwin Core Archive: occurrences, their description, and metadata in EML.

use super::{About, ExportRow, RowWriter, Survey, Written, file, io, json, settle};
use crate::FormatError;
use crate::xml::escape;
use serde_json::{Map, json};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// Columns every row has, in their order.
const OWN: [&str; 11] = [
    "occurrenceID",
    "basisOfRecord",
    "eventDate",
    "decimalLatitude",
    "decimalLongitude",
    "geodeticDatum",
    "coordinateUncertaintyInMeters",
    "minimumElevationInMeters",
    "footprintWKT",
    "occurrenceRemarks",
    "dynamicProperties",
];

/// Terms of Darwin Core that a field of the same name becomes a column of.
const TERMS: [&str; 27] = [
    "scientificName",
    "vernacularName",
    "kingdom",
    "phylum",
    "class",
    "order",
    "family",
    "genus",
    "specificEpithet",
    "taxonRank",
    "individualCount",
    "sex",
    "lifeStage",
    "behavior",
    "recordedBy",
    "identifiedBy",
    "locality",
    "country",
    "countryCode",
    "stateProvince",
    "habitat",
    "samplingProtocol",
    "occurrenceStatus",
    "establishmentMeans",
    "organismQuantity",
    "organismQuantityType",
    "verbatimLocality",
];

pub(super) struct Dwca {
    out: Box<ZipWriter<BufWriter<File>>>,
    terms: Vec<String>,
    about: About,
    written: Written,
}

fn options() -> SimpleFileOptions {
    SimpleFileOptions::default().large_file(true)
}

impl Dwca {
    pub fn new(path: &Path, survey: &Survey, about: &About) -> Result<Self, FormatError> {
        let mut out = Box::new(ZipWriter::new(file(path)?));
        let terms: Vec<String> = survey.fields.keys().filter(|f| TERMS.contains(&f.as_str())).cloned().collect();
        out.start_file("occurrence.txt", options()).map_err(io)?;
        let header: Vec<&str> = OWN.into_iter().chain(terms.iter().map(String::as_str)).collect();
        writeln!(out, "{}", header.join("\t"))?;
        Ok(Self { out, terms, about: about.clone(), written: Written::default() })
    }

    fn meta(&self) -> String {
        let term = |t: &str| format!("http://rs.tdwg.org/dwc/terms/{t}");
        let field = |(n, t): (usize, &str)| format!("    <field index=\"{n}\" term=\"{}\"/>\n", term(t));
        let fields: String = OWN.into_iter().chain(self.terms.iter().map(String::as_str)).enumerate().map(field).collect();
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<archive xmlns=\"http://rs.tdwg.org/dwc/text/\" metadata=\"eml.xml\">\n  <core encoding=\"UTF-8\" fieldsTerminatedBy=\"\\t\" linesTerminatedBy=\"\\n\" fieldsEnclosedBy=\"\" ignoreHeaderLines=\"1\" rowType=\"{}\">\n    <files><location>occurrence.txt</location></files>\n    <id index=\"0\"/>\n{fields}  </core>\n</archive>\n",
            term("Occurrence")
        )
    }
}

/// A cell without the characters that the format has for itself.
fn cell(text: &str) -> String {
    text.replace(['\t', '\n', '\r'], " ")
}

/// The same id everywhere in the world: the observation's 128 bits.
fn occurrence_id(id: &cairn_model::DocId) -> String {
    let hex = id.to_string();
    format!("urn:uuid:{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

impl RowWriter for Dwca {
    fn write(&mut self, row: &ExportRow) -> Result<(), FormatError> {
        let seen = &row.seen;
        let mut properties = Map::new();
        properties.insert("category".into(), json!(seen.category));
        for (field, value) in seen.fields.iter().filter(|(f, _)| !self.terms.contains(f)) {
            let name = if field == "category" { "field:category" } else { field };
            properties.insert(name.to_owned(), json(value));
        }
        let number = |n: Option<f64>| n.map(|n| n.to_string()).unwrap_or_default();
        let place = seen.place;
        let mut cells = vec![
            occurrence_id(&row.id),
            "HumanObservation".into(),
            cell(seen.at.as_deref().unwrap_or_default()),
            number(place.map(|p| p.lat)),
            number(place.map(|p| p.lon)),
            if place.is_some() { "EPSG:4326".into() } else { String::new() },
            number(place.and_then(|p| p.uncertainty)),
            number(place.and_then(|p| p.altitude)),
            seen.shape.as_ref().map(crate::wkt::write).unwrap_or_default(),
            cell(seen.note.as_deref().unwrap_or_default()),
            serde_json::Value::Object(properties).to_string(),
        ];
        if seen.note.as_ref().is_some_and(|n| n.contains(['\t', '\n', '\r'])) {
            self.written.notes.insert("line ends and tabs in notes became blanks".into());
        }
        cells.extend(self.terms.iter().map(|t| cell(&seen.fields.get(t).map(|v| v.display()).unwrap_or_default())));
        writeln!(self.out, "{}", cells.join("\t"))?;
        self.written.rows += 1;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Written, FormatError> {
        for (name, text) in [("meta.xml", self.meta()), ("eml.xml", eml(&self.about))] {
            self.out.start_file(name, options()).map_err(io)?;
            self.out.write_all(text.as_bytes())?;
        }
        settle(self.out.finish().map_err(io)?)?;
        Ok(self.written)
    }
}

/// Ecological Metadata Language 2.2 with what is known: people complete it before they publish.
pub(crate) fn eml(about: &About) -> String {
    let project = escape(&about.project);
    let remarks = if about.remarks.is_empty() { String::new() } else { format!(" {}.", about.remarks.join("; ")) };
    let day = about.written.get(..10).unwrap_or_default();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<eml:eml xmlns:eml=\"https://eml.ecoinformatics.org/eml-2.2.0\" packageId=\"cairn-{}-{day}\" system=\"cairn\" xml:lang=\"en\">\n  <dataset>\n    <title>{project}</title>\n    <creator><organizationName>{project}</organizationName></creator>\n    <pubDate>{day}</pubDate>\n    <abstract><para>Observations of the project {project}, written by Cairn on {day}.{}</para></abstract>\n    <contact><organizationName>{project}</organizationName></contact>\n  </dataset>\n</eml:eml>\n",
        escape(&about.project_id),
        escape(&remarks)
    )
}
