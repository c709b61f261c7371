//! Requests about the configuration, from arguments.

use crate::args::ConfigVerb;
use crate::args_config::EditVerb;
use crate::run::{absolute, absolute_opt};
use crate::ui::Ui;
use cairn_node::{CategoryEdit, Client, ConfigEdit, ConfigRequest, FieldEdit, NodeError, Reply, Request};
use std::io::IsTerminal;
use std::path::Path;

pub fn request(what: &ConfigVerb) -> Result<ConfigRequest, NodeError> {
    Ok(match what {
        ConfigVerb::Show { version } => ConfigRequest::Show { version: version.clone() },
        ConfigVerb::Import { file, dry_run, new_lineage: true, .. } => ConfigRequest::Switch { file: absolute(file)?, dry_run: *dry_run },
        ConfigVerb::Import { file, dry_run, .. } => ConfigRequest::Import { file: absolute(file)?, dry_run: *dry_run },
        ConfigVerb::Export { file, with_invite } => ConfigRequest::Export { file: absolute(file)?, with_invite: *with_invite },
        ConfigVerb::Lint { file } => ConfigRequest::Lint { file: absolute_opt(file)? },
        ConfigVerb::Diff { from, to } => ConfigRequest::Diff { from: named(from)?, to: to.as_deref().map(named).transpose()? },
        ConfigVerb::History { limit } => ConfigRequest::History { limit: *limit },
        ConfigVerb::Edit { part, dry_run } => ConfigRequest::Edit { edit: edit(part)?, dry_run: *dry_run },
        ConfigVerb::Switch { file, dry_run } => ConfigRequest::Switch { file: absolute(file)?, dry_run: *dry_run },
        ConfigVerb::Adopt => ConfigRequest::Adopt,
    })
}

/// A file in full; a version as it is.
fn named(text: &str) -> Result<String, NodeError> {
    let path = Path::new(text);
    if path.exists() { absolute(path) } else { Ok(text.to_owned()) }
}

fn edit(part: &EditVerb) -> Result<ConfigEdit, NodeError> {
    Ok(match part {
        EditVerb::About { name, version } => ConfigEdit::About { name: name.clone(), version: version.clone() },
        EditVerb::Category { id, name, applies_to, fields, color, terms, icon, remove } => ConfigEdit::Category(Box::new(CategoryEdit {
            id: id.clone(),
            name: name.clone(),
            applies_to: applies_to.clone(),
            fields: fields.clone(),
            color: color.clone(),
            terms: terms.clone(),
            icon: absolute_opt(icon)?,
            remove: *remove,
        })),
        EditVerb::Field { id, label, kind, help_text, placeholder, options, remove_option, remove } => {
            ConfigEdit::Field(Box::new(FieldEdit {
                id: id.clone(),
                label: label.clone(),
                kind: kind.clone(),
                help: help_text.clone(),
                placeholder: placeholder.clone(),
                options: options.clone(),
                remove_options: remove_option.clone(),
                remove: *remove,
            }))
        }
        EditVerb::Order { kind, ids } => ConfigEdit::Order { kind: kind.clone(), ids: ids.clone() },
        EditVerb::Text { language, of, id, property, text } => {
            ConfigEdit::Text { language: language.clone(), of: of.clone(), id: id.clone(), property: property.clone(), text: text.clone() }
        }
    })
}

/// Another configuration for everybody: says first who must follow, and asks.
pub fn new_lineage(client: &Client, file: &Path, yes: bool, ui: &Ui) -> Result<Reply, NodeError> {
    let ask = |dry_run| client.ask(Request::Config(ConfigRequest::Switch { file: absolute(file)?, dry_run }), &|_, _, _| {});
    let told = ask(true)?;
    ui.say(&crate::render_config::before_switching(&told.data));
    if yes {
        return ask(false);
    }
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        return Err(NodeError::Refused {
            message: "another configuration is not taken without a word".into(),
            remedy: "say it with `--yes`; `--dry-run` tells what it changes".into(),
        });
    }
    ui.say("Switch to it? [y/N]");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|e| NodeError::Input { message: e.to_string() })?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") { ask(false) } else { Ok(told) }
}
