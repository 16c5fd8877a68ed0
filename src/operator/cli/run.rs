//! `sealbridge run`: the service, its control socket, and the signals that end it.

use std::sync::Arc;

use sealbridge_contract::{Clock, RootKey};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    metrics::{self, watchdog},
    operator::{Failure, FailureKind, Open, control::Server, ending},
};

pub(super) async fn run(config: Arc<Config>, key: RootKey, open: Open) -> Result<Option<FailureKind>, Failure> {
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    // The journal first: its lock says that no other service is at work here.
    let service = open(Arc::clone(&config), key).await?;
    ending::forget(&config.service.state);
    let served = async {
        for account in config.accounts.keys() {
            if !service.is_set_up(account).await? {
                tracing::warn!(%account, "Not logged in, so not run: say `sealbridge init`.");
            }
        }
        let control = Server::bind(&config.control_path()).await?;
        let listeners = metrics::bind(&config).await?;
        let commands = control.serve(Arc::clone(&service).as_host(), stop.clone());
        let asked = listeners.serve(Arc::clone(&service).as_host(), stop.clone());
        let (up, is_up) = oneshot::channel();
        let told = watchdog::tell(Arc::clone(&service).as_host(), is_up, stop.clone());
        let running = async {
            let ended = service.run(up, stop.clone()).await;
            stop.cancel();
            ended
        };
        let ((), (), (), ended) = tokio::join!(commands, asked, told, running);
        ended
    };
    let ended = served.await;
    service.close().await;
    if let Err(failure) = &ended {
        ending::write(&config.service.state, Clock::system().now(), failure);
    }
    ended.map(|()| None)
}

/// The first signal ends the service in order; the second ends it at once, which a journal survives.
fn stop_on_signal(stop: CancellationToken) -> Result<(), Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::other(format!("signals can't be received: {error}")));
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let mut seen = 0_u8;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            seen += 1;
            if seen > 1 {
                tracing::warn!("Stopped at once.");
                std::process::exit(1);
            }
            tracing::info!("Stopping.");
            stop.cancel();
        }
    });
    Ok(())
}
