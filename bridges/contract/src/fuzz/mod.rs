//! Fuzz targets of what strangers write and of what lies on a disk; `tests/fuzz` says how they are run.

mod html;
mod names;
mod sealed;
mod wire;
