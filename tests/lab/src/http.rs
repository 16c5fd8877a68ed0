//! Requests as programs make them, to a service on loopback.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// What was answered.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// The headers, with names in small letters.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Answered {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Makes a request, and waits for its answer for a minute.
pub async fn request(method: &str, url: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Result<Answered> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build()?;
    let mut request = client.request(method.parse().context("A method")?, url).body(body.into());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.with_context(|| format!("{method} {url}"))?;
    let status = answer.status().as_u16();
    let headers = answer.headers().iter();
    let headers =
        headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let headers = headers.collect();
    Ok(Answered { status, headers, body: answer.text().await? })
}

/// A port of loopback that nobody listens at now.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Makes many requests, over connections that are kept.
#[derive(Debug, Clone)]
pub struct Poster(reqwest::Client);

impl Poster {
    /// One that makes requests.
    pub fn new() -> Result<Self> {
        Ok(Self(reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build()?))
    }

    /// Posts, and says the status of the answer.
    pub async fn post(&self, url: &str, headers: &[(&str, &str)], body: String) -> Result<u16> {
        let mut request = self.0.post(url).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        answer.bytes().await?;
        Ok(status)
    }
}
