//! XML of senders as a tree of JSON: elements, their words, and as `@name` their attributes. There is no document type, and
//! no entity but the five of XML and characters by their number, so nothing in it grows and nothing is fetched.

use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};
use serde_json::{Map, Value};

use super::{MOST_TREE, Refused};

/// Elements are nested so deep at most.
const DEEPEST: usize = 64;
/// There are so many of them at most.
const MOST_ELEMENTS: usize = 10_000;

/// An element has so many attributes at most that are read.
const MOST_ATTRIBUTES: usize = 20;
/// Under this name stand the words of an element that has something else in it, too.
pub(super) const TEXT: &str = "#text";

const UNREADABLE: Refused = Refused::Unreadable("the body is no XML that is read here");

/// An element that is still open.
#[derive(Default)]
struct Open {
    name: String,
    children: Map<String, Value>,
    text: String,
}

impl Open {
    /// Its name without what stands for a namespace, and such attributes as have none.
    fn begun(start: &BytesStart<'_>) -> Result<Self, Refused> {
        let name = start.local_name().as_ref().to_owned();
        let mut children = Map::new();
        for attribute in start.attributes().take(MOST_ATTRIBUTES) {
            let attribute = attribute.map_err(|_| UNREADABLE)?;
            let key = attribute.key.as_ref();
            if key.contains(':') || key == "xmlns" {
                continue;
            }
            let value = quick_xml::escape::unescape(&attribute.value).map_err(|_| UNREADABLE)?;
            children.insert(format!("@{key}"), Value::String(value.into_owned()));
        }
        Ok(Self { name, children, text: String::new() })
    }

    fn add(&mut self, name: String, value: Value) {
        match self.children.get_mut(&name) {
            None => drop(self.children.insert(name, value)),
            Some(Value::Array(list)) => list.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }

    fn into_value(mut self) -> Value {
        let text = self.text.trim();
        if self.children.is_empty() {
            return Value::String(text.to_owned());
        }
        if !text.is_empty() {
            self.children.insert(TEXT.to_owned(), Value::String(text.to_owned()));
        }
        Value::Object(self.children)
    }
}

/// Reads a document. What it is called, and envelopes around its one element (SOAP), are left out.
pub(super) fn read(document: &str) -> Result<Value, Refused> {
    if document.len() > MOST_TREE + MOST_TREE * 4 {
        return Err(Refused::TooMuch("the body is longer than 20 MiB"));
    }
    let mut reader = Reader::from_str(document);
    let (mut open, mut elements) = (vec![Open::default()], 0);
    let mut count = |depth: usize| {
        elements += 1;
        let is_too_much = depth > DEEPEST || elements > MOST_ELEMENTS;
        if is_too_much { Err(Refused::TooMuch("the XML has too many elements, or too deep ones")) } else { Ok(()) }
    };
    loop {
        match reader.read_event().map_err(|_| UNREADABLE)? {
            Event::Start(start) => {
                count(open.len())?;
                open.push(Open::begun(&start)?);
            }
            Event::End(_) => {
                let done = open.pop().ok_or(UNREADABLE)?;
                let name = done.name.clone();
                open.last_mut().ok_or(UNREADABLE)?.add(name, done.into_value());
            }
            Event::Empty(start) => {
                count(open.len())?;
                let empty = Open::begun(&start)?;
                let name = empty.name.clone();
                open.last_mut().ok_or(UNREADABLE)?.add(name, empty.into_value());
            }
            Event::Text(text) => open.last_mut().ok_or(UNREADABLE)?.text.push_str(&text.xml10_content()),
            Event::CData(text) => open.last_mut().ok_or(UNREADABLE)?.text.push_str(&text.xml10_content()),
            Event::GeneralRef(name) => {
                let character = match &*name.xml10_content() {
                    "amp" => Some('&'),
                    "lt" => Some('<'),
                    "gt" => Some('>'),
                    "quot" => Some('"'),
                    "apos" => Some('\''),
                    _ => name.resolve_char_ref().map_err(|_| UNREADABLE)?,
                };
                let unknown = Refused::Unreadable("the XML has an entity of its own");
                open.last_mut().ok_or(UNREADABLE)?.text.push(character.ok_or(unknown)?);
            }
            Event::DocType(_) => return Err(Refused::Unreadable("the XML has a document type")),
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
    let document = open.pop().filter(|_| open.is_empty()).ok_or(UNREADABLE)?;
    let mut value = document.into_value();
    while let Value::Object(object) = &mut value
        && object.len() == 1
        && let Some(inner) = object.values_mut().next()
        && inner.is_object()
    {
        value = inner.take();
    }
    if value.is_object() { Ok(value) } else { Err(UNREADABLE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_become_a_tree_and_envelopes_fall_away() {
        let soap = "<?xml version='1.0'?><e:Envelope xmlns:e='x'><e:Body><N><A>1 &lt; 2 &#x41;</A><B/><C>x</C><C>y</C>\
                    <F n='1' x:m='2'>z</F><D><![CDATA[<b>]]></D></N></e:Body></e:Envelope>";
        let expected = serde_json::json!({ "A": "1 < 2 A", "B": "", "C": ["x", "y"], "F": { "@n": "1", "#text": "z" }, "D": "<b>" });
        assert_eq!(read(soap), Ok(expected));
        assert_eq!(read("<a><text>x</text></a>"), Ok(serde_json::json!({ "text": "x" })));
    }

    #[test]
    fn elements_are_counted_whether_or_not_something_is_in_them() {
        for element in ["<b/>", "<b></b>", "<b c='d'/>"] {
            let document = |count: usize| format!("<a>{}</a>", element.repeat(count));
            assert!(read(&document(MOST_ELEMENTS - 1)).is_ok(), "{element}");
            assert!(matches!(read(&document(MOST_ELEMENTS)), Err(Refused::TooMuch(_))), "{element}");
        }
    }

    #[test]
    fn entities_document_types_and_depth_are_refused() {
        let bomb = "<!DOCTYPE a [<!ENTITY b \"bbbbbbbbbb\">]><a><c>&b;</c></a>";
        let deep = format!("{}{}", "<a>".repeat(1000), "</a>".repeat(1000));
        for bad in [bomb, "<a><b>&b;</b></a>", &deep, "<a><b></a>", "<a>", "", "words", "<a>&#0;</a>"] {
            assert!(read(bad).is_err(), "{bad:.60}");
        }
    }
}
