//! The configuration a new project starts with: environmental and community monitoring, so that `new` works at once.

use crate::{Category, Configuration, Field, FieldChoice, FieldType};

/// Nineteen categories and their fields; version `1`.
pub fn default_configuration() -> Configuration {
    Configuration {
        name: "Community monitoring".into(),
        version: "1".into(),
        categories: CATEGORIES.iter().map(category).collect(),
        fields: FIELDS.iter().map(field).collect(),
        ..Configuration::default()
    }
}

type CategoryRow = (&'static str, &'static str, &'static str);
type FieldRow = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

/// id, name, fields
const CATEGORIES: &[CategoryRow] = &[
    ("animal", "Animal seen", "species count behaviour signs"),
    ("animal-sign", "Track, nest or droppings", "species sign-kind age-days"),
    ("plant", "Plant", "species use condition"),
    ("tree", "Tree", "species girth-cm condition use"),
    ("water", "River, spring or lake", "water-state clarity temperature-c"),
    ("pollution", "Pollution", "pollution-kind severity source"),
    ("logging", "Logging", "severity still-there evidence"),
    ("mining", "Mining", "severity still-there evidence"),
    ("fire", "Fire or burned land", "severity still-there cause"),
    ("hunting", "Hunting or snare", "species evidence still-there"),
    ("fishing", "Fishing", "species count gear"),
    ("clearing", "Cleared land", "severity cause"),
    ("boundary", "Boundary or sign", "condition description"),
    ("path", "Path or road", "condition use"),
    ("house", "House or settlement", "people description"),
    ("garden", "Garden or field", "species use"),
    ("sacred", "Place of meaning", "description restricted"),
    ("interview", "Interview or story", "person language restricted description"),
    ("threat", "Threat or conflict", "severity still-there description"),
];

/// id, label, type, options
const FIELDS: &[FieldRow] = &[
    ("species", "Species or local name", "text", &[]),
    ("count", "How many", "integer", &[]),
    (
        "behaviour",
        "What it was doing",
        "several-of",
        &[
            ("feeding", "Feeding"),
            ("moving", "Moving"),
            ("resting", "Resting"),
            ("nesting", "Nesting"),
            ("calling", "Calling"),
            ("with-young", "With young"),
        ],
    ),
    ("signs", "Other signs", "text", &[]),
    (
        "sign-kind",
        "Kind of sign",
        "one-of",
        &[
            ("track", "Track"),
            ("nest", "Nest or den"),
            ("droppings", "Droppings"),
            ("feeding-trace", "Feeding trace"),
            ("carcass", "Carcass"),
        ],
    ),
    ("age-days", "Days old", "integer", &[]),
    (
        "use",
        "Used for",
        "several-of",
        &[
            ("food", "Food"),
            ("medicine", "Medicine"),
            ("building", "Building"),
            ("craft", "Craft"),
            ("ceremony", "Ceremony"),
            ("trade", "Trade"),
        ],
    ),
    ("condition", "Condition", "one-of", &[("good", "Good"), ("damaged", "Damaged"), ("dead", "Dead or gone")]),
    ("girth-cm", "Girth (cm)", "decimal", &[]),
    (
        "water-state",
        "State of the water",
        "one-of",
        &[("flowing", "Flowing"), ("standing", "Standing"), ("dry", "Dry"), ("flooded", "Flooded")],
    ),
    ("clarity", "Clarity", "one-of", &[("clear", "Clear"), ("cloudy", "Cloudy"), ("coloured", "Coloured")]),
    ("temperature-c", "Temperature (°C)", "decimal", &[]),
    (
        "pollution-kind",
        "Kind",
        "several-of",
        &[("oil", "Oil"), ("rubbish", "Rubbish"), ("chemical", "Chemical"), ("sewage", "Sewage"), ("noise", "Noise")],
    ),
    ("severity", "How serious", "one-of", &[("low", "Low"), ("medium", "Medium"), ("high", "High")]),
    ("source", "Where it comes from", "text", &[]),
    ("still-there", "Still going on", "yes-no", &[]),
    ("evidence", "Evidence", "text", &[]),
    ("cause", "Cause", "text", &[]),
    (
        "gear",
        "Gear",
        "several-of",
        &[("net", "Net"), ("line", "Line"), ("spear", "Spear"), ("poison", "Poison"), ("explosive", "Explosive")],
    ),
    ("people", "Number of people", "integer", &[]),
    ("person", "Who speaks", "text", &[]),
    ("language", "Language", "text", &[]),
    ("restricted", "Not to be shown outside", "yes-no", &[]),
    ("description", "Description", "text", &[]),
    ("seen-on", "Day", "date", &[]),
    ("seen-at", "Time", "time", &[]),
];

fn category((id, name, fields): &CategoryRow) -> Category {
    Category {
        id: (*id).into(),
        name: (*name).into(),
        applies_to: vec!["point".into(), "line".into(), "area".into()],
        fields: fields.split(' ').map(str::to_owned).collect(),
        ..Category::default()
    }
}

fn field((id, label, kind, options): &FieldRow) -> Field {
    let choices = options.iter().map(|(id, label)| FieldChoice { id: (*id).into(), label: (*label).into(), value: None }).collect();
    Field {
        id: (*id).into(),
        label: (*label).into(),
        kind: FieldType::from_word(kind, choices).unwrap_or(FieldType::Text),
        ..Field::default()
    }
}
