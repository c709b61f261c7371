//! CoMapeo's category archive 1.0: a ZIP with categories, fields, a selection, icons and translations.

use super::{TakenConfiguration, scalar, scalar_json};
use crate::FormatError;
use crate::archive::Archive;
use cairn_model::{Category, Configuration, Field, FieldChoice, FieldType, Scalar, Tags, escape, message_key, unescape};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use zip::write::SimpleFileOptions;

/// Bytes of each part, unpacked: the limits of CoMapeo's reader.
const VERSION_BYTES: u64 = 100;
const JSON_BYTES: u64 = 1_000_000;
const ICON_BYTES: u64 = 2_000_000;

type Object = Map<String, Value>;

fn fault(place: &str, what: impl ToString) -> FormatError {
    FormatError::part(place, what)
}

fn object(archive: &mut Archive, name: &str) -> Result<Object, FormatError> {
    let bytes = archive.read(name, JSON_BYTES)?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(fault(name, "an object was expected")),
        Err(e) => Err(fault(name, format!("line {}, column {}: not JSON: {e}", e.line(), e.column()))),
    }
}

/// Reads an archive as CoMapeo's own reader does, and refuses what that refuses; but field type `date`, of its later versions, is taken.
pub(crate) fn read(archive: &mut Archive) -> Result<TakenConfiguration, FormatError> {
    for name in ["categories.json", "categorySelection.json", "metadata.json", "VERSION"] {
        if !archive.has(name) {
            let inside = archive.names().iter().any(|n| n.ends_with(&format!("/{name}")));
            let hint = if inside { "it lies in a folder: the archive must begin with it" } else { "it is not there" };
            return Err(fault(name, hint));
        }
    }
    version(archive)?;
    let mut notes = Vec::new();
    let mut out = Configuration::default();
    let categories = object(archive, "categories.json")?;
    let selection = object(archive, "categorySelection.json")?;
    let fields = if archive.has("fields.json") { object(archive, "fields.json")? } else { Object::new() };
    for (id, value) in &fields {
        out.fields.push(field(id, value).map_err(|e| fault("fields.json", format!("field `{id}`: {e}")))?);
    }
    let icons: Vec<String> =
        archive.names().iter().filter_map(|n| Some(n.strip_prefix("icons/")?.strip_suffix(".svg")?.to_owned())).collect();
    for (id, value) in &categories {
        let of = |e: String| fault("categories.json", format!("category `{id}`: {e}"));
        let category = category(id, value).map_err(of)?;
        if let Some(gone) = category.fields.iter().find(|f| !fields.contains_key(*f)) {
            return Err(of(format!("field `{gone}` is not there")));
        }
        if !category.icon.is_empty() && !icons.contains(&category.icon) {
            return Err(of(format!("icon `{}` is not there", category.icon)));
        }
        out.categories.push(category);
    }
    (out.for_points, out.for_lines) = (chosen(&selection, "observation", &out)?, chosen(&selection, "track", &out)?);
    in_order(&mut out);
    metadata(archive, &mut out)?;
    let used = |id: &String| out.categories.iter().any(|c| c.icon == *id);
    let unused = icons.iter().filter(|id| !used(id)).count();
    // CoMapeo creates only icons that a category uses; a few others do no harm.
    let icons: Vec<String> = if unused > 500 { icons.into_iter().filter(used).collect() } else { icons };
    let mut bytes_of_icons = 0;
    for id in icons {
        let name = format!("icons/{id}.svg");
        let bytes = archive.read(&name, ICON_BYTES)?;
        match super::svg::sanitise(&String::from_utf8_lossy(&bytes)) {
            Some(svg) => {
                bytes_of_icons += svg.len();
                if bytes_of_icons > super::ICONS_BYTES {
                    return Err(fault(&name, "the icons have more than 8 MiB together"));
                }
                out.icons.insert(id, svg);
            }
            None => notes.push(format!("{name} is no drawing that can be shown, and was left out")),
        }
    }
    for category in &mut out.categories {
        if !category.icon.is_empty() && !out.icons.contains_key(&category.icon) {
            category.icon.clear();
        }
    }
    translations(archive, &mut out)?;
    Ok(TakenConfiguration { configuration: out, kind: "comapeocat", notes })
}

/// Those that are offered first, in their order.
fn in_order(out: &mut Configuration) {
    let order: Vec<String> = out.for_points.iter().chain(&out.for_lines).cloned().collect();
    out.categories.sort_by_key(|c| order.iter().position(|id| *id == c.id).unwrap_or(usize::MAX));
}

fn version(archive: &mut Archive) -> Result<(), FormatError> {
    let bytes = archive.read("VERSION", VERSION_BYTES)?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    let number = |t: &str| t.bytes().all(|b| b.is_ascii_digit()).then(|| t.parse::<u64>().ok()).flatten();
    let parts: Option<Vec<u64>> = text.split('.').map(number).collect();
    match parts.as_deref() {
        Some([major, _]) if *major <= 1 => Ok(()),
        Some([major, _]) => Err(fault("VERSION", format!("version {major} of the format is newer than what is known here (1)"))),
        _ => Err(fault("VERSION", format!("`{}` is no version: as 1.0", crate::row::short(&text)))),
    }
}

fn text(value: &Value, key: &str, needed: bool) -> Result<String, String> {
    match value.get(key) {
        None if !needed => Ok(String::new()),
        Some(Value::String(t)) if !t.is_empty() || !needed => Ok(t.clone()),
        Some(Value::String(_)) => Err(format!("`{key}` is empty")),
        None => Err(format!("`{key}` is missing")),
        Some(_) => Err(format!("`{key}` must be a text")),
    }
}

fn texts(value: &Value, key: &str) -> Result<Vec<String>, String> {
    let Some(list) = value.get(key) else { return Ok(Vec::new()) };
    let list = list.as_array().ok_or_else(|| format!("`{key}` must be a list"))?;
    list.iter().map(|t| t.as_str().map(str::to_owned).ok_or_else(|| format!("`{key}` must be texts"))).collect()
}

fn tags(value: &Value, key: &str, needed: bool) -> Result<Tags, String> {
    let Some(found) = value.get(key) else {
        return if needed { Err(format!("`{key}` is missing")) } else { Ok(Tags::new()) };
    };
    let object = found.as_object().ok_or_else(|| format!("`{key}` must be an object"))?;
    if needed && object.is_empty() {
        return Err(format!("`{key}` has no entry"));
    }
    object.iter().map(|(k, v)| Ok((k.clone(), scalar(v).ok_or_else(|| format!("tag `{k}` must be one value"))?))).collect()
}

fn category(id: &str, value: &Value) -> Result<Category, String> {
    if !value.is_object() {
        return Err("an object was expected".into());
    }
    let applies = texts(value, "appliesTo")?;
    let mut kinds: Vec<String> = Vec::new();
    for kind in applies.iter().filter_map(|a| kind_of(a)) {
        if kinds.iter().any(|k| k == kind) {
            return Err("`appliesTo` names one kind twice".into());
        }
        kinds.push(kind.to_owned());
    }
    if kinds.is_empty() {
        return Err("`appliesTo` names neither observation nor track".into());
    }
    let color = text(value, "color", false)?;
    let digits = color.strip_prefix('#').unwrap_or_default();
    if value.get("color").is_some() && !(matches!(digits.len(), 3 | 4 | 6 | 8) && digits.bytes().all(|b| b.is_ascii_hexdigit())) {
        return Err(format!("`{color}` is no colour: #rrggbb"));
    }
    let fields = texts(value, "fields")?;
    if fields.iter().any(String::is_empty) {
        return Err("`fields` names an empty id".into());
    }
    if value.get("icon").is_some() && text(value, "icon", false)?.is_empty() {
        return Err("`icon` is empty".into());
    }
    Ok(Category {
        id: id.to_owned(),
        name: text(value, "name", true)?,
        applies_to: kinds,
        fields,
        color,
        icon: text(value, "icon", false)?,
        terms: texts(value, "terms")?,
        tags: tags(value, "tags", true)?,
        add_tags: tags(value, "addTags", false)?,
        remove_tags: tags(value, "removeTags", false)?,
    })
}

fn kind_of(document: &str) -> Option<&'static str> {
    match document {
        "observation" => Some("point"),
        "track" => Some("line"),
        _ => None,
    }
}

/// Options with ids made of their values, which are what records of CoMapeo have.
pub(super) fn options(value: &Value) -> Result<Vec<FieldChoice>, String> {
    let list = value.get("options").and_then(Value::as_array).ok_or("`options` is missing")?;
    if list.is_empty() {
        return Err("`options` is empty".into());
    }
    if list.len() > 2_000 {
        return Err(format!("{} options; at most 2000 can be chosen from", list.len()));
    }
    let mut out: Vec<FieldChoice> = Vec::new();
    for option in list {
        let label = text(option, "label", true)?;
        let value = option.get("value").ok_or_else(|| format!("option `{label}` has no value"))?;
        let value = scalar(value).ok_or_else(|| format!("option `{label}`: the value must be one"))?;
        if matches!(value, Scalar::Number(n) if n.fract() != 0.0) {
            return Err(format!("option `{label}`: a number must be a whole one"));
        }
        let same = |o: &FieldChoice| o.value.clone().unwrap_or_else(|| Scalar::Text(o.id.clone())) == value;
        if out.iter().any(same) {
            return Err(format!("two options have the value `{}`", value.display()));
        }
        let mut id = value.display();
        while id.is_empty() || out.iter().any(|o| o.id == id) {
            id.push('_');
        }
        let plain = value == Scalar::Text(id.clone());
        out.push(FieldChoice { id, label, value: (!plain).then_some(value) });
    }
    Ok(out)
}

fn field(id: &str, value: &Value) -> Result<Field, String> {
    let (label, tag) = (text(value, "label", true)?, text(value, "tagKey", true)?);
    let look = text(value, "appearance", false)?;
    let ours = value.get("cairn").and_then(|c| c.get("type")).and_then(Value::as_str).unwrap_or_default();
    let kind = match text(value, "type", true)?.as_str() {
        "text" if !matches!(look.as_str(), "" | "singleline" | "multiline") => return Err(format!("`appearance` {look} is unknown")),
        "text" => {
            FieldType::from_word(ours, Vec::new()).filter(|k| matches!(k, FieldType::Date | FieldType::Time)).unwrap_or(FieldType::Text)
        }
        "number" if ours == "integer" => FieldType::Integer,
        "number" => FieldType::Decimal,
        "date" => FieldType::Date,
        "selectOne" => {
            let options = options(value)?;
            if ours == "yes-no" { FieldType::YesNo } else { FieldType::OneOf(options) }
        }
        "selectMultiple" => FieldType::SeveralOf(options(value)?),
        other => return Err(format!("type `{other}` is not known")),
    };
    let help = text(value, "helperText", false)?;
    let placeholder = text(value, "placeholder", false)?;
    let tag = if tag == id { String::new() } else { tag };
    Ok(Field { id: id.to_owned(), label, help, kind, tag, placeholder, look })
}

fn chosen(selection: &Object, document: &str, out: &Configuration) -> Result<Vec<String>, FormatError> {
    let of = |e: String| fault("categorySelection.json", e);
    let ids = texts(&Value::Object(selection.clone()), document).map_err(of)?;
    if ids.is_empty() {
        return Err(of(format!("no category is offered for `{document}`")));
    }
    let kind = kind_of(document).unwrap_or_default();
    for id in &ids {
        match out.category(id) {
            None => return Err(of(format!("category `{id}` is not there"))),
            Some(c) if !c.applies_to.iter().any(|a| a == kind) => {
                return Err(of(format!("category `{id}` does not apply to `{document}`")));
            }
            Some(_) => {}
        }
    }
    Ok(ids)
}

fn metadata(archive: &mut Archive, out: &mut Configuration) -> Result<(), FormatError> {
    let metadata = Value::Object(object(archive, "metadata.json")?);
    let of = |e: String| fault("metadata.json", e);
    for (key, most, needed) in [("name", 100, true), ("version", 20, false), ("builderName", 100, false), ("builderVersion", 20, false)] {
        let found = text(&metadata, key, needed).map_err(of)?;
        let units = found.encode_utf16().count();
        if units > most || (metadata.get(key).is_some() && units == 0) {
            return Err(of(format!("`{key}` must have 1 to {most} letters")));
        }
    }
    if !metadata.get("buildDateValue").is_some_and(Value::is_number) {
        return Err(of("`buildDateValue` must be a number".into()));
    }
    out.name = text(&metadata, "name", true).map_err(of)?;
    out.version = text(&metadata, "version", false).map_err(of)?;
    Ok(())
}

/// A language's name as people and programs write it; `None` for what is no such.
fn language(name: &str) -> Option<String> {
    let mut parts = name.split(['-', '_']);
    let primary = parts.next().filter(|p| matches!(p.len(), 2 | 3) && p.bytes().all(|b| b.is_ascii_alphabetic()))?;
    let mut out = primary.to_lowercase();
    for part in parts {
        let alphanumeric = !part.is_empty() && part.len() <= 8 && part.bytes().all(|b| b.is_ascii_alphanumeric());
        alphanumeric.then_some(())?;
        out.push('-');
        out.push_str(&match part.len() {
            2 => part.to_uppercase(),
            4 if part.bytes().all(|b| b.is_ascii_alphabetic()) => part[..1].to_uppercase() + &part[1..].to_lowercase(),
            _ => part.to_lowercase(),
        });
    }
    Some(out)
}

fn translations(archive: &mut Archive, out: &mut Configuration) -> Result<(), FormatError> {
    for name in archive.names() {
        let Some(tag) = name.strip_prefix("translations/").and_then(|n| n.strip_suffix(".json")) else { continue };
        // A file that names no language is ignored, as CoMapeo does.
        let Some(language) = language(tag) else { continue };
        let mut messages = BTreeMap::new();
        for (kind, documents) in object(archive, &name)? {
            let of = match kind.as_str() {
                "category" => 'c',
                "field" => 'v',
                other => return Err(fault(&name, format!("`{other}` is neither category nor field"))),
            };
            for (id, properties) in documents.as_object().into_iter().flatten() {
                for (property, message) in properties.as_object().into_iter().flatten() {
                    let message = message.as_str().ok_or_else(|| fault(&name, format!("`{id}`, `{property}`: a text was expected")))?;
                    if let Some(property) = property_in(out, of, id, property) {
                        messages.insert(message_key(of, id, &property), message.to_owned());
                    }
                }
            }
        }
        out.messages.insert(language, messages);
    }
    Ok(())
}

/// Our name of a property; unknown ones, of unknown documents, are ignored.
fn property_in(out: &Configuration, of: char, id: &str, property: &str) -> Option<String> {
    if of == 'c' {
        out.category(id)?;
        return match property {
            "name" | "terms" => Some(property.to_owned()),
            _ => None,
        };
    }
    let field = out.field(id)?;
    match property {
        "label" | "placeholder" => return Some(property.to_owned()),
        "helperText" => return Some("help".into()),
        _ => {}
    }
    let value = property.strip_prefix("options[value=")?.strip_suffix("].label")?;
    let value = scalar(&serde_json::from_str(value).ok()?)?;
    let is = |o: &&FieldChoice| o.value.clone().unwrap_or_else(|| Scalar::Text(o.id.clone())) == value;
    field.kind.choices().iter().find(is).map(|o| format!("l.{}", escape(&o.id)))
}

fn property_out(field: &Field, property: &str) -> Option<String> {
    match property {
        "label" | "placeholder" => return Some(property.to_owned()),
        "help" => return Some("helperText".into()),
        _ => {}
    }
    let id = unescape(property.strip_prefix("l.")?)?;
    let option = field.kind.choices().iter().find(|o| o.id == id)?;
    let value = option.value.as_ref().map_or_else(|| Value::from(id.as_str()), scalar_json);
    Some(format!("options[value={value}].label"))
}

/// The parts of an archive, each with its JSON.
struct Parts {
    categories: Object,
    fields: Object,
    selection: Value,
    metadata: Value,
    notes: Vec<String>,
}

fn parts(c: &Configuration, now_ms: i64) -> Result<Parts, FormatError> {
    let mut notes = Vec::new();
    let mut fields = Object::new();
    for f in &c.fields {
        fields.insert(f.id.clone(), field_json(f, &mut notes));
    }
    let mut categories = Object::new();
    for category in &c.categories {
        let documents: Vec<&str> = category.applies_to.iter().filter_map(|a| document_of(a)).collect();
        if documents.is_empty() {
            notes.push(format!("category `{}` is only for areas, which CoMapeo does not have: it is left out", category.id));
            continue;
        }
        categories.insert(category.id.clone(), category_json(c, category, &documents));
    }
    let offered =
        |kind: &str| -> Vec<String> { c.offered(kind).iter().map(|c| c.id.clone()).filter(|id| categories.contains_key(id)).collect() };
    let (points, lines) = (offered("point"), offered("line"));
    for (ids, word) in [(&points, "observations"), (&lines, "tracks")] {
        if ids.is_empty() {
            return Err(FormatError::Options(format!(
                "CoMapeo takes no configuration without a category for {word}: let one apply to them"
            )));
        }
    }
    let short = |text: &str, most: usize| text.chars().take(most).collect::<String>();
    let name = if c.name.trim().is_empty() { "Configuration".into() } else { short(&c.name, 50) };
    let mut metadata = json!({"name": name, "builderName": "cairn", "builderVersion": env!("CARGO_PKG_VERSION"), "buildDateValue": now_ms});
    if !c.version.is_empty() {
        metadata["version"] = json!(short(&c.version, 20));
    }
    Ok(Parts { categories, fields, selection: json!({"observation": points, "track": lines}), metadata, notes })
}

fn document_of(kind: &str) -> Option<&'static str> {
    match kind {
        "point" => Some("observation"),
        "line" => Some("track"),
        _ => None,
    }
}

fn category_json(c: &Configuration, category: &Category, documents: &[&str]) -> Value {
    let tags = |tags: &Tags| Value::Object(tags.iter().map(|(k, v)| (k.clone(), scalar_json(v))).collect());
    // CoMapeo tells categories by tags: one made here is told by its id.
    let own = Tags::from([("categoryId".to_owned(), Scalar::Text(category.id.clone()))]);
    let name = if category.name.is_empty() { &category.id } else { &category.name };
    let fields: Vec<&String> = category.fields.iter().filter(|f| c.field(f).is_some()).collect();
    let mut out = json!({
        "name": name, "appliesTo": documents, "fields": fields,
        "tags": tags(if category.tags.is_empty() { &own } else { &category.tags }),
    });
    if !category.add_tags.is_empty() {
        out["addTags"] = tags(&category.add_tags);
    }
    if !category.remove_tags.is_empty() {
        out["removeTags"] = tags(&category.remove_tags);
    }
    if !category.terms.is_empty() {
        out["terms"] = json!(category.terms);
    }
    if !category.color.is_empty() {
        out["color"] = json!(category.color);
    }
    if c.icons.contains_key(&category.icon) {
        out["icon"] = json!(category.icon);
    }
    out
}

fn field_json(f: &Field, notes: &mut Vec<String>) -> Value {
    let label = if f.label.is_empty() { &f.id } else { &f.label };
    let mut out = json!({"tagKey": f.tag_key(), "label": label});
    let option = |o: &FieldChoice| {
        let value = o.value.as_ref().map_or_else(|| json!(o.id), scalar_json);
        json!({"label": if o.label.is_empty() { &o.id } else { &o.label }, "value": value})
    };
    let kind = match &f.kind {
        FieldType::Integer | FieldType::Decimal => "number",
        FieldType::YesNo => {
            out["options"] = json!([{"label": "Yes", "value": true}, {"label": "No", "value": false}]);
            "selectOne"
        }
        FieldType::OneOf(choices) | FieldType::SeveralOf(choices) if !choices.is_empty() => {
            out["options"] = choices.iter().map(option).collect();
            if matches!(f.kind, FieldType::OneOf(_)) { "selectOne" } else { "selectMultiple" }
        }
        FieldType::Date | FieldType::Time => {
            notes.push(format!("field `{}` is a {} here and a text in CoMapeo", f.id, f.kind.word()));
            "text"
        }
        _ => "text",
    };
    out["type"] = json!(kind);
    if kind == "text" && matches!(f.look.as_str(), "singleline" | "multiline") {
        out["appearance"] = json!(f.look);
    }
    // Other readers ignore what they do not know; ours gets its types back.
    if matches!(f.kind, FieldType::Integer | FieldType::YesNo | FieldType::Date | FieldType::Time) {
        out["cairn"] = json!({"type": f.kind.word()});
    }
    for (key, text) in [("helperText", &f.help), ("placeholder", &f.placeholder)] {
        if !text.is_empty() {
            out[key] = json!(text);
        }
    }
    out
}

fn translation(c: &Configuration, messages: &BTreeMap<String, String>) -> Value {
    let mut out = json!({});
    for (key, message) in messages {
        let mut parts = key.splitn(3, '.');
        let (Some(of), Some(id), Some(property)) = (parts.next(), parts.next().and_then(unescape), parts.next()) else { continue };
        let (kind, property) = match of {
            "c" if c.category(&id).is_some() => ("category", Some(property.to_owned())),
            "v" => ("field", c.field(&id).and_then(|f| property_out(f, property))),
            _ => continue,
        };
        if let Some(property) = property {
            out[kind][&id][&property] = json!(message);
        }
    }
    out
}

pub(crate) fn write(c: &Configuration, now_ms: i64, path: &Path) -> Result<Vec<String>, FormatError> {
    let mut parts = parts(c, now_ms)?;
    let mut zip = zip::ZipWriter::new(crate::export::file(path)?);
    let options = SimpleFileOptions::default().compression_level(Some(9));
    let mut put = |name: &str, bytes: &[u8]| -> Result<(), FormatError> {
        zip.start_file(name, options).map_err(crate::export::io)?;
        Ok(zip.write_all(bytes)?)
    };
    let pretty = |value: &Value| serde_json::to_vec_pretty(value).map_err(crate::export::io);
    put("VERSION", b"1.0")?;
    put("categories.json", &pretty(&Value::Object(parts.categories))?)?;
    put("fields.json", &pretty(&Value::Object(parts.fields))?)?;
    put("categorySelection.json", &pretty(&parts.selection)?)?;
    put("metadata.json", &pretty(&parts.metadata)?)?;
    for (id, svg) in &c.icons {
        put(&format!("icons/{id}.svg"), svg.as_bytes())?;
    }
    for (tag, messages) in &c.messages {
        match language(tag) {
            Some(tag) => put(&format!("translations/{tag}.json"), &pretty(&translation(c, messages))?)?,
            None => parts.notes.push(format!("translations in `{tag}` are left out: that is no language CoMapeo knows")),
        }
    }
    crate::export::settle(zip.finish().map_err(crate::export::io)?)?;
    Ok(parts.notes)
}
