//! Lets homeservers of the lab speak with each other, on loopback and with nobody else.

use std::path::Path;

use anyhow::{Context as _, Result};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Map, Value, json};

const CERTIFICATE: &str = "federation.crt";
const KEY: &str = "federation.key";

/// A certificate that nobody signed: the lab's homeservers take any.
pub(super) fn certificate(dir: &Path) -> Result<()> {
    let key = KeyPair::generate().context("Make a homeserver's key")?;
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()])?.self_signed(&key)?;
    std::fs::write(dir.join(CERTIFICATE), certificate.pem())?;
    std::fs::write(dir.join(KEY), key.serialize_pem())?;
    Ok(())
}

/// Opens the port by which the homeserver is called, and lets it go to others on loopback.
pub(super) fn open(config: &mut Map<String, Value>, dir: &Path, name: &str) {
    let port = name.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let listener = json!({
        "port": port,
        "type": "http",
        "tls": true,
        "bind_addresses": ["127.0.0.1"],
        "resources": [{ "names": ["federation"], "compress": false }],
    });
    if let Some(listeners) = config.get_mut("listeners").and_then(Value::as_array_mut) {
        listeners.push(listener);
    }
    config.remove("federation_domain_whitelist");
    let settings = json!({
        "tls_certificate_path": dir.join(CERTIFICATE),
        "tls_private_key_path": dir.join(KEY),
        "federation_verify_certificates": false,
        "ip_range_blacklist": [],
        "federation_ip_range_blacklist": [],
        // Who was away is asked again at once, not after ten minutes.
        "federation": {
            "destination_min_retry_interval": "1s",
            "destination_retry_multiplier": 1,
            "destination_max_retry_interval": "1s",
            "max_short_retries": 1,
            "max_long_retries": 1,
        },
    });
    if let Value::Object(settings) = settings {
        config.extend(settings);
    }
}
