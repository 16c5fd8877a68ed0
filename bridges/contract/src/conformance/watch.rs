//! Looks for words in everything that is traced, at every level and on every thread of the process.

use std::{
    collections::HashSet,
    fmt::{self, Write as _},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
};

/// One run's canary: a word that is in all that is said, and must be nowhere else.
pub(crate) struct Canary {
    pub(crate) word: String,
    control: String,
    forms: Vec<String>,
    hits: Mutex<HashSet<String>>,
    control_seen: Mutex<bool>,
}

static CANARIES: Mutex<Vec<std::sync::Weak<Canary>>> = Mutex::new(Vec::new());
static INSTALLED: OnceLock<bool> = OnceLock::new();

impl Canary {
    /// A new one. From now on every trace is searched for it.
    pub(crate) fn release() -> Arc<Self> {
        let random = || crate::DeliveryId::random().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let (word, control): (String, String) = (random(), random());
        let forms = forms(&word);
        let (hits, control_seen) = Default::default();
        let canary = Arc::new(Self { word, control, forms, hits, control_seen });
        let mut canaries = CANARIES.lock().unwrap_or_else(PoisonError::into_inner);
        canaries.retain(|canary| canary.strong_count() > 0);
        canaries.push(Arc::downgrade(&canary));
        drop(canaries);
        INSTALLED.get_or_init(|| tracing::subscriber::set_global_default(Watch::default()).is_ok());
        canary
    }

    /// Searches `text`, and remembers a hit under `place`.
    pub(crate) fn search(&self, place: &str, text: &str) {
        if self.is_in(text) {
            self.hits.lock().unwrap_or_else(PoisonError::into_inner).insert(place.to_owned());
        }
    }

    /// Whether the word is in `text`, in any form in which words leak.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        self.forms.iter().any(|form| text.contains(form))
    }

    /// Where it was found; forgets it.
    pub(crate) fn take_hits(&self) -> Vec<String> {
        let mut hits: Vec<_> = self.hits.lock().unwrap_or_else(PoisonError::into_inner).drain().collect();
        hits.sort();
        hits
    }

    /// Whether a word that is traced on purpose, on another thread and at the lowest level, is seen.
    pub(crate) fn sees(&self) -> bool {
        let control = self.control.clone();
        let traced = std::thread::spawn(move || tracing::trace!(%control, "Control."));
        traced.join().is_ok() && *self.control_seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The forms in which words leak: as they are, in base64 (whatever stands before them), in hex, as a list of bytes.
fn forms(word: &str) -> Vec<String> {
    let bytes = word.as_bytes();
    let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let list: Vec<_> = bytes.iter().map(u8::to_string).collect();
    let mut forms = vec![word.to_owned(), hex, list.join(", "), list.join(",")];
    for skip in 0..3 {
        // Whole groups of three only: what stands before and after changes the characters at the edges.
        let inner = &bytes[skip..];
        forms.push(STANDARD_NO_PAD.encode(&inner[..inner.len() / 3 * 3]));
    }
    forms
}

fn living() -> Vec<Arc<Canary>> {
    let canaries = CANARIES.lock().unwrap_or_else(PoisonError::into_inner);
    canaries.iter().filter_map(std::sync::Weak::upgrade).collect()
}

#[derive(Default)]
struct Watch {
    spans: AtomicU64,
}

impl Watch {
    fn search(&self, metadata: &Metadata<'_>, record: impl FnOnce(&mut Line)) {
        let canaries = living();
        if canaries.is_empty() {
            return;
        }
        let mut line = Line(String::new());
        record(&mut line);
        for canary in canaries {
            canary.search(&format!("a {} trace of {}", metadata.level(), metadata.target()), &line.0);
            if line.0.contains(&canary.control) {
                *canary.control_seen.lock().unwrap_or_else(PoisonError::into_inner) = true;
            }
        }
    }
}

impl Subscriber for Watch {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        self.search(attributes.metadata(), |line| attributes.record(line));
        Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _span: &Id, values: &Record<'_>) {
        // The span's own metadata is not at hand, and which target it was matters less than that it was.
        static LATER: &str = "a field recorded later";
        let mut line = Line(String::new());
        values.record(&mut line);
        living().iter().for_each(|canary| canary.search(LATER, &line.0));
    }

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.search(event.metadata(), |line| event.record(line));
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_str(&mut self, _field: &Field, value: &str) {
        self.0.push_str(value);
        self.0.push('\n');
    }

    fn record_debug(&mut self, _field: &Field, value: &dyn fmt::Debug) {
        // A value that can't be formatted shows nothing.
        let _ = writeln!(self.0, "{value:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canary_is_found_in_every_form_in_which_words_leak() {
        let canary = Canary::release();
        let word = canary.word.clone();
        for before in ["", "a", "ab", "abc"] {
            let bytes = format!("{before}{word} and more").into_bytes();
            assert!(canary.is_in(&STANDARD_NO_PAD.encode(&bytes)), "base64 after {before:?}");
            assert!(canary.is_in(&format!("{bytes:?}")), "a list after {before:?}");
        }
        assert!(canary.is_in(&format!("{:?}", Some(&word))));
        assert!(!canary.is_in("nothing of the kind"));
    }

    #[test]
    fn what_is_traced_on_any_thread_is_seen() {
        let canary = Canary::release();
        assert!(canary.sees());
        assert!(canary.take_hits().is_empty());
        let span = tracing::trace_span!("span", words = canary.word, later = tracing::field::Empty);
        assert_eq!(canary.take_hits().len(), 1);
        span.record("later", &canary.word);
        assert_eq!(canary.take_hits(), ["a field recorded later"]);
    }
}
