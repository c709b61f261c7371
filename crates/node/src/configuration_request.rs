//! The request vocabulary of configurations.

use serde::{Deserialize, Serialize};

/// `config`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum ConfigRequest {
    /// Show it.
    Show {
        /// Beginning of a version; the latest if absent.
        version: Option<String>,
    },
    /// Take one from a file, as a new version of the current lineage.
    Import {
        /// The file, absolute.
        file: String,
        /// Tell what would change only.
        dry_run: bool,
    },
    /// Write it to a file: JSON, or a category archive by its ending.
    Export {
        /// The file, absolute.
        file: String,
        /// Put an invitation for anyone into it; the project must be open.
        with_invite: bool,
    },
    /// What is wrong with a file, or with the current one.
    Lint {
        /// The file, absolute.
        file: Option<String>,
    },
    /// What a file, or the current one, has that another version has not.
    Diff {
        /// A file (absolute) or the beginning of a version.
        from: String,
        /// The same; the current one if absent.
        to: Option<String>,
    },
    /// Who changed what, newest first.
    History {
        /// At most so many; 0 is no limit.
        limit: usize,
    },
    /// Change a part of it.
    Edit {
        /// Which part, and how.
        edit: ConfigEdit,
        /// Tell what would change only.
        dry_run: bool,
    },
    /// Switch the project to another configuration, from a file.
    Switch {
        /// The file, absolute.
        file: String,
        /// Tell what would change only.
        dry_run: bool,
    },
    /// Follow the project's switch on this device.
    Adopt,
}

/// `config edit`: parts that are absent stay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "kebab-case")]
pub enum ConfigEdit {
    /// Its name and version.
    About {
        /// Shown name.
        name: Option<String>,
        /// Shown version.
        version: Option<String>,
    },
    /// A category, made if it is not there.
    Category(Box<CategoryEdit>),
    /// A field, made if it is not there.
    Field(Box<FieldEdit>),
    /// The order in which categories are offered.
    Order {
        /// `point` or `line`.
        kind: String,
        /// Ids, in their order.
        ids: Vec<String>,
    },
    /// A translation; an empty text removes it.
    Text {
        /// Language tag.
        language: String,
        /// `category` or `field`.
        of: String,
        /// Its id.
        id: String,
        /// `name`, `terms`, `label`, `help`, `placeholder`, or `option:ID`.
        property: String,
        /// The text.
        text: String,
    },
}

/// Changes of a category.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CategoryEdit {
    /// Its id.
    pub id: String,
    /// Shown name.
    pub name: Option<String>,
    /// `point`, `line`, `area`.
    pub applies_to: Option<Vec<String>>,
    /// Ids of all its fields, in their order.
    pub fields: Option<Vec<String>>,
    /// Colour.
    pub color: Option<String>,
    /// Words it is found by.
    pub terms: Option<Vec<String>>,
    /// SVG file, absolute.
    pub icon: Option<String>,
    /// Take it away.
    pub remove: bool,
}

/// Changes of a field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FieldEdit {
    /// Its id.
    pub id: String,
    /// Shown label.
    pub label: Option<String>,
    /// Type word.
    pub kind: Option<String>,
    /// Explanation.
    pub help: Option<String>,
    /// Example in the empty field.
    pub placeholder: Option<String>,
    /// Options to add or to call otherwise: id, label.
    pub options: Vec<(String, String)>,
    /// Options to take away.
    pub remove_options: Vec<String>,
    /// Take it away.
    pub remove: bool,
}
