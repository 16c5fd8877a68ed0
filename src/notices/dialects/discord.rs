//! Discord's webhooks: words in its Markdown, embeds, files; the ends `/slack` and `/github` of the address; changes.

use http::Method;
use serde_json::Value;

use super::{
    Refused, fields, github, moment,
    request::{self, Sort},
    saying::{Field, Link, Saying, Section, Words},
    slack,
};
use crate::notices::{Notice, Posted, Severity};

/// Discord takes so many embeds at most.
const MOST_EMBEDS: usize = 10;
/// What stands between `<` and `>` for a person, a place or an emoji is no longer than this, in bytes.
const LONGEST_NAME: usize = 100;

/// Reads one.
pub(super) fn read(posted: &Posted<'_>) -> Result<Vec<Notice>, Refused> {
    let path = request::path(posted);
    let path: Vec<_> = path.iter().map(String::as_str).collect();
    let instead_of = match path.as_slice() {
        [.., "slack"] => return slack::read(posted),
        [.., "github"] => return github::read(posted),
        [.., "messages", id] => {
            request::only(posted, &[Method::PATCH], "PATCH")?;
            Some((*id).to_owned())
        }
        _ => {
            request::only_post(posted)?;
            None
        }
    };
    let (body, files) = match request::sort(posted) {
        Sort::Multipart => {
            let (fields, files) = request::multipart(posted)?;
            let is_json = fields.iter().any(|(key, _)| key == "payload_json");
            (if is_json { slack::payload(fields)? } else { request::object(fields) }, files)
        }
        Sort::Form if !posted.body.trim_ascii_start().starts_with(b"{") => {
            (request::object(request::form(posted)?), Vec::new())
        }
        _ => (request::json_object(posted)?, Vec::new()),
    };
    let embeds = fields::list(&body, "embeds");
    if embeds.len() > MOST_EMBEDS {
        return Err(Refused::TooMuch("more than 10 embeds in one message"));
    }
    let mut saying = Saying { author: fields::line(&body, "username"), ..Saying::default() };
    saying.say(markdown(&fields::text(&body, "content")));
    saying.sections = embeds.iter().filter_map(|one| section(one).if_any()).collect();
    if saying.is_empty() && files.is_empty() {
        return Err(Refused::Unreadable("an empty message can't be sent"));
    }
    saying.body = body;
    let mut notice = saying.notice_with(Severity::Info, files);
    notice.instead_of = instead_of;
    Ok(vec![notice])
}

fn section(embed: &Value) -> Section {
    let words = markdown(&fields::text(embed, "description"));
    let colour = fields::number(embed, "color").filter(|colour| (1..=0xff_ffff).contains(colour));
    let mut links = Vec::new();
    links.extend(Link::to("Picture", &fields::text(embed, "image.url")));
    links.extend(Link::to("Video", &fields::text(embed, "video.url")));
    Section {
        before: String::new(),
        author: fields::line(embed, "author.name"),
        title: fields::one_line(&markdown(&fields::text(embed, "title")).plain),
        url: fields::link_at(embed, "url"),
        text: words.plain,
        html: words.html,
        colour: colour.map(|colour| format!("#{colour:06x}")).unwrap_or_default(),
        fields: fields::list(embed, "fields").iter().map(field).collect(),
        links,
        footer: fields::line(embed, "footer.text"),
    }
}

fn field(field: &Value) -> Field {
    let value = markdown(&fields::text(field, "value"));
    Field {
        name: fields::one_line(&markdown(&fields::text(field, "name")).plain),
        value: value.plain,
        html: value.html,
    }
}

/// Discord's Markdown. Whom it calls is not called; what it names by a number stays a number.
fn markdown(words: &str) -> Words {
    let mut said = String::with_capacity(words.len());
    let mut rest = words;
    while let Some((before, after)) = rest.split_once('<') {
        said.push_str(before);
        let inside = fields::ahead(after, LONGEST_NAME).split_once('>').map(|(inside, _)| inside);
        let known = inside.and_then(|inside| Some((named(inside)?, &after[inside.len() + 1..])));
        rest = match known {
            Some((named, left)) => {
                said.push_str(&named);
                left
            }
            None => {
                said.push('<');
                after
            }
        };
    }
    said.push_str(rest);
    Words::markdown(&said)
}

/// `@123`, `@!123`, `@&123`, `#123`, `:name:123`, `a:name:123`, `t:1700000000:R`
fn named(inside: &str) -> Option<String> {
    let is_number =
        |words: &str| !words.is_empty() && words.len() <= 20 && words.bytes().all(|byte| byte.is_ascii_digit());
    let number = inside.trim_start_matches(['@', '!', '&', '#']);
    if is_number(number) && number.len() < inside.len() {
        return Some(number.to_owned());
    }
    let parts: Vec<_> = inside.split(':').collect();
    match parts.as_slice() {
        ["" | "a", name, id] if is_number(id) => Some(format!(":{name}:")),
        ["t", moment] | ["t", moment, _] => {
            let moment: i64 = moment.parse().ok()?;
            moment::shown(moment.checked_mul(1000)?)
        }
        _ => None,
    }
}
