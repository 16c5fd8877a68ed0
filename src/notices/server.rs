//! HTTP as far as it knows nothing of notices: connections, limits of time and size, and one answer for each request.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::connections::Connections;
use crate::operator::Failure;

/// So many connections at once.
const MOST_CONNECTIONS: usize = 1024;
/// How long a sender may take for its headers, and for its body.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
const BODY_WITHIN: Duration = Duration::from_secs(60);
/// A body of up to so many bytes is taken in as it comes.
const SMALL: usize = 64 * 1024;
/// Of larger ones so many are in memory at once, so that all who post together take no more than these and the small ones.
/// Those that are proven wait for none that may not be.
const MOST_LARGE: usize = 8;
const MOST_LARGE_UNPROVEN: usize = 2;
/// How long is read on of a request that was answered by its head: whoever writes all of it first hears the answer, too.
const LINGERS: Duration = Duration::from_secs(2);
/// When whoever was too slow may come again.
const AGAIN: &str = "5";
/// How long requests that are under way may still take when the service stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// What is known of a request by its head.
#[derive(Debug)]
pub enum Admission {
    /// All that there is to say.
    Answered(Response<Vec<u8>>),
    /// It is proven, so its body may come.
    Proven,
    /// It may be proven, which its body tells.
    ByItsBody,
}

/// Whoever answers requests.
pub trait Answers: Send + Sync + 'static {
    /// Looks at one of which nothing but the head has come.
    fn admit(&self, from: SocketAddr, head: &Parts) -> impl Future<Output = Admission> + Send;
    /// Answers one.
    fn answer(&self, from: SocketAddr, head: Parts, body: Bytes) -> impl Future<Output = Response<Vec<u8>>> + Send;
}

/// An address that is listened at.
#[derive(Debug)]
pub struct Server {
    connections: Connections,
    most_body: usize,
}

impl Server {
    /// Binds it.
    ///
    /// # Errors
    /// [`FailureKind::Config`](crate::operator::FailureKind::Config): it is taken, or is none of this machine's.
    pub async fn bind(at: SocketAddr, most_body: u64) -> Result<Self, Failure> {
        let connections = Connections::bind("notices.listen", at, MOST_CONNECTIONS).await?;
        Ok(Self { connections, most_body: usize::try_from(most_body).unwrap_or(usize::MAX) })
    }

    /// Answers until `stop`.
    pub async fn serve(self, answers: Arc<impl Answers>, stop: CancellationToken) {
        let bounds = Bounds::new(self.most_body);
        let answer = |stream, from| {
            let (answers, bounds, stop) = (Arc::clone(&answers), bounds.clone(), stop.clone());
            async move {
                let service = service_fn(move |request| {
                    let (answers, bounds) = (Arc::clone(&answers), bounds.clone());
                    async move { Ok::<_, Infallible>(one(answers, from, bounds, request).await) }
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADERS_WITHIN)
                    .serve_connection(TokioIo::new(stream), service);
                tokio::pin!(connection);
                let ended = tokio::select! {
                    ended = &mut connection => ended,
                    () = stop.cancelled() => {
                        connection.as_mut().graceful_shutdown();
                        match tokio::time::timeout(FAREWELL, connection).await {
                            Ok(ended) => ended,
                            Err(_) => return,
                        }
                    }
                };
                if let Err(error) = ended {
                    tracing::debug!(%error, "A connection ended early.");
                }
            }
        };
        self.connections.each(&stop, answer).await;
    }
}

/// What is taken in at most.
#[derive(Clone)]
struct Bounds {
    most_body: usize,
    large: Arc<Semaphore>,
    large_unproven: Arc<Semaphore>,
}

impl Bounds {
    fn new(most_body: usize) -> Self {
        let [large, large_unproven] = [MOST_LARGE, MOST_LARGE_UNPROVEN].map(|most| Arc::new(Semaphore::new(most)));
        Self { most_body, large, large_unproven }
    }
}

async fn one(
    answers: Arc<impl Answers>,
    from: SocketAddr,
    bounds: Bounds,
    request: Request<Incoming>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let large = match answers.admit(from, &head).await {
        Admission::Answered(response) => return by_head(&head.headers, body, response.map(Body::from)),
        Admission::Proven => Arc::clone(&bounds.large),
        Admission::ByItsBody => Arc::clone(&bounds.large_unproven),
    };
    if let Some(response) = refused_by(&head.headers, bounds.most_body) {
        return by_head(&head.headers, body, response);
    }
    // A large one has its place until it is answered.
    let (body, place) = match take_in(Body::new(body), bounds.most_body, large).await {
        Ok(taken) => taken,
        Err(response) => return response,
    };
    // What was begun is brought to its end, whether or not the sender waits for it.
    let answered = tokio::spawn(async move {
        let _place = place;
        answers.answer(from, head, body).await.map(Body::from)
    });
    match answered.await {
        Ok(response) => response,
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "this is a fault of the bridge; please report it\n"),
    }
}

/// Why a body is not wanted, by what its head says of it.
fn refused_by(headers: &HeaderMap, most: usize) -> Option<Response<Body>> {
    let is_plain =
        |value: &HeaderValue| value.to_str().is_ok_and(|value| value.trim().eq_ignore_ascii_case("identity"));
    if !headers.get_all(header::CONTENT_ENCODING).iter().all(is_plain) {
        let words = "nothing that is packed is taken: send it without `Content-Encoding`\n";
        let mut response = plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, words);
        response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        return Some(response);
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    length.is_some_and(|length| length > most).then(|| too_large(most))
}

/// Answers, and throws the body away as it comes.
fn by_head(headers: &HeaderMap, body: Incoming, response: Response<Body>) -> Response<Body> {
    // Whoever asks before they send the body has the answer.
    if !headers.contains_key(header::EXPECT) && !body.is_end_stream() {
        let mut stream = Body::new(body).into_data_stream();
        tokio::spawn(tokio::time::timeout(LINGERS, async move { while let Some(Ok(_)) = stream.next().await {} }));
    }
    response
}

/// Takes a body in, or says why not. What takes too long is to come again: many senders give up what gets another answer.
async fn take_in(
    body: Body,
    most: usize,
    large: Arc<Semaphore>,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Response<Body>> {
    match tokio::time::timeout(BODY_WITHIN, read(body, most, large)).await {
        Ok(Ok(taken)) => Ok(taken),
        Ok(Err(Unread::TooLarge)) => Err(too_large(most)),
        Ok(Err(Unread::Ended)) => Err(plain(StatusCode::BAD_REQUEST, "the request ended early\n")),
        Err(_) => {
            let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, "the request took too long\n");
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(AGAIN));
            Err(response)
        }
    }
}

fn too_large(most: usize) -> Response<Body> {
    plain(StatusCode::PAYLOAD_TOO_LARGE, &format!("the request is larger than {most} bytes\n"))
}

/// Why a body was not taken in.
enum Unread {
    TooLarge,
    Ended,
}

async fn read(body: Body, most: usize, large: Arc<Semaphore>) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Unread> {
    let (mut stream, mut whole, mut place) = (body.into_data_stream(), BytesMut::new(), None);
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|_| Unread::Ended)?;
        let size = whole.len() + piece.len();
        if size > most {
            return Err(Unread::TooLarge);
        }
        if size > SMALL && place.is_none() {
            place = Some(Arc::clone(&large).acquire_owned().await.map_err(|_| Unread::Ended)?);
        }
        whole.extend_from_slice(&piece);
    }
    Ok((whole.freeze(), place))
}

fn plain(status: StatusCode, words: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(words.to_owned()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(pieces: usize, length: usize) -> Body {
        let piece = move |_| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; length]));
        Body::from_stream(futures_util::stream::iter(0..pieces).map(piece))
    }

    #[tokio::test]
    async fn no_more_than_a_few_large_bodies_are_in_memory_at_once() {
        let large = Arc::new(Semaphore::new(1));
        let first = read(body(3, SMALL), 1 << 30, Arc::clone(&large)).await;
        let Ok((first, place)) = first else { panic!("it is read") };
        assert!(first.len() == 3 * SMALL && place.is_some());
        // A small one needs no place; a large one has none until the other is done with.
        assert!(
            read(body(1, SMALL), 1 << 30, Arc::clone(&large))
                .await
                .is_ok_and(|(small, place)| small.len() == SMALL && place.is_none())
        );
        let mut second = Box::pin(read(body(2, SMALL), 1 << 30, Arc::clone(&large)));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(place);
        assert!(second.await.is_ok_and(|(second, _)| second.len() == 2 * SMALL));
        assert!(matches!(read(body(4, SMALL), 3 * SMALL, Arc::clone(&large)).await, Err(Unread::TooLarge)));
    }

    #[tokio::test(start_paused = true)]
    async fn body_that_takes_too_long_is_to_come_again() {
        let never = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let refused = take_in(never, 1 << 20, Arc::new(Semaphore::new(1))).await.expect_err("it never comes");
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()["retry-after"]),
            (503, &HeaderValue::from_static("5"))
        );
    }
}
