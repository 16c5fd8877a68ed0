//! Carries one request to the homeserver and its answer back, with the faults that strike it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::rule::{Active, Fault};
use super::{Seen, Shared, capture};

pub(super) type Body = UnsyncBoxBody<Bytes, anyhow::Error>;

/// Everything that strikes one request.
#[derive(Default)]
struct Struck {
    trickle: Option<u32>,
    rewrites: Vec<Fault>,
    last: Option<(Fault, Active)>,
}

/// An error cuts the connection without an answer.
pub(super) async fn carry(shared: &Shared, request: http::Request<Incoming>) -> Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.context("Read a request")?.to_bytes();
    let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let path = percent_decode_str(target).decode_utf8_lossy();
    shared.see(|| Seen { method: parts.method.to_string(), path: path.clone().into_owned(), body: body.clone() });

    let captured = shared.capture();
    if let Some(capture) = &captured {
        let head = capture::head(&format!("{} {target}", parts.method), &parts.headers);
        capture.keep(&[&head, &body[..], b"\r\n"].concat());
    }

    let _pending = shared.pend(&path);
    let struck = strike(shared, parts.method.as_str(), &path).await;
    let mut answer_fault = None;
    let mut held_by = None;
    if let Some((fault, rule)) = struck.last {
        match fault {
            Fault::Throttle { retry_after_ms } => return throttled(retry_after_ms),
            Fault::Fail(status) => {
                let body = json!({ "errcode": "M_UNKNOWN", "error": "The lab's fault" });
                return answer(status, &body);
            }
            Fault::Answer { status, body } => return answer(status, &body),
            Fault::DropBefore => bail!("dropped before"),
            Fault::Hang => {
                rule.until_removed().await;
                bail!("hung");
            }
            Fault::Redirect { to } => return redirect(&to),
            other => (answer_fault, held_by) = (Some(other), Some(rule)),
        }
    }

    let mut headers = without_hop_headers(parts.headers);
    headers.remove(header::HOST);
    if !struck.rewrites.is_empty() {
        headers.remove(header::ACCEPT_ENCODING);
    }
    let body = match &answer_fault {
        Some(Fault::CutRequest) => reqwest::Body::wrap_stream(stream::iter([
            Ok(body.slice(..body.len() / 2)),
            Err(anyhow::anyhow!("cut in the middle of a request")),
        ])),
        _ => body.into(),
    };
    let response = shared
        .client
        .request(parts.method, format!("{}{target}", shared.upstream))
        .headers(headers)
        .body(body)
        .send()
        .await
        .context("Ask the homeserver")?;

    let status = response.status();
    let mut headers = without_hop_headers(response.headers().clone());
    let body = match answer_fault {
        Some(Fault::DropAfter) => {
            response.bytes().await.context("Read an answer")?;
            bail!("dropped after");
        }
        Some(Fault::HoldAnswer) => {
            response.bytes().await.context("Read an answer")?;
            if let Some(rule) = held_by {
                rule.until_removed().await;
            }
            bail!("held");
        }
        Some(Fault::Endless) => {
            headers.remove(header::CONTENT_LENGTH);
            endless(response.bytes().await.context("Read an answer")?)
        }
        Some(Fault::CutAnswer) => half(response.bytes().await.context("Read an answer")?),
        _ if !struck.rewrites.is_empty() => {
            headers.remove(header::CONTENT_LENGTH);
            let bytes = response.bytes().await.context("Read an answer")?;
            whole(rewrite(bytes, &struck.rewrites))
        }
        _ => stream_through(response),
    };
    let body = match captured {
        Some(to) => capture::answer(to, capture::head(status.as_str(), &headers), body),
        None => body,
    };
    let body = match struck.trickle {
        Some(speed) => slowly(body, speed),
        None => body,
    };
    let mut out = Response::new(body);
    *out.status_mut() = status;
    *out.headers_mut() = headers;
    Ok(out)
}

async fn strike(shared: &Shared, method: &str, path: &str) -> Struck {
    let mut struck = Struck::default();
    for rule in shared.rules() {
        let Some(fault) = rule.strike(method, path) else {
            continue;
        };
        match fault {
            Fault::Delay(time) => tokio::time::sleep(time).await,
            Fault::Trickle { bytes_per_second } => struck.trickle = Some(bytes_per_second),
            Fault::Rewrite(_) => struck.rewrites.push(fault),
            fault => {
                struck.last = Some((fault, rule));
                break;
            }
        }
    }
    struck
}

fn throttled(retry_after_ms: u64) -> Result<Response<Body>> {
    answer(
        429,
        &json!({
            "errcode": "M_LIMIT_EXCEEDED",
            "error": "Too Many Requests",
            "retry_after_ms": retry_after_ms,
        }),
    )
}

fn answer(status: u16, body: &Value) -> Result<Response<Body>> {
    let mut response = Response::new(whole(body.to_string().into()));
    *response.status_mut() = StatusCode::from_u16(status)?;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

fn redirect(to: &str) -> Result<Response<Body>> {
    let mut response = Response::new(whole(Bytes::new()));
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(header::LOCATION, header::HeaderValue::from_str(to)?);
    Ok(response)
}

/// What is no JSON passes unchanged.
fn rewrite(bytes: Bytes, rewrites: &[Fault]) -> Bytes {
    let Ok(mut value) = serde_json::from_slice::<Value>(&bytes) else {
        return bytes;
    };
    for fault in rewrites {
        if let Fault::Rewrite(change) = fault {
            change(&mut value);
        }
    }
    value.to_string().into()
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// The length of the whole is announced, so a client can see that something is missing.
fn half(bytes: Bytes) -> Body {
    let part = bytes.slice(..bytes.len() / 2);
    let parts = [Ok(Frame::data(part)), Err(anyhow::anyhow!("cut"))];
    BodyExt::boxed_unsync(StreamBody::new(stream::iter(parts)))
}

/// JSON may be followed by spaces, so nobody can tell by the content that nothing more comes.
fn endless(bytes: Bytes) -> Body {
    let spaces = stream::repeat_with(|| Bytes::from_static(&[b' '; 4096])).then(|part| async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        part
    });
    let parts = stream::once(std::future::ready(bytes)).chain(spaces);
    BodyExt::boxed_unsync(StreamBody::new(parts.map(|part| Ok(Frame::data(part)))))
}

fn stream_through(response: reqwest::Response) -> Body {
    let frames = response.bytes_stream().map(|part| match part {
        Ok(bytes) => Ok(Frame::data(bytes)),
        Err(error) => Err(anyhow::Error::from(error)),
    });
    BodyExt::boxed_unsync(StreamBody::new(frames))
}

fn slowly(body: Body, bytes_per_second: u32) -> Body {
    let step = Duration::from_secs(1) / bytes_per_second.max(1);
    let frames = body.into_data_stream().flat_map(move |part| {
        let singles: Vec<_> = match part {
            Ok(bytes) => (0..bytes.len()).map(|at| Ok(bytes.slice(at..=at))).collect(),
            Err(error) => vec![Err(error)],
        };
        stream::iter(singles).then(move |single| async move {
            tokio::time::sleep(step).await;
            single.map(Frame::data)
        })
    });
    BodyExt::boxed_unsync(StreamBody::new(frames))
}

fn without_hop_headers(mut headers: HeaderMap) -> HeaderMap {
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TE, header::TRAILER] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers
}
