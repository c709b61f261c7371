//! XML as small trees, one element at a time. No document type is read and no entity but XML's own is resolved, so
//! nothing outside the file is looked at and nothing in it grows.

use crate::FormatError;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use std::io::Read;

/// Bytes of an XML file.
pub(crate) const FILE_BYTES: u64 = 256 << 20;
/// Elements of one file, and of one that is kept whole.
const ELEMENTS: usize = 10_000_000;
const ELEMENTS_WHOLE: usize = 1_000_000;
/// Elements in elements.
const DEPTH: usize = 100;

/// An element with everything in it. Names are without their prefix.
#[derive(Clone, Debug, Default)]
pub(crate) struct Element {
    pub name: String,
    pub attributes: Vec<(String, String)>,
    pub text: String,
    pub children: Vec<Element>,
}

impl Element {
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|c| c.name == name)
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |c| c.name == name)
    }

    /// Text of a child, without outer white space; `None` where it is empty.
    pub fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|c| c.text.trim()).filter(|t| !t.is_empty())
    }
}

/// What comes next in a file.
pub(crate) enum Node {
    /// An element that was asked for, whole.
    Whole(Element),
    /// Any other element begins.
    Start(String),
    /// It ends.
    End,
    /// Nothing is left.
    EndOfFile,
}

/// A file being read.
pub(crate) struct Xml<'a> {
    reader: Reader<&'a [u8]>,
    text: &'a str,
    counted: (usize, u64),
    depth: usize,
    seen_root: bool,
    elements: usize,
}

/// The text of a file in whatever encoding it says, within the limit.
pub(crate) fn whole_text(input: Box<dyn Read + Send>, encoding: Option<&str>) -> Result<String, FormatError> {
    let mut raw = Vec::new();
    let mut input = input;
    input.by_ref().take(FILE_BYTES + 1).read_to_end(&mut raw)?;
    if raw.len() as u64 > FILE_BYTES {
        return Err(FormatError::line(1, "the file has more than 256 MiB; split it"));
    }
    decode(raw, encoding)
}

/// Bytes of an XML file as text.
pub(crate) fn decode(raw: Vec<u8>, encoding: Option<&str>) -> Result<String, FormatError> {
    let told = encoding.map(str::to_owned).or_else(|| declared(&raw));
    let mut text = crate::text::Text::new(Box::new(std::io::Cursor::new(raw)), told.as_deref())?;
    let mut out = Vec::new();
    text.read_to_end(&mut out)?;
    let name = text.encoding.name().to_owned();
    String::from_utf8(out).map_err(|e| {
        let line = 1 + e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() as u64;
        FormatError::Encoding { line, column: 1, encoding: name }
    })
}

/// The encoding an XML declaration names; one in UTF-16 is told by its mark.
fn declared(raw: &[u8]) -> Option<String> {
    let head = std::str::from_utf8(raw.get(..raw.len().min(200))?.split(|b| *b == b'>').next()?).ok()?;
    let (_, after) = head.split_once("encoding=")?;
    let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let name = after[1..].split(quote).next()?;
    (!name.to_lowercase().starts_with("utf-16")).then(|| name.to_owned())
}

impl<'a> Xml<'a> {
    pub fn new(text: &'a str) -> Self {
        let mut reader = Reader::from_str(text);
        reader.config_mut().check_end_names = true;
        reader.config_mut().expand_empty_elements = true;
        Self { reader, text, counted: (0, 1), depth: 0, seen_root: false, elements: 0 }
    }

    /// The line that was reached, from 1.
    pub fn line(&mut self) -> u64 {
        let at = (self.reader.buffer_position() as usize).min(self.text.len());
        let (from, line) = self.counted;
        if at > from {
            self.counted = (at, line + memchr::memchr_iter(b'\n', &self.text.as_bytes()[from..at]).count() as u64);
        }
        self.counted.1
    }

    fn fault(&mut self, reason: impl ToString) -> FormatError {
        let line = self.line();
        FormatError::line(line, format!("not XML as it should be: {}", reason.to_string()))
    }

    fn event(&mut self) -> Result<Event<'a>, FormatError> {
        let event = self.reader.read_event();
        match event {
            Ok(event) => Ok(event),
            Err(e) => Err(self.fault(e)),
        }
    }

    fn begin(&mut self, start: &BytesStart<'_>) -> Result<Element, FormatError> {
        self.seen_root = true;
        self.depth += 1;
        self.elements += 1;
        if self.elements > ELEMENTS {
            return Err(self.fault(format!("more than {ELEMENTS} elements; split the file")));
        }
        if self.depth > DEPTH {
            return Err(self.fault(format!("elements in elements, more than {DEPTH} deep")));
        }
        let mut element = Element { name: local(start), ..Element::default() };
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|e| self.fault(e))?;
            let name = String::from_utf8_lossy(attribute.key.local_name().as_ref().as_ref()).into_owned();
            let raw = attribute.value.to_string();
            let value = quick_xml::escape::unescape(&raw).map_err(|e| self.fault(e))?.into_owned();
            element.attributes.push((name, value));
        }
        Ok(element)
    }

    /// The next element with one of these names, whole; other elements are walked into.
    pub fn next(&mut self, wanted: &[&str]) -> Result<Node, FormatError> {
        loop {
            match self.event()? {
                Event::Start(start) => {
                    let element = self.begin(&start)?;
                    if wanted.contains(&element.name.as_str()) {
                        return self.rest(element).map(Node::Whole);
                    }
                    return Ok(Node::Start(element.name));
                }
                Event::End(_) => {
                    self.depth -= 1;
                    return Ok(Node::End);
                }
                Event::Eof if self.depth > 0 => return Err(self.fault("it ends in the middle")),
                Event::Eof if !self.seen_root => return Err(self.fault("there is no element in it")),
                Event::Eof => return Ok(Node::EndOfFile),
                Event::GeneralRef(reference) => {
                    self.resolve(&reference)?;
                }
                _ => {}
            }
        }
    }

    fn resolve(&mut self, reference: &quick_xml::events::BytesRef<'_>) -> Result<String, FormatError> {
        if let Some(c) = reference.resolve_char_ref().map_err(|e| self.fault(e))? {
            return Ok(c.to_string());
        }
        let name = reference.xml10_content().into_owned();
        match quick_xml::escape::resolve_xml_entity(&name) {
            Some(text) => Ok(text.to_owned()),
            None => Err(self.fault(format!("the entity `&{};` is not resolved", crate::row::short(&name)))),
        }
    }

    fn rest(&mut self, root: Element) -> Result<Element, FormatError> {
        let mut open = vec![root];
        let began = self.elements;
        loop {
            if self.elements - began > ELEMENTS_WHOLE {
                return Err(self.fault(format!("an element with more than {ELEMENTS_WHOLE} others in it")));
            }
            match self.event()? {
                Event::Start(start) => {
                    let element = self.begin(&start)?;
                    open.push(element);
                }
                Event::Text(text) => push_text(&mut open, &text.xml10_content()),
                Event::CData(text) => push_text(&mut open, &text.xml10_content()),
                Event::GeneralRef(reference) => {
                    let text = self.resolve(&reference)?;
                    push_text(&mut open, &text);
                }
                Event::End(_) => {
                    self.depth -= 1;
                    let Some(done) = open.pop() else { return Err(self.fault("an end without a beginning")) };
                    match open.last_mut() {
                        Some(parent) => parent.children.push(done),
                        None => return Ok(done),
                    }
                }
                Event::Eof => return Err(self.fault("it ends in the middle")),
                _ => {}
            }
        }
    }
}

fn push_text(open: &mut [Element], text: &str) {
    if let Some(last) = open.last_mut() {
        last.text.push_str(text);
    }
}

fn local(start: &BytesStart<'_>) -> String {
    String::from_utf8_lossy(start.local_name().as_ref().as_ref()).into_owned()
}

/// Text for an XML file: escaped, and without the characters that XML cannot have.
pub(crate) fn escape(text: &str) -> String {
    let allowed: String = text
        .chars()
        .filter(|c| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..))
        .collect();
    quick_xml::escape::escape(allowed).into_owned()
}
