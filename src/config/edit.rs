//! Changing a config that somebody wrote: what is theirs, comments and all, stays as it is.

use super::load::too_deep;
use sealbridge_contract::AccountName;
use toml_edit::{Array, DocumentMut, Item, Table, ser, value};

use crate::notices::SourceName;

/// The text with one more account.
///
/// # Errors
/// In words, if it is not written in a way that can be added to.
pub fn with_account(text: &str, name: &AccountName, section: &toml::Table) -> Result<String, String> {
    let mut document = read(text)?;
    let accounts = document.entry("accounts").or_insert_with(|| {
        let mut accounts = Table::new();
        accounts.set_implicit(true);
        Item::Table(accounts)
    });
    let accounts = accounts.as_table_mut().ok_or("`accounts` is not a section")?;
    if accounts.contains_key(name.as_str()) {
        return Err(format!("there is an [accounts.{name}] already"));
    }
    let mut table = ser::to_document(section).map_err(|error| error.to_string())?.into_table();
    table.sort_values_by(|key, _, other, _| (key != "network").cmp(&(other != "network")));
    table.decor_mut().set_prefix("\n");
    accounts.insert(name.as_str(), Item::Table(table));
    Ok(document.to_string())
}

/// The text with one setting of an account that it has.
///
/// # Errors
/// In words, if it is not written in a way that can be added to.
pub fn with_setting(text: &str, account: &AccountName, key: &str, setting: &str) -> Result<String, String> {
    let mut document = read(text)?;
    let section = document.get_mut("accounts").and_then(|accounts| accounts.get_mut(account.as_str()));
    let section =
        section.and_then(Item::as_table_like_mut).ok_or_else(|| format!("there is no [accounts.{account}]"))?;
    section.insert(key, value(setting));
    Ok(document.to_string())
}

/// The text with one more source.
///
/// # Errors
/// In words, if it is not written in a way that can be added to.
pub fn with_source(text: &str, name: &SourceName, section: &toml::Table) -> Result<String, String> {
    let mut document = read(text)?;
    let sources = document.entry("sources").or_insert_with(|| {
        let mut sources = Table::new();
        sources.set_implicit(true);
        Item::Table(sources)
    });
    let sources = sources.as_table_mut().ok_or("`sources` is not a section")?;
    if sources.contains_key(name.as_str()) {
        return Err(format!("there is a [sources.{name}] already"));
    }
    let mut table = ser::to_document(section).map_err(|error| error.to_string())?.into_table();
    table.decor_mut().set_prefix("\n");
    sources.insert(name.as_str(), Item::Table(table));
    Ok(document.to_string())
}

/// The text with other secrets of a source that it has.
///
/// # Errors
/// In words, if it is not written in a way that can be added to.
pub fn with_secrets(text: &str, name: &SourceName, files: &[String]) -> Result<String, String> {
    let mut document = read(text)?;
    let section = document.get_mut("sources").and_then(|sources| sources.get_mut(name.as_str()));
    let section = section.and_then(Item::as_table_like_mut).ok_or_else(|| format!("there is no [sources.{name}]"))?;
    section.insert("secret_files", value(Array::from_iter(files.iter().map(String::as_str))));
    Ok(document.to_string())
}

fn read(text: &str) -> Result<DocumentMut, String> {
    if too_deep(text).is_some() {
        return Err("it is nested deeper than any config is".to_owned());
    }
    text.parse().map_err(|_| "it is not TOML".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Mine.\n[admin] # who\naccount = \"a\"\nperson = \"@me:a.test\"\n\n[accounts.a]\nnetwork = \"matrix\" # \
                        sure\nuser = \"@bot:a.test\"\n\n# The end.\n[log]\nlevel = \"info\"\n# Really.\n";

    fn name(name: &str) -> AccountName {
        AccountName::parse(name).expect("it is a name")
    }

    fn section() -> toml::Table {
        toml::from_str(
            "address = \"b@a.test\"\ngroups = [\"One\"]\nnetwork = \"x\"\n[imap]\nserver = \"m\"\nport = 993\n",
        )
        .expect("it is TOML")
    }

    #[test]
    fn what_was_there_stays_line_by_line_and_the_account_is_added() {
        let text = with_account(TEXT, &name("b"), &section()).expect("it can be added to");
        let (mut old, mut new) = (TEXT.lines().peekable(), Vec::new());
        for line in text.lines() {
            if old.peek() == Some(&line) {
                old.next();
            } else {
                new.push(line)
            }
        }
        assert_eq!(old.next(), None, "a line is gone: {text}");
        assert_eq!(new.iter().find(|line| !line.is_empty()), Some(&"[accounts.b]"), "{text}");
        let read: toml::Table = toml::from_str(&text).expect("it is TOML");
        assert_eq!(read["accounts"]["b"].as_table(), Some(&section()), "{text}");
        assert!(with_account(&text, &name("b"), &section()).is_err(), "it is there already");
    }

    #[test]
    fn setting_is_added_to_its_account_and_nothing_else_changes() {
        let text = with_setting(TEXT, &name("a"), "password_file", "/p").expect("it can be added to");
        assert_eq!(text, TEXT.replace("\"@bot:a.test\"\n", "\"@bot:a.test\"\npassword_file = \"/p\"\n"));
        assert!(with_setting(TEXT, &name("b"), "x", "y").is_err());
    }

    #[test]
    fn source_is_added_and_its_secrets_are_changed_and_nothing_else_is() {
        let source = SourceName::parse("prom").expect("a name");
        let section: toml::Table = toml::from_str("format = \"raw\"\nsecret_files = [\"/a\"]\n").expect("TOML");
        let text = with_source(TEXT, &source, &section).expect("it can be added to");
        assert!(TEXT.lines().all(|line| text.contains(line)), "{text}");
        let text = with_secrets(&text, &source, &["/b".into(), "/a".into()]).expect("it is there");
        let read: toml::Table = toml::from_str(&text).expect("it is TOML");
        assert_eq!(read["sources"]["prom"]["secret_files"], toml::Value::from(vec!["/b", "/a"]));
        assert!(with_source(&text, &source, &section).is_err() && with_secrets(TEXT, &source, &[]).is_err());
    }

    #[test]
    fn config_without_accounts_or_with_odd_ones_is_added_to_or_refused() {
        assert!(with_account("", &name("b"), &section()).is_ok_and(|text| text.contains("[accounts.b]")));
        assert!(with_account("accounts = 7\n", &name("b"), &section()).is_err());
        assert!(with_account("accounts = {\n", &name("b"), &section()).is_err());
    }
}
