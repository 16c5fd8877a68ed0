//! Keeps every byte that goes through a proxy, requests and answers, heads and bodies, to be searched.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use http::HeaderMap;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;

use super::{forward::Body, lock};

/// One file, to which each request and each answer is added in one piece.
#[derive(Debug)]
pub(super) struct Capture {
    file: Mutex<File>,
    failed: AtomicBool,
}

impl Capture {
    pub(super) fn into_file(path: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(path);
        let file = file.with_context(|| format!("Write {}", path.display()))?;
        Ok(Self { file: Mutex::new(file), failed: AtomicBool::new(false) })
    }

    /// Whether all that went through is in the file.
    pub(super) fn is_whole(&self) -> bool {
        !self.failed.load(Ordering::SeqCst)
    }

    pub(super) fn keep(&self, bytes: &[u8]) {
        if lock(&self.file).write_all(bytes).is_err() {
            self.failed.store(true, Ordering::SeqCst);
        }
    }
}

/// A head as it stands before a body.
pub(super) fn head(first: &str, headers: &HeaderMap) -> Vec<u8> {
    let mut head = format!("{first}\r\n").into_bytes();
    for (name, value) in headers {
        head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    head.extend(b"\r\n");
    head
}

/// An answer on its way. It is written when it ends, however it ends, since others go the same way meanwhile.
struct Answer {
    to: Arc<Capture>,
    bytes: Vec<u8>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.bytes.extend(b"\r\n");
        self.to.keep(&self.bytes);
    }
}

/// Keeps what passes of an answer.
pub(super) fn answer(to: Arc<Capture>, head: Vec<u8>, body: Body) -> Body {
    let mut kept = Answer { to, bytes: head };
    let frames = body.into_data_stream().map(move |part| {
        let part = part?;
        kept.bytes.extend(&part);
        Ok(Frame::data(part))
    });
    StreamBody::new(frames).boxed_unsync()
}
