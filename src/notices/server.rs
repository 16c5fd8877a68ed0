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
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{
    SourceName,
    connections::{Connections, neighbourhood},
    crowd::{Crowd, Place},
};
use crate::operator::Failure;

/// So many connections at once.
const MOST_CONNECTIONS: usize = 1024;
/// How long a sender may take for its headers, and for its body.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
const BODY_WITHIN: Duration = Duration::from_secs(60);
/// A body that has not come any further for so long is not waited for, and over all it is to bring so many bytes a second.
const BODY_HALTS: Duration = Duration::from_secs(5);
const LEAST_PACE: usize = 8 * 1024;
/// A body of up to so many bytes is taken in as it comes.
pub(super) const SMALL: usize = 64 * 1024;
/// Of larger ones so many of the largest are in memory at once, and so many of one source: of those who are proven, and of
/// those who may not be. The former wait for none of the latter.
const MOST_LARGE: usize = 8;
const MOST_LARGE_OF_ONE: usize = 2;
const MOST_LARGE_UNPROVEN: usize = 4;
const MOST_LARGE_UNPROVEN_OF_ONE: usize = 1;
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
    /// It is proven to be this source's, so its body may come.
    Proven(SourceName),
    /// It may be this source's, which its body tells.
    ByItsBody(SourceName),
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
        let answer = |stream, from, place: Arc<Place>| {
            let (answers, bounds, stop) = (Arc::clone(&answers), bounds.clone(), stop.clone());
            async move {
                let service = service_fn(move |request| {
                    let (answers, bounds, place) = (Arc::clone(&answers), bounds.clone(), Arc::clone(&place));
                    async move {
                        let answered = one(answers, from, bounds, &place, request).await;
                        // Whoever asks nothing more has proven nothing more.
                        place.is(neighbourhood(from.ip()));
                        Ok::<_, Infallible>(answered)
                    }
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
    proven: Crowd,
    unproven: Crowd,
}

impl Bounds {
    fn new(most_body: usize) -> Self {
        let [proven, unproven] = [(MOST_LARGE, MOST_LARGE_OF_ONE), (MOST_LARGE_UNPROVEN, MOST_LARGE_UNPROVEN_OF_ONE)]
            .map(|(all, one)| Crowd::new(all.saturating_mul(most_body), one.saturating_mul(most_body)));
        Self { most_body, proven, unproven }
    }
}

async fn one(
    answers: Arc<impl Answers>,
    from: SocketAddr,
    bounds: Bounds,
    connection: &Place,
    request: Request<Incoming>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let place = match answers.admit(from, &head).await {
        Admission::Answered(response) => return by_head(&head.headers, body, response.map(Body::from)),
        Admission::Proven(source) => {
            connection.is(format!("source {source}"));
            bounds.proven.enter(source.as_str().to_owned())
        }
        // A proxy on this machine stands for everybody, and so for nobody.
        Admission::ByItsBody(source) if from.ip().to_canonical().is_loopback() => {
            bounds.unproven.enter(source.as_str().to_owned())
        }
        Admission::ByItsBody(_) => bounds.unproven.enter(neighbourhood(from.ip())),
    };
    if let Some(response) = refused_by(&head.headers, bounds.most_body) {
        return by_head(&head.headers, body, response);
    }
    // A large one has its place until it is answered.
    let body = match take_in(Body::new(body), bounds.most_body, &place).await {
        Ok(body) => body,
        Err(response) => return response,
    };
    place.stays();
    connection.stays();
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
async fn take_in(body: Body, most: usize, place: &Place) -> Result<Bytes, Response<Body>> {
    let read = async {
        tokio::select! {
            read = read(body, most, place) => read,
            () = place.gives_way() => Err(Unread::TooSlow),
        }
    };
    match timeout(BODY_WITHIN, read).await.unwrap_or(Err(Unread::TooSlow)) {
        Ok(body) => Ok(body),
        Err(Unread::TooLarge) => Err(too_large(most)),
        Err(Unread::Ended) => Err(plain(StatusCode::BAD_REQUEST, "the request ended early\n")),
        Err(Unread::TooSlow) => {
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
#[derive(Debug)]
enum Unread {
    TooLarge,
    Ended,
    TooSlow,
}

async fn read(body: Body, most: usize, place: &Place) -> Result<Bytes, Unread> {
    let (mut stream, mut whole) = (body.into_data_stream(), BytesMut::new());
    // How much longer it may take by what it has brought.
    let mut until = Instant::now() + BODY_HALTS;
    while let Some(piece) = timeout_at(until, stream.next()).await.map_err(|_| Unread::TooSlow)? {
        let piece = piece.map_err(|_| Unread::Ended)?;
        let size = whole.len() + piece.len();
        if size > most {
            return Err(Unread::TooLarge);
        }
        let asked = Instant::now();
        match whole.len() {
            _ if size <= SMALL => {}
            before if before <= SMALL => place.take(size).await,
            _ => place.take(piece.len()).await,
        }
        let earned = Duration::from_secs_f64(piece.len() as f64 / LEAST_PACE as f64);
        until = (until + asked.elapsed() + earned).min(Instant::now() + BODY_HALTS);
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
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
        let crowd = Crowd::new(5 * SMALL, 4 * SMALL);
        let [first, second, third] = ["one", "two", "two"].map(|party| crowd.enter(party.to_owned()));
        assert!(read(body(3, SMALL), 1 << 30, &first).await.is_ok_and(|first| first.len() == 3 * SMALL));
        first.stays();
        // A small one needs no place; a large one has none until the other is done with.
        assert!(read(body(1, SMALL), 1 << 30, &second).await.is_ok_and(|small| small.len() == SMALL));
        let mut large = Box::pin(read(body(3, SMALL), 1 << 30, &third));
        assert!(futures_util::poll!(&mut large).is_pending());
        drop(first);
        assert!(large.await.is_ok_and(|large| large.len() == 3 * SMALL));
        drop(third);
        assert!(matches!(read(body(4, SMALL), 3 * SMALL, &second).await, Err(Unread::TooLarge)));
    }

    /// A piece of so many bytes every second.
    fn every_second(length: usize) -> Body {
        Body::from_stream(futures_util::stream::unfold((), move |()| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; length])), ()))
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn body_that_comes_too_slowly_is_to_come_again_and_is_not_waited_for() {
        let never = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        for (body, within) in [(never, 6), (every_second(1), 6), (every_second(LEAST_PACE / 2), 12)] {
            let (begun, crowd) = (Instant::now(), Crowd::new(1 << 20, 1 << 20));
            let refused = take_in(body, 1 << 30, &crowd.enter(String::new())).await.expect_err("it never comes");
            assert_eq!(
                (refused.status().as_u16(), &refused.headers()["retry-after"]),
                (503, &HeaderValue::from_static("5"))
            );
            assert!(begun.elapsed() <= Duration::from_secs(within), "{:?}", begun.elapsed());
        }
        let (begun, place) = (Instant::now(), Crowd::new(1 << 30, 1 << 30).enter(String::new()));
        let enough = take_in(every_second(LEAST_PACE), 1 << 30, &place);
        assert!(enough.await.is_err() && begun.elapsed() >= BODY_WITHIN, "{:?}", begun.elapsed());
    }
}
