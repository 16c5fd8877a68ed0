use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

use super::*;

const CANARY: &str = "Kanarienvögel <&> \"sing\"? 7=7";

/// Asserts that the canary is found in `bytes`, in this form, and not in their like without it.
fn check(encoding: &str, bytes: &[u8]) {
    let search = Search::new(&["not there at all", CANARY]).expect("a valid list");
    let found = search.bytes(bytes);
    assert!(found.contains(&(1, encoding.to_owned())), "{encoding} not among {found:?}");
    assert!(found.iter().all(|(canary, _)| *canary == 1), "{found:?}");
}

fn among(text: &str) -> Vec<u8> {
    format!("before{text}after").into_bytes()
}

#[test]
fn every_encoding_is_found() {
    check("raw", &among(CANARY));
    check("lower case", &among(&CANARY.to_lowercase()));
    check("JSON", &among(r#"Kanarienvögel <&> \"sing\"? 7=7"#));
    check("JSON, ASCII only", &among(r#"Kanarienv\u00f6gel <&> \"sing\"? 7=7"#));
    let all: String = CANARY.chars().map(|it| format!("\\u{:04x}", u32::from(it))).collect();
    check("JSON, all escaped", &among(&all));
    check("HTML", &among("Kanarienvögel &lt;&amp;&gt; &quot;sing&quot;? 7=7"));
    let all: String = CANARY.chars().map(|it| format!("&#{};", u32::from(it))).collect();
    check("HTML, decimal", &among(&all));
    let all: String = CANARY.chars().map(|it| format!("&#x{:x};", u32::from(it))).collect();
    check("HTML, hexadecimal", &among(&all));
    check("percent", &among("Kanarienv%c3%b6gel%20%3c%26%3e%20%22sing%22%3f%207%3d7"));
    check("percent, form", &among("Kanarienv%C3%B6gel+%3C%26%3E+%22sing%22%3F+7%3D7"));
    let all: String = CANARY.bytes().map(|it| format!("%{it:02X}")).collect();
    check("percent, all", &among(&all));
    check("quoted-printable", b"Kanarienv=C3=B6gel <&> =\r\n\"sing\"? 7=\n=3D7");
    let all: String = CANARY.bytes().map(|it| format!("={it:02x}")).collect();
    check("quoted-printable, all", &among(&all));
    let hex: String = CANARY.bytes().map(|it| format!("{it:02x}")).collect();
    check("hex", &among(&hex));
    check("hex", &among(&hex.to_uppercase()));
    let units = || "xx".encode_utf16().chain(CANARY.encode_utf16());
    let bytes: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
    check("UTF-16 LE", &bytes);
    let bytes: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
    check("UTF-16 BE", &bytes);
}

#[test]
fn base64_is_found_at_every_alignment() {
    for lead in ["", "a", "ab", "abc"] {
        for tail in ["", "z", "zy", "zyx"] {
            let text = format!("{lead}{CANARY}{tail}");
            check("base64", STANDARD.encode(&text).as_bytes());
            // Both alphabets agree where the text has neither 62 nor 63; here one has to differ.
            let safe = URL_SAFE.encode(format!("{text}???>>>{CANARY}~~~{CANARY}"));
            let search = Search::new(&[CANARY]).expect("a valid list");
            assert!(!search.bytes(safe.as_bytes()).is_empty());
        }
    }
    // Every three of these bytes give a 63, which the alphabets write differently.
    let canary = "???????????????";
    let search = Search::new(&[canary]).expect("a valid list");
    for lead in ["", "a", "ab"] {
        let found = search.bytes(URL_SAFE.encode(format!("{lead}{canary}b")).as_bytes());
        assert_eq!(found, [(0, "base64, URL-safe".to_owned())]);
    }
}

#[test]
fn compressed_streams_are_looked_into() -> Result<()> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&among(CANARY))?;
    let gzip = [b"head".to_vec(), gzip.finish()?, b"tail".to_vec()].concat();
    check("gzip, raw", &gzip);
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(&among(CANARY))?;
    let zlib = [b"head".to_vec(), zlib.finish()?, b"tail".to_vec()].concat();
    check("zlib, raw", &zlib);
    let mut twice = ZlibEncoder::new(Vec::new(), Compression::fast());
    twice.write_all(&gzip)?;
    check("zlib, gzip, raw", &twice.finish()?);
    let mut bare = DeflateEncoder::new(Vec::new(), Compression::default());
    bare.write_all(&among(CANARY))?;
    let bare = bare.finish()?;
    check("deflate, raw", &bare);
    check("deflate, raw", &[b"HTTP/1.1 200\r\ncontent-encoding: deflate\r\n\r\n".to_vec(), bare.clone()].concat());
    let mut entry = b"before PK\x03\x04\x14\0\0\0\x08\0".to_vec();
    entry.extend([0; 16]);
    entry.extend([4, 0, 2, 0]);
    check("deflate, raw", &[entry, b"name??".to_vec(), bare].concat());
    Ok(())
}

#[test]
fn files_their_names_and_directories_are_searched() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let deep = dir.path().join("a/b");
    fs::create_dir_all(&deep)?;
    let secret = "canary-4711-in-a-cage";
    fs::write(deep.join("clean"), "nothing")?;
    fs::write(deep.join("dirty"), among(secret))?;
    fs::write(dir.path().join(secret), "")?;
    let search = Search::new(&[secret])?;
    let hits = search.paths(&[dir.path(), &dir.path().join("missing")])?;
    let hits: Vec<_> = hits.iter().map(|hit| (hit.file.clone(), hit.encoding.as_str())).collect();
    assert_eq!(hits, [(deep.join("dirty"), "raw"), (dir.path().join(secret), "file name, raw")]);
    Ok(())
}

#[test]
fn what_is_not_there_is_not_found() -> Result<()> {
    let search = Search::new(&[CANARY, "canary-4711-in-a-cage"])?;
    let mut noise = vec![0; 1 << 20];
    getrandom::fill(&mut noise).map_err(|error| anyhow::anyhow!("{error}"))?;
    assert_eq!(search.bytes(&noise), []);
    assert_eq!(search.bytes("canary-4712-in-a-cage Kanarienvögel".as_bytes()), []);
    Ok(())
}

#[test]
fn key_is_found_in_every_form_that_bytes_have() {
    let key: [u8; 32] = std::array::from_fn(|at| (at * 89 + 0x9f) as u8);
    let search = Search::of(&[Canary::Text("not there at all"), Canary::Bytes(&key)]).expect("a valid list");
    let check = |encoding: &str, bytes: &[u8]| {
        let found = search.bytes(&[b"before ", bytes, b" after"].concat());
        assert!(found.iter().any(|(canary, form)| *canary == 1 && form.ends_with(encoding)), "{encoding}: {found:?}");
    };
    check("raw", &key);
    check("hex", key.map(|byte| format!("{byte:02X}")).concat().as_bytes());
    check("numbers", format!("{key:?}").as_bytes());
    check("numbers", serde_json::to_string(&key).expect("numbers").as_bytes());
    for lead in 0..3 {
        let within = [&b"---"[..lead], &key, b"-"].concat();
        check("base64", STANDARD.encode(&within).as_bytes());
        check("base64, URL-safe", URL_SAFE.encode(&within).as_bytes());
    }
    let half = &key[..16];
    assert!(search.bytes(&[half, &[0; 16]].concat()).is_empty(), "half of it is another key");
}
