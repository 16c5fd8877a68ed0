//! Requests for tests: made up, or captured from real senders.

use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use sealbridge_contract::Timestamp;

use super::{Dialect, Notice, Posted, dialects};

/// A request that owns what it has.
#[derive(Clone, Debug)]
pub(super) struct Request {
    method: Method,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    body: Vec<u8>,
    /// 2026-11-30, a little after midnight.
    pub at: Timestamp,
}

impl Request {
    pub(super) fn new(method: &str, target: &str, body: impl Into<Vec<u8>>) -> Self {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        Self {
            method: method.parse().expect("a method"),
            path: path.to_owned(),
            query: query.map(str::to_owned),
            headers: HeaderMap::new(),
            body: body.into(),
            at: Timestamp(1_795_997_280_000),
        }
    }

    /// JSON.
    pub(super) fn json(target: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new("POST", target, body).with("content-type", "application/json")
    }

    /// The same with a header.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().expect("a header's name");
        self.headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).expect("a header's value"));
        self
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    /// As it is in a file: the line of the request, headers, an empty line, the body. `None`: it is not so.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let at = bytes.windows(2).position(|pair| pair == b"\n\n")?;
        let (head, body) = (String::from_utf8_lossy(&bytes[..at]).into_owned(), &bytes[at + 2..]);
        let mut lines = head.lines();
        let (method, target) = lines.next()?.split_once(' ')?;
        method.parse::<Method>().ok()?;
        let mut request = Self::new(method, target.trim_end_matches('/'), body);
        for line in lines {
            let (name, value) = line.split_once(": ")?;
            let value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
            request.headers.append(name.parse::<HeaderName>().ok()?, value);
        }
        Some(request)
    }

    pub(super) fn posted(&self) -> Posted<'_> {
        Posted {
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            body: &self.body,
            at: self.at,
        }
    }

    pub(super) fn read(&self, dialect: Dialect) -> Result<Vec<Notice>, dialects::Refused> {
        dialects::read(dialect, &self.posted())
    }

    /// The one notice of it.
    #[track_caller]
    pub(super) fn one(&self, dialect: Dialect) -> Notice {
        let mut notices = self.read(dialect).unwrap_or_else(|refused| panic!("{refused}"));
        assert_eq!(notices.len(), 1);
        notices.remove(0)
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/notices")
}

/// Every captured request, with its name and the dialect that its sender speaks.
pub(super) fn all() -> Vec<(String, Dialect, Request)> {
    let all = all_of(&folder());
    assert!(all.len() > 60, "there are captured requests");
    all
}

/// The same of another folder.
pub(super) fn all_of(folder: &Path) -> Vec<(String, Dialect, Request)> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("a folder can be read to its end").path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "http")).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).expect("it can be read");
        let request = Request::parse(&bytes).unwrap_or_else(|| panic!("{name} is no request"));
        let dialect = spoken(&name).unwrap_or_else(|| panic!("{name} is in no dialect"));
        (name, dialect, request)
    };
    paths.into_iter().map(read).collect()
}

/// One of them.
pub(super) fn named(name: &str) -> Request {
    all().into_iter().find(|(known, ..)| known == name).unwrap_or_else(|| panic!("there is no {name}")).2
}

/// What the sender speaks that a request is named for. The longest beginning counts.
pub(super) fn spoken(name: &str) -> Option<Dialect> {
    let format = sealbridge_lab::senders::spoken(name, Dialect::ALL.iter().map(|(_, name)| *name));
    format.map(|format| format.parse().expect("a format"))
}
