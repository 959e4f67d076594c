//! The reference of options in `docs/configuration.md` and in `strfry-config/config.toml`, written from the programs'
//! own definitions: each program has a test that compares them.

use std::env;
use std::fs;

use clap::Arg;
use clap::Command;

/// Compares the table of a command's options with the document; writes it there where `UPDATE_DOCS` is set.
///
/// # Panics
/// The document is out of date, or has no place for the command.
pub fn check_document(name: &str, command: &Command) {
    let marks = [
        format!("<!-- options of {name} -->\n"),
        format!("<!-- end of {name} -->\n"),
    ];
    check_place("docs/configuration.md", marks, |_| table(command));
}

/// Compares the settings of a command with the configuration file of all settings; writes them there where
/// `UPDATE_DOCS` is set. A setting that another command has too stands there once.
///
/// # Panics
/// The file is out of date, or has no place for the command.
pub fn check_file(name: &str, command: &Command) {
    let marks = [format!("## Settings of {name}\n"), format!("## End of {name}\n")];
    check_place("strfry-config/config.toml", marks, |others| settings(command, others));
}

fn check_place(file: &str, [begin, end]: [String; 2], text: impl Fn(&str) -> String) {
    let path = format!("{}/../../{file}", env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(&path).expect("the document can be read");
    let place = document
        .split_once(&begin)
        .and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) = place.expect("the document has a place for each command");
    let text = text(&format!("{before}{after}"));
    let current = format!("{before}{begin}\n{text}\n{end}{after}");
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path, current).expect("the document can be written");
    } else {
        assert!(
            document == current,
            "{file} does not list the options as they are: \
             UPDATE_DOCS=1 cargo test -p gateway -p plugin the_reference_of_options"
        );
    }
}

/// What stands in `others` already is left out, but for a default that is another one here.
fn settings(command: &Command, others: &str) -> String {
    let mut text = String::new();
    let mut heading = "";
    for argument in command.get_arguments().filter(|argument| argument.get_env().is_some()) {
        let key = argument.get_long().unwrap_or_default();
        if key == "config" {
            continue;
        }
        let line = example(key, argument);
        let elsewhere = others.lines().find(|other| other.starts_with(&format!("#{key} = ")));
        match elsewhere {
            Some(other) if *other == line => continue,
            Some(_) if argument.get_default_values().is_empty() && !argument.is_required_set() => continue,
            Some(_) => text.push_str(&format!("# Here {key} is by default\n#   {}\n", &line[1..])),
            None => {
                let own = argument.get_help_heading().unwrap_or_default();
                if own != heading {
                    heading = own;
                    text.push_str(&format!("# ---- {own} ----\n\n"));
                }
                text.push_str(&comment(argument));
                text.push_str(&format!("{line}\n\n"));
            }
        }
    }
    text.trim_end().to_owned() + "\n"
}

/// A line that is taken as it is once its `#` is gone: the default, or the form of a value.
fn example(key: &str, argument: &Arg) -> String {
    let defaults = argument
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy());
    let default = defaults.collect::<Vec<_>>().join(",");
    let value = match default.is_empty() {
        true => argument
            .get_value_names()
            .and_then(|names| names.first())
            .map_or_else(String::new, ToString::to_string),
        false => default,
    };
    match value.parse::<i64>().is_ok() || value.parse::<bool>().is_ok() {
        true => format!("#{key} = {value}"),
        false => format!("#{key} = {value:?}"),
    }
}

fn comment(argument: &Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help());
    let help = help.map(|help| help.to_string().replace('\n', " ")).unwrap_or_default();
    let mut lines = vec![String::from("#")];
    for word in help.split(' ') {
        if lines.last().is_some_and(|line| line.len() + word.len() > COMMENT_WIDTH) {
            lines.push(String::from("#"));
        }
        if let Some(line) = lines.last_mut() {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines.join("\n") + "\n"
}

fn table(command: &Command) -> String {
    let is_ours = |argument: &&Arg| {
        argument
            .get_long()
            .is_some_and(|long| !matches!(long, "help" | "version"))
    };
    let head = "| option | variable | default | unit | what it does |\n| --- | --- | --- | --- | --- |\n";
    let rows = command.get_arguments().filter(is_ours).map(row);
    rows.fold(head.to_owned(), |table, row| table + &row)
}

fn row(argument: &Arg) -> String {
    let code = |text: &str| format!("`{text}`");
    let help = argument.get_long_help().or(argument.get_help());
    let help = help
        .map(|help| help.to_string().replace('\n', " ").replace('|', "\\|"))
        .unwrap_or_default();
    // Where clap knows no default, the text tells what is done without the option.
    let (text, told) = match help.split_once(" [default: ") {
        Some((text, told)) => (text, told.trim_end_matches(['.', ']']).to_owned()),
        None => (help.as_str(), String::new()),
    };
    let shown = argument
        .get_default_values()
        .iter()
        .filter(|_| !argument.is_hide_default_value_set());
    let defaults: Vec<String> = shown.map(|value| code(&value.to_string_lossy())).collect();
    let default = match (argument.is_required_set(), defaults.is_empty()) {
        (true, _) => "must be given".to_owned(),
        (false, true) => told,
        (false, false) => defaults.join(", "),
    };
    let unit = argument
        .get_value_names()
        .and_then(|names| names.first())
        .map(|name| code(name));
    format!(
        "| `--{}` | {} | {default} | {} | {}. |\n",
        argument.get_long().unwrap_or_default(),
        argument
            .get_env()
            .map(|variable| code(&variable.to_string_lossy()))
            .unwrap_or_default(),
        unit.unwrap_or_default(),
        text.trim_end_matches('.')
    )
}

const COMMENT_WIDTH: usize = 98;
