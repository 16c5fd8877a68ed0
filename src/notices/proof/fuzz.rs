//! Proofs that nobody could make.

use sealbridge_contract::SecretBytes;

use super::{Rules, check, path_secret};
use crate::notices::{Dialect, fixture::Request};

#[test]
fn proofs_of_nobody() {
    let secrets =
        [SecretBytes::from(&b"whsec_bm9ib2R5IGtub3dzIHRoaXMga2V5"[..]), SecretBytes::from(&b"nor-this-7f3a"[..])];
    sealbridge_fuzz::target("proofs", |input| {
        let Some(request) = Request::parse(input) else { return };
        for (dialect, _) in Dialect::ALL {
            let posted = request.posted();
            assert!(check(*dialect, &posted, &secrets, &Rules::default()).is_err(), "{dialect} is convinced");
            let _ = path_secret(*dialect, posted.path);
        }
    });
}
