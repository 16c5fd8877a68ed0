//! A spool that believes what it is given.

use std::sync::Arc;

use async_trait::async_trait;
use sealbridge_contract::{
    Spool, SpoolError, Spooled,
    spool::{Pass, SpoolReader, SpoolWriter},
};

pub(crate) struct Credulous(pub(crate) Arc<dyn Spool>);

#[async_trait]
impl Spool for Credulous {
    async fn create(&self, most: u64) -> Result<Box<dyn SpoolWriter>, SpoolError> {
        Ok(Box::new(Writer(self.0.create(most).await?)))
    }

    async fn open(&self, pass: &Pass<'_>, from: u64) -> Result<Box<dyn SpoolReader>, SpoolError> {
        self.0.open(pass, from).await
    }
}

struct Writer(Box<dyn SpoolWriter>);

#[async_trait]
impl SpoolWriter for Writer {
    async fn write(&mut self, piece: &[u8]) -> Result<(), SpoolError> {
        self.0.write(piece).await
    }

    async fn finish(self: Box<Self>, _expected: Option<[u8; 32]>) -> Result<Spooled, SpoolError> {
        self.0.finish(None).await
    }
}
