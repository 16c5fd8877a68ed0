//! Invitations: a link, and the same as a picture made of letters, to be scanned from a screen.

use sealbridge_contract::{Invitation, Text, code};

/// How one joins the account itself.
pub(crate) const OURSELVES: &str = "a chat with the bridge itself";

/// An invitation. `to` says what one joins by it.
pub(crate) fn invitation(to: impl Into<String>, link: String) -> Invitation {
    let picture = code::drawn(link.as_bytes()).unwrap_or_default();
    let how = "Scan it with Delta Chat, or open it on a phone that has it:";
    Invitation { to: to.into(), how, link: Text::new(link), picture }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invitation_is_a_link_and_a_picture_that_fits_a_terminal() {
        let link = "https://i.delta.chat/#6939F96BE29E044F5E79489225DD86D68975DBDE&v=3&i=CdmCoyiV6pRUy-Sgp5JbK71n\
                    &s=CdmCoyiV6pRUy-Sgp5JbK71n&a=bridge-with-a-long-name%40mail.example&n=Sealbridge&g=Family";
        let shown = invitation("Family", link.to_owned());
        assert_eq!(shown.link.as_str(), link);
        let rows: Vec<_> = shown.picture.as_str().lines().filter(|line| line.contains(['█', '▀', '▄'])).collect();
        assert!(rows.len() > 15, "{} rows are no picture", rows.len());
        assert!(rows.iter().all(|row| row.chars().count() <= 80), "it is too wide: {}", rows[0].chars().count());
    }
}
