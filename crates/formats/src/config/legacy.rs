//! Mapeo's configurations, and CoMapeo's before category archives: `presets.json` with everything in it, in a ZIP or a TAR.

use super::{TakenConfiguration, scalar, svg};
use crate::FormatError;
use crate::archive::Archive;
use crate::xml::{Node, Xml};
use cairn_model::{Category, Configuration, Field, FieldChoice, FieldType, Tags, escape, message_key};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Bytes of a text part, and of a picture.
const JSON_BYTES: u64 = 4 << 20;
const ICON_BYTES: u64 = 10 << 20;

fn json(archive: &mut Archive, name: &str) -> Result<Value, FormatError> {
    let bytes = archive.read(name, JSON_BYTES)?;
    let text = bytes.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(&bytes);
    serde_json::from_slice(text).map_err(|e| FormatError::part(name, format!("line {}, column {}: not JSON: {e}", e.line(), e.column())))
}

fn words(value: &Value, key: &str) -> Vec<String> {
    value.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn tags(value: &Value, key: &str) -> Tags {
    let object = value.get(key).and_then(Value::as_object);
    object.into_iter().flatten().filter_map(|(k, v)| Some((k.clone(), scalar(v)?))).collect()
}

/// A bad field, preset or icon is left out and told; a project key is not even read.
pub(crate) fn read(archive: &mut Archive) -> Result<TakenConfiguration, FormatError> {
    let presets = json(archive, "presets.json")?;
    let metadata = json(archive, "metadata.json")?;
    let part = |name: &str| -> Result<Map<String, Value>, FormatError> {
        let found = presets.get(name).and_then(Value::as_object).cloned();
        found.ok_or_else(|| FormatError::part("presets.json", format!("`{name}` is missing")))
    };
    let (presets_part, fields_part) = (part("presets")?, part("fields")?);
    let mut notes = Vec::new();
    let mut out = Configuration { name: text(&metadata, "name"), version: text(&metadata, "version"), ..Configuration::default() };
    if metadata.get("projectKey").is_some() {
        notes.push("the file has the key of a Mapeo project in it: it is a secret, and was not kept; who has the file has it too".into());
    }
    for (id, value) in &fields_part {
        match field(id, value) {
            Some(field) => out.fields.push(field),
            None => notes.push(format!("field `{id}` does not read, and was left out")),
        }
    }
    let mut sorted = Vec::new();
    for (id, value) in &presets_part {
        match category(id, value, &out) {
            Some(category) => {
                let order = value.get("sort").and_then(Value::as_f64).unwrap_or(f64::MAX);
                sorted.push((order, category));
            }
            None => notes.push(format!("preset `{id}` does not read, and was left out")),
        }
    }
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.name.cmp(&b.1.name)));
    out.categories = sorted.into_iter().map(|(_, c)| c).collect();
    out.icons = icons(archive, &out, &mut notes)?;
    for category in out.categories.iter_mut().filter(|c| !c.icon.is_empty()) {
        if !out.icons.contains_key(&category.icon) {
            notes.push(format!("category `{}`: its icon `{}` is not there", category.id, category.icon));
            category.icon.clear();
        }
    }
    let defaults = |kind: &str| {
        let ids = presets.get("defaults").map(|d| words(d, kind)).unwrap_or_default();
        ids.into_iter().filter(|id| out.category(id).is_some_and(|c| c.applies_to.iter().any(|a| a == kind))).collect::<Vec<_>>()
    };
    (out.for_points, out.for_lines) = (defaults("point"), defaults("line"));
    if archive.has("translations.json") {
        translations(&json(archive, "translations.json")?, &mut out);
    }
    Ok(TakenConfiguration { configuration: out, kind: "mapeo", notes })
}

fn field(id: &str, value: &Value) -> Option<Field> {
    value.as_object()?;
    let key = if value.get("tagKey").is_some() { text(value, "tagKey") } else { text(value, "key") };
    if key.is_empty() {
        return None;
    }
    let options = options(value);
    let kind = match text(value, "type").as_str() {
        "number" | "integer" => FieldType::Decimal,
        "date" => FieldType::Date,
        "selectOne" | "select_one" | "select" if !options.is_empty() => FieldType::OneOf(options),
        "selectMultiple" | "select_multiple" | "select_many" | "multi-select" if !options.is_empty() => FieldType::SeveralOf(options),
        _ => FieldType::Text,
    };
    let label = if value.get("label").is_some_and(Value::is_string) { text(value, "label") } else { key.clone() };
    let look = match (text(value, "type").as_str(), text(value, "appearance").as_str()) {
        ("textarea", _) | (_, "multiline") => "multiline",
        (_, "singleline") => "singleline",
        _ => "",
    };
    // Mapeo showed the placeholder as an explanation.
    let old = value.get("tagKey").is_none();
    let (help, placeholder) =
        if old { (text(value, "placeholder"), String::new()) } else { (text(value, "helperText"), text(value, "placeholder")) };
    let tag = if key == id { String::new() } else { key };
    Some(Field { id: id.to_owned(), label, help, kind, tag, placeholder, look: look.into() })
}

fn options(value: &Value) -> Vec<FieldChoice> {
    let mut out: Vec<FieldChoice> = Vec::new();
    for option in value.get("options").and_then(Value::as_array).into_iter().flatten() {
        let (shown, stored) = match option {
            Value::Object(o) => (o.get("label").and_then(Value::as_str).map(str::to_owned), o.get("value").and_then(scalar)),
            other => (other.as_str().map(str::to_owned), scalar(other)),
        };
        let Some(stored) = stored else { continue };
        let id = stored.display();
        if !id.is_empty() && !out.iter().any(|o| o.id == id) {
            let plain = stored == cairn_model::Scalar::Text(id.clone());
            out.push(FieldChoice { label: shown.unwrap_or_else(|| id.clone()), value: (!plain).then_some(stored), id });
        }
    }
    out
}

fn category(id: &str, value: &Value, out: &Configuration) -> Option<Category> {
    value.as_object()?;
    let name = Some(text(value, "name")).filter(|n| !n.is_empty())?;
    let mut kinds: Vec<String> = Vec::new();
    for kind in words(value, "geometry").iter().filter_map(|g| match g.as_str() {
        "point" | "vertex" => Some("point"),
        "line" => Some("line"),
        "area" => Some("area"),
        _ => None,
    }) {
        if !kinds.iter().any(|k| k == kind) {
            kinds.push(kind.to_owned());
        }
    }
    if kinds.is_empty() {
        kinds.push("point".into());
    }
    let fields = words(value, "fields").into_iter().filter(|f| out.field(f).is_some()).collect();
    let (tags, add_tags, remove_tags) = (tags(value, "tags"), tags(value, "addTags"), tags(value, "removeTags"));
    let (color, icon, terms) = (text(value, "color"), text(value, "icon"), words(value, "terms"));
    Some(Category { id: id.to_owned(), name, applies_to: kinds, fields, color, icon, terms, tags, add_tags, remove_tags })
}

/// Drawings from the sprite; where there is none, the largest picture that is small enough.
fn icons(archive: &mut Archive, out: &Configuration, notes: &mut Vec<String>) -> Result<BTreeMap<String, String>, FormatError> {
    let mut icons = BTreeMap::new();
    if archive.has("icons.svg") {
        let text = String::from_utf8_lossy(&archive.read("icons.svg", ICON_BYTES)?).into_owned();
        icons.extend(symbols(&text));
    }
    let mut pictures: BTreeMap<String, Vec<(u32, String)>> = BTreeMap::new();
    for name in archive.names().into_iter().filter(|n| n.starts_with("icons/")) {
        match picture(&name) {
            Some((id, pixels)) => pictures.entry(id).or_default().push((pixels, name)),
            None => notes.push(format!("{name} is not named as an icon is, and was left out")),
        }
    }
    for (id, mut variants) in pictures {
        if icons.contains_key(&id) || !out.categories.iter().any(|c| c.icon == id) {
            continue;
        }
        variants.sort_by_key(|(pixels, _)| std::cmp::Reverse(*pixels));
        for (pixels, name) in variants {
            let Ok(bytes) = archive.read(&name, ICON_BYTES) else {
                notes.push(format!("{name} does not unpack, or has more than 10 MB, and was left out"));
                continue;
            };
            let drawn = if name.ends_with(".svg") { svg::sanitise(&String::from_utf8_lossy(&bytes)) } else { svg::of_png(&bytes, pixels) };
            if let Some(drawn) = drawn {
                icons.insert(id, drawn);
                break;
            }
        }
    }
    Ok(icons)
}

/// `icons/NAME-SIZE@NUMBERx.png`: the icon and its size in pixels.
fn picture(name: &str) -> Option<(String, u32)> {
    let file = name.strip_prefix("icons/")?;
    let (stem, _) = file.rsplit_once('.')?;
    let (stem, density) = stem.strip_suffix('x')?.rsplit_once('@')?;
    let (id, size) = stem.rsplit_once('-')?;
    let size = match size {
        "small" => 15,
        "medium" => 30,
        "large" => 50,
        _ => return None,
    };
    Some((id.to_owned(), size * density.parse::<u32>().ok().filter(|d| *d <= 8)?))
}

fn symbols(text: &str) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut xml = Xml::new(text);
    while let Ok(node) = xml.next(&["symbol"]) {
        match node {
            Node::Whole(mut symbol) => {
                let Some(id) = symbol.attribute("id").map(str::to_owned).filter(|id| !id.ends_with("-12")) else { continue };
                symbol.name = "svg".into();
                symbol.attributes.retain(|(n, _)| n != "id");
                out.extend(svg::sanitise_element(&symbol).map(|drawn| (id, drawn)));
            }
            Node::EndOfFile => break,
            _ => {}
        }
    }
    out
}

fn translations(file: &Value, out: &mut Configuration) {
    for (language, parts) in file.as_object().into_iter().flatten() {
        let mut messages = BTreeMap::new();
        let of = |name: &str| parts.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
        for (id, texts) in of("presets").iter().filter(|(id, _)| out.category(id).is_some()) {
            for property in ["name", "terms"] {
                if let Some(message) = texts.get(property).and_then(Value::as_str).filter(|m| !m.is_empty()) {
                    messages.insert(message_key('c', id, property), message.to_owned());
                }
            }
        }
        for (id, texts) in &of("fields") {
            let Some(field) = out.field(id) else { continue };
            for (property, ours) in [
                ("label", "label"),
                ("helperText", "help"),
                ("placeholder", if field.placeholder.is_empty() { "help" } else { "placeholder" }),
            ] {
                if let Some(message) = texts.get(property).and_then(Value::as_str).filter(|m| !m.is_empty()) {
                    messages.insert(message_key('v', id, ours), message.to_owned());
                }
            }
            for (value, option) in texts.get("options").and_then(Value::as_object).into_iter().flatten() {
                let label = option.as_str().or_else(|| option.get("label")?.as_str());
                if let Some(label) = label.filter(|_| field.kind.choices().iter().any(|o| o.id == *value)) {
                    messages.insert(message_key('v', id, &format!("l.{}", escape(value))), label.to_owned());
                }
            }
        }
        if !messages.is_empty() {
            out.messages.insert(language.clone(), messages);
        }
    }
}
