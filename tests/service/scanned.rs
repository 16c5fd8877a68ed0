//! What a camera reads from a QR code that is drawn with letters.

use anyhow::{Context as _, Result};

/// On what it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Surface {
    /// Light letters on dark, as in most terminals.
    Dark,
    /// Dark letters on light, as in most chats.
    Light,
}

/// So many pixels for the side of a module.
const SIDE: usize = 4;
/// So much of the surface is seen around it, in modules.
const AROUND: usize = 6;

/// Reads the one code in some rows of half blocks, which is text.
pub(crate) fn scan(rows: &str, surface: Surface) -> Result<String> {
    Ok(String::from_utf8(scan_bytes(rows, surface)?)?)
}

/// Reads the one code in some rows of half blocks.
pub(crate) fn scan_bytes(rows: &str, surface: Surface) -> Result<Vec<u8>> {
    let rows: Vec<Vec<char>> = rows.lines().map(|row| row.chars().collect()).collect();
    let wide = rows.iter().map(Vec::len).max().context("there is no picture")?;
    let size = |modules: usize| (modules + 2 * AROUND) * SIDE;
    let is_ink = |x: usize, y: usize| {
        let (Some(column), Some(half)) = ((x / SIDE).checked_sub(AROUND), (y / SIDE).checked_sub(AROUND)) else {
            return false;
        };
        let letter = rows.get(half / 2).and_then(|row| row.get(column));
        letter.is_some_and(|letter| *letter == '█' || *letter == if half.is_multiple_of(2) { '▀' } else { '▄' })
    };
    let shade = |x, y| if is_ink(x, y) == (surface == Surface::Dark) { 255 } else { 0 };
    let mut seen = rqrr::PreparedImage::prepare_from_greyscale(size(wide), size(2 * rows.len()), shade);
    let grids = seen.detect_grids();
    let mut content = Vec::new();
    grids.first().context("no code is seen")?.decode_to(&mut content)?;
    Ok(content)
}
