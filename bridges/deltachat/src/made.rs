//! An address and a password that nobody had before, for an account that its first login makes.

/// As chatmail relays want them: nine letters and digits.
const NAME: usize = 9;
/// A hundred bits and more.
const PASSWORD: usize = 24;
/// Letters and digits that are not taken for others. There are 32, so that each of them is as likely.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// A new address at a relay.
pub(crate) fn address(relay: &str) -> String {
    format!("{}@{relay}", random(NAME))
}

/// A new password.
pub(crate) fn password() -> String {
    random(PASSWORD)
}

fn random(length: usize) -> String {
    let mut bytes = zeroize::Zeroizing::new(vec![0; length]);
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_new_and_of_the_form_that_relays_want() {
        let (one, other) = (address("relay.example"), address("relay.example"));
        assert_ne!(one, other);
        let name = one.strip_suffix("@relay.example").expect("it is there");
        assert!(name.len() == 9 && name.bytes().all(|byte| ALPHABET.contains(&byte)), "{name}");
        assert!(password().len() == PASSWORD && password() != password());
    }
}
