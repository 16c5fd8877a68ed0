//! Where machines ask how the service is: `/healthz` and `/readyz` at one address, `/metrics` at another.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{NotReady, gauges, ready};
use crate::{
    config::Config,
    operator::{Failure, FailureKind, Host},
};

/// The media type of OpenMetrics 1.0.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The addresses that the config names, bound.
#[derive(Debug, Default)]
pub struct Listeners {
    health: Option<TcpListener>,
    metrics: Option<TcpListener>,
}

/// Binds the addresses that the config names.
///
/// # Errors
/// [`FailureKind::Config`]: one is taken, or is none of this machine's.
pub async fn bind(config: &Config) -> Result<Listeners, Failure> {
    let health = one("health.listen", config.health.listen).await?;
    Ok(Listeners { health, metrics: one("metrics.listen", config.metrics.listen).await? })
}

async fn one(key: &str, at: Option<SocketAddr>) -> Result<Option<TcpListener>, Failure> {
    let Some(at) = at else { return Ok(None) };
    let bound = TcpListener::bind(at).await;
    bound
        .map(Some)
        .map_err(|error| Failure::new(FailureKind::Config, format!("`{key}`: {at} can't be listened at: {error}")))
}

impl Listeners {
    /// Answers until `stop`.
    pub async fn serve(self, host: Arc<dyn Host>, stop: CancellationToken) {
        let health = Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz));
        let metrics = Router::new().route("/metrics", get(metrics));
        let serve = async |listener: Option<TcpListener>, router: Router<Arc<dyn Host>>| {
            let Some(listener) = listener else { return };
            let stop = stop.clone();
            let served = axum::serve(listener, router.with_state(Arc::clone(&host)))
                .with_graceful_shutdown(async move { stop.cancelled().await })
                .await;
            if let Err(error) = served {
                tracing::warn!(%error, "Nobody can ask any more how the service is.");
            }
        };
        tokio::join!(serve(self.health, health), serve(self.metrics, metrics));
    }
}

/// The process answers, and that is all that is said.
async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(host): State<Arc<dyn Host>>) -> Response {
    match ready(&*host).await {
        Ok(()) => "ready\n".into_response(),
        Err(NotReady(missing)) => (StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n").into_response(),
    }
}

async fn metrics(State(host): State<Arc<dyn Host>>) -> Response {
    match gauges::text(&*host).await {
        Ok(text) => ([(CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}
