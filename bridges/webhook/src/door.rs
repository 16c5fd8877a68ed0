//! The way out: names are resolved here, every address is judged, and a connection is made to one of those and to no
//! other. So a name that leads elsewhere the next time is judged again, and nothing is resolved twice for one connection.

use std::{
    fmt, fs, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use reqwest::{
    Certificate, Client,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};
use tokio::net::TcpStream;

use crate::{addresses::Rules, config::Declared};

const CONNECT: Duration = Duration::from_secs(10);
/// How long an attempt may take in all.
const ATTEMPT: Duration = Duration::from_secs(30);

/// Tells what a name leads to.
#[cfg_attr(not(feature = "seam"), expect(unreachable_pub, reason = "a test says what names lead to"))]
#[async_trait]
pub trait Names: Send + Sync {
    /// Every address of it.
    ///
    /// # Errors
    /// It is not known, or can't be found out now.
    async fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// As the system says.
#[derive(Debug)]
pub(crate) struct SystemNames;

#[async_trait]
impl Names for SystemNames {
    async fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|at| at.ip()).collect())
    }
}

/// Why a name is not connected to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Closed {
    /// Nobody knows it, or who knows it can't be asked.
    #[error("its name leads nowhere just now")]
    Nowhere,
    /// It leads to where nothing is sent.
    #[error("its name leads to {0}, which is not on the public internet and not in `allow_addresses`")]
    Refused(IpAddr),
}

/// Resolves as far as the rules allow.
#[derive(Clone)]
pub(crate) struct Door {
    names: Arc<dyn Names>,
    rules: Arc<Rules>,
}

impl Door {
    pub(crate) fn new(names: Arc<dyn Names>, rules: Rules) -> Self {
        Self { names, rules: Arc::new(rules) }
    }

    /// All addresses of a name. One that is refused refuses them all: whoever mixes them means no good.
    async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, Closed> {
        let all = self.names.look_up(name).await.map_err(|_| Closed::Nowhere)?;
        match all.iter().find(|address| !self.rules.allow(**address)) {
            Some(refused) => Err(Closed::Refused(*refused)),
            None if all.is_empty() => Err(Closed::Nowhere),
            None => Ok(all),
        }
    }

    /// A client that goes through here. It follows no redirection and takes no proxy from the environment.
    ///
    /// # Errors
    /// In words for the operator.
    pub(crate) fn client(&self, to: &Declared) -> Result<Client, String> {
        let mut builder = Client::builder()
            .user_agent("Sealbridge")
            .dns_resolver(self.clone())
            .redirect(Policy::none())
            .referer(false)
            .no_proxy()
            .no_gzip()
            .http1_only()
            .connect_timeout(CONNECT)
            .timeout(ATTEMPT)
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(Duration::from_secs(30));
        if let Some(file) = &to.ca_file {
            let pem = fs::read(file).map_err(|error| format!("{} can't be read: {error}", file.display()))?;
            let authorities = Certificate::from_pem_bundle(&pem).ok().filter(|all| !all.is_empty());
            let authorities = authorities.ok_or_else(|| format!("{} has no certificates in it", file.display()))?;
            builder = builder.tls_certs_only(authorities);
        }
        builder.build().map_err(|_| "no TLS client can be made here".to_owned())
    }

    /// Whether anything answers there. Says nothing to it.
    ///
    /// # Errors
    /// Why not, in words for the operator.
    pub(crate) async fn knock(&self, at: &Declared) -> Result<(), String> {
        let port = at.url.port_or_known_default().unwrap_or(443);
        let addresses = match (at.literal(), at.url.host_str()) {
            (Some(literal), _) => vec![literal],
            (None, Some(name)) => self.addresses(name).await.map_err(|why| why.to_string())?,
            (None, None) => Vec::new(),
        };
        let addresses: Vec<_> = addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        match tokio::time::timeout(CONNECT, TcpStream::connect(&*addresses)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err("it can't be reached".to_owned()),
        }
    }
}

impl Resolve for Door {
    fn resolve(&self, name: Name) -> Resolving {
        let door = self.clone();
        Box::pin(async move {
            let addresses = door.addresses(name.as_str()).await?;
            Ok(Box::new(addresses.into_iter().map(|ip| SocketAddr::new(ip, 0))) as Addrs)
        })
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("rules", &self.rules).finish_non_exhaustive()
    }
}
