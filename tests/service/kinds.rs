//! The table of kinds in the documentation says what the datasheets say.

use std::{fs, path::Path};

use sealbridge::transports::datasheets;
use sealbridge_contract::abilities::table;

const BEGIN: &str = "<!-- generated from the datasheets -->\n";
const END: &str = "<!-- end -->";

#[test]
fn table_of_kinds_says_what_the_datasheets_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/kinds.md");
    let page = fs::read_to_string(&path).expect("the page is there");
    let (before, rest) = page.split_once(BEGIN).expect("the page has a place for the table");
    let (_, after) = rest.split_once(END).expect("the place has an end");
    let expected = format!("{before}{BEGIN}{}{END}{after}", table(&datasheets()));
    let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kinds.md");
    fs::write(&new, &expected).expect("the folder can be written");
    assert!(
        page == expected,
        "docs/kinds.md is not what the datasheets say; what it should be is in {}",
        new.display()
    );
}
