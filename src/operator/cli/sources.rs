//! `sealbridge sources` and `sealbridge templates`: programs that bring notices, and how what they bring looks.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::{
    Args, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use sealbridge_contract::{Address, Clock, Text};
use serde_json::json;

use super::{Global, files, find, load};
use crate::{
    config::{self, Acknowledging, Config, Notices, Source, edit, parse_address},
    notices::{self, Dialect, Posted, Severity, SourceName, dialects, wording},
    operator::{Failure, FailureKind, Outcome, output::Output},
};

type Found = Result<Option<FailureKind>, Failure>;

/// Longer bodies are no tests of a template.
const MOST_BODY: u64 = 16 << 20;

/// Programs that bring notices.
#[derive(Debug, Subcommand)]
pub(super) enum Sources {
    /// Show them, and where their requests go.
    List,
    /// Add one: it is written into the config, with a secret of its own, which is shown this once.
    Add {
        /// A short name for it.
        name: SourceArg,
        /// How it says what it says.
        #[arg(long, value_parser = formats())]
        format: Dialect,
        /// A conversation in which it is said: account/conversation. May be given more than once.
        #[arg(long = "to", required = true, value_parser = parse_address)]
        to: Vec<Address>,
    },
    /// Say a word in its conversations, as if it had brought it, by the running service.
    Test {
        /// Its name.
        name: SourceArg,
    },
    /// Give it a new secret. The one before stays good until the next time.
    Rotate {
        /// Its name.
        name: SourceArg,
    },
}

/// How notices look.
#[derive(Debug, Subcommand)]
pub(super) enum Templates {
    /// Show what a room would see of a request's body, and what is wrong with the template.
    Test(TestOf),
    /// Print the template of a format, to begin one of your own with.
    Show {
        /// The format.
        format: Dialect,
    },
}

/// What is tried.
#[derive(Debug, Args)]
pub(super) struct TestOf {
    /// The source whose template is tried, or a format.
    #[arg(long, value_name = "SOURCE")]
    source: String,
    /// A template that is no source's yet.
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// A header of the request: `NAME: VALUE`. May be given more than once.
    #[arg(long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// The body. `-` for standard input.
    file: PathBuf,
}

/// All formats, so that help and completions name them.
fn formats() -> impl TypedValueParser<Value = Dialect> {
    let names = Dialect::ALL.iter().map(|(_, name)| *name);
    PossibleValuesParser::new(names).try_map(|name| name.parse::<Dialect>())
}

/// A source's name, checked where it is typed.
#[derive(Clone, Debug)]
pub(super) struct SourceArg(pub(super) SourceName);

impl std::str::FromStr for SourceArg {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        SourceName::parse(text).map(Self)
    }
}

/// Shows the sources.
pub(super) fn list(config: &Config, output: Output) -> Found {
    let mut outcome = Outcome::new(String::new(), Vec::new());
    for (name, source) in &config.sources {
        let at = place(config, name, source.format);
        let to: Vec<_> = source.to.iter().map(ToString::to_string).collect();
        let guarded = match source.secret_files.len() {
            0 => "without a secret, from this machine alone".to_owned(),
            1 => "with a secret".to_owned(),
            many => format!("with {many} secrets"),
        };
        let listens = at.as_deref().unwrap_or("nowhere: set `listen` in [notices]");
        outcome.words.push_str(&format!("{name} ({}, {guarded}): {listens}\n  to {}\n", source.format, to.join(", ")));
        manners(source, &config.notices).iter().for_each(|manner| outcome.words.push_str(&format!("  {manner}\n")));
        outcome.lines.push(json!({
            "name": name, "format": source.format, "url": at, "to": to, "secrets": source.secret_files.len(),
            "burst": source.burst, "fold_for": source.fold_for, "gather_for": source.gather_for, "quiet": source.quiet,
            "quiet_zone": source.quiet_zone, "quiet_below": source.quiet_below,
            "quiet_in": quiet_in(source, &config.notices),
            "mention": source.mention, "mention_from": source.mention_from,
            "escalate_after": source.escalate_after, "escalate_from": source.escalate_from,
            "escalate_to": source.escalate_to.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "escalate_mention": source.escalate_mention, "acknowledge": source.acknowledge,
        }));
    }
    if config.sources.is_empty() {
        outcome.words.push_str(
            "No sources yet. Add one: sealbridge sources add NAME --format FORMAT --to ACCOUNT/CONVERSATION\n",
        );
    }
    output.outcome(&outcome);
    Ok(None)
}

/// The quiet hours of conversations in which it speaks.
fn quiet_in(source: &Source, notices: &Notices) -> serde_json::Map<String, serde_json::Value> {
    let speaks = notices.conversations.iter().filter(|(at, _)| source.speaks_in(at));
    speaks.map(|(at, place)| (at.to_string(), json!(place))).collect()
}

fn severity(severity: Severity) -> String {
    json!(severity).as_str().unwrap_or_default().to_owned()
}

/// What of a source is gathered, whom it calls, and who else is told, in words.
fn manners(source: &Source, notices: &Notices) -> Vec<String> {
    let burst = source.burst.map(|burst| format!("{burst} at once within {}, the rest in a digest", source.gather_for));
    let folds =
        source.fold_for.map(|long| format!("the same words within {long} are one message, which says how often"));
    let quiet = source.window().map(|window| format!("quiet {window}"));
    let at = |at: &Address| Some(format!("quiet in {at} {}", notices.conversations.get(at)?.window()));
    let quiet_there = source.to.iter().chain(&source.escalate_to).filter_map(at);
    let calls = (!source.mention.is_empty())
        .then(|| format!("calls {} by what is {} or worse", source.mention.join(", "), severity(source.mention_from)));
    let escalates = source.escalate_after.map(|after| {
        let to: Vec<_> = source.escalate_to.iter().map(ToString::to_string).collect();
        let to = if to.is_empty() { "its thread".to_owned() } else { to.join(", ") };
        let by = match source.acknowledge {
            Acknowledging::Reaction => "by a reaction or a command",
            Acknowledging::Command => "by a command",
        };
        format!("after {after} told in {to} if nobody says {by} that they look after it")
    });
    burst.into_iter().chain(folds).chain(quiet).chain(quiet_there).chain(calls).chain(escalates).collect()
}

/// Where a source is heard. What takes mail is heard as mail if mail is taken at all.
fn place(config: &Config, name: &SourceName, format: Dialect) -> Option<String> {
    match config.notices.listen_mail {
        Some(at) if format == Dialect::Mail => Some(format!("smtp://{at}, to {name}@localhost")),
        _ => config.notices.listen.map(|at| format!("http://{at}/{name}")),
    }
}

/// Adds one.
pub(super) fn add(global: &Global, name: &SourceName, format: Dialect, to: Vec<Address>, output: Output) -> Found {
    let (path, config) = (find(global)?, load(global)?);
    if config.sources.contains_key(name) {
        return Err(Failure::usage(format!("there is a source {name} already")));
    }
    let (file, secret) = fresh_secret(&config, name, 1)?;
    let source = toml::Table::from_iter([
        ("format".to_owned(), toml::Value::from(format.name())),
        ("to".to_owned(), to.iter().map(ToString::to_string).collect::<Vec<_>>().into()),
        ("secret_files".to_owned(), vec![file.to_string_lossy().into_owned()].into()),
    ]);
    let text = config::read(&path)?;
    let text = edit::with_source(&text, name, &source).map_err(|words| by_hand(&path, &words))?;
    // Read as the service will read it, before anything is written.
    let sources = super::sources(global, path.clone())?;
    let config = config::load_as(&sources, &text)?;
    files::write_secret(&file, &secret)?;
    files::replace(&path, &text)?;
    told(&config, name, &secret, &path, output)
}

/// Gives it a new secret.
pub(super) fn rotate(global: &Global, name: &SourceName, output: Output) -> Found {
    let (path, config) = (find(global)?, load(global)?);
    let source = config.sources.get(name).ok_or_else(|| no_such(&config, name))?;
    let (file, secret) = fresh_secret(&config, name, 1)?;
    let kept =
        source.secret_files.iter().take(Source::MOST_SECRETS - 1).map(|file| file.to_string_lossy().into_owned());
    let all: Vec<_> = [file.to_string_lossy().into_owned()].into_iter().chain(kept).collect();
    let text = config::read(&path)?;
    let text = edit::with_secrets(&text, name, &all).map_err(|words| by_hand(&path, &words))?;
    files::write_secret(&file, &secret)?;
    files::replace(&path, &text)?;
    forget_unused(&config, name, &all);
    told(&config, name, &secret, &path, output)
}

/// Removes secrets of ours that are good for nothing any more. One that stays opens nothing.
fn forget_unused(config: &Config, name: &SourceName, used: &[String]) {
    let folder = config.service.state.join("secrets");
    let ours = format!("source-{name}.");
    for file in fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path()) {
        let is_ours = file.file_name().and_then(|file| file.to_str()).is_some_and(|file| file.starts_with(&ours));
        if is_ours && !used.iter().any(|used| Path::new(used) == file) {
            let _ = fs::remove_file(file);
        }
    }
}

fn told(config: &Config, name: &SourceName, secret: &Text, path: &Path, output: Output) -> Found {
    let at = config.sources.get(name).and_then(|source| place(config, name, source.format));
    let listens = at.clone().unwrap_or_else(|| "nowhere yet: set `listen` in [notices]".to_owned());
    // Many senders of these formats can be given nothing but this.
    let format = config.sources.get(name).map(|source| source.format);
    let built_in = format.and_then(notices::built_in).zip(config.notices.listen);
    let built_in = built_in.map_or_else(String::new, |(path, at)| format!(", or to http://{at}{path}"));
    let words = format!(
        "The source {name} is in {}. Its requests go to {listens}{built_in}\nIts secret, shown this once:\n    {}\nAs \
         `Authorization: Bearer SECRET`, as the password of mail, or where its format has a place for one (docs/notices.md). \
         Start the service anew to \
         hear it, and try it: sealbridge sources test {name}\n",
        path.display(),
        secret.as_str(),
    );
    let line = json!({ "name": name, "url": at, "secret": secret.as_str() });
    output.outcome(&Outcome::new(words, vec![line]));
    Ok(None)
}

/// A file for a secret that is not there yet, and a secret for it.
fn fresh_secret(config: &Config, name: &SourceName, from: u32) -> Result<(PathBuf, Text), Failure> {
    let folder = config.service.state.join("secrets");
    files::private_folder(&folder)?;
    let places = (from..).map(|number| folder.join(format!("source-{name}.{number}")));
    let file = places.into_iter().find(|place| !place.exists()).expect("there are more numbers than files");
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::other(format!("the system gives no random bytes: {error}")))?;
    Ok((file, Text::new(URL_SAFE_NO_PAD.encode(bytes))))
}

/// Shows what a room would see.
pub(super) fn test(global: &Global, test: &TestOf, output: Output) -> Found {
    let (dialect, own) = match test.source.parse::<Dialect>() {
        Ok(dialect) => (dialect, None),
        Err(formats) => {
            let config = load(global)?;
            let name = SourceName::parse(&test.source).map_err(Failure::usage)?;
            let source = config.sources.get(&name);
            let source = source.ok_or_else(|| Failure::usage(format!("there is no source {name}; {formats}")))?;
            (source.format, source.template.clone())
        }
    };
    let is_own = test.template.is_some() || own.is_some();
    let template = match test.template.as_ref().or(own.as_ref()) {
        None => wording::Template::of(dialect),
        Some(file) => {
            let text = fs::read_to_string(file).map_err(|error| unreadable(file, &error))?;
            wording::Template::parse_for(dialect, &text)
                .map_err(|error| Failure::new(FailureKind::Config, format!("{}: {error}", file.display())))?
        }
    };
    let (body, headers) = (read_body(&test.file)?, headers(&test.headers, &test.file)?);
    let at = Clock::system().now();
    let posted = Posted { method: &Method::POST, path: "", query: None, headers: &headers, body: &body, at };
    let mut notices = dialects::read(dialect, &posted).map_err(|refused| {
        Failure::usage(format!("the service would refuse it with {}: {refused}", refused.status()))
    })?;
    let mut outcome = Outcome::new(String::new(), Vec::new());
    if notices.is_empty() {
        outcome.words.push_str("It is well, and says nothing.\n");
    }
    for notice in &mut notices {
        // Ours print nothing of what is not there, and mean it.
        let mut wrong = if is_own { template.check(notice) } else { Vec::new() };
        wrong.extend(template.prepare(notice).err().map(|trouble| trouble.to_string()));
        let worded = wording::word(&template, notice);
        wrong.extend(worded.trouble.map(|trouble| trouble.to_string()));
        let html = worded.words.html.as_deref();
        outcome.words.push_str(&format!("{}\n", worded.words.plain));
        if let Some(html) = html {
            outcome.words.push_str(&format!("\nFormatted:\n{html}\n"));
        }
        for wrong in &wrong {
            outcome.words.push_str(&format!("\nWrong with the template: {wrong}\n"));
        }
        outcome.lines.push(json!({
            "plain": worded.words.plain, "html": html, "severity": notice.severity, "id": notice.id,
            "files": notice.attachments.len(), "wrong": wrong,
        }));
    }
    output.outcome(&outcome);
    Ok(None)
}

/// Prints a template of ours.
pub(super) fn show(format: Dialect, output: Output) {
    output.data(wording::Template::text_of(format));
}

fn read_body(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    let read = if file == Path::new("-") {
        io::stdin().lock().take(MOST_BODY).read_to_end(&mut body)
    } else {
        fs::File::open(file).and_then(|file| file.take(MOST_BODY).read_to_end(&mut body))
    };
    read.map_err(|error| unreadable(file, &error))?;
    Ok(body)
}

/// The headers that were named; of a file of JSON also its type.
fn headers(named: &[String], file: &Path) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    if file.extension().is_some_and(|ending| ending == "json") {
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    for header in named {
        let wrong = || Failure::usage("a header is written `NAME: VALUE`");
        let (name, value) = header.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::try_from(name.trim()).map_err(|_| wrong())?;
        headers.insert(name, HeaderValue::from_str(value.trim()).map_err(|_| wrong())?);
    }
    Ok(headers)
}

fn no_such(config: &Config, name: &SourceName) -> Failure {
    let names: Vec<_> = config.sources.keys().map(SourceName::as_str).collect();
    let meant =
        config::nearest(name.as_str(), &names).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    Failure::usage(format!("there is no source `{name}`{meant}"))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(FailureKind::Config, format!("{} can't be read: {error}", path.display()))
}

fn by_hand(path: &Path, words: &str) -> Failure {
    Failure::new(FailureKind::Config, format!("{} can't be added to: {words}", path.display()))
}
