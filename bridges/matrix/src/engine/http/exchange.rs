//! One exchange on the wire: the guard before it, the limits around it, the reading of the answer.

use std::{sync::atomic::Ordering, time::Instant};

use ruma::api::IncomingResponse;
use url::{Host, Url};

use super::{
    Class, Http, Inner,
    error::{HttpError, HttpErrorKind},
};

const ERROR_LIMIT: usize = 64 * 1024;

impl Http {
    pub(super) async fn exchange(
        &self,
        request: http::Request<Vec<u8>>,
        class: Class,
    ) -> Result<http::Response<Vec<u8>>, HttpError> {
        self.inner.guard.judge(&request).await?;
        let request = reqwest::Request::try_from(request)
            .map_err(|_| HttpErrorKind::Refused("the request has no valid address"))?;
        let _counted = Counted::new(&self.inner);
        tokio::time::timeout(class.time(), self.exchange_untimed(request, class.size()))
            .await
            .map_err(|_| HttpErrorKind::Timeout)?
    }

    async fn exchange_untimed(
        &self,
        request: reqwest::Request,
        limit: usize,
    ) -> Result<http::Response<Vec<u8>>, HttpError> {
        let failed = |error: reqwest::Error| HttpError::from_transport(&error);
        let mut answer = self.inner.client.execute(request).await.map_err(failed)?;
        if let Some(said) = answer.headers().get(http::header::DATE) {
            let mut told = self.inner.told_time.lock().unwrap_or_else(|lock| lock.into_inner());
            *told = Some((said.clone(), Instant::now()));
        }
        let status = answer.status();
        let limit = if status.is_success() { limit } else { ERROR_LIMIT };
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > limit {
                // What a failed request says beyond the limit is of no use; its status is.
                if status.is_success() {
                    return Err(HttpErrorKind::TooLarge.into());
                }
                break;
            }
            body.extend_from_slice(&chunk);
        }
        if !status.is_success() {
            return Err(HttpError::from_answer(status.as_u16(), answer.headers(), &body));
        }
        let mut response = http::Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}

pub(super) fn read<A: IncomingResponse>(answer: http::Response<Vec<u8>>) -> Result<A, HttpError> {
    // Unsuccessful answers were turned into errors before.
    A::try_from_http_response(answer).map_err(|_| HttpErrorKind::Malformed.into())
}

pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

struct Counted<'a>(&'a Inner);

impl<'a> Counted<'a> {
    fn new(inner: &'a Inner) -> Self {
        inner.sent.fetch_add(1, Ordering::Relaxed);
        inner.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(inner)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
