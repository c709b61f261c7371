//! What can be typed about the configuration.

use crate::args::pair;
use clap::Subcommand;
use std::path::PathBuf;

pub const CONFIG_HELP: &str =
    "Files: our own .json, CoMapeo's .comapeocat, Mapeo's .mapeosettings (both layouts), XLSForm (.xlsx, .xls, .csv). They are told apart
by what they hold. `import` makes a new version that all devices take over by themselves; `import --new-lineage` is another
configuration, which each device must follow with `adopt`.

Examples:
  cairn config import coastal.comapeocat --dry-run
  cairn config edit category fire --name \"Fire\" --fields severity,cause --icon fire.svg
  cairn config edit field severity --option low=Low --option high=High
  cairn config edit text es category fire name Incendio
  cairn config history
  cairn config diff 06a45149                      what changed since that version
  cairn config export team.comapeocat";

#[derive(Subcommand, Debug)]
pub enum ConfigVerb {
    /// Categories and fields
    Show {
        /// As it was: the beginning of a version (`config history`)
        #[arg(long = "at", value_name = "VERSION")]
        version: Option<String>,
    },
    /// Take a configuration file
    Import {
        file: PathBuf,
        /// Only tell what would change
        #[arg(long)]
        dry_run: bool,
        /// As another configuration, which every device must adopt
        #[arg(long)]
        new_lineage: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Write the configuration to a file: .json, or .comapeocat for CoMapeo
    Export {
        file: PathBuf,
        /// With an invitation for anyone (the project must be open): whoever has the file can read and write everything, for good
        #[arg(long)]
        with_invite: bool,
    },
    /// What is wrong with a file, or with the current configuration
    Lint { file: Option<PathBuf> },
    /// What differs, in words: from a file or version to another, or to the current one
    Diff {
        #[arg(value_name = "FILE|VERSION")]
        from: String,
        #[arg(value_name = "FILE|VERSION")]
        to: Option<String>,
    },
    /// Who changed what
    History {
        /// At most so many; 0 is no limit
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Change a part of it
    Edit {
        #[command(subcommand)]
        part: EditVerb,
        /// Only tell what would change
        #[arg(long, global = true)]
        dry_run: bool,
    },
    /// Switch the project to another configuration; other devices follow with `adopt`
    Switch {
        file: PathBuf,
        /// Only tell what would change
        #[arg(long)]
        dry_run: bool,
    },
    /// Follow the project's switch to another configuration on this device
    Adopt,
}

#[derive(Subcommand, Debug)]
pub enum EditVerb {
    /// Name and version
    About {
        #[arg(long)]
        name: Option<String>,
        #[arg(long = "set-version", value_name = "VERSION")]
        version: Option<String>,
    },
    /// A category; it is made if it is not there
    Category {
        id: String,
        #[arg(long)]
        name: Option<String>,
        /// point, line, area
        #[arg(long, value_name = "KINDS", value_delimiter = ',')]
        applies_to: Option<Vec<String>>,
        /// All its fields, in their order
        #[arg(long, value_name = "IDS", value_delimiter = ',')]
        fields: Option<Vec<String>>,
        /// #rrggbb
        #[arg(long)]
        color: Option<String>,
        /// Words it is found by
        #[arg(long, value_delimiter = ',')]
        terms: Option<Vec<String>>,
        /// SVG file
        #[arg(long, value_name = "FILE")]
        icon: Option<PathBuf>,
        /// Take it away; observations of it stay
        #[arg(long)]
        remove: bool,
    },
    /// A field; it is made if it is not there
    Field {
        id: String,
        #[arg(long)]
        label: Option<String>,
        /// text, integer, decimal, yes-no, date, time, one-of, several-of
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
        /// Explanation
        #[arg(long = "explain", value_name = "TEXT")]
        help_text: Option<String>,
        /// Example in the empty field
        #[arg(long)]
        placeholder: Option<String>,
        /// Add an option, or call it otherwise
        #[arg(long = "option", value_name = "ID=LABEL", value_parser = pair)]
        options: Vec<(String, String)>,
        /// Take an option away
        #[arg(long, value_name = "ID")]
        remove_option: Vec<String>,
        /// Take it away; what was written in it stays
        #[arg(long)]
        remove: bool,
    },
    /// The order in which categories are offered
    Order {
        #[arg(value_parser = ["point", "line"])]
        kind: String,
        ids: Vec<String>,
    },
    /// A translation; an empty text takes it away
    Text {
        /// As es, pt-BR
        language: String,
        #[arg(value_parser = ["category", "field"])]
        of: String,
        id: String,
        /// name, terms, label, help, placeholder, option:ID
        property: String,
        text: String,
    },
}
