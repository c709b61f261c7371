//! Text from elsewhere on its way to people: characters that a terminal obeys or that reorder a line are shown as what they are.

use std::borrow::Cow;
use std::fmt::Write;

/// `true` for a character that is not shown itself but changes what is shown around it: control characters of ASCII and Latin-1
/// (terminals obey them), and Unicode's separators of lines and controls of direction (property `Bidi_Control`, UAX #9).
pub fn is_hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` with hidden characters written as `\u{..}`. Line ends and tabs stay.
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_hidden(c) && c != '\n' && c != '\t', |out, c| write!(out, "\\u{{{:x}}}", u32::from(c)))
}

/// The same on one line, for a cell of a table or a name amid words: line ends and tabs are escaped too.
pub fn visible_line(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden, |out, c| match c {
        '\n' => out.write_str("\\n"),
        '\t' => out.write_str("\\t"),
        c => write!(out, "\\u{{{:x}}}", u32::from(c)),
    })
}

/// JSON with hidden characters in the notation of JSON: the same value for every program that reads it. Line ends outside of texts stay.
pub fn visible_json(json: &str) -> Cow<'_, str> {
    escaped(json, |c| is_hidden(c) && c != '\n' && c != '\t', |out, c| write!(out, "\\u{:04x}", u32::from(c)))
}

fn escaped(text: &str, hidden: impl Fn(char) -> bool, write: impl Fn(&mut String, char) -> std::fmt::Result) -> Cow<'_, str> {
    if !text.contains(&hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if hidden(c) {
            // Writing to memory does not fail.
            write(&mut out, c).ok();
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// A name people give to a project, a device or a file: 1 to 200 bytes on one line, without hidden characters.
pub fn is_plain_name(name: &str) -> bool {
    !name.trim().is_empty() && name.len() <= 200 && !name.chars().any(is_hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        assert_eq!(visible("tapir\x1b[2J\u{202e}gnp.exe\u{9b}31m\r"), "tapir\\u{1b}[2J\\u{202e}gnp.exe\\u{9b}31m\\u{d}");
        assert_eq!(visible("two\nlines\tand ümläuts, \u{200c}عربي"), "two\nlines\tand ümläuts, \u{200c}عربي");
        assert_eq!(visible_line("a\nb\tc"), "a\\nb\\tc");
    }

    #[test]
    fn json_stays_the_same_value() {
        assert_eq!(visible_json("{\"a\":\"\u{9b}b\u{202e}\\n\u{7f}é\"}"), "{\"a\":\"\\u009bb\\u202e\\n\\u007fé\"}");
    }

    #[test]
    fn names_are_plain() {
        assert!(is_plain_name("Ana's phone") && is_plain_name("هاتف"));
        assert!(!is_plain_name(" ") && !is_plain_name("a\nb") && !is_plain_name("a\u{202e}b") && !is_plain_name(&"x".repeat(201)));
    }
}
