//! Our own form of a configuration: JSON, as `config show` prints and `config export` writes.

use super::{TakenConfiguration, scalar, scalar_json};
use crate::FormatError;
use cairn_model::{Category, Configuration, Field, FieldChoice, FieldType, Tags};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

#[derive(Serialize, Deserialize)]
struct File {
    name: String,
    #[serde(default)]
    version: String,
    categories: Vec<CategoryPart>,
    #[serde(default)]
    fields: Vec<FieldPart>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    order_point: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    order_line: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    icons: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    messages: BTreeMap<String, BTreeMap<String, String>>,
}

#[derive(Serialize, Deserialize)]
struct CategoryPart {
    id: String,
    name: String,
    #[serde(default = "point")]
    applies_to: Vec<String>,
    #[serde(default)]
    fields: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    color: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    icon: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    terms: Vec<String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    tags: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    add_tags: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    remove_tags: Map<String, Value>,
}

fn point() -> Vec<String> {
    vec!["point".into()]
}

#[derive(Serialize, Deserialize)]
struct FieldPart {
    id: String,
    label: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    help: String,
    #[serde(default)]
    options: Vec<OptionPart>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    tag: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    placeholder: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    look: String,
}

#[derive(Serialize, Deserialize)]
struct OptionPart {
    id: String,
    label: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
}

fn tags_json(tags: &Tags) -> Map<String, Value> {
    tags.iter().map(|(k, v)| (k.clone(), scalar_json(v))).collect()
}

/// A configuration as JSON.
pub fn to_json(c: &Configuration) -> Value {
    let category = |c: &Category| CategoryPart {
        id: c.id.clone(),
        name: c.name.clone(),
        applies_to: c.applies_to.clone(),
        fields: c.fields.clone(),
        color: c.color.clone(),
        icon: c.icon.clone(),
        terms: c.terms.clone(),
        tags: tags_json(&c.tags),
        add_tags: tags_json(&c.add_tags),
        remove_tags: tags_json(&c.remove_tags),
    };
    let option = |o: &FieldChoice| OptionPart { id: o.id.clone(), label: o.label.clone(), value: o.value.as_ref().map(scalar_json) };
    let field = |f: &Field| FieldPart {
        id: f.id.clone(),
        label: f.label.clone(),
        kind: f.kind.word().into(),
        help: f.help.clone(),
        options: f.kind.choices().iter().map(option).collect(),
        tag: f.tag.clone(),
        placeholder: f.placeholder.clone(),
        look: f.look.clone(),
    };
    json!(File {
        name: c.name.clone(),
        version: c.version.clone(),
        categories: c.categories.iter().map(category).collect(),
        fields: c.fields.iter().map(field).collect(),
        order_point: c.for_points.clone(),
        order_line: c.for_lines.clone(),
        icons: c.icons.clone(),
        messages: c.messages.clone(),
    })
}

fn tags(map: &Map<String, Value>) -> Tags {
    map.iter().filter_map(|(k, v)| Some((k.clone(), scalar(v)?))).collect()
}

/// Reads and checks one.
pub(crate) fn read(bytes: &[u8]) -> Result<TakenConfiguration, FormatError> {
    let text = bytes.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(bytes);
    let broken = |e: serde_json::Error| FormatError::Structure { line: e.line() as u64, column: e.column() as u64, reason: e.to_string() };
    let file: File = serde_json::from_slice(text).map_err(broken)?;
    let mut out = Configuration { name: file.name, version: file.version, ..Configuration::default() };
    for f in file.fields {
        // Nothing is chosen by a null: it is as if it were not there.
        let option = |o: OptionPart| FieldChoice { value: o.value.as_ref().and_then(scalar), id: o.id, label: o.label };
        let kind = FieldType::from_word(&f.kind, f.options.into_iter().map(option).collect());
        let kind = kind.ok_or_else(|| FormatError::part(format!("field `{}`", f.id), format!("`{}` is not a type", f.kind)))?;
        out.fields.push(Field { id: f.id, label: f.label, help: f.help, kind, tag: f.tag, placeholder: f.placeholder, look: f.look });
    }
    for c in file.categories {
        if let Some(gone) = c.fields.iter().find(|id| !out.fields.iter().any(|f| f.id == **id)) {
            return Err(FormatError::part(format!("category `{}`", c.id), format!("it names a field `{gone}` that is not there")));
        }
        out.categories.push(Category {
            tags: tags(&c.tags),
            add_tags: tags(&c.add_tags),
            remove_tags: tags(&c.remove_tags),
            id: c.id,
            name: c.name,
            applies_to: c.applies_to,
            fields: c.fields,
            color: c.color,
            icon: c.icon,
            terms: c.terms,
        });
    }
    let mut notes = Vec::new();
    for (id, svg) in file.icons {
        match super::svg::sanitise(&svg) {
            Some(svg) => drop(out.icons.insert(id, svg)),
            None => notes.push(format!("icon `{id}` is no drawing that can be shown, and was left out")),
        }
    }
    (out.for_points, out.for_lines, out.messages) = (file.order_point, file.order_line, file.messages);
    Ok(TakenConfiguration { configuration: out, kind: "cairn", notes })
}
