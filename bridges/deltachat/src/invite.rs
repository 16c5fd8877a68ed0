//! Invitations: a link, and the same as a picture made of letters, to be scanned from a screen.

use fast_qr::QRBuilder;

/// What is shown of an invitation. `to` says what one joins by it.
pub(crate) fn shown(to: &str, link: &str) -> String {
    let picture = QRBuilder::new(link).build().map(|code| code.to_str()).unwrap_or_default();
    format!("{picture}\nInvitation to {to}. Scan it with Delta Chat, or open it on a phone that has it:\n{link}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invitation_is_shown_as_link_and_as_picture() {
        let link = "https://i.delta.chat/#6939F96BE29E044F5E79489225DD86D68975DBDE&v=3&i=CdmCoyiV6pRUy-Sgp5JbK71n";
        let shown = shown("Family", link);
        assert!(shown.ends_with(link));
        let rows = shown.lines().filter(|line| line.contains(['█', '▀', '▄'])).count();
        assert!(rows > 15, "{rows} rows are no picture");
    }
}
