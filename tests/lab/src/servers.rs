//! The two homeservers that most tests need. Unless a test asks for it they do not federate, and know nothing of each
//! other.

use anyhow::Result;
use tokio::sync::OnceCell;

use crate::skip::skip;
use crate::synapse::{Options, Synapse};
use crate::venv::Venv;

/// Homeservers A and B.
#[derive(Debug)]
pub struct Lab {
    pub a: Synapse,
    pub b: Synapse,
}

impl Lab {
    /// Starts both at the same time.
    pub async fn pair() -> Result<Self> {
        Self::pair_with(Options::default(), Options::default()).await
    }

    pub async fn pair_with(a: Options, b: Options) -> Result<Self> {
        let (a, b) = tokio::try_join!(Synapse::start("alpha.test", a), Synapse::start("beta.test", b))?;
        Ok(Self { a, b })
    }

    /// Starts two that speak with each other. `None` as for [`Lab::shared`].
    pub async fn federated() -> Result<Option<Self>> {
        if !available().await {
            return Ok(None);
        }
        let options = || Options { federates: true, ..Options::default() };
        Self::pair_with(options(), options()).await.map(Some)
    }

    /// The pair that the tests of one process share. Whoever stops a server starts a pair of their
    /// own; whoever uses this one makes users that no other test has.
    ///
    /// `None` when the Python packages can't be installed here; the test is then counted as skipped.
    pub async fn shared() -> Result<Option<&'static Self>> {
        static SHARED: OnceCell<Lab> = OnceCell::const_new();
        if !available().await {
            return Ok(None);
        }
        SHARED.get_or_try_init(Self::pair).await.map(Some)
    }

    /// Stops both in order.
    pub async fn stop(&self) -> Result<()> {
        tokio::try_join!(self.a.stop(), self.b.stop())?;
        Ok(())
    }
}

/// Whether what the lab needs is or can be installed; says `SKIPPED` for the running test if not.
pub async fn available() -> bool {
    let installed = tokio::task::spawn_blocking(Venv::ready).await;
    match installed {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => {
            skip(&format!("{error:#}"));
            false
        }
        Err(_) => {
            skip("the installation of the Python packages panicked");
            false
        }
    }
}
