//! What people should know of a configuration: what changed between two, and what is wrong with one.

use crate::{Category, Configuration, Field, escape};
use std::collections::BTreeSet;

/// Something a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Nobody can work with it so; else it is only unusual.
    pub wrong: bool,
    /// The category, field, icon or language.
    pub place: String,
    /// What is wrong.
    pub what: String,
}

impl Configuration {
    /// What a switch from this one to `new` does, a sentence for each difference.
    pub fn differences(&self, new: &Configuration) -> Vec<String> {
        let mut out = Vec::new();
        let mut said = |what: &str, from: &str, to: &str| {
            if from != to {
                out.push(changed(what, from, to));
            }
        };
        said("the name", &self.name, &new.name);
        said("the version", &self.version, &new.version);
        for c in &new.categories {
            match self.category(&c.id) {
                None => out.push(format!("category `{}` ({}) is new", c.id, c.name)),
                Some(before) => category_differences(before, c, &mut out),
            }
        }
        for c in self.categories.iter().filter(|c| new.category(&c.id).is_none()) {
            out.push(format!("category `{}` ({}) is gone; observations of it stay", c.id, c.name));
        }
        for f in &new.fields {
            match self.field(&f.id) {
                None => out.push(format!("field `{}` ({}, {}) is new", f.id, f.label, f.kind.word())),
                Some(before) => field_differences(before, f, &mut out),
            }
        }
        for f in self.fields.iter().filter(|f| new.field(&f.id).is_none()) {
            out.push(format!("field `{}` ({}) is gone; what was written in it stays", f.id, f.label));
        }
        self.order_differences(new, &mut out);
        self.extra_differences(new, &mut out);
        out
    }

    fn order_differences(&self, new: &Configuration, out: &mut Vec<String>) {
        for (kind, word) in [("point", "observations"), ("line", "tracks")] {
            let ids = |c: &Configuration| c.offered(kind).iter().map(|c| c.id.clone()).collect::<Vec<_>>();
            let (before, after) = (ids(self), ids(new));
            let common = |of: &[String], with: &[String]| of.iter().filter(|id| with.contains(id)).cloned().collect::<Vec<_>>();
            if common(&before, &after) != common(&after, &before) {
                out.push(format!("categories for {word} are offered in another order: {}", after.join(", ")));
            }
            let both = |id: &&String| self.category(id).is_some() && new.category(id).is_some();
            let only = |of: &[String], not: &[String]| of.iter().filter(|id| !not.contains(id)).filter(both).cloned().collect::<Vec<_>>();
            for (ids, now) in [(only(&before, &after), "no longer"), (only(&after, &before), "now")] {
                if !ids.is_empty() {
                    out.push(format!("{now} offered for {word}: {}", ids.join(", ")));
                }
            }
        }
    }

    fn extra_differences(&self, new: &Configuration, out: &mut Vec<String>) {
        for (id, svg) in &new.icons {
            match self.icons.get(id) {
                None => out.push(format!("icon `{id}` is new")),
                Some(before) if before != svg => out.push(format!("icon `{id}` is drawn anew")),
                Some(_) => {}
            }
        }
        out.extend(self.icons.keys().filter(|id| !new.icons.contains_key(*id)).map(|id| format!("icon `{id}` is gone")));
        let languages: BTreeSet<&String> = self.messages.keys().chain(new.messages.keys()).collect();
        for language in languages {
            let nothing = Default::default();
            let (before, after) = (self.messages.get(language).unwrap_or(&nothing), new.messages.get(language).unwrap_or(&nothing));
            let count =
                before.keys().chain(after.keys()).collect::<BTreeSet<_>>().into_iter().filter(|k| before.get(*k) != after.get(*k)).count();
            if count > 0 {
                out.push(format!("{count} texts in `{language}` change"));
            }
        }
    }

    /// What does not fit together.
    pub fn check(&self) -> Vec<Remark> {
        let mut out = Vec::new();
        let mut add = |wrong: bool, place: String, what: String| out.push(Remark { wrong, place, what });
        if self.name.trim().is_empty() {
            add(true, "configuration".into(), "it has no name".into());
        }
        let own = std::iter::once(("configuration".to_owned(), &self.name));
        let categories = self.categories.iter().map(|c| (format!("category `{}`", c.id), &c.name));
        let fields = self.fields.iter().map(|f| (format!("field `{}`", f.id), &f.label));
        for (place, name) in own.chain(categories).chain(fields) {
            if name.chars().any(crate::is_hidden) {
                add(true, place, "its name has hidden characters, which change what is shown around it".into());
            }
        }
        for (kind, word) in [("point", "observations"), ("line", "tracks")] {
            if self.offered(kind).is_empty() {
                add(false, "configuration".into(), format!("no category is offered for {word}; CoMapeo needs one"));
            }
            let chosen = if kind == "line" { &self.for_lines } else { &self.for_points };
            for id in chosen {
                match self.category(id) {
                    None => add(true, format!("order for {word}"), format!("there is no category `{id}`")),
                    Some(c) if !c.applies_to.iter().any(|a| a == kind) => {
                        add(true, format!("order for {word}"), format!("category `{id}` does not apply to {word}"));
                    }
                    Some(_) => {}
                }
            }
        }
        self.check_categories(&mut out);
        self.check_fields(&mut out);
        self.check_messages(&mut out);
        out
    }

    fn check_categories(&self, out: &mut Vec<Remark>) {
        let mut seen = BTreeSet::new();
        for c in &self.categories {
            let mut add = |wrong: bool, what: String| out.push(Remark { wrong, place: format!("category `{}`", c.id), what });
            if !seen.insert(&c.id) {
                add(true, "two categories have this id".into());
            }
            if c.name.trim().is_empty() {
                add(true, "it has no name".into());
            }
            if c.applies_to.is_empty() {
                add(true, "it applies to nothing".into());
            }
            for id in c.fields.iter().filter(|id| self.field(id).is_none()) {
                add(true, format!("it asks for a field `{id}` that is not there"));
            }
            if !c.icon.is_empty() && !self.icons.contains_key(&c.icon) {
                add(true, format!("its icon `{}` is not there", c.icon));
            }
            if !c.color.is_empty() && !is_color(&c.color) {
                add(true, format!("`{}` is no colour: write #rrggbb", c.color));
            }
            let twin = self.categories.iter().find(|o| o.id < c.id && !o.tags.is_empty() && o.tags == c.tags && shared(o, c));
            if let Some(twin) = twin {
                add(true, format!("its tags are those of `{}`: other programs cannot tell them apart", twin.id));
            }
            for f in c.fields.iter().filter_map(|id| self.field(id)).filter(|f| c.tags.contains_key(f.tag_key())) {
                add(false, format!("field `{}` would overwrite its tag `{}` in other programs", f.id, f.tag_key()));
            }
        }
    }

    fn check_fields(&self, out: &mut Vec<Remark>) {
        let mut seen = BTreeSet::new();
        for f in &self.fields {
            let mut add = |wrong: bool, what: String| out.push(Remark { wrong, place: format!("field `{}`", f.id), what });
            if !seen.insert(&f.id) {
                add(true, "two fields have this id".into());
            }
            if f.label.trim().is_empty() {
                add(true, "it has no label".into());
            }
            if matches!(f.kind.word(), "one-of" | "several-of") {
                if f.kind.choices().is_empty() {
                    add(true, "it has no options to choose from".into());
                }
                let ids: BTreeSet<&String> = f.kind.choices().iter().map(|o| &o.id).collect();
                if ids.len() < f.kind.choices().len() {
                    add(true, "two of its options have one id".into());
                }
            }
            if !self.categories.iter().any(|c| c.fields.contains(&f.id)) {
                add(false, "no category asks for it".into());
            }
        }
        for id in self.icons.keys().filter(|id| !self.categories.iter().any(|c| c.icon == **id)) {
            out.push(Remark { wrong: false, place: format!("icon `{id}`"), what: "no category uses it".into() });
        }
    }

    fn check_messages(&self, out: &mut Vec<Remark>) {
        for (language, messages) in &self.messages {
            let known = |key: &str| {
                let mut parts = key.splitn(3, '.');
                let (of, id) = (parts.next(), parts.next().unwrap_or_default());
                match of {
                    Some("c") => self.categories.iter().any(|c| escape(&c.id) == id),
                    Some("v") => self.fields.iter().any(|f| escape(&f.id) == id),
                    _ => false,
                }
            };
            let lost = messages.keys().filter(|k| !known(k)).count();
            if lost > 0 {
                let what = format!("{lost} texts are of categories or fields that are not there");
                out.push(Remark { wrong: false, place: format!("language `{language}`"), what });
            }
        }
    }
}

fn changed(what: &str, from: &str, to: &str) -> String {
    match (from.is_empty(), to.is_empty()) {
        (true, _) => format!("{what} is `{to}` now"),
        (_, true) => format!("{what} is not said any more (it was `{from}`)"),
        _ => format!("{what} changes from `{from}` to `{to}`"),
    }
}

fn category_differences(before: &Category, after: &Category, out: &mut Vec<String>) {
    let of = format!("category `{}`", after.id);
    let mut said = |what: &str, from: String, to: String| {
        if from != to {
            out.push(changed(&format!("{what} of {of}"), &from, &to));
        }
    };
    said("the name", before.name.clone(), after.name.clone());
    said("the colour", before.color.clone(), after.color.clone());
    said("the icon", before.icon.clone(), after.icon.clone());
    said("what it applies to,", before.applies_to.join(", "), after.applies_to.join(", "));
    said("the search words", before.terms.join(", "), after.terms.join(", "));
    for id in after.fields.iter().filter(|id| !before.fields.contains(id)) {
        out.push(format!("{of} asks for `{id}` now"));
    }
    for id in before.fields.iter().filter(|id| !after.fields.contains(id)) {
        out.push(format!("{of} does not ask for `{id}` any more"));
    }
    let common = |of: &[String], with: &[String]| of.iter().filter(|id| with.contains(id)).cloned().collect::<Vec<_>>();
    if common(&before.fields, &after.fields) != common(&after.fields, &before.fields) {
        out.push(format!("{of} asks in another order: {}", after.fields.join(", ")));
    }
    if (&before.tags, &before.add_tags, &before.remove_tags) != (&after.tags, &after.add_tags, &after.remove_tags) {
        out.push(format!("{of} has other tags in other programs"));
    }
}

fn field_differences(before: &Field, after: &Field, out: &mut Vec<String>) {
    let of = format!("field `{}`", after.id);
    let mut said = |what: &str, from: &str, to: &str| {
        if from != to {
            out.push(changed(&format!("{what} of {of}"), from, to));
        }
    };
    said("the label", &before.label, &after.label);
    said("the explanation", &before.help, &after.help);
    said("the example", &before.placeholder, &after.placeholder);
    said("the type", before.kind.word(), after.kind.word());
    said("the tag", before.tag_key(), after.tag_key());
    said("the look", &before.look, &after.look);
    let (old, new) = (before.kind.choices(), after.kind.choices());
    for o in new {
        match old.iter().find(|b| b.id == o.id) {
            None => out.push(format!("{of} can be `{}` ({}) now", o.id, o.label)),
            Some(b) if b.label != o.label => out.push(changed(&format!("the label of option `{}` of {of}", o.id), &b.label, &o.label)),
            Some(_) => {}
        }
    }
    for o in old.iter().filter(|o| !new.iter().any(|n| n.id == o.id)) {
        out.push(format!("{of} cannot be `{}` ({}) any more; where it was chosen it stays", o.id, o.label));
    }
}

fn shared(a: &Category, b: &Category) -> bool {
    a.applies_to.iter().any(|kind| b.applies_to.contains(kind))
}

fn is_color(text: &str) -> bool {
    let digits = text.strip_prefix('#').unwrap_or_default();
    matches!(digits.len(), 3 | 4 | 6 | 8) && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

impl Field {
    /// The key of its value in other programs' records.
    pub fn tag_key(&self) -> &str {
        if self.tag.is_empty() { &self.id } else { &self.tag }
    }
}

#[cfg(test)]
mod tests {
    use crate::default_configuration;

    #[test]
    fn differences_are_told_in_words() {
        let before = default_configuration();
        let mut after = before.clone();
        after.categories[0].name = "Beast".into();
        after.categories[0].fields.retain(|f| f != "signs");
        after.categories.remove(1);
        after.fields[0].label = "Species".into();
        let told = before.differences(&after);
        assert_eq!(
            told,
            [
                "the name of category `animal` changes from `Animal seen` to `Beast`",
                "category `animal` does not ask for `signs` any more",
                "category `animal-sign` (Track, nest or droppings) is gone; observations of it stay",
                "the label of field `species` changes from `Species or local name` to `Species`",
            ]
        );
        assert!(before.differences(&before).is_empty());
    }

    #[test]
    fn what_does_not_fit_is_found() {
        assert!(default_configuration().check().iter().all(|r| !r.wrong));
        let mut broken = default_configuration();
        broken.categories[0].fields.push("nope".into());
        broken.categories[1].icon = "gone".into();
        broken.categories[2].color = "red".into();
        broken.for_lines = vec!["nope".into()];
        assert_eq!(broken.check().iter().filter(|r| r.wrong).count(), 4);
    }
}
