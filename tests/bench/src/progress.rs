//! How far a long part is, on standard error, for a person at a terminal alone.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar for `length` things.
pub(crate) fn bar(length: usize, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(length as u64).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("   {msg} {wide_bar} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    bar
}
