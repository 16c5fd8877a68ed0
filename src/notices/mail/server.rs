//! Connections of those who hand mail over.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    reply::Reply,
    session::{Session, Sources, Step},
};
use crate::{
    notices::{connections::Connections, crowd::Place},
    operator::Failure,
};

/// So many connections at once.
const MOST_CONNECTIONS: usize = 64;
/// How long nothing may be heard, and how long a mail may take.
const IDLE: Duration = Duration::from_secs(120);
const MAIL_WITHIN: Duration = Duration::from_secs(300);
/// How long an answer may take to be taken.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Of mails that are larger so many are in memory at once.
const SMALL: usize = 64 * 1024;
const MOST_LARGE: usize = 8;

/// An address of this machine at which mail is taken.
#[derive(Debug)]
pub struct Server {
    connections: Connections,
    most: usize,
}

impl Server {
    /// Binds it. A mail may have `most` bytes.
    ///
    /// # Errors
    /// [`FailureKind::Config`](crate::operator::FailureKind::Config): it is taken, or is none of this machine's.
    pub async fn bind(at: SocketAddr, most: u64) -> Result<Self, Failure> {
        let connections = Connections::bind("notices.listen_mail", at, MOST_CONNECTIONS).await?;
        Ok(Self { connections, most: usize::try_from(most).unwrap_or(usize::MAX) })
    }

    /// Takes mail until `stop`.
    pub(in crate::notices) async fn take_for(self, sources: Arc<impl Sources>, stop: CancellationToken) {
        let (large, most) = (Arc::new(Semaphore::new(MOST_LARGE)), self.most);
        let take = |stream, _, place: Arc<Place>| {
            // They are all of this machine, and a mail that is cut off may be lost.
            place.stays();
            let (sources, large, stop) = (Arc::clone(&sources), Arc::clone(&large), stop.clone());
            async move {
                if let Err(error) = converse(stream, &*sources, most, &large, &stop).await {
                    tracing::debug!(%error, "A connection ended early.");
                }
            }
        };
        self.connections.each(&stop, take).await;
    }
}

async fn converse(
    mut stream: TcpStream,
    sources: &impl Sources,
    most: usize,
    large: &Semaphore,
    stop: &CancellationToken,
) -> std::io::Result<()> {
    let (mut session, mut buffer) = (Session::new(most), vec![0; 16 * 1024]);
    let (mut place, mut until) = (None, None);
    say(&mut stream, &Reply::welcome()).await?;
    loop {
        let soon = Instant::now() + IDLE;
        let end = until.map_or(soon, |until: Instant| until.min(soon));
        let count = tokio::select! {
            read = timeout_at(end, stream.read(&mut buffer)) => match read {
                Ok(count) => count?,
                Err(_) => return say(&mut stream, &Reply::too_slow()).await,
            },
            () = stop.cancelled() => return say(&mut stream, &Reply::closing()).await,
        };
        let mut bytes = &buffer[..count];
        if bytes.is_empty() {
            return Ok(());
        }
        while !bytes.is_empty() {
            match session.hear(&mut bytes, sources) {
                None => {}
                Some(Step::Say(reply)) => say(&mut stream, &reply).await?,
                Some(Step::Part(reply)) => return say(&mut stream, &reply).await,
                Some(Step::Mail { to, mail }) => {
                    let outcomes = sources.mailed(&to, &mail).await;
                    // Only now is there room for another large one.
                    drop((mail, place.take()));
                    say(&mut stream, &Reply::of(&to, &outcomes)).await?;
                }
            }
        }
        until = session.holds().map(|_| until.unwrap_or_else(|| Instant::now() + MAIL_WITHIN));
        match session.holds() {
            Some(held) if held > SMALL && place.is_none() => {
                place = Some(large.acquire().await.map_err(std::io::Error::other)?);
            }
            Some(held) if held > SMALL => {}
            _ => place = None,
        }
    }
}

async fn say(stream: &mut TcpStream, reply: &Reply) -> std::io::Result<()> {
    let said = timeout(ANSWER_WITHIN, stream.write_all(reply.as_bytes())).await;
    said.unwrap_or_else(|late| Err(std::io::Error::other(late)))
}
