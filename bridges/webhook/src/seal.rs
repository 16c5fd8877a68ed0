//! Encrypting for recipients, with age: whoever runs the endpoint carries what only they can open.

use std::{fmt, io::Write as _};

use age::{
    Encryptor,
    armor::{ArmoredWriter, Format},
    x25519::Recipient,
};
use zeroize::Zeroizing;

/// So many can read one endpoint at most: each makes the body longer.
const MOST: usize = 32;

/// Those who can open what is posted.
#[derive(Clone)]
pub(crate) struct Recipients(Vec<Recipient>);

impl Recipients {
    /// Reads public keys: `age1…`.
    ///
    /// # Errors
    /// In words for the operator.
    pub(crate) fn read(keys: &[String]) -> Result<Self, String> {
        if keys.is_empty() || keys.len() > MOST {
            return Err(format!("name one to {MOST} recipients"));
        }
        let read = |key: &String| match key.parse() {
            Ok(recipient) => Ok(recipient),
            // A private key must not get into a log by way of an error.
            Err(_) => {
                Err("a recipient is a public key of age, age1 and 58 letters (`age-keygen -y` shows it)".to_owned())
            }
        };
        Ok(Self(keys.iter().map(read).collect::<Result<_, _>>()?))
    }

    /// Their public keys, as age writes them.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(ToString::to_string)
    }

    /// Encrypts to all of them, as ASCII that age's own command reads.
    ///
    /// # Errors
    /// In words without anything of it; then nothing may be sent.
    pub(crate) fn encrypt(&self, plain: &Zeroizing<Vec<u8>>) -> Result<String, &'static str> {
        const FAILED: &str = "it can't be encrypted";
        let recipients = self.0.iter().map(|recipient| recipient as &dyn age::Recipient);
        let encryptor = Encryptor::with_recipients(recipients).map_err(|_| FAILED)?;
        let armored = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor).map_err(|_| FAILED)?;
        let mut writer = encryptor.wrap_output(armored).map_err(|_| FAILED)?;
        writer.write_all(plain).map_err(|_| FAILED)?;
        let sealed = writer.finish().and_then(ArmoredWriter::finish).map_err(|_| FAILED)?;
        String::from_utf8(sealed).map_err(|_| FAILED)
    }
}

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipients({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use age::{Decryptor, armor::ArmoredReader, x25519::Identity};

    use super::*;

    #[test]
    fn each_recipient_opens_what_nobody_else_does() {
        let [ann, ben, eve] = [(); 3].map(|()| Identity::generate());
        let keys = [&ann, &ben].map(|identity| identity.to_public().to_string());
        let recipients = Recipients::read(&keys).expect("keys");
        assert_eq!(recipients.names().collect::<Vec<_>>(), keys);
        let sealed = recipients.encrypt(&Zeroizing::new(b"not for everybody".to_vec())).expect("it is encrypted");
        assert!(!sealed.contains("not for everybody"));
        let open = |identity: &Identity| {
            let decryptor = Decryptor::new(ArmoredReader::new(sealed.as_bytes())).ok()?;
            let mut plain = Vec::new();
            let keys = std::iter::once(identity as &dyn age::Identity);
            decryptor.decrypt(keys).ok()?.read_to_end(&mut plain).ok()?;
            Some(plain)
        };
        for identity in [&ann, &ben] {
            assert_eq!(open(identity).as_deref(), Some(&b"not for everybody"[..]));
        }
        assert_eq!(open(&eve), None);
    }

    #[test]
    fn recipient_is_a_public_key_and_a_private_one_is_not_repeated() {
        use age::secrecy::ExposeSecret as _;
        let private = Identity::generate().to_string();
        let error = Recipients::read(&[private.expose_secret().to_owned()]).expect_err("it is private");
        assert!(!error.contains("AGE-SECRET-KEY"), "{error}");
        for wrong in [vec![], vec![String::new()], vec!["age1".to_owned()], vec!["ann@example.org".to_owned()]] {
            assert!(Recipients::read(&wrong).is_err(), "{wrong:?}");
        }
    }
}
