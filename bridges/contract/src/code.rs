//! Codes that a camera reads from a screen, drawn with letters.

use fast_qr::{ECL, QRBuilder};

use crate::Text;

/// A camera finds a code by the light around it: so many modules on each side (ISO/IEC 18004).
const QUIET: usize = 4;

/// The content as a QR code of half blocks, with the light around it, as many columns wide as it has modules: 49 for 134
/// bytes. The letters are its light, so they have to be lighter than what is behind them. `None` if no code holds so much.
#[must_use]
pub fn drawn(content: &[u8]) -> Option<Text> {
    // A screen has no stains and no folds: with the least redundancy the modules are the fewest, and so the largest.
    let code = QRBuilder::new(content).ecl(ECL::L).build().ok()?;
    let is_light = |x: usize, y: usize| {
        let (Some(x), Some(y)) = (x.checked_sub(QUIET), y.checked_sub(QUIET)) else { return true };
        x >= code.size || y >= code.size || !code[y][x].value()
    };
    let side = code.size + 2 * QUIET;
    let letter = |x, y| match (is_light(x, y), is_light(x, y + 1)) {
        (true, true) => '█',
        (true, false) => '▀',
        (false, true) => '▄',
        (false, false) => ' ',
    };
    // Made once, so that no piece of it is left behind where it was too small.
    let mut rows = String::with_capacity((side * '█'.len_utf8() + 1) * side.div_ceil(2));
    for y in (0..side).step_by(2) {
        if y > 0 {
            rows.push('\n');
        }
        rows.extend((0..side).map(|x| letter(x, y)));
    }
    Some(Text::new(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_has_light_around_it_and_fits_a_terminal() {
        for length in [1, 134, 250] {
            let drawn = drawn(&vec![7; length]).expect("a code holds that much");
            let rows: Vec<Vec<char>> = drawn.as_str().lines().map(|row| row.chars().collect()).collect();
            let side = rows[0].len();
            assert!(side <= 80 && rows.len() == side.div_ceil(2), "{side} columns, {} rows", rows.len());
            let light = |row: &[char]| row.iter().all(|letter| *letter == '█');
            assert!(rows[..2].iter().all(|row| light(row)) && light(&rows[rows.len() - 2][..]));
            assert!(rows.iter().all(|row| row.len() == side && light(&row[..4]) && light(&row[side - 4..])));
            // What is inside begins at once.
            assert!(!light(&rows[2]) && rows[2][4] == ' ');
        }
        assert!(super::drawn(&[7; 3000]).is_none());
    }
}
