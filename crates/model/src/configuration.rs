//! A configuration: categories, fields, icons and translations, one document of flat keys.
//!
//! `name`, `version`, `order.<point|line>`; `c.<category>.name`, `.applies`, `.fields`, `.order`, `.color`, `.icon`, `.terms`, `.tags`,
//! `.add`, `.remove`; `v.<field>.label`, `.type`, `.help`, `.choices`, `.l.<option>`, `.x.<option>`, `.tag`, `.placeholder`, `.look`;
//! `i.<icon>`; `t.<language>.<c|v>.<id>.<property>`. Lists are one scalar (escaped ids with blanks between), because their order
//! must change as one.

use crate::{DocState, Value, escape, unescape};
use std::collections::BTreeMap;

/// A value of a tag or an option, in the words of other programs.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
pub enum Scalar {
    /// Text.
    Text(String),
    /// Number.
    Number(f64),
    /// Yes or no.
    Bool(bool),
    /// Nothing.
    Null,
}

/// Tags by key.
pub type Tags = BTreeMap<String, Scalar>;

/// A category people choose for an observation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Category {
    /// Stable id.
    pub id: String,
    /// Shown name.
    pub name: String,
    /// `point`, `line`, `area`.
    pub applies_to: Vec<String>,
    /// Ids of the fields asked, in order.
    pub fields: Vec<String>,
    /// `#rrggbb`, or empty.
    pub color: String,
    /// Id of the icon, or empty.
    pub icon: String,
    /// Words it is found by.
    pub terms: Vec<String>,
    /// Tags that mark a record as of this category in other programs; none for a category made here.
    pub tags: Tags,
    /// Tags set when it is chosen there, where they differ.
    pub add_tags: Tags,
    /// Tags removed when another one is chosen there, where they differ.
    pub remove_tags: Tags,
}

/// One option of a field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldChoice {
    /// What is stored.
    pub id: String,
    /// What is shown.
    pub label: String,
    /// What other programs store, where it is not the text of the id.
    pub value: Option<Scalar>,
}

/// What a field holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum FieldType {
    /// Any text.
    #[default]
    Text,
    /// Whole number.
    Integer,
    /// Decimal number.
    Decimal,
    /// Yes or no.
    YesNo,
    /// Calendar day, `YYYY-MM-DD`.
    Date,
    /// Moment, RFC 3339.
    Time,
    /// Exactly one of the options.
    OneOf(Vec<FieldChoice>),
    /// Any number of the options.
    SeveralOf(Vec<FieldChoice>),
}

/// A field people fill in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Field {
    /// Stable id.
    pub id: String,
    /// Shown label.
    pub label: String,
    /// Longer explanation, may be empty.
    pub help: String,
    /// What it holds.
    pub kind: FieldType,
    /// The key of its value in other programs' records; the id if empty.
    pub tag: String,
    /// Shown in the empty field.
    pub placeholder: String,
    /// `singleline`, `multiline`, or empty.
    pub look: String,
}

/// What is wrong with a field's value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TypedFault {
    /// Not of the field's type.
    #[error("`{value}` is not {wanted}")]
    Type {
        /// What was given.
        value: String,
        /// What would fit.
        wanted: &'static str,
    },
    /// Not one of the options.
    #[error("`{value}` is not one of: {options}")]
    Option {
        /// What was given.
        value: String,
        /// The options, comma-separated.
        options: String,
    },
}

/// Categories, fields and what belongs to them, read from a configuration document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Configuration {
    /// Shown name.
    pub name: String,
    /// Shown version, free text.
    pub version: String,
    /// Categories in their order.
    pub categories: Vec<Category>,
    /// Fields by id.
    pub fields: Vec<Field>,
    /// Categories offered for positions, in their order; all that apply, if empty.
    pub for_points: Vec<String>,
    /// Categories offered for tracks, in their order; all that apply, if empty.
    pub for_lines: Vec<String>,
    /// SVG by icon id.
    pub icons: BTreeMap<String, String>,
    /// Language -> what is translated (see [`message_key`]) -> text.
    pub messages: BTreeMap<String, BTreeMap<String, String>>,
}

/// Names a text of a category (`c`) or field (`v`): `name`, `terms`, `label`, `help`, `placeholder`, or an option's label by
/// its escaped id as `l.<option>`.
pub fn message_key(of: char, id: &str, property: &str) -> String {
    format!("{of}.{}.{property}", escape(id))
}

impl Scalar {
    /// As a word: for ids made of values, and for people.
    pub fn display(&self) -> String {
        match self {
            Scalar::Text(t) => t.clone(),
            Scalar::Number(n) => n.to_string(),
            Scalar::Bool(b) => b.to_string(),
            Scalar::Null => "null".into(),
        }
    }

    fn encode(&self) -> String {
        match self {
            Scalar::Text(t) => format!("s{}", escape(t)),
            Scalar::Number(n) => format!("n{}", escape(&n.to_string())),
            Scalar::Bool(b) => format!("b{b}"),
            Scalar::Null => "z".into(),
        }
    }

    fn decode(text: &str) -> Option<Self> {
        let rest = text.get(1..)?;
        Some(match text.chars().next()? {
            's' => Scalar::Text(unescape(rest)?),
            'n' => Scalar::Number(unescape(rest)?.parse().ok()?),
            'b' => Scalar::Bool(rest == "true"),
            'z' => Scalar::Null,
            _ => return None,
        })
    }
}

fn tags_text(tags: &Tags) -> String {
    tags.iter().map(|(k, v)| format!("{}={}", escape(k), v.encode())).collect::<Vec<_>>().join(" ")
}

fn read_tags(text: &str) -> Tags {
    let pair = |t: &str| t.split_once('=').and_then(|(k, v)| Some((unescape(k)?, Scalar::decode(v)?)));
    text.split(' ').filter_map(pair).collect()
}

impl FieldType {
    /// The word for the type in documents, `config show` and configuration files.
    pub fn word(&self) -> &'static str {
        match self {
            FieldType::Text => "text",
            FieldType::Integer => "integer",
            FieldType::Decimal => "decimal",
            FieldType::YesNo => "yes-no",
            FieldType::Date => "date",
            FieldType::Time => "time",
            FieldType::OneOf(_) => "one-of",
            FieldType::SeveralOf(_) => "several-of",
        }
    }

    /// The type behind a word, with the options for the two that have them.
    pub fn from_word(word: &str, choices: Vec<FieldChoice>) -> Option<Self> {
        Some(match word {
            "text" => FieldType::Text,
            "integer" => FieldType::Integer,
            "decimal" => FieldType::Decimal,
            "yes-no" => FieldType::YesNo,
            "date" => FieldType::Date,
            "time" => FieldType::Time,
            "one-of" => FieldType::OneOf(choices),
            "several-of" => FieldType::SeveralOf(choices),
            _ => return None,
        })
    }

    /// The options, empty for types without.
    pub fn choices(&self) -> &[FieldChoice] {
        match self {
            FieldType::OneOf(choices) | FieldType::SeveralOf(choices) => choices,
            _ => &[],
        }
    }

    /// A typed value from text; for several-of use [`FieldType::pick_several`].
    pub fn parse(&self, text: &str) -> Result<Value, TypedFault> {
        let wrong = |wanted| TypedFault::Type { value: text.to_owned(), wanted };
        let trimmed = text.trim();
        match self {
            FieldType::Text | FieldType::SeveralOf(_) => Ok(Value::from(text)),
            FieldType::Integer => trimmed.parse().map(Value::Integer).map_err(|_| wrong("a whole number")),
            FieldType::Decimal => match trimmed.parse::<f64>() {
                Ok(n) if n.is_finite() => Ok(Value::Decimal(n + 0.0)),
                _ => Err(wrong("a number")),
            },
            FieldType::YesNo => match trimmed.to_ascii_lowercase().as_str() {
                "yes" | "true" | "1" | "y" => Ok(Value::Bool(true)),
                "no" | "false" | "0" | "n" => Ok(Value::Bool(false)),
                _ => Err(wrong("yes or no")),
            },
            FieldType::Date => match crate::Instant::parse(trimmed) {
                Ok(_) if trimmed.len() == 10 => Ok(Value::from(trimmed)),
                _ => Err(wrong("a date (2025-06-30)")),
            },
            FieldType::Time => match crate::Instant::parse(trimmed) {
                Ok(t) => Ok(Value::Text(t.to_rfc3339())),
                Err(_) => Err(wrong("a time (2025-06-30T14:05:00Z)")),
            },
            FieldType::OneOf(choices) => pick(choices, trimmed).map(|id| Value::Text(id.to_owned())),
        }
    }

    /// The option ids in a `;`-separated list; empty text chooses none.
    pub fn pick_several(choices: &[FieldChoice], text: &str) -> Result<Vec<String>, TypedFault> {
        let parts = text.split(';').map(str::trim).filter(|p| !p.is_empty());
        parts.map(|p| pick(choices, p).map(str::to_owned)).collect()
    }
}

/// By id, or else by label in any case: people type what they read.
fn pick<'a>(choices: &'a [FieldChoice], text: &str) -> Result<&'a str, TypedFault> {
    let by_id = choices.iter().find(|c| c.id == text);
    let found = by_id.or_else(|| choices.iter().find(|c| c.label.to_lowercase() == text.to_lowercase()));
    found.map(|c| c.id.as_str()).ok_or_else(|| TypedFault::Option {
        value: text.to_owned(),
        options: choices.iter().map(|c| c.id.as_str()).collect::<Vec<_>>().join(", "),
    })
}

impl Configuration {
    /// The category with this id.
    pub fn category(&self, id: &str) -> Option<&Category> {
        self.categories.iter().find(|c| c.id == id)
    }

    /// The field with this id.
    pub fn field(&self, id: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.id == id)
    }

    /// Every key of the document that would show exactly this.
    pub fn to_keys(&self) -> BTreeMap<String, Value> {
        let mut keys = BTreeMap::new();
        let mut put = |key: String, value: &str| {
            if !value.is_empty() {
                keys.insert(key, Value::from(value));
            }
        };
        put("name".into(), &self.name);
        put("version".into(), &self.version);
        for (order, c) in self.categories.iter().enumerate() {
            let at = format!("c.{}", escape(&c.id));
            put(format!("{at}.name"), if c.name.is_empty() { &c.id } else { &c.name });
            put(format!("{at}.applies"), &join(&c.applies_to));
            put(format!("{at}.fields"), &join(&c.fields));
            put(format!("{at}.order"), &order.to_string());
            put(format!("{at}.color"), &c.color);
            put(format!("{at}.icon"), &c.icon);
            put(format!("{at}.terms"), &join(&c.terms));
            put(format!("{at}.tags"), &tags_text(&c.tags));
            put(format!("{at}.add"), &tags_text(&c.add_tags));
            put(format!("{at}.remove"), &tags_text(&c.remove_tags));
        }
        for f in &self.fields {
            let at = format!("v.{}", escape(&f.id));
            put(format!("{at}.label"), &f.label);
            put(format!("{at}.help"), &f.help);
            put(format!("{at}.type"), f.kind.word());
            let ids: Vec<String> = f.kind.choices().iter().map(|c| c.id.clone()).collect();
            put(format!("{at}.choices"), &join(&ids));
            for choice in f.kind.choices() {
                put(format!("{at}.l.{}", escape(&choice.id)), &choice.label);
                if let Some(value) = &choice.value {
                    put(format!("{at}.x.{}", escape(&choice.id)), &value.encode());
                }
            }
            put(format!("{at}.tag"), &f.tag);
            put(format!("{at}.placeholder"), &f.placeholder);
            put(format!("{at}.look"), &f.look);
        }
        put("order.point".into(), &join(&self.for_points));
        put("order.line".into(), &join(&self.for_lines));
        for (id, svg) in &self.icons {
            put(format!("i.{}", escape(id)), svg);
        }
        for (language, messages) in &self.messages {
            for (what, text) in messages {
                put(format!("t.{}.{what}", escape(language)), text);
            }
        }
        keys
    }

    /// `true` for a key that [`Configuration::to_keys`] can give: what newer versions of this program write beside is not ours.
    pub fn knows_key(key: &str) -> bool {
        if matches!(key, "name" | "version" | "order.point" | "order.line") {
            return true;
        }
        let mut parts = key.splitn(3, '.');
        match (parts.next(), parts.next(), parts.next()) {
            (Some("i"), Some(_), None) => true,
            (Some("t"), Some(_), Some(rest)) => rest.starts_with("c.") || rest.starts_with("v."),
            (Some("c"), Some(_), Some(part)) => {
                matches!(part, "name" | "applies" | "fields" | "order" | "color" | "icon" | "terms" | "tags" | "add" | "remove")
            }
            (Some("v"), Some(_), Some(part)) => {
                matches!(part, "label" | "type" | "help" | "choices" | "tag" | "placeholder" | "look")
                    || part.strip_prefix("l.").or(part.strip_prefix("x.")).is_some_and(|o| !o.contains('.'))
            }
            _ => false,
        }
    }

    /// The category whose tags a record of another program has; of several, the one with most of them.
    pub fn category_by_tags(&self, tag: &dyn Fn(&str) -> Option<String>) -> Option<&Category> {
        let all = |c: &&Category| !c.tags.is_empty() && c.tags.iter().all(|(k, v)| tag(k).is_some_and(|t| t == v.display()));
        // The first of those with as many: the order is the configuration's.
        self.categories.iter().rev().filter(all).max_by_key(|c| c.tags.len())
    }

    /// Categories for `point` or `line`, in the order in which they are offered.
    pub fn offered(&self, kind: &str) -> Vec<&Category> {
        let chosen = if kind == "line" { &self.for_lines } else { &self.for_points };
        if chosen.is_empty() {
            return self.categories.iter().filter(|c| c.applies_to.iter().any(|a| a == kind)).collect();
        }
        chosen.iter().filter_map(|id| self.category(id)).collect()
    }

    /// Reads the shown values. What is incomplete is filled with the id, never refused: it came from a colleague.
    pub fn read(state: &DocState) -> Self {
        let text = |key: String| state.get(&key).and_then(Value::as_text).map(str::to_owned);
        let list = |key: String| text(key).map(|t| split(&t)).unwrap_or_default();
        let mut out =
            Self { name: text("name".into()).unwrap_or_default(), version: text("version".into()).unwrap_or_default(), ..Self::default() };
        out.for_points = list("order.point".into());
        out.for_lines = list("order.line".into());
        let mut ordered = Vec::new();
        for (key, _) in state.keys() {
            out.read_extra(key, &text);
            let mut parts = key.splitn(3, '.');
            let (Some(what), Some(raw), Some(part)) = (parts.next(), parts.next(), parts.next()) else { continue };
            let Some(id) = unescape(raw) else { continue };
            match (what, part) {
                ("c", "name") => {
                    let at = format!("c.{raw}");
                    let order = text(format!("{at}.order")).and_then(|o| o.parse::<u64>().ok()).unwrap_or(u64::MAX);
                    let name = text(key.to_owned()).unwrap_or_else(|| id.clone());
                    let (applies_to, fields) = (list(format!("{at}.applies")), list(format!("{at}.fields")));
                    let word = |part: &str| text(format!("{at}.{part}")).unwrap_or_default();
                    let (color, icon, terms) = (word("color"), word("icon"), list(format!("{at}.terms")));
                    let (tags, add_tags, remove_tags) = (read_tags(&word("tags")), read_tags(&word("add")), read_tags(&word("remove")));
                    let category = Category { id, name, applies_to, fields, color, icon, terms, tags, add_tags, remove_tags };
                    ordered.push((order, category));
                }
                ("v", "type") => out.fields.push(read_field(id, raw, &text, &list)),
                _ => {}
            }
        }
        ordered.sort_by(|a, b| (a.0, &a.1.id).cmp(&(b.0, &b.1.id)));
        out.categories = ordered.into_iter().map(|(_, c)| c).collect();
        out
    }

    /// Icons and translations.
    fn read_extra(&mut self, key: &str, text: &impl Fn(String) -> Option<String>) {
        if let Some(id) = key.strip_prefix("i.").and_then(unescape) {
            self.icons.extend(text(key.to_owned()).map(|svg| (id, svg)));
        } else if let Some((language, what)) = key.strip_prefix("t.").and_then(|rest| rest.split_once('.'))
            && let (Some(language), Some(message)) = (unescape(language), text(key.to_owned()))
        {
            self.messages.entry(language).or_default().insert(what.to_owned(), message);
        }
    }
}

fn read_field(id: String, raw: &str, text: &impl Fn(String) -> Option<String>, list: &impl Fn(String) -> Vec<String>) -> Field {
    let at = format!("v.{raw}");
    let label_of = |option: &String| text(format!("{at}.l.{}", escape(option)));
    let choices = list(format!("{at}.choices"))
        .into_iter()
        .map(|option| FieldChoice {
            label: label_of(&option).unwrap_or_else(|| option.clone()),
            value: text(format!("{at}.x.{}", escape(&option))).and_then(|t| Scalar::decode(&t)),
            id: option,
        })
        .collect();
    let word = text(format!("{at}.type")).unwrap_or_default();
    Field {
        label: text(format!("{at}.label")).unwrap_or_else(|| id.clone()),
        help: text(format!("{at}.help")).unwrap_or_default(),
        tag: text(format!("{at}.tag")).unwrap_or_default(),
        placeholder: text(format!("{at}.placeholder")).unwrap_or_default(),
        look: text(format!("{at}.look")).unwrap_or_default(),
        kind: FieldType::from_word(&word, choices).unwrap_or(FieldType::Text),
        id,
    }
}

fn join(ids: &[String]) -> String {
    ids.iter().map(|id| escape(id)).collect::<Vec<_>>().join(" ")
}

fn split(text: &str) -> Vec<String> {
    text.split(' ').filter_map(unescape).filter(|id| !id.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ActorId, Change, default_configuration};

    #[test]
    fn a_configuration_survives_its_document() {
        let mut wanted = default_configuration();
        wanted.icons.insert("a/b".into(), "<svg/>".into());
        wanted.messages.entry("es-PE".into()).or_default().insert(message_key('c', "animal", "name"), "Animal visto".into());
        wanted.categories[0].tags = [("type".into(), Scalar::Text("a b".into())), ("n".into(), Scalar::Number(-1.5))].into();
        wanted.for_points = vec!["fire".into(), "animal".into()];
        let keys = wanted.to_keys().into_iter().map(|(k, v)| (k, Some(v))).collect();
        let bytes = DocState::default().edit(ActorId([1; 16]), 0, keys).unwrap();
        let mut state = DocState::default();
        state.apply(&Change::parse(&bytes).unwrap()).unwrap();
        let mut read = Configuration::read(&state);
        let by_id = |fields: &mut Vec<Field>| fields.sort_by(|a, b| a.id.cmp(&b.id));
        by_id(&mut read.fields);
        let mut sorted = wanted.clone();
        by_id(&mut sorted.fields);
        assert_eq!(read, sorted);
    }

    #[test]
    fn every_field_of_a_category_exists() {
        let c = default_configuration();
        for category in &c.categories {
            for field in &category.fields {
                assert!(c.field(field).is_some(), "{field} of {}", category.id);
            }
        }
    }

    #[test]
    fn values_are_checked_by_type() {
        assert_eq!(FieldType::YesNo.parse("Yes"), Ok(Value::Bool(true)));
        assert!(FieldType::Integer.parse("1.5").is_err());
        assert!(FieldType::Decimal.parse("NaN").is_err());
        assert!(FieldType::Date.parse("2025-02-30").is_err());
        let choices = vec![FieldChoice { id: "fire".into(), label: "Burned".into(), value: None }];
        assert_eq!(FieldType::OneOf(choices.clone()).parse("burned"), Ok(Value::from("fire")));
        assert!(FieldType::pick_several(&choices, "fire;flood").is_err());
    }
}
