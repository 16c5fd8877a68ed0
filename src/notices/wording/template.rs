//! A template that was read, and its limits.

use std::io;

use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, context, syntax::SyntaxConfig};
use serde_json::Value;

use super::{Faulty, Trouble, Words, filters, own::File};
use crate::notices::{
    Dialect, Notice, Severity,
    dialects::{self, markup},
};

/// How much work a template may be: about so many steps, or 64 times as many bytes.
const FUEL: u64 = 400_000;
/// 16 KiB for each sign that a template may have, of which one or two make a call. What is not used is not taken.
const STACK: usize = 256 << 20;
/// So much of what a template writes is taken, in bytes. That is more than any message has room for.
const MOST_OUTPUT: usize = 128 * 1024;

const COMMON: &str = include_str!("common.toml");
const ALERTS: &str = include_str!("alerts.toml");
const DIGEST: &str = include_str!("digest.toml");

/// A template for the notices of a source.
pub struct Template {
    environment: Environment<'static>,
    fields: Vec<&'static str>,
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Template").field("fields", &self.fields).finish_non_exhaustive()
    }
}

impl Template {
    /// Ours for a dialect.
    #[must_use]
    pub fn of(dialect: Dialect) -> Self {
        Self::parse(Self::text_of(dialect)).expect("our own templates are templates")
    }

    /// Ours for incidents of our own making.
    #[must_use]
    pub fn of_ours() -> Self {
        Self::of(Dialect::Ping)
    }

    /// Ours for what is said together.
    #[must_use]
    pub fn of_digests() -> Self {
        Self::parse(DIGEST).expect("our own templates are templates")
    }

    /// The file of ours for a dialect, to begin one of one's own with.
    #[must_use]
    pub fn text_of(dialect: Dialect) -> &'static str {
        if tells_of_incidents(dialect) { ALERTS } else { COMMON }
    }

    /// Reads a file of the operator's own, for what senders of a dialect say.
    ///
    /// # Errors
    /// What is wrong with it, and where; or it names notices of what goes on. Of that several requests tell, and but for the
    /// first none of the same name would be taken.
    pub fn parse_for(dialect: Dialect, text: &str) -> Result<Self, Faulty> {
        let template = Self::parse(text)?;
        let is_named = template.fields.contains(&"id");
        if is_named && tells_of_incidents(dialect) { Err(Faulty::Named { dialect }) } else { Ok(template) }
    }

    /// Reads a file of the operator's own.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, Faulty> {
        let file = File::parse(text)?;
        deep(|| Self::compile(&file)).unwrap_or(Err(Faulty::NoMemory))
    }

    fn compile(file: &File) -> Result<Self, Faulty> {
        let mut environment = environment();
        let mut fields = Vec::new();
        for (field, template) in file.templates() {
            let added = environment.add_template_owned(field, template.to_owned());
            added.map_err(|error| Faulty::Template(error.to_string()))?;
            if let Some(unknown) = unknown_name(&environment, field) {
                return Err(unknown);
            }
            fields.push(field);
        }
        Ok(Self { environment, fields })
    }

    /// Lets the operator's own template say how much a notice matters, and what it is called.
    ///
    /// # Errors
    /// [`Trouble`]: the notice is as it was read.
    pub fn prepare(&self, notice: &mut Notice) -> Result<(), Trouble> {
        if self.fields.contains(&"severity") {
            self.weigh(notice)?;
        }
        if self.fields.contains(&"id") && notice.incident.is_none() {
            let said = self.render_one("id", &super::context::notice(notice))?.text;
            notice.id = dialects::name(said.trim()).or(notice.id.take());
        }
        Ok(())
    }

    /// Lets it say how much a notice matters, or of an incident each of its alerts.
    fn weigh(&self, notice: &mut Notice) -> Result<(), Trouble> {
        let Some(incident) = &mut notice.incident else {
            let said = self.severity_in(as_seen(&super::context::notice(notice)))?;
            // The operator's word counts, not the sender's.
            notice.aloud &= said.is_none_or(|said| said == notice.severity);
            notice.severity = said.unwrap_or(notice.severity);
            return Ok(());
        };
        // What all of them have in common may be much, and is made ready once.
        let common = as_seen(&super::context::object(&notice.values));
        let seen = |alert| context! { ..as_seen(&super::context::alone(alert)), ..common.clone() };
        let said = incident.alerts.iter().map(|alert| self.severity_in(seen(alert)));
        let said = said.collect::<Result<Vec<_>, _>>()?;
        for (alert, said) in incident.alerts.iter_mut().zip(said) {
            alert.severity = said.unwrap_or(alert.severity);
        }
        notice.severity = incident.severity();
        Ok(())
    }

    fn severity_in(&self, context: minijinja::Value) -> Result<Option<Severity>, Trouble> {
        let said = render(&self.environment, "severity", context).map_err(|error| told(&error))?.text;
        if said.trim().is_empty() {
            return Ok(None);
        }
        let named = dialects::severity(said.trim());
        named.map(Some).ok_or(Trouble("`severity` is none of low, info, warning, critical".into()))
    }

    /// What a template prints that is not there, and what goes wrong with it, for whoever writes one.
    #[must_use]
    pub fn check(&self, notice: &Notice) -> Vec<String> {
        let context = match &notice.incident {
            None => super::context::notice(notice),
            Some(incident) => {
                let course = super::Course {
                    values: &notice.values,
                    alerts: &incident.alerts,
                    acknowledged: None,
                    silenced_until: None,
                };
                super::context::change(&course, &incident.alerts.iter().collect::<Vec<_>>())
            }
        };
        deep(|| self.check_with(&context)).unwrap_or_else(|| vec![Faulty::NoMemory.to_string()])
    }

    fn check_with(&self, context: &Value) -> Vec<String> {
        let mut strict = self.environment.clone();
        strict.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        let mut found = Vec::new();
        for field in &self.fields {
            let Ok(template) = strict.get_template(field) else { continue };
            let mut absent: Vec<_> = template.undeclared_variables(true).into_iter().collect();
            absent.retain(|name| !has(context, name) && !self.is_global(name));
            absent.sort();
            found.extend(absent.into_iter().map(|name| format!("`{field}`: {name} is not there")));
            if let Err(error) = render(&strict, field, as_seen(context)) {
                found.push(told(&error).to_string());
            }
        }
        found
    }

    fn is_global(&self, name: &str) -> bool {
        self.environment.globals().any(|(global, _)| global == name)
    }

    pub(super) fn render(&self, context: Value) -> Result<Words, Trouble> {
        self.both("plain", "html", &context)
    }

    /// The words of a change. A template without them has ours.
    pub(super) fn render_change(&self, context: Value) -> Result<Words, Trouble> {
        if self.fields.iter().any(|field| field.starts_with("change_")) {
            return self.both("change_plain", "change_html", &context);
        }
        Self::of(Dialect::Alertmanager).both("change_plain", "change_html", &context)
    }

    fn both(&self, plain: &str, html: &str, context: &Value) -> Result<Words, Trouble> {
        let one = |field: &str| {
            let known = self.fields.contains(&field);
            known.then(|| self.render_one(field, context)).transpose()
        };
        let (plain, html) = (one(plain)?.map(|plain| plain.text), one(html)?);
        let of_html = || html.as_ref().map(|html| markup::html_to_text(&html.text));
        let plain = plain.or_else(of_html).unwrap_or_default();
        if plain.trim().is_empty() {
            return Err(Trouble("the template says nothing".into()));
        }
        // Words can be cut anywhere; of HTML nobody knows what the end of it would have been.
        Ok(Words { plain, html: html.filter(|html| !html.cut).map(|html| html.text) })
    }

    fn render_one(&self, field: &str, context: &Value) -> Result<Written, Trouble> {
        render(&self.environment, field, as_seen(context)).map_err(|error| told(&error))
    }
}

/// Whether a dialect tells of what begins, changes and ends.
fn tells_of_incidents(dialect: Dialect) -> bool {
    matches!(dialect, Dialect::Alertmanager | Dialect::Grafana | Dialect::UptimeKuma | Dialect::Ping)
}

/// Does what needs a stack as deep as a template is: minijinja reads a chain of a thousand operators by a thousand calls.
/// `None`: there is no memory for it.
fn deep<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work).ok()?;
        thread.join().ok()
    })
}

/// What went wrong, without what a sender wrote, which a library's own words may show.
fn told(error: &Error) -> Trouble {
    let why = match error.kind() {
        ErrorKind::OutOfFuel => "it is too much work".to_owned(),
        kind => kind.to_string(),
    };
    let at = error.line().map(|line| format!(", line {line}")).unwrap_or_default();
    Trouble(format!("the template fails: `{}`{at}: {why}", error.name().unwrap_or("?")))
}

/// What a template wrote.
struct Written {
    text: String,
    /// It would have written more.
    cut: bool,
}

/// Values as templates see them.
fn as_seen(values: &Value) -> minijinja::Value {
    minijinja::Value::from(minijinja::value::Serde(values))
}

fn render(environment: &Environment<'static>, field: &str, values: minijinja::Value) -> Result<Written, Error> {
    let template = environment.get_template(field)?;
    let mut out = Bounded::default();
    let rendered = template.render_captured_to(values, &mut out).map(drop);
    if !out.full {
        rendered?;
    }
    let text = String::from_utf8_lossy(&out.bytes);
    // It may have been cut within a character.
    let text = text.trim_end_matches(char::REPLACEMENT_CHARACTER).to_owned();
    Ok(Written { text, cut: out.full })
}

/// Takes so much, and no more.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = MOST_OUTPUT - self.bytes.len();
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room {
            self.full = true;
            return Err(io::Error::other("too much"));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("these signs are the usual ones"));
    environment.set_auto_escape_callback(
        |field| {
            if field.ends_with("html") { AutoEscape::Html } else { AutoEscape::None }
        },
    );
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(100);
    // By this a sender's words would become HTML; by that a template would show everything that it was given.
    environment.remove_filter("safe");
    environment.remove_global("debug");
    filters::add(&mut environment);
    environment
}

/// A filter, test or function that there is not, which would otherwise be seen only when a notice comes to it.
fn unknown_name(environment: &Environment<'static>, field: &str) -> Option<Faulty> {
    let template = environment.get_template(field).ok()?;
    let error = template.render(context!()).err()?;
    let unknown =
        matches!(error.kind(), ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction);
    unknown.then(|| Faulty::Template(error.to_string()))
}

/// Whether a name leads to something: `body.repository.name`. Within what may be there and is not now, any name does.
fn has(context: &Value, name: &str) -> bool {
    let mut value = context;
    for key in name.split('.') {
        match value.get(key) {
            Some(Value::Null) => return true,
            Some(inner) => value = inner,
            None => return false,
        }
    }
    true
}
