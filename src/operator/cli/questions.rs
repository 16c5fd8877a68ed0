//! Asking a person for what a new account needs, by the sheet of its network.

use sealbridge_contract::{AccountName, LoginSheet, Question, sheet::Known};
use toml::{Table, Value};

use crate::{
    operator::{Failure, control::StepFrame, output::Output},
    transports,
};

/// An account as it was described so far.
pub(super) struct Described {
    pub(super) name: String,
    pub(super) sheet: &'static LoginSheet,
    answers: Vec<(&'static str, String)>,
}

impl Described {
    /// Asks what kind of account it is, and what can be asked before it is known who the operator is.
    pub(super) fn ask(output: Output, name: String, network: Option<&str>) -> Result<Self, Failure> {
        let sheet = match network {
            Some(network) => find(network).map_err(Failure::usage)?,
            None => ask_network(output)?,
        };
        let mut described = Self { name, sheet, answers: Vec::new() };
        described.go_on(output, None, false)?;
        Ok(described)
    }

    /// Asks the rest.
    pub(super) fn finish(&mut self, output: Output, person: Option<&str>) -> Result<(), Failure> {
        self.go_on(output, person, true)
    }

    fn go_on(&mut self, output: Output, person: Option<&str>, after_person: bool) -> Result<(), Failure> {
        for question in self.sheet.settings.iter().filter(|question| question.after_person == after_person) {
            let known = Known { answers: &self.answers, person };
            let label = match after_person {
                true => format!("{} (account {})", question.label, self.name),
                false => question.label.to_owned(),
            };
            let answer = ask(output, question, &label, &known)?;
            self.answers.push((question.key, answer));
        }
        Ok(())
    }

    /// Its section of the config.
    pub(super) fn section(&self) -> Table {
        let mut section = Table::from_iter([("network".to_owned(), self.sheet.network.into())]);
        for (key, answer) in self.answers.iter().filter(|(_, answer)| !answer.is_empty()) {
            let many = self.sheet.settings.iter().any(|question| question.key == *key && question.many);
            let value =
                if many { parts(answer).map(Value::from).collect::<Vec<_>>().into() } else { answer.as_str().into() };
            let (inner, key) = match key.split_once('.') {
                Some((table, key)) => (section.entry(table).or_insert_with(|| Table::new().into()).as_table_mut(), key),
                None => (Some(&mut section), *key),
            };
            if let Some(inner) = inner {
                inner.insert(key.to_owned(), value);
            }
        }
        section
    }
}

/// Asks for the config of a new service.
pub(super) fn whole_config(output: Output) -> Result<Table, Failure> {
    let mut accounts: Vec<Described> = Vec::new();
    loop {
        let proposed = if accounts.is_empty() { "home" } else { "" };
        let name = ask_name(output, proposed, |name| accounts.iter().any(|account| account.name == name))?;
        accounts.push(Described::ask(output, name, None)?);
        if !ask_yes(output, "Another account, to carry messages between?")? {
            break;
        }
    }
    let mut config = Table::new();
    let reachable = accounts.iter().find_map(|account| Some((&account.name, account.sheet.person.as_ref()?)));
    let person = match reachable {
        Some((account, question)) => {
            let person = ask(output, question, question.label, &Known { answers: &[], person: None })?;
            let admin = [("account", account.as_str()), (question.key, person.as_str())];
            let admin = admin.map(|(key, value)| (key.to_owned(), Value::from(value)));
            config.insert("admin".into(), Table::from_iter(admin).into());
            Some(person)
        }
        None => {
            let words =
                "None of these accounts can open an admin room with you. You can add [admin] to the config later.";
            output.step(&StepFrame::Show { words: words.into() });
            None
        }
    };
    for account in &mut accounts {
        account.finish(output, person.as_deref())?;
    }
    let sections = accounts.iter().map(|account| (account.name.clone(), Value::from(account.section())));
    config.insert("accounts".into(), Table::from_iter(sections).into());
    Ok(config)
}

/// Asks for the name of an account.
pub(super) fn ask_name(output: Output, proposed: &str, taken: impl Fn(&str) -> bool) -> Result<String, Failure> {
    ask_until(output, "A short name for the account", proposed, |name| {
        AccountName::parse(name).map_err(|error| error.to_string())?;
        if taken(name) { Err(format!("there is an account `{name}` already")) } else { Ok(name.to_owned()) }
    })
}

fn ask_network(output: Output) -> Result<&'static LoginSheet, Failure> {
    let about = transports::SHEETS.iter().map(|sheet| format!("  {}: {}", sheet.network, sheet.about));
    let words = format!("Networks:\n{}", about.collect::<Vec<_>>().join("\n"));
    output.step(&StepFrame::Show { words });
    let proposed = transports::SHEETS.first().map_or("", |sheet| sheet.network);
    ask_until(output, "Its network", proposed, find)
}

fn find(network: &str) -> Result<&'static LoginSheet, String> {
    let known = || transports::SHEETS.iter().map(|sheet| sheet.network).collect::<Vec<_>>().join(", ");
    transports::sheet(network).ok_or_else(|| format!("the networks are {}", known()))
}

fn ask(output: Output, question: &Question, label: &str, known: &Known<'_>) -> Result<String, Failure> {
    ask_until(output, label, &(question.proposed)(known), |given| {
        if question.many {
            let read: Vec<_> = parts(given).map(question.read).collect::<Result<_, _>>()?;
            Ok(read.join(", "))
        } else {
            (question.read)(given)
        }
    })
}

fn parts(answer: &str) -> impl Iterator<Item = &str> {
    answer.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// Asks again until the answer is one.
fn ask_until<T>(
    output: Output,
    label: &str,
    proposed: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<T, Failure> {
    let shown = if proposed.is_empty() { label.to_owned() } else { format!("{label} [{proposed}]") };
    loop {
        let typed = output.ask(&shown, false)?;
        let typed = typed.as_str().trim();
        match read(if typed.is_empty() { proposed } else { typed }) {
            Ok(answer) => return Ok(answer),
            Err(words) => output.step(&StepFrame::Show { words: format!("That is none: {words}.") }),
        }
    }
}

fn ask_yes(output: Output, label: &str) -> Result<bool, Failure> {
    ask_until(output, &format!("{label} (yes/no)"), "no", |given| match given.to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(true),
        "n" | "no" => Ok(false),
        _ => Err("answer yes or no".to_owned()),
    })
}
