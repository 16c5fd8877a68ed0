//! The service itself. A test can name binaries of its own package only, so this one has it too.

use std::process::ExitCode;

use sealbridge::{operator::cli, service::Service};

fn main() -> ExitCode {
    cli::main(|config, key| Box::pin(Service::open(config, key)))
}
