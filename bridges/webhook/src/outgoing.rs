//! From the gate to an endpoint. What can't be encrypted or signed is not sent.

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use sealbridge_contract::{Cleared, DeliveryError, Receipt, SecretBytes, Slip, Spool, SpoolError, message::Absence};
use tracing::instrument;

use crate::{
    answer,
    config::Reader,
    core::{Core, Endpoint},
    document,
};

/// As much of an answer is read, so that the connection can be used again. What it says counts for nothing.
const MOST_ANSWER: usize = 8 * 1024;

/// Posts a message.
#[instrument(skip_all)]
pub(crate) async fn deliver(core: &Core, message: &Cleared<'_>, slip: &Slip) -> Result<Receipt, DeliveryError> {
    let gone = || DeliveryError::give_up("the config names no such endpoint any more");
    let endpoint = core.endpoint(&slip.to).ok_or_else(gone)?;
    let content = content(&*core.spool, message).await?;
    let plain = document::write(message.message(), slip, content.as_ref())?;
    let body = match &endpoint.declared.reader {
        Reader::Operator => plain.to_vec(),
        Reader::Recipients(recipients) => {
            document::envelope(&recipients.encrypt(&plain).map_err(DeliveryError::give_up)?)?
        }
    };
    post(core, endpoint, slip, body, content.is_some()).await
}

async fn post(
    core: &Core,
    endpoint: &Endpoint,
    slip: &Slip,
    body: Vec<u8>,
    with_file: bool,
) -> Result<Receipt, DeliveryError> {
    let id = document::id(slip);
    let at = core.clock.now().0.div_euclid(1000);
    let signatures: Vec<_> = endpoint.secrets.iter().map(|secret| secret.sign(id.as_str(), at, &body)).collect();
    let signatures = signatures.join(" ");
    let request = endpoint
        .client
        .post(endpoint.declared.url.clone())
        .header(CONTENT_TYPE, "application/json")
        .header("webhook-id", id.as_str())
        .header("webhook-timestamp", at)
        .header("webhook-signature", signatures)
        .body(body);
    match request.send().await {
        Ok(mut response) => {
            core.reached(&slip.to);
            let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let judged = answer::judge(response.status(), retry_after, with_file);
            let mut read = 0;
            while let Ok(Some(piece)) = response.chunk().await {
                read += piece.len();
                if read > MOST_ANSWER {
                    break;
                }
            }
            judged.map(|()| Receipt { id })
        }
        Err(error) => {
            let missing = answer::missing(&error);
            if answer::is_out_of_reach(&error) {
                core.out_of_reach(&slip.to, missing.cause.clone());
            }
            Err(missing)
        }
    }
}

/// The content of its file.
async fn content(spool: &dyn Spool, message: &Cleared<'_>) -> Result<Option<SecretBytes>, DeliveryError> {
    let Some(media) = message.message().media() else { return Ok(None) };
    let file = &media.content;
    if file.size > document::MOST_FILE {
        return Err(DeliveryError::without_file(Absence::TooLarge { most: Some(document::MOST_FILE) }));
    }
    let pass = message.pass(file.id).ok_or_else(|| DeliveryError::give_up("the file is none of this message"))?;
    let mut content = Vec::with_capacity(usize::try_from(file.size).unwrap_or_default());
    let mut reader = spool.open(&pass, 0).await.map_err(unread)?;
    while let Some(piece) = reader.next().await.map_err(unread)? {
        content.extend_from_slice(piece.expose());
    }
    Ok(Some(SecretBytes::new(content)))
}

fn unread(error: SpoolError) -> DeliveryError {
    match error {
        SpoolError::NotThere | SpoolError::Damaged => DeliveryError::without_file(Absence::Damaged),
        error => DeliveryError::retry(error.to_string()),
    }
}
