//! Looks for itself at why a mail server can't be used: the engine says "check your internet connection" also when
//! the certificate is at fault.

use std::{io, sync::Arc, time::Duration};

use rustls::{CertificateError, ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::config::{MailHost, Security, Settings};

const LONG: Duration = Duration::from_secs(10);

/// What is wrong with the mail servers that the settings name. `None` if nothing is seen.
pub(crate) async fn trouble(settings: &Settings) -> Option<String> {
    for (what, host) in [("reading mail", &settings.imap), ("sending mail", &settings.smtp)] {
        if let Some(host) = host
            && let Some(trouble) = look(host, settings).await
        {
            return Some(format!("{} port {} ({what}): {trouble}", host.server, host.port));
        }
    }
    None
}

async fn look(host: &MailHost, settings: &Settings) -> Option<String> {
    let stream = match timeout(LONG, TcpStream::connect((host.server.as_str(), host.port))).await {
        Err(_) => return Some("it does not answer".to_owned()),
        Ok(Err(error)) => return Some(unreachable(&error)),
        Ok(Ok(stream)) => stream,
    };
    let checks = settings.certificate_checks == crate::config::CertificateChecks::Strict;
    if !checks || host.security != Security::Tls {
        return None;
    }
    let Ok(name) = ServerName::try_from(host.server.clone()) else {
        return Some("this is not the name of a server".to_owned());
    };
    match timeout(LONG, TlsConnector::from(Arc::new(roots()?)).connect(name, stream)).await {
        Err(_) => Some("it does not answer with TLS; perhaps it wants security = \"starttls\"".to_owned()),
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(certificate(&error)),
    }
}

/// The authorities that the engine knows: those of Mozilla, compiled in.
fn roots() -> Option<ClientConfig> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    Some(builder.with_root_certificates(roots).with_no_client_auth())
}

fn unreachable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        io::ErrorKind::TimedOut => "it does not answer".to_owned(),
        _ => format!("it can't be reached: {error}"),
    }
}

fn certificate(error: &io::Error) -> String {
    const ACCEPT: &str = "; the engine knows public authorities only, so get such a certificate, or say \
                          certificate_checks = \"accept-invalid\" and read what that means";
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(why)) = inner else {
        return format!("TLS fails: {error}");
    };
    let why = match why {
        CertificateError::UnknownIssuer => "no public authority signed its certificate",
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet; is the clock right?"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name"
        }
        CertificateError::Revoked => "its certificate was revoked",
        _ => "its certificate is not in order",
    };
    format!("{why}{ACCEPT}")
}
