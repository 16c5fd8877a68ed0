//! Pictures of people. A message names the one that its author has; whoever shows pictures looks it up when it has not
//! got it yet, at the transport in whose network the author is, and nowhere else.
//!
//! Only a message that the gate let through leads to a picture, so somebody else's server never gets to see one.

use std::fmt;

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

use crate::{
    AccountName, SecretBytes,
    message::{Dimensions, MediaType},
};

/// Which picture somebody has, as the transport of their network names it. Another picture has another name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PictureId(String);

/// A picture, small and seen to be one.
pub struct Picture {
    mime: MediaType,
    dimensions: Dimensions,
    content: SecretBytes,
}

/// Where pictures are looked up.
#[async_trait]
pub trait Pictures: Send + Sync {
    /// Gives a picture, or nothing if there is none of that name, or none that may be shown. Bounded in time.
    async fn picture(&self, of: &PictureId) -> Option<Picture>;
}

/// The pictures of the account from which a message came. `None`: its transport does not run now.
#[derive(Clone, Copy)]
pub struct Album<'a> {
    /// The account.
    pub account: &'a AccountName,
    /// Its transport.
    pub pictures: Option<&'a dyn Pictures>,
}

/// The picture of a message's author, to be shown beside the message.
#[derive(Clone, Copy)]
pub struct Portrait<'a> {
    id: &'a PictureId,
    album: Album<'a>,
}

impl PictureId {
    /// A longer name is none.
    pub const LONGEST: usize = 512;

    /// Takes a name.
    pub fn new(name: impl Into<String>) -> Option<Self> {
        let name = name.into();
        (!name.is_empty() && name.len() <= Self::LONGEST).then_some(Self(name))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Picture {
    /// The most bytes.
    pub const MOST: usize = 256 * 1024;
    /// The most pixels from left to right, and from top to bottom.
    pub const LARGEST: u32 = 2048;

    /// Takes a picture. What it is, its content says and nobody else: a PNG, JPEG, GIF or WebP that is not too large.
    /// `None`: it is none.
    #[must_use]
    pub fn new(content: SecretBytes) -> Option<Self> {
        use imagesize::ImageType::{Gif, Jpeg, Png, Webp};
        let bytes = content.expose();
        if bytes.len() > Self::MOST {
            return None;
        }
        let mime = match imagesize::image_type(bytes).ok()? {
            Png => "image/png",
            Jpeg => "image/jpeg",
            Gif => "image/gif",
            Webp => "image/webp",
            _ => return None,
        };
        let size = imagesize::blob_size(bytes).ok()?;
        let pixels = |count: usize| u32::try_from(count).ok().filter(|count| (1..=Self::LARGEST).contains(count));
        let dimensions = Dimensions { width: pixels(size.width)?, height: pixels(size.height)? };
        Some(Self { mime: MediaType::new(mime), dimensions, content })
    }

    /// What it is.
    #[must_use]
    pub fn mime(&self) -> &MediaType {
        &self.mime
    }

    /// Width and height.
    #[must_use]
    pub fn dimensions(&self) -> Dimensions {
        self.dimensions
    }

    /// The picture itself.
    #[must_use]
    pub fn content(&self) -> &SecretBytes {
        &self.content
    }
}

impl<'a> Portrait<'a> {
    pub(crate) fn new(id: &'a PictureId, album: Album<'a>) -> Self {
        Self { id, album }
    }

    /// A name that no other picture of any account has, to remember what was done with this one.
    #[must_use]
    pub fn key(&self) -> String {
        let account = self.album.account.as_str();
        let digest = Sha256::new().chain_update(account).chain_update([0]).chain_update(&self.id.0).finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The picture, if it can be had now.
    pub async fn look_up(&self) -> Option<Picture> {
        self.album.pictures?.picture(self.id).await
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Picture({})", self.mime.as_str())
    }
}

impl fmt::Debug for Album<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Album").field("account", self.account).finish_non_exhaustive()
    }
}

impl fmt::Debug for Portrait<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Portrait")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first bytes of a PNG of this size.
    fn png(width: u32, height: u32) -> Vec<u8> {
        let start = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".as_slice();
        [start, &width.to_be_bytes(), &height.to_be_bytes(), &[8, 2, 0, 0, 0, 0, 0, 0, 0]].concat()
    }

    #[test]
    fn picture_is_what_its_content_says_and_bounded() {
        let taken = |bytes: Vec<u8>| Picture::new(SecretBytes::new(bytes));
        let picture = taken(png(64, 32)).expect("it is a PNG");
        assert_eq!((picture.mime().as_str(), picture.dimensions().width), ("image/png", 64));
        assert_eq!(taken(b"GIF89a\x01\x00\x01\x00\x00\x00\x00".to_vec()).expect("a GIF").mime().as_str(), "image/gif");
        let svg = b"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1\" height=\"1\"/>".to_vec();
        let long = [png(64, 32), vec![0; Picture::MOST]].concat();
        for none in
            [Vec::new(), b"<html>".to_vec(), svg, png(0, 32), png(64, 100_000), png(64, 32)[..12].to_vec(), long]
        {
            assert!(taken(none).is_none());
        }
    }

    #[test]
    fn same_name_in_another_account_is_another_picture() {
        let (one, two) = ["one", "two"].map(|name| AccountName::parse(name).expect("a name")).into();
        let id = PictureId::new("1").expect("a name");
        let key = |account| Portrait::new(&id, Album { account, pictures: None }).key();
        assert_ne!(key(&one), key(&two));
        assert!(PictureId::new("x".repeat(PictureId::LONGEST + 1)).is_none());
    }
}
