//! Arguments in, exit code out.

use std::process::ExitCode;

use sealbridge::{operator::cli, service::Service};

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    sealbridge::testing::arm();
    cli::main(|config, key| Box::pin(Service::open(config, key)))
}
