//! A throw-away authority and a certificate of its own for `localhost`.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use super::config::Layout;

pub(super) fn write(layout: &Layout) -> Result<()> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    authority.distinguished_name.push(DnType::CommonName, "Sealbridge lab");
    let authority_key = KeyPair::generate().context("Make the authority's key")?;
    let authority_certificate = authority.self_signed(&authority_key).context("Sign the authority")?;

    let mut leaf = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    leaf.distinguished_name.push(DnType::CommonName, "localhost");
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().context("Make the server's key")?;
    let certificate = leaf.signed_by(&key, &Issuer::new(authority, authority_key)).context("Sign the server")?;

    std::fs::write(layout.authority(), authority_certificate.pem())?;
    std::fs::write(layout.chain(), certificate.pem() + &authority_certificate.pem())?;
    std::fs::write(layout.key(), key.serialize_pem())?;
    std::fs::set_permissions(layout.key(), std::fs::Permissions::from_mode(0o600))?;
    Ok(())
}
