//! What becomes of a delivery, by what the endpoint answered. Pure: of an answer its status and one header count, and
//! nothing of its body is ever kept or shown.

use std::{error::Error, io, time::Duration};

use reqwest::StatusCode;
use sealbridge_contract::{DeliveryError, message::Absence};

use crate::door::Closed;

/// Nobody is waited for longer, whatever they ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Judges an answer. `with_file`: the body had a file in it, which may be what was too much.
pub(crate) fn judge(status: StatusCode, retry_after: Option<&str>, with_file: bool) -> Result<(), DeliveryError> {
    let again = || {
        let cause = format!("the endpoint answers {}", status.as_u16());
        match wait(retry_after) {
            Some(wait) => DeliveryError::retry_after(wait, cause),
            None => DeliveryError::retry(cause),
        }
    };
    Err(match status.as_u16() {
        200..=299 => return Ok(()),
        408 | 425 | 429 | 503 => again(),
        // What is behind it may have taken it all the same; it knows the repetition by its id.
        500..=599 if retry_after.is_none() => {
            DeliveryError::unknown(format!("the endpoint answers {}", status.as_u16()))
        }
        500..=599 => again(),
        300..=399 => DeliveryError::give_up(format!(
            "the endpoint answers {}, which leads elsewhere, and no redirection is followed: put its last address into `url`",
            status.as_u16()
        )),
        410 => DeliveryError::give_up("the endpoint answers 410: it is gone for good, by its own word"),
        413 if with_file => DeliveryError::without_file(Absence::TooLarge { most: None }),
        413 => DeliveryError::too_long(None),
        code => DeliveryError::give_up(format!("the endpoint refuses it with the status {code}")),
    })
}

/// In seconds. A date would rest on the far clock, so it counts as not said.
fn wait(retry_after: Option<&str>) -> Option<Duration> {
    let seconds = retry_after?.trim().parse::<u32>().ok()?;
    Some(Duration::from_secs(seconds.into()).min(LONGEST_WAIT))
}

/// Judges that there was none.
pub(crate) fn missing(error: &reqwest::Error) -> DeliveryError {
    if let Some(closed) = causes(error).find_map(|cause| cause.downcast_ref::<Closed>()) {
        return DeliveryError::retry(closed.to_string());
    }
    if error.is_builder() {
        return DeliveryError::give_up("it can't be made a request");
    }
    if error.is_connect() {
        let refused = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).any(is_of_tls);
        return DeliveryError::retry(match refused {
            true => "the endpoint shows a certificate that is not accepted",
            false => "the endpoint can't be reached",
        });
    }
    DeliveryError::unknown(match error.is_timeout() {
        true => "the endpoint does not answer",
        false => "the connection to the endpoint ended before its answer",
    })
}

/// An error of TLS is one of data, perhaps inside of another that says nothing of it.
fn is_of_tls(error: &io::Error) -> bool {
    let inside = error.get_ref().and_then(|inside| inside.downcast_ref::<io::Error>());
    error.kind() == io::ErrorKind::InvalidData || inside.is_some_and(is_of_tls)
}

/// What is behind it, the nearest first.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let first: Option<&(dyn Error + 'static)> = error.source();
    std::iter::successors(first, |cause| (*cause).source())
}

/// Whether the endpoint could not even be reached.
pub(crate) fn is_out_of_reach(error: &reqwest::Error) -> bool {
    error.is_connect() || error.is_timeout()
}

#[cfg(test)]
mod tests {
    use sealbridge_contract::Fate;

    use super::*;

    #[test]
    fn each_answer_has_its_fate() {
        let seconds = |n| Fate::Retry(Some(Duration::from_secs(n)));
        for (status, retry_after, expected) in [
            (408, None, Fate::Retry(None)),
            (425, None, Fate::Retry(None)),
            (429, Some("7"), seconds(7)),
            (429, Some("999999999"), seconds(3600)),
            (429, Some("99999999999999999999"), Fate::Retry(None)),
            (429, Some("-1"), Fate::Retry(None)),
            (429, Some("Wed, 21 Oct 2015 07:28:00 GMT"), Fate::Retry(None)),
            (503, Some("2"), seconds(2)),
            (500, None, Fate::Unknown),
            (502, None, Fate::Unknown),
            (504, Some("3"), seconds(3)),
            (300, None, Fate::GiveUp),
            (301, None, Fate::GiveUp),
            (302, None, Fate::GiveUp),
            (304, None, Fate::GiveUp),
            (307, Some("1"), Fate::GiveUp),
            (308, None, Fate::GiveUp),
            (400, None, Fate::GiveUp),
            (401, None, Fate::GiveUp),
            (404, None, Fate::GiveUp),
            (410, None, Fate::GiveUp),
            (422, None, Fate::GiveUp),
            (413, None, Fate::TooLong { most: None }),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(judge(status, retry_after, false).expect_err("no success").fate, expected, "{status}");
        }
        for status in [200, 201, 202, 204, 299] {
            assert!(judge(StatusCode::from_u16(status).expect("a status"), None, false).is_ok(), "{status}");
        }
        let too_large = judge(StatusCode::PAYLOAD_TOO_LARGE, None, true).expect_err("its file is too much");
        assert!(matches!(too_large.fate, Fate::WithoutFile(_)));
    }
}
