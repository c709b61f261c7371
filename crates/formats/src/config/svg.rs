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
    let mut out = String::new();
    write(root, true, &mut out);
    (out.len() <= ICON_BYTES).then_some(out)
}

fn write(element: &Element, root: bool, out: &mut String) {
    if !ELEMENTS.contains(&element.name.as_str()) || (element.name == "style" && !plain_style(&element.text)) {
        return;
    }
    let attributes: Vec<&(String, String)> = element.attributes.iter().filter(|(n, v)| allowed(&element.name, n, v)).collect();
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
    if text.is_empty() && element.children.is_empty() {
        out.push_str("/>");
        return;
    }
    out.push('>');
    out.push_str(&escape(text));
    for child in &element.children {
        write(child, false, out);
    }
    out.push_str(&format!("</{}>", element.name));
}

fn allowed(element: &str, name: &str, value: &str) -> bool {
    let plain: String = value.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect::<String>().to_lowercase();
    // The prefix is gone: what declares one, or the space of XML itself, says nothing any more.
    let names = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if !names || name.to_lowercase().starts_with("on") || matches!(name, "xmlns" | "base" | "xlink" | "space") {
        return false;
    }
    if name == "href" {
        let picture = plain.starts_with("data:image/png;base64,") || plain.starts_with("data:image/jpeg;base64,");
        return plain.starts_with('#') || (element == "image" && picture);
    }
    let outside = plain.replace("url(#", "").contains("url(");
    !outside && !plain.contains("javascript:") && !plain.contains("expression(") && !plain.contains('\\')
}

fn plain_style(text: &str) -> bool {
    let lower = text.to_lowercase();
    !lower.contains('@') && !lower.replace("url(#", "").contains("url(") && !lower.contains("expression(") && !lower.contains('\\')
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
        assert_eq!(sanitise("<html/>"), None);
        assert_eq!(sanitise("<svg>&x;</svg>"), None);
        assert_eq!(sanitise(&format!("<svg>{}</svg>", "<g>".repeat(100_000))), None);
        let again = sanitise(hostile).unwrap();
        assert_eq!(sanitise(&again).as_deref(), Some(again.as_str()));
    }
}
