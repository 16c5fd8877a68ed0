//! A service that runs in the test's own process, between networks in memory.

use std::{path::Path, sync::Arc};

use sealbridge::{config, operator::Host, service::Service};
use sealbridge_contract::RootKey;
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// The root key of every such service.
pub(crate) const ROOT: [u8; 32] = [5; 32];

/// One that runs until it is stopped.
pub(crate) struct Running {
    stop: CancellationToken,
    host: Arc<dyn Host>,
    task: JoinHandle<()>,
}

impl Running {
    /// Runs what a config says.
    pub(crate) async fn start(text: &str) -> Self {
        let config = config::load_text(Path::new("test.toml"), text).expect("the config is sound");
        let service = Service::open(Arc::new(config), RootKey::new(ROOT)).await.expect("the journal opens");
        let stop = CancellationToken::new();
        let (token, host) = (stop.clone(), Arc::clone(&service).as_host());
        let task = tokio::spawn(async move {
            service.run(oneshot::channel().0, token).await.expect("it runs until it is stopped");
            service.close().await;
        });
        Self { stop, host, task }
    }

    /// As its operator's commands see it.
    pub(crate) fn host(&self) -> Arc<dyn Host> {
        Arc::clone(&self.host)
    }

    /// Stops it in order.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("it ends");
    }
}
