//! What is sealed: for a peer, in the journal, in the spool. Nothing but what was sealed ever opens, and only where it
//! was sealed.

use zeroize::Zeroizing;

use crate::{
    Author, Cleartext, ConversationId, DeliveryId, Message, PeerKey, PersonId, RootKey, Sealed, Slip, SpoolId,
    Timestamp, Vault, pieces::Header, sealed::Sealing,
};

/// Everything that one change of one place makes of bytes: a flipped bit, an end cut off, something more. The place is
/// chosen by the bytes, so that a finding stays one.
fn changed(sealed: &[u8]) -> [Vec<u8>; 4] {
    let sum = sealed.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    let at = sum % sealed.len();
    let mut flipped = sealed.to_vec();
    flipped[at] ^= 1 << (sum % 8);
    let mut swapped = sealed.to_vec();
    swapped.rotate_left(1);
    // Bytes that are all alike are the same again.
    if swapped == sealed {
        swapped.push(0);
    }
    [flipped, sealed[..at].to_vec(), [sealed, &[0]].concat(), swapped]
}

#[test]
fn journal_rows() {
    let [vault, other] = [1, 2].map(|byte| Vault::new(RootKey::new([byte; 32])));
    sealbridge_fuzz::target("rows", |input| {
        assert!(vault.unlock(b"row", &vault.from_row(input.to_vec())).is_err(), "made-up bytes open");
        let locked = vault.lock(b"row", input);
        let opened = vault.unlock(b"row", &locked).expect("it opens where it was locked");
        assert_eq!(opened.expose(), input);
        assert!(vault.unlock(b"rov", &locked).is_err() && other.unlock(b"row", &locked).is_err());
        for bytes in changed(vault.to_row(&locked)) {
            assert!(vault.unlock(b"row", &vault.from_row(bytes)).is_err(), "a changed row opens");
        }
    });
}

#[test]
fn parcels_for_a_peer() {
    let [peer, other] = [1, 2].map(|byte| PeerKey::new(&Zeroizing::new([byte; 32])));
    let slip = Slip::new(ConversationId::new("c"), DeliveryId::from_bytes([3; 16]), Timestamp(0));
    sealbridge_fuzz::target("parcels", |input| {
        assert!(peer.open(&Sealed::received(input.to_vec())).is_none(), "made-up bytes open");
        let words = String::from_utf8_lossy(input);
        let author = Author { id: PersonId::new("@ann:x"), name: None };
        let message = Cleartext::new(Message::text(author, Timestamp(5), &words));
        let sealed = Sealing { message: &message, peer: &peer }.seal(&slip);
        let (delivery, opened) = peer.open(&sealed).expect("its peer opens it");
        assert_eq!(delivery, slip.delivery);
        assert_eq!(opened.0.body().map(|body| body.plain.as_str()), Some(&*words));
        assert_eq!(Sealing { message: &message, peer: &peer }.seal(&slip), sealed, "a second attempt is the same");
        assert!(other.open(&sealed).is_none());
        for bytes in changed(sealed.as_bytes()) {
            assert!(peer.open(&Sealed::received(bytes)).is_none(), "a changed parcel opens");
        }
    });
}

#[test]
fn pieces_of_a_file() {
    let header = Header::random();
    let id = SpoolId::random();
    let pieces = header.pieces(&[1; 32], id);
    let others = [
        header.pieces(&[2; 32], id),
        header.pieces(&[1; 32], SpoolId::random()),
        Header::random().pieces(&[1; 32], id),
    ];
    sealbridge_fuzz::target("pieces", |input| {
        assert!(pieces.open(0, false, &mut input.to_vec()).is_err(), "made-up bytes open");
        let mut piece = input.to_vec();
        pieces.seal(5, false, &mut piece).expect("it is short");
        let opens = |piece: &[u8], place, last| pieces.open(place, last, &mut piece.to_vec()).is_ok();
        assert!(opens(&piece, 5, false));
        assert!(!opens(&piece, 6, false) && !opens(&piece, 5, true), "a piece opens in another place");
        assert!(
            others.iter().all(|other| other.open(5, false, &mut piece.clone()).is_err()),
            "it opens for another file"
        );
        for changed in changed(&piece) {
            assert!(!opens(&changed, 5, false), "a changed piece opens");
        }
        pieces.open(5, false, &mut piece).expect("it is as it was sealed");
        assert_eq!(piece, input);
        let mut head = [0; Header::LENGTH];
        let length = input.len().min(head.len());
        head[..length].copy_from_slice(&input[..length]);
        assert_eq!(Header::read(head).is_ok(), head.starts_with(b"SBF1"));
    });
}
