//! Slack's blocks, put into words one after the other.

use sealbridge_contract::html::escape;
use serde_json::Value;

use super::{
    fields, mrkdwn,
    saying::{Link, Words},
};

/// Slack takes so many at most.
const MOST_BLOCKS: usize = 100;
/// Rich text is nested so deep at most: a list in a list.
const DEEPEST: usize = 6;

/// What blocks say.
#[derive(Default)]
pub(super) struct Blocks {
    pub words: Words,
    pub links: Vec<Link>,
}

/// Reads them. A block of an unknown kind says nothing but the text that it has.
pub(super) fn read(blocks: &[Value]) -> Blocks {
    let mut read = Blocks::default();
    for block in blocks.iter().take(MOST_BLOCKS) {
        one(block, &mut read);
    }
    read
}

impl Blocks {
    fn paragraph(&mut self, words: &Words) {
        if words.plain.trim().is_empty() {
            return;
        }
        if !self.words.plain.is_empty() {
            self.words.plain.push('\n');
        }
        self.words.plain.push_str(&words.plain);
        let html = html(words);
        let is_block =
            ["<ol", "<ul", "<pre", "<blockquote", "<p", "<h", "<table"].iter().any(|tag| html.starts_with(tag));
        self.words.html.push_str(&if is_block { html } else { format!("<p>{html}</p>") });
    }

    fn button(&mut self, element: &Value) {
        let label = fields::line(element, "text.text");
        self.links.extend(Link::to(&label, &fields::text(element, "url")));
    }
}

fn html(words: &Words) -> String {
    if words.html.is_empty() { escape(&words.plain) } else { words.html.clone() }
}

fn one(block: &Value, read: &mut Blocks) {
    match fields::text(block, "type").as_str() {
        "header" => {
            let words = text_object(block.get("text"));
            if !words.plain.is_empty() {
                let html = format!("<strong>{}</strong>", html(&words));
                read.paragraph(&Words { plain: words.plain, html });
            }
        }
        "divider" => {}
        "image" => {
            let alt = [fields::line(block, "title.text"), fields::line(block, "alt_text")];
            let alt = alt.into_iter().find(|alt| !alt.is_empty()).unwrap_or_else(|| "Picture".to_owned());
            read.links.extend(Link::to(&alt, &fields::text(block, "image_url")));
        }
        "context" => {
            let parts: Vec<_> = fields::list(block, "elements").iter().map(|one| text_object(Some(one))).collect();
            let parts: Vec<_> = parts.iter().filter(|part| !part.plain.is_empty()).collect();
            let plain = parts.iter().map(|part| part.plain.as_str()).collect::<Vec<_>>().join(" ");
            let html = parts.iter().map(|part| html(part)).collect::<Vec<_>>().join(" ");
            read.paragraph(&Words { plain, html });
        }
        "actions" => fields::list(block, "elements").iter().for_each(|element| read.button(element)),
        "markdown" => read.paragraph(&Words::markdown(&fields::text(block, "text"))),
        "rich_text" => {
            for element in fields::list(block, "elements") {
                read.paragraph(&rich(element, DEEPEST));
            }
        }
        // A section, or something newer.
        _ => {
            read.paragraph(&text_object(block.get("text")));
            fields::list(block, "fields").iter().for_each(|field| read.paragraph(&text_object(Some(field))));
            if let Some(accessory) = block.get("accessory") {
                read.button(accessory);
                read.links
                    .extend(Link::to(&fields::line(accessory, "alt_text"), &fields::text(accessory, "image_url")));
            }
        }
    }
}

/// `{type: mrkdwn | plain_text, text}`
fn text_object(object: Option<&Value>) -> Words {
    let Some(object) = object else { return Words::default() };
    let text = object.as_str().map_or_else(|| fields::text(object, "text"), fields::bounded);
    if fields::text(object, "type") == "plain_text" { Words::plain(&text) } else { mrkdwn::read(&text) }
}

/// Rich text, as Slack's own editor makes it.
fn rich(element: &Value, deeper: usize) -> Words {
    let mut words = Words::default();
    let inside = fields::list(element, "elements");
    let kind = fields::text(element, "type");
    if deeper == 0 {
        return words;
    }
    for (number, inner) in inside.iter().enumerate() {
        let part = if kind == "rich_text_list" { rich(inner, deeper - 1) } else { leaf(inner) };
        if kind == "rich_text_list" {
            let ordered = fields::text(element, "style") == "ordered";
            let sign = if ordered { format!("{}. ", number + 1) } else { "• ".to_owned() };
            let line_end = if number == 0 { "" } else { "\n" };
            words.plain.push_str(&format!("{line_end}{sign}{}", part.plain));
            words.html.push_str(&format!("<li>{}</li>", html(&part)));
        } else {
            words.plain.push_str(&part.plain);
            words.html.push_str(&html(&part));
        }
    }
    words.html = match kind.as_str() {
        "rich_text_list" if fields::text(element, "style") == "ordered" => format!("<ol>{}</ol>", words.html),
        "rich_text_list" => format!("<ul>{}</ul>", words.html),
        "rich_text_quote" => format!("<blockquote>{}</blockquote>", words.html),
        "rich_text_preformatted" => format!("<pre>{}</pre>", words.html.replace("<br>", "\n")),
        _ => words.html,
    };
    words
}

/// The smallest part of rich text. Nobody is called by one.
fn leaf(element: &Value) -> Words {
    let text = fields::text(element, "text");
    let plain = match fields::text(element, "type").as_str() {
        "emoji" => {
            let name = fields::text(element, "name");
            emojis::get_by_shortcode(&name).map_or_else(|| format!(":{name}:"), ToString::to_string)
        }
        "user" => fields::line(element, "user_id"),
        "usergroup" => fields::line(element, "usergroup_id"),
        "channel" => fields::line(element, "channel_id"),
        "broadcast" => fields::line(element, "range"),
        "date" => fields::line(element, "fallback"),
        "link" => {
            let url = fields::text(element, "url");
            let Some(address) = fields::link(&url) else { return Words::plain(&text) };
            let label = if text.is_empty() { url.clone() } else { text };
            let html = format!("<a href=\"{}\">{}</a>", escape(&address), escape(&label));
            let plain = if label == url { label } else { format!("{label} ({url})") };
            return Words { plain, html };
        }
        _ => text,
    };
    let mut html = escape(&plain);
    for (style, tag) in [("code", "code"), ("strike", "del"), ("italic", "em"), ("bold", "strong")] {
        if element.get("style").and_then(|styles| styles.get(style)) == Some(&Value::Bool(true)) {
            html = format!("<{tag}>{html}</{tag}>");
        }
    }
    Words { plain, html }
}
