//! Real listeners on loopback, each with something else wrong with it.

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::*;

/// Long enough for a busy machine to shake hands, and short enough to wait for what never comes.
const SHORT: Duration = Duration::from_secs(2);
/// A label may have 63 letters: nobody is asked for this name.
const NOBODY: &str = "this-name-is-much-longer-than-any-name-of-a-server-may-be-anywhere-at-all.invalid";

/// An authority of our own, and what it signs.
struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Result<Self> {
        let (mut params, key) = (Self::params(), KeyPair::generate()?);
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key)?;
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    fn params() -> CertificateParams {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
    }

    fn trusted(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone())?;
        Ok(roots)
    }

    fn signs(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Result<TlsAcceptor> {
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let key = KeyPair::generate()?;
        acceptor(params.signed_by(&key, &self.issuer)?.der().clone(), &key)
    }
}

fn acceptor(certificate: CertificateDer<'static>, key: &KeyPair) -> Result<TlsAcceptor> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key)?)))
}

/// What a server says in clear: at first, and after each line that it hears.
fn script(purpose: Purpose) -> &'static [&'static str] {
    match purpose {
        Purpose::Reading => &["* OK ready\r\n", "* CAPABILITY IMAP4rev1\r\na OK begin\r\n"],
        Purpose::Sending => &["220-one\r\n220 ready\r\n", "250-localhost\r\n250 STARTTLS\r\n", "220 begin\r\n"],
    }
}

/// Says its lines, then begins with TLS if it has any. Gives its port.
async fn listen(lines: &'static [&'static str], tls: Option<TlsAcceptor>) -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, lines, tls.clone()));
        }
    });
    Ok(port)
}

async fn serve(mut stream: TcpStream, lines: &[&str], tls: Option<TlsAcceptor>) -> Option<()> {
    let mut heard = [0; 512];
    for (at, line) in lines.iter().enumerate() {
        if at > 0 {
            stream.read(&mut heard).await.ok().filter(|length| *length > 0)?;
        }
        stream.write_all(line.as_bytes()).await.ok()?;
    }
    match tls {
        Some(tls) => drop(tls.accept(stream).await.ok()?.read(&mut heard).await),
        None => while stream.read(&mut heard).await.ok()? > 0 {},
    }
    Some(())
}

fn server(purpose: Purpose, name: &str, port: u16, wire: Wire) -> Server {
    Server { purpose, name: name.to_owned(), port, wire }
}

async fn seen(servers: &[Server], checks: CertificateChecks, roots: RootCertStore) -> Option<String> {
    trouble_with(servers, checks, roots, SHORT).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_certificate_is_told_apart_on_every_way_in_and_accepted_where_that_is_said() -> Result<()>
{
    let (ours, others, own_key) = (Authority::new("ours")?, Authority::new("others")?, KeyPair::generate()?);
    let mut itself = Authority::params();
    itself.subject_alt_names = CertificateParams::new(["localhost".to_owned()])?.subject_alt_names;
    let cases = [
        (None, ours.signs("localhost", |_| ())?),
        (Some("no public authority signed its certificate"), others.signs("localhost", |_| ())?),
        (Some("its certificate is for another name"), ours.signs("elsewhere.test", |_| ())?),
        (
            Some("its certificate has expired"),
            ours.signs("localhost", |params| params.not_after = date_time_ymd(2020, 1, 1))?,
        ),
        (
            Some("its certificate is not valid yet"),
            ours.signs("localhost", |params| params.not_before = date_time_ymd(3000, 1, 1))?,
        ),
        (Some("its certificate is signed by itself"), acceptor(itself.self_signed(&own_key)?.der().clone(), &own_key)?),
    ];
    for purpose in Purpose::ALL {
        for wire in [Wire::Tls, Wire::Starttls] {
            for (expected, tls) in &cases {
                let lines = if wire == Wire::Starttls { script(purpose) } else { &[] };
                let at = server(purpose, "localhost", listen(lines, Some(tls.clone())).await?, wire);
                let told = seen(std::slice::from_ref(&at), CertificateChecks::Strict, ours.trusted()?).await;
                let begins = expected.map(|why| format!("localhost port {} ({}): {why}", at.port, purpose.what()));
                let same = told.as_deref().zip(begins.as_deref()).is_none_or(|(told, begins)| told.starts_with(begins));
                assert!(same && told.is_some() == begins.is_some(), "{wire:?}: {told:?} is not {begins:?}");
                assert!(told.is_none_or(|told| told.contains("accept-invalid")));
                assert_eq!(seen(&[at], CertificateChecks::AcceptInvalid, ours.trusted()?).await, None, "{expected:?}");
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_stands_before_the_certificate_is_told_apart_whether_it_is_checked_or_not() -> Result<()> {
    let ours = Authority::new("ours")?;
    let tls = ours.signs("localhost", |_| ())?;
    let closed = TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?.port();
    let full = full().await?;
    let (reading, sending) = (Purpose::Reading, Purpose::Sending);
    let wants_starttls = "it does not answer with TLS; perhaps it wants security = \"starttls\"";
    let wants_tls = "it does not greet; perhaps it wants security = \"tls\"";
    let no_starttls = "it does not take STARTTLS; perhaps it wants security = \"tls\" on another port";
    let cases = [
        (reading, Wire::Tls, listen(script(reading), None).await?, wants_starttls),
        (sending, Wire::Tls, listen(&[], None).await?, wants_starttls),
        (reading, Wire::Starttls, listen(&[], Some(tls.clone())).await?, wants_tls),
        (reading, Wire::Starttls, listen(&["* BYE full\r\n"], None).await?, "it does not greet as a mail server does"),
        (sending, Wire::Starttls, listen(&["421 full\r\n"], None).await?, "it does not greet as a mail server does"),
        (reading, Wire::Starttls, listen(&["* OK\r\n", "a BAD no\r\n"], None).await?, no_starttls),
        (sending, Wire::Starttls, listen(&["220\r\n", "250\r\n", "502\r\n"], None).await?, no_starttls),
        // Somebody on the way adds words of their own before TLS.
        (
            reading,
            Wire::Starttls,
            listen(&["* OK\r\n", "a OK\r\n* OK\r\n"], Some(tls)).await?,
            "it does not answer with TLS",
        ),
        (
            sending,
            Wire::Starttls,
            listen(&["220\r\n", "250\r\n", "220\r\n"], None).await?,
            "it does not answer with TLS",
        ),
        (reading, Wire::Tls, closed, "nothing listens there"),
        (sending, Wire::Starttls, closed, "nothing listens there"),
        (reading, Wire::Tls, full.1, "it does not answer"),
    ];
    for checks in [CertificateChecks::Strict, CertificateChecks::AcceptInvalid] {
        let mut looking = JoinSet::new();
        for (purpose, wire, port, expected) in cases {
            let roots = ours.trusted()?;
            looking.spawn(async move {
                let told = seen(&[server(purpose, "localhost", port, wire)], checks, roots).await;
                let told = told.unwrap_or_else(|| "nothing".to_owned());
                assert!(told.ends_with(&format!("): {expected}")), "{expected}, {wire:?}: {told}");
            });
        }
        looking.join_all().await;
        let nowhere = [server(reading, NOBODY, 993, Wire::Tls)];
        let told = seen(&nowhere, checks, ours.trusted()?).await.unwrap_or_default();
        assert_eq!(told, format!("{NOBODY} port 993 (reading mail): there is no server of this name"));
    }
    Ok(())
}

/// A port whose owner takes no connection, and has no room for more that wait.
async fn full() -> Result<(TcpListener, u16, Vec<TcpStream>)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let listener = socket.listen(1)?;
    let (port, mut waiting) = (listener.local_addr()?.port(), Vec::new());
    while let Ok(connected) = timeout(SHORT, TcpStream::connect(("127.0.0.1", port))).await {
        waiting.push(connected?);
    }
    Ok((listener, port, waiting))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_servers_that_are_only_guessed_the_one_that_is_there_decides() -> Result<()> {
    let (ours, others) = (Authority::new("ours")?, Authority::new("others")?);
    let good = listen(&[], Some(ours.signs("localhost", |_| ())?)).await?;
    let bad = listen(&[], Some(others.signs("localhost", |_| ())?)).await?;
    let closed = TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?.port();
    let reading = |name: &str, port| server(Purpose::Reading, name, port, Wire::Tls);
    let told =
        async |servers: &[Server]| seen(servers, CertificateChecks::Strict, ours.trusted()?).await.context("trouble");
    let [nobody, nothing, unknown] = [reading(NOBODY, 993), reading("localhost", closed), reading("localhost", bad)];
    let well = reading("localhost", good);

    let guesses = [nobody.clone(), nothing.clone(), unknown.clone()];
    assert!(told(&guesses).await?.starts_with(&format!("localhost port {bad} (reading mail): no public authority")));
    assert!(
        told(&guesses[..2]).await?.starts_with(&format!("localhost port {closed} (reading mail): nothing listens"))
    );
    let other = reading(&format!("mail.{NOBODY}"), 143);
    let expected = format!(
        "{NOBODY}, mail.{NOBODY} (reading mail): there is no server of any of these names; name it with `imap`"
    );
    assert_eq!(told(&[nobody.clone(), nobody.clone(), other]).await?, expected);
    // One that works is enough for reading, and says nothing about sending.
    let well = [guesses.as_slice(), &[well]].concat();
    assert_eq!(seen(&well, CertificateChecks::Strict, ours.trusted()?).await, None);
    let sending = Server { purpose: Purpose::Sending, ..nothing };
    let told = told(&[well.as_slice(), &[sending]].concat()).await?;
    assert!(told.starts_with(&format!("localhost port {closed} (sending mail): nothing listens")), "{told}");
    Ok(())
}
