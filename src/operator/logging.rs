//! Logs: text or JSON on stderr, never with words of a message or a token, at no level.
//!
//! Our own code names its fields one by one. What libraries say is never written, whatever the level is: at `trace` an
//! HTTP library writes headers, and a cryptographic one whole events. This is a list of what may speak, so a library
//! that is new is silent. What matters of their troubles reaches us as errors, and is said in our own words.

use std::{io::IsTerminal as _, panic, str::FromStr as _};

use tracing::{Level as TracingLevel, Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer, filter::FilterFn, filter::Targets, fmt::MakeWriter, layer::SubscriberExt as _, registry::LookupSpan,
};

use crate::config::{Format, Level, Log};
use crate::{operator::Failure, transports};

/// Targets of our own beside the transports, which may say everything: none of it holds words of a message.
const OURS: &[&str] = &["sealbridge", "sealbridge_contract", "sealbridge_child"];

/// Whether something may be written at all, whatever level is asked for.
fn may_speak(metadata: &Metadata<'_>) -> bool {
    let of = |name: &&str| {
        metadata.target().strip_prefix(*name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    OURS.iter().chain(transports::CRATES).any(of)
}

/// The levels that are asked for: one for all, or `target=level` for some, separated by commas.
///
/// # Errors
/// [`Failure`] if `filter` is not of that form.
pub fn levels(level: Level, filter: Option<&str>) -> Result<Targets, Failure> {
    let default = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    match filter.filter(|filter| !filter.trim().is_empty()) {
        None => Ok(Targets::new().with_default(default)),
        Some(filter) => Targets::from_str(filter).map_err(|error| {
            Failure::usage(format!("SEALBRIDGE_LOG: {error}; write for example info, or sealbridge::flow=debug,warn"))
        }),
    }
}

/// The layer that writes logs to `writer`.
pub fn layer<S, W>(format: Format, levels: Targets, ansi: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let allowed = FilterFn::new(may_speak);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(ansi);
    match format {
        Format::Text => lines.with_filter(levels).with_filter(allowed).boxed(),
        Format::Json => lines.json().flatten_event(true).with_filter(levels).with_filter(allowed).boxed(),
    }
}

/// Starts logging, for the whole process, and keeps panics from showing what they hold.
///
/// # Errors
/// [`Failure`] if `SEALBRIDGE_LOG` is not understood.
pub fn start(log: Log) -> Result<(), Failure> {
    let filter = std::env::var("SEALBRIDGE_LOG").ok();
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let ansi = !plain && std::io::stderr().is_terminal();
    let layer = layer(log.format, levels(log.level, filter.as_deref())?, ansi, std::io::stderr);
    // Not `init`: that would also take in what libraries write through the `log` crate, under a target of its own.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer));
    Ok(())
}

/// Makes panics say where and, if the words are fixed in the program, what; never what was formatted into them, which
/// may be words of a message (a slice out of bounds prints the whole text).
pub fn tame_panics() {
    panic::set_hook(Box::new(|info| {
        let fixed = info.payload().downcast_ref::<&'static str>().copied().unwrap_or("(details withheld)");
        let at = info.location().map(ToString::to_string).unwrap_or_default();
        if tracing::enabled!(target: "sealbridge::panic", TracingLevel::ERROR) {
            return tracing::error!(target: "sealbridge::panic", at, "Panic: {fixed}");
        }
        let words = format_args!("sealbridge: this is a bug: panic at {at}: {fixed}\n");
        let _ = std::io::Write::write_fmt(&mut std::io::stderr().lock(), words);
    }));
}
