//! Looks for itself at why a mail server can't be used: the engine says "check your internet connection" also when
//! the certificate is at fault.

mod greeting;
#[cfg(test)]
mod tests;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{CertificateError, ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{
    config::CertificateChecks,
    engine::servers::{Purpose, Server, Wire},
};

/// How long a server may take for each step.
const LONG: Duration = Duration::from_secs(10);

/// What is wrong with a server. The later, the more it says of those that the engine tries one after the other: of
/// servers that it only guesses, most are not there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    NoSuchName,
    NoNameServer,
    NothingListens,
    Silent,
    Unreachable(String),
    NoGreeting,
    NoMailServer,
    NoTls,
    NoStarttls,
    TlsFails(String),
    Certificate(&'static str),
}

/// What is wrong with mail servers that the engine would use. `None` if each purpose has one with which nothing is.
pub(crate) async fn trouble(servers: &[Server], checks: CertificateChecks) -> Option<String> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    trouble_with(servers, checks, roots, LONG).await
}

async fn trouble_with(
    servers: &[Server],
    checks: CertificateChecks,
    roots: RootCertStore,
    long: Duration,
) -> Option<String> {
    let look = Look { tls: tls(roots)?, strict: checks == CertificateChecks::Strict, long };
    let (reading, sending) =
        tokio::join!(of_all(Purpose::Reading, servers, &look), of_all(Purpose::Sending, servers, &look));
    reading.or(sending)
}

/// How servers are looked at.
#[derive(Clone)]
struct Look {
    tls: Arc<ClientConfig>,
    strict: bool,
    long: Duration,
}

/// What is wrong with all servers of one purpose: of the first with which the most telling thing is.
async fn of_all(purpose: Purpose, servers: &[Server], look: &Look) -> Option<String> {
    let servers: Vec<_> = servers.iter().filter(|server| server.purpose == purpose).collect();
    let mut looking = JoinSet::new();
    for (at, server) in servers.iter().enumerate() {
        let (look, server) = (look.clone(), Server::clone(server));
        looking.spawn(async move { (at, look.at(&server).await) });
    }
    let mut worst: Option<(Trouble, usize)> = None;
    while let Some(looked) = looking.join_next().await {
        // Whoever can't be looked at is not known to be well.
        let Ok((at, trouble)) = looked else { continue };
        let trouble = trouble.err()?;
        let says_more = |(known, first): &(Trouble, usize)| (&trouble, *first) > (known, at);
        if worst.as_ref().is_none_or(says_more) {
            worst = Some((trouble, at));
        }
    }
    let (trouble, at) = worst?;
    let what = purpose.what();
    if trouble == Trouble::NoSuchName && servers.len() > 1 {
        let mut names: Vec<_> = servers.iter().map(|server| server.name.as_str()).collect();
        names.dedup();
        let (names, setting) = (names.join(", "), purpose.setting());
        return Some(format!("{names} ({what}): there is no server of any of these names; name it with `{setting}`"));
    }
    let Server { name, port, wire, .. } = servers.get(at)?;
    Some(format!("{name} port {port} ({what}): {}", trouble.words(*wire)))
}

impl Look {
    async fn at(&self, server: &Server) -> Result<(), Trouble> {
        let addresses = self.addresses(server).await?;
        let mut stream = match timeout(self.long, TcpStream::connect(addresses.as_slice())).await {
            Err(_) => return Err(Trouble::Silent),
            Ok(connected) => connected.map_err(|error| unreachable(&error))?,
        };
        let talk = async {
            if server.wire == Wire::Starttls {
                greeting::starttls(&mut stream, server.purpose).await?;
            }
            Ok(())
        };
        timeout(self.long, talk).await.unwrap_or(Err(Trouble::NoGreeting))?;
        if server.wire == Wire::Clear {
            return Ok(());
        }
        let name = ServerName::try_from(server.name.clone()).map_err(|_| Trouble::NoSuchName)?;
        match timeout(self.long, TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream)).await {
            Err(_) => Err(Trouble::NoTls),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => self.fault(&error),
        }
    }

    async fn addresses(&self, server: &Server) -> Result<Vec<SocketAddr>, Trouble> {
        match timeout(self.long, lookup_host((server.name.as_str(), server.port))).await {
            Err(_) => Err(Trouble::NoNameServer),
            Ok(Err(error)) => Err(unknown(&error)),
            Ok(Ok(addresses)) => Ok(addresses.collect()),
        }
    }

    /// What is wrong with TLS. Without checks a certificate is never at fault, and everything else is.
    fn fault(&self, error: &io::Error) -> Result<(), Trouble> {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidCertificate(_)) if !self.strict => Ok(()),
            Some(rustls::Error::InvalidCertificate(why)) => Err(Trouble::Certificate(certificate(why))),
            Some(rustls::Error::InvalidMessage(_)) => Err(Trouble::NoTls),
            Some(error) => Err(Trouble::TlsFails(error.to_string())),
            None => Err(Trouble::TlsFails("the connection ends in the middle of it".to_owned())),
        }
    }
}

/// The authorities that the engine knows are those of Mozilla, compiled in.
fn tls(roots: RootCertStore) -> Option<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    Some(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// Why a name has no address. The system has words for it, and no kind.
fn unknown(error: &io::Error) -> Trouble {
    let words = error.to_string();
    let nobody_answers = ["Temporary failure", "Try again"].iter().any(|said| words.contains(said));
    if nobody_answers { Trouble::NoNameServer } else { Trouble::NoSuchName }
}

fn unreachable(error: &io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Trouble::NothingListens,
        io::ErrorKind::TimedOut => Trouble::Silent,
        _ => Trouble::Unreachable(error.to_string()),
    }
}

fn certificate(why: &CertificateError) -> &'static str {
    match why {
        CertificateError::UnknownIssuer => "no public authority signed its certificate",
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet; is the clock right?"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name"
        }
        CertificateError::Revoked => "its certificate was revoked",
        // As many make one by hand. The library has no variant of its own for it.
        CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "its certificate is signed by itself"
        }
        _ => "its certificate is not in order",
    }
}

impl Trouble {
    fn words(&self, wire: Wire) -> String {
        const ACCEPT: &str = "the engine knows public authorities only, so get such a certificate, or say \
                              certificate_checks = \"accept-invalid\" and read what that means";
        let words = match self {
            Self::NoSuchName => "there is no server of this name",
            Self::NoNameServer => "its name can't be looked up; is there a network, and a name server?",
            Self::NothingListens => "nothing listens there",
            Self::Silent => "it does not answer",
            Self::Unreachable(why) => return format!("it can't be reached: {why}"),
            Self::NoGreeting => "it does not greet; perhaps it wants security = \"tls\"",
            Self::NoMailServer => "it does not greet as a mail server does",
            Self::NoTls if wire == Wire::Tls => "it does not answer with TLS; perhaps it wants security = \"starttls\"",
            Self::NoTls => "it does not answer with TLS",
            Self::NoStarttls => "it does not take STARTTLS; perhaps it wants security = \"tls\" on another port",
            Self::TlsFails(why) => return format!("TLS fails: {why}"),
            Self::Certificate(why) => return format!("{why}; {ACCEPT}"),
        };
        words.to_owned()
    }
}
