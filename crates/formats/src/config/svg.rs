//! Icons from strangers: what can act, load or style anything outside is left out, and the rest is written anew.

use crate::xml::{Element, Node, Xml, escape};

/// Bytes of an icon after that: a drawing, not a photo.
pub(crate) const ICON_BYTES: usize = 256 << 10;

const ELEMENTS: [&str; 24] = [
    "svg",
    "g",
    "defs",
    "symbol",
    "use",
    "path",
    "rect",
    "circle",
    "ellipse",
    "line",
    "polyline",
    "polygon",
    "text",
    "tspan",
    "title",
    "desc",
    "linearGradient",
    "radialGradient",
    "stop",
    "clipPath",
    "mask",
    "pattern",
    "image",
    "style",
];

/// The same drawing without scripts, events, foreign content and references to other places. `None` where nothing is left
/// that is an SVG, or too much.
pub(crate) fn sanitise(text: &str) -> Option<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut xml = Xml::new(text);
    let root = loop {
        match xml.next(&["svg"]) {
            Ok(Node::Whole(element)) => break element,
            Ok(Node::EndOfFile) | Err(_) => return None,
            Ok(_) => {}
        }
    };
    sanitise_element(&root)
}

/// The same for an element that was read.
pub(crate) fn sanitise_element(root: &Element) -> Option<String> {
    if drawn(root) >= DRAWN {
        return None;
    }
    let mut out = String::new();
    write(root, true, &mut out);
    (out.len() <= ICON_BYTES).then_some(out)
}

fn write(element: &Element, root: bool, out: &mut String) {
    if !ELEMENTS.contains(&element.name.as_str())
        || (element.name == "style" && !(plain_style(&element.text) && element.children.is_empty()))
    {
        return;
    }
    let mut attributes: Vec<&(String, String)> = Vec::new();
    for attribute in element.attributes.iter().filter(|(n, v)| allowed(&element.name, n, v)) {
        // Prefixes are gone: of `version` and `inkscape:version` the first stays.
        if !attributes.iter().any(|(n, _)| n.eq_ignore_ascii_case(&attribute.0)) {
            attributes.push(attribute);
        }
    }
    if element.name == "image" && !attributes.iter().any(|(n, _)| n == "href") {
        return;
    }
    out.push('<');
    out.push_str(&element.name);
    if root {
        out.push_str(" xmlns=\"http://www.w3.org/2000/svg\"");
    }
    for (name, value) in attributes {
        out.push_str(&format!(" {name}=\"{}\"", escape(value)));
    }
    let text = element.text.trim();
    // What explains a drawing is text, whatever a reader of another language would see in it.
    let leaf = matches!(element.name.as_str(), "title" | "desc" | "style");
    if text.is_empty() && (leaf || element.children.is_empty()) {
        out.push_str("/>");
        return;
    }
    out.push('>');
    out.push_str(&escape(text));
    for child in element.children.iter().filter(|_| !leaf) {
        write(child, false, out);
    }
    out.push_str(&format!("</{}>", element.name));
}

/// Attributes that drawings have; others say nothing to whoever draws, or too much.
const ATTRIBUTES: [&str; 86] = [
    "viewBox",
    "width",
    "height",
    "version",
    "id",
    "class",
    "style",
    "transform",
    "fill",
    "fill-opacity",
    "fill-rule",
    "stroke",
    "stroke-width",
    "stroke-linecap",
    "stroke-linejoin",
    "stroke-miterlimit",
    "stroke-dasharray",
    "stroke-dashoffset",
    "stroke-opacity",
    "opacity",
    "d",
    "x",
    "y",
    "x1",
    "y1",
    "x2",
    "y2",
    "cx",
    "cy",
    "r",
    "rx",
    "ry",
    "points",
    "offset",
    "stop-color",
    "stop-opacity",
    "gradientUnits",
    "gradientTransform",
    "spreadMethod",
    "fx",
    "fy",
    "fr",
    "clip-path",
    "clip-rule",
    "clipPathUnits",
    "mask",
    "maskUnits",
    "maskContentUnits",
    "patternUnits",
    "patternContentUnits",
    "patternTransform",
    "preserveAspectRatio",
    "color",
    "display",
    "visibility",
    "overflow",
    "font-family",
    "font-size",
    "font-style",
    "font-weight",
    "font-variant",
    "text-anchor",
    "text-decoration",
    "letter-spacing",
    "word-spacing",
    "dominant-baseline",
    "alignment-baseline",
    "baseline-shift",
    "dx",
    "dy",
    "rotate",
    "textLength",
    "lengthAdjust",
    "pathLength",
    "vector-effect",
    "shape-rendering",
    "text-rendering",
    "image-rendering",
    "color-rendering",
    "paint-order",
    "role",
    "focusable",
    "enable-background",
    "isolation",
    "mix-blend-mode",
    "href",
];

fn allowed(element: &str, name: &str, value: &str) -> bool {
    let plain: String = value.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect::<String>().to_lowercase();
    if !ATTRIBUTES.contains(&name) {
        return false;
    }
    if name == "href" {
        let picture = plain.starts_with("data:image/png;base64,") || plain.starts_with("data:image/jpeg;base64,");
        return (plain.starts_with('#') && element != "image") || (element == "image" && picture);
    }
    harmless(&plain)
}

/// Nothing that a style or a value fetches or runs; only parts of the same drawing are named.
fn harmless(plain: &str) -> bool {
    let inner = plain.replace("url(#", "");
    let outside = [
        "url(",
        "src(",
        "image(",
        "image-set",
        "http:",
        "https:",
        "//",
        "javascript:",
        "data:",
        "expression",
        "behavior",
        "binding",
        "@",
        "\\",
    ];
    !outside.iter().any(|word| inner.contains(word))
}

fn plain_style(text: &str) -> bool {
    let plain: String = text.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect::<String>().to_lowercase();
    harmless(&plain)
}

/// Elements that `use` draws again, in all: what a reader can draw at once.
const DRAWN: u64 = 10_000;

/// How many elements a drawing draws, those that are drawn again counted each time.
fn drawn(root: &Element) -> u64 {
    fn collect<'a>(e: &'a Element, by_id: &mut std::collections::BTreeMap<&'a str, &'a Element>) {
        if let Some(id) = e.attribute("id") {
            by_id.insert(id, e);
        }
        e.children.iter().for_each(|c| collect(c, by_id));
    }
    fn count(e: &Element, by_id: &std::collections::BTreeMap<&str, &Element>, depth: u32, left: &mut u64) {
        if *left == 0 || depth > 100 {
            *left = 0;
            return;
        }
        *left -= 1;
        e.children.iter().for_each(|c| count(c, by_id, depth + 1, left));
        let target = e.attribute("href").and_then(|h| h.strip_prefix('#')).filter(|_| e.name == "use");
        if let Some(other) = target.and_then(|id| by_id.get(id)) {
            count(other, by_id, depth + 1, left);
        }
    }
    let mut by_id = std::collections::BTreeMap::new();
    collect(root, &mut by_id);
    let mut left = DRAWN;
    count(root, &by_id, 0, &mut left);
    DRAWN - left
}

/// A picture as a drawing, for icons that are no drawings.
pub(crate) fn of_png(bytes: &[u8], size: u32) -> Option<String> {
    if !bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        return None;
    }
    let data = data_encoding::BASE64.encode(bytes);
    let out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {size} {size}\"><image width=\"{size}\" height=\"{size}\" href=\"data:image/png;base64,{data}\"/></svg>"
    );
    (out.len() <= ICON_BYTES).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_or_loads_is_gone_and_the_drawing_stays() {
        let hostile = r##"<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>
            <svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 24 24" onload="alert(1)">
            <script>alert(2)</script><foreignObject><b/></foreignObject><image href="http://127.0.0.1:9/x"/>
            <a href="javascript:alert(3)"><path d="M0 0"/></a><style>@import url(http://x)</style><style>.a{fill:red}</style>
            <use xlink:href="#p"/><use href="http://x#p"/><rect fill="url(#g)" style="background:url(http://x)"/>
            <path fill="#228B22" d="M12 2 2 22h20z"/><animate attributeName="href" to="javascript:alert(4)"/></svg>"##;
        assert_eq!(
            sanitise(hostile).unwrap(),
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><style>.a{fill:red}</style><use href="#p"/><use/><rect fill="url(#g)"/><path fill="#228B22" d="M12 2 2 22h20z"/></svg>"##
        );
        let sly = r##"<svg version="1.1" xmlns:i="x" i:version="1.2"><image HREF="http://evil/a.png" href="#a"/><style>.a{background:image-set("http://e" 1x)}</style>
            <style>.a{fill:red}<text>@import url(http://e);</text></style><desc><image href="#x" src="http://evil" srcset="http://e 1x"/></desc>
            <path fill="src('http://e')" style="mask:src('x')" d="M0 0"/></svg>"##;
        assert_eq!(sanitise(sly).unwrap(), r##"<svg xmlns="http://www.w3.org/2000/svg" version="1.1"><desc/><path d="M0 0"/></svg>"##);
        let level = |n: u32| format!("<g id=\"l{n}\">{}</g>", format!("<use href=\"#l{}\"/>", n + 1).repeat(10));
        let bomb = format!("<svg>{}<path id=\"l9\"/></svg>", (0..9).map(level).collect::<String>());
        assert_eq!(sanitise(&bomb), None);
        assert_eq!(sanitise("<html/>"), None);
        assert_eq!(sanitise("<svg>&x;</svg>"), None);
        assert_eq!(sanitise(&format!("<svg>{}</svg>", "<g>".repeat(100_000))), None);
        let again = sanitise(hostile).unwrap();
        assert_eq!(sanitise(&again).as_deref(), Some(again.as_str()));
    }
}
