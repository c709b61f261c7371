//! One change of a configuration by hand.

use crate::NodeError;
use crate::request::{CategoryEdit, ConfigEdit, FieldEdit};
use cairn_formats::sanitise_svg;
use cairn_model::{Category, Configuration, Field, FieldChoice, FieldType, escape, message_key};
use std::path::Path;

/// The configuration after an edit.
pub(crate) fn edited(before: &Configuration, edit: &ConfigEdit) -> Result<Configuration, NodeError> {
    let mut out = before.clone();
    match edit {
        ConfigEdit::About { name, version } => {
            out.name = name.clone().unwrap_or(out.name);
            out.version = version.clone().unwrap_or(out.version);
        }
        ConfigEdit::Category(edit) => category(&mut out, edit)?,
        ConfigEdit::Field(edit) => field(&mut out, edit)?,
        ConfigEdit::Order { kind, ids } => order(&mut out, kind, ids)?,
        ConfigEdit::Text { language, of, id, property, text } => translate(&mut out, language, of, (id, property), text)?,
    }
    Ok(out)
}

fn missing(what: &str, id: &str) -> NodeError {
    NodeError::input(format!("there is no {what} `{id}`; `cairn config show` lists them"))
}

fn category(out: &mut Configuration, edit: &CategoryEdit) -> Result<(), NodeError> {
    if edit.remove {
        out.category(&edit.id).ok_or_else(|| missing("category", &edit.id))?;
        out.categories.retain(|c| c.id != edit.id);
        for order in [&mut out.for_points, &mut out.for_lines] {
            order.retain(|id| *id != edit.id);
        }
        return Ok(());
    }
    if let Some(gone) = edit.fields.iter().flatten().find(|f| out.field(f).is_none()) {
        return Err(missing("field", gone));
    }
    let kinds = ["point", "line", "area"];
    if let Some(other) = edit.applies_to.iter().flatten().find(|k| !kinds.contains(&k.as_str())) {
        return Err(NodeError::input(format!("`{other}` is nothing a category applies to: point, line, area")));
    }
    if let Some(path) = edit.icon.as_deref().map(Path::new) {
        let text = std::fs::read_to_string(path).map_err(|e| NodeError::file(path, e))?;
        let drawn = sanitise_svg(&text).ok_or_else(|| NodeError::file(path, "this is no SVG drawing of at most 256 KiB"))?;
        out.icons.insert(edit.id.clone(), drawn);
    }
    if out.category(&edit.id).is_none() {
        out.categories.push(Category {
            id: edit.id.clone(),
            name: edit.id.clone(),
            applies_to: vec!["point".into()],
            ..Category::default()
        });
    }
    let Some(c) = out.categories.iter_mut().find(|c| c.id == edit.id) else { return Ok(()) };
    c.name = edit.name.clone().unwrap_or_else(|| c.name.clone());
    c.applies_to = edit.applies_to.clone().unwrap_or_else(|| c.applies_to.clone());
    c.fields = edit.fields.clone().unwrap_or_else(|| c.fields.clone());
    c.color = edit.color.clone().unwrap_or_else(|| c.color.clone());
    c.terms = edit.terms.clone().unwrap_or_else(|| c.terms.clone());
    if edit.icon.is_some() {
        c.icon = edit.id.clone();
    }
    Ok(())
}

fn field(out: &mut Configuration, edit: &FieldEdit) -> Result<(), NodeError> {
    if edit.remove {
        out.field(&edit.id).ok_or_else(|| missing("field", &edit.id))?;
        out.fields.retain(|f| f.id != edit.id);
        for c in &mut out.categories {
            c.fields.retain(|f| *f != edit.id);
        }
        return Ok(());
    }
    if out.field(&edit.id).is_none() {
        out.fields.push(Field { id: edit.id.clone(), label: edit.id.clone(), ..Field::default() });
    }
    let Some(f) = out.fields.iter_mut().find(|f| f.id == edit.id) else { return Ok(()) };
    let mut choices = f.kind.choices().to_vec();
    choices.retain(|o| !edit.remove_options.contains(&o.id));
    for (id, label) in &edit.options {
        match choices.iter_mut().find(|o| o.id == *id) {
            Some(option) => option.label.clone_from(label),
            None => choices.push(FieldChoice { id: id.clone(), label: label.clone(), value: None }),
        }
    }
    let word = edit.kind.as_deref().unwrap_or(if f.kind == FieldType::Text && !choices.is_empty() { "one-of" } else { f.kind.word() });
    f.kind = FieldType::from_word(word, choices)
        .ok_or_else(|| NodeError::input(format!("`{word}` is no type: text, integer, decimal, yes-no, date, time, one-of, several-of")))?;
    f.label = edit.label.clone().unwrap_or_else(|| f.label.clone());
    f.help = edit.help.clone().unwrap_or_else(|| f.help.clone());
    f.placeholder = edit.placeholder.clone().unwrap_or_else(|| f.placeholder.clone());
    Ok(())
}

fn order(out: &mut Configuration, kind: &str, ids: &[String]) -> Result<(), NodeError> {
    for id in ids {
        let category = out.category(id).ok_or_else(|| missing("category", id))?;
        if !category.applies_to.iter().any(|a| a == kind) {
            return Err(NodeError::input(format!("category `{id}` does not apply to `{kind}`")));
        }
    }
    // What is not named comes after: an order takes nothing out of the offer.
    let rest = out.offered(kind).into_iter().map(|c| c.id.clone()).filter(|id| !ids.contains(id));
    let ids: Vec<String> = ids.iter().cloned().chain(rest).collect();
    match kind {
        "point" => out.for_points = ids,
        "line" => out.for_lines = ids,
        other => return Err(NodeError::input(format!("`{other}` has no order: point or line"))),
    }
    Ok(())
}

fn translate(out: &mut Configuration, language: &str, of: &str, (id, property): (&str, &str), text: &str) -> Result<(), NodeError> {
    let unknown = || {
        NodeError::input(format!("`{property}` is no text of a {of}: name, terms (category); label, help, placeholder, option:ID (field)"))
    };
    let key = match of {
        "category" => {
            out.category(id).ok_or_else(|| missing("category", id))?;
            message_key('c', id, ["name", "terms"].into_iter().find(|p| *p == property).ok_or_else(unknown)?)
        }
        "field" => {
            let field = out.field(id).ok_or_else(|| missing("field", id))?;
            match property.strip_prefix("option:") {
                Some(option) if field.kind.choices().iter().any(|o| o.id == option) => {
                    message_key('v', id, &format!("l.{}", escape(option)))
                }
                Some(option) => return Err(missing("option", option)),
                None => {
                    let known = ["label", "help", "placeholder"].into_iter().find(|p| *p == property);
                    message_key('v', id, known.ok_or_else(unknown)?)
                }
            }
        }
        other => return Err(NodeError::input(format!("`{other}` is neither category nor field"))),
    };
    let messages = out.messages.entry(language.to_owned()).or_default();
    if text.is_empty() {
        messages.remove(&key);
    } else {
        messages.insert(key, text.to_owned());
    }
    out.messages.retain(|_, m| !m.is_empty());
    Ok(())
}
