//! Files on the wire, streamed: memory stays the same whatever their size. What leaves is ciphertext: only the engine's
//! attachments come here.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use futures_util::Stream;
use ruma::{
    MxcUri, OwnedMxcUri, ServerName, UInt,
    api::{MatrixVersion, client::authenticated_media},
    media::Method,
};
use secrecy::ExposeSecret;
use serde::Deserialize;

use super::{
    Class, Http,
    error::{HttpError, HttpErrorKind},
    permitted::OnWire,
};

/// A homeserver that sends or takes nothing for so long has stopped.
const STALLED: Duration = Duration::from_secs(60);
/// The slowest upload that is waited for, in bytes a second.
const SLOWEST: u64 = 32 * 1024;
const ANSWER: usize = 64 * 1024;

/// A file that is being fetched.
pub(in super::super) struct Download {
    answer: reqwest::Response,
}

#[derive(Deserialize)]
struct Uploaded {
    content_uri: OwnedMxcUri,
}

impl Http {
    /// Begins to fetch a file. Whoever's server it lies on, our own homeserver is asked and nobody else.
    pub(in super::super) async fn download(&self, uri: &MxcUri) -> Result<Download, HttpError> {
        let (server, id) = parts(uri)?;
        let request = authenticated_media::get_content::v1::Request::new(id.to_owned(), server.to_owned());
        let open = format!("download/{server}/{id}?allow_redirect=false");
        self.fetch(request, &open).await
    }

    /// Fetches a small form of a picture that is not encrypted, such as a person's: of at most `most` bytes.
    pub(crate) async fn small_picture(&self, uri: &MxcUri, most: usize) -> Result<Vec<u8>, HttpError> {
        const SIDE: u32 = 128;
        let (server, id) = parts(uri)?;
        let side = || UInt::from(SIDE);
        let mut request = authenticated_media::get_content_thumbnail::v1::Request::new(
            id.to_owned(),
            server.to_owned(),
            side(),
            side(),
        );
        request.method = Some(Method::Crop);
        let open = format!("thumbnail/{server}/{id}?width={SIDE}&height={SIDE}&method=crop&allow_redirect=false");
        limited(self.fetch(request, &open).await?.answer, most).await
    }

    /// Fetches from the media store: as `request` where it knows it, else at the older address.
    async fn fetch(&self, request: impl OnWire, open: &str) -> Result<Download, HttpError> {
        let versions = self.versions().await?;
        let tokens = self.tokens();
        let token = tokens.as_ref().map(|tokens| tokens.access.expose_secret());
        let base = self.inner.homeserver.as_str();
        let authenticated = versions.versions.contains(&MatrixVersion::V1_11)
            || versions.features.iter().any(|feature| feature.as_str() == "org.matrix.msc3916.stable");
        let request = if authenticated {
            request.into_http(base, token, &versions)?
        } else {
            let address = format!("{}/_matrix/media/v3/{open}", base.trim_end_matches('/'));
            http::Request::get(address).body(Vec::new()).map_err(|_| HttpErrorKind::Malformed)?
        };
        self.inner.guard.judge(&request).await?;
        let request = reqwest::Request::try_from(request)
            .map_err(|_| HttpErrorKind::Refused("the request has no valid address"))?;
        self.inner.sent.fetch_add(1, Ordering::Relaxed);
        let asked = tokio::time::timeout(STALLED, self.inner.client.execute(request)).await;
        let answer = asked.map_err(|_| HttpErrorKind::Timeout)?.map_err(|error| HttpError::from_transport(&error))?;
        let answer = self.checked(answer).await?;
        Ok(Download { answer })
    }

    /// Uploads `length` bytes of ciphertext, as they come: to a place that was reserved, or to a new one.
    pub(in super::super) async fn upload(
        &self,
        place: Option<&MxcUri>,
        length: u64,
        pieces: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    ) -> Result<OwnedMxcUri, HttpError> {
        let url = format!("{}/_matrix/media/v3/upload", self.inner.homeserver.as_str().trim_end_matches('/'));
        let tokens = self.tokens().ok_or(HttpErrorKind::UnknownToken { soft_logout: false })?;
        let request = match place {
            Some(place) => {
                let (server, id) = parts(place)?;
                self.inner.client.put(format!("{url}/{server}/{id}"))
            }
            None => self.inner.client.post(url),
        };
        let request = request
            .bearer_auth(tokens.access.expose_secret())
            .header(http::header::CONTENT_TYPE, "application/octet-stream")
            .header(http::header::CONTENT_LENGTH, length)
            .body(reqwest::Body::wrap_stream(pieces));
        let request = request.build().map_err(|_| HttpErrorKind::Refused("the request has no valid address"))?;
        self.inner.guard.judge_upload(&request)?;
        self.inner.sent.fetch_add(1, Ordering::Relaxed);
        let patience = STALLED * 2 + Duration::from_secs(length / SLOWEST);
        let exchange = async {
            let answer = self.inner.client.execute(request).await.map_err(|error| HttpError::from_transport(&error))?;
            let body = limited(self.checked(answer).await?, ANSWER).await?;
            if let Some(place) = place {
                return Ok(place.to_owned());
            }
            let uploaded: Uploaded = serde_json::from_slice(&body).map_err(|_| HttpErrorKind::Malformed)?;
            uploaded.content_uri.validate().map_err(|_| HttpErrorKind::Malformed)?;
            Ok(uploaded.content_uri)
        };
        tokio::time::timeout(patience, exchange).await.map_err(|_| HttpErrorKind::Timeout)?
    }

    /// The largest file that the homeserver takes, if it says so.
    pub(in super::super) async fn most_upload(&self) -> Result<Option<u64>, HttpError> {
        let asked = self.send(authenticated_media::get_media_config::v1::Request::new(), Class::Short).await;
        match asked {
            Ok(config) => Ok(Some(config.upload_size.into())),
            Err(error) if error.is_transient() => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// The answer, if it is one; a stale token is replaced for the next try.
    async fn checked(&self, answer: reqwest::Response) -> Result<reqwest::Response, HttpError> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let headers = answer.headers().clone();
        let body = limited(answer, ANSWER).await.unwrap_or_default();
        let error = HttpError::from_answer(status.as_u16(), &headers, &body);
        if error.kind == (HttpErrorKind::UnknownToken { soft_logout: true }) {
            self.refresh().await?;
            return Err(HttpErrorKind::Network.into());
        }
        Err(error)
    }
}

/// A file's server and id. A server called `..` would lead out of the media store.
fn parts(uri: &MxcUri) -> Result<(&ServerName, &str), HttpError> {
    match uri.parts() {
        Ok((server, id)) if server.as_str().bytes().any(|byte| byte.is_ascii_alphanumeric()) => Ok((server, id)),
        _ => Err(HttpErrorKind::Malformed.into()),
    }
}

async fn limited(mut answer: reqwest::Response, most: usize) -> Result<Vec<u8>, HttpError> {
    let mut body = Vec::new();
    while let Some(piece) = next(&mut answer).await? {
        if body.len() + piece.len() > most {
            return Err(HttpErrorKind::TooLarge.into());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

async fn next(answer: &mut reqwest::Response) -> Result<Option<Bytes>, HttpError> {
    let piece = tokio::time::timeout(STALLED, answer.chunk()).await.map_err(|_| HttpErrorKind::Timeout)?;
    piece.map_err(|error| HttpError::from_transport(&error))
}

impl Download {
    /// How many bytes it has, by the homeserver's word.
    pub(in super::super) fn length(&self) -> Option<u64> {
        self.answer.content_length()
    }

    /// The next piece; `None` at the end.
    pub(in super::super) async fn next(&mut self) -> Result<Option<Bytes>, HttpError> {
        next(&mut self.answer).await
    }
}
