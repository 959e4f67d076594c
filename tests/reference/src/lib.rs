//! The reference of options in `docs/configuration.md`, written from the programs' own definitions: each program has a
//! test that compares the two.

use std::env;
use std::fs;

use clap::Arg;
use clap::Command;

/// Compares the table of a command's options with the document; writes it there where `UPDATE_DOCS` is set.
///
/// # Panics
/// The document is out of date, or has no place for the command.
pub fn check_document(name: &str, command: &Command) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let document = fs::read_to_string(path).expect("docs/configuration.md can be read");
    let (begin, end) = (
        format!("<!-- options of {name} -->\n"),
        format!("<!-- end of {name} -->\n"),
    );
    let place = document
        .split_once(&begin)
        .and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) = place.expect("docs/configuration.md has a place for each command");
    let current = format!("{before}{begin}\n{}\n{end}{after}", table(command));
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path, current).expect("docs/configuration.md can be written");
    } else {
        assert!(
            document == current,
            "docs/configuration.md does not list the options of {name} as they are: \
             UPDATE_DOCS=1 cargo test -p gateway -p plugin the_reference_of_options"
        );
    }
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
