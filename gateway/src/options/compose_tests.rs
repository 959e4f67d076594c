//! `strfry-config/compose.yaml` and `Containerfile`, which no container of these tests runs: their options are those of
//! the programs, and the files that they name exist and fit together.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use shared::options::read_options::check_file;

use crate::options::GatewayCommand;

fn root() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/..").into()
}

/// Reads a file of `strfry-config`.
fn shipped(name: &str) -> String {
    let path = root().join("strfry-config").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn compose() -> Value {
    serde_saphyr::from_str(&shipped("compose.yaml")).unwrap()
}

fn texts(value: &Value) -> Vec<&str> {
    let texts = value.as_array().into_iter().flatten();
    texts.map(|text| text.as_str().unwrap()).collect()
}

/// Returns the settings of a service, as lines of a configuration file have them: those of its file, and over them its
/// variables.
fn settings(service: &Value) -> BTreeMap<String, String> {
    let file = mounts(service)
        .into_iter()
        .find(|(_, place)| *place == "/etc/grasp/config.toml");
    let file = shipped(file.unwrap().0.strip_prefix("./").unwrap());
    let lines = file.lines().filter_map(|line| line.split_once(" = "));
    let of_file = lines.filter(|(key, _)| !key.starts_with('#'));
    let of_file = of_file.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let own = service["environment"].as_object().unwrap();
    let own = own
        .get("<<")
        .and_then(Value::as_object)
        .into_iter()
        .chain([own])
        .flatten();
    let own = own.filter(|(name, _)| *name != "<<").map(|(name, value)| {
        let key = name.strip_prefix("GRASP_").unwrap().to_lowercase().replace('_', "-");
        let value = match value.as_str().unwrap() {
            given if given.starts_with("${GRASP_DOMAIN:?") => "git.example.org",
            value => value,
        };
        (key, format!("{value:?}"))
    });
    of_file.chain(own).collect()
}

/// Returns where a service has each volume and each file of ours.
fn mounts(service: &Value) -> BTreeMap<&str, &str> {
    let mounts = texts(&service["volumes"]).into_iter();
    mounts
        .map(|mount| {
            let mut parts = mount.split(':');
            (parts.next().unwrap(), parts.next().unwrap())
        })
        .collect()
}

#[test]
fn the_programs_know_every_setting_of_the_containers() {
    let compose = compose();
    for name in ["gateway", "strfry"] {
        let settings = settings(&compose["services"][name]).into_iter();
        let settings = settings.map(|(key, value)| format!("{key} = {value}\n"));
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), settings.collect::<String>()).unwrap();

        let read = check_file::<GatewayCommand>(file.path(), &["grasp-gateway", "serve"].map(OsString::from));

        let Ok(GatewayCommand::Serve(options)) = read else {
            panic!("{name}: {}", read.err().unwrap());
        };
        assert_eq!(options.listen.domain.as_ref().unwrap().to_string(), "git.example.org");
        assert!(options.relay_url.is_some() && options.redis().is_some(), "{name}");
    }
}

#[test]
fn volumes_files_and_ports_of_the_containers_fit_together() {
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    let mut used = BTreeSet::new();
    for (name, service) in services {
        for (source, _) in mounts(service) {
            match source.strip_prefix("./") {
                Some(file) => assert!(!shipped(file).is_empty(), "{name}: {file}"),
                None => drop(used.insert(source)),
            }
        }
        let runs_once = name == "plugin";
        assert_eq!(service["network_mode"] == "host", !runs_once, "{name}");
        assert_eq!(service["healthcheck"].is_object(), !runs_once, "{name}");
        assert_eq!(service["restart"] == "unless-stopped", !runs_once, "{name}");
        // A new volume is root's.
        assert_eq!(
            service["user"] == "root",
            ["plugin", "strfry"].contains(&&**name),
            "{name}"
        );
    }
    let volumes = compose["volumes"].as_object().unwrap();
    assert_eq!(used, volumes.keys().map(String::as_str).collect());

    let (gateway, strfry, redis) = (&services["gateway"], &services["strfry"], &services["redis"]);
    let settings: BTreeMap<String, String> = settings(gateway)
        .into_iter()
        .map(|(key, value)| (key, value.trim_matches('"').to_owned()))
        .collect();
    assert_eq!(mounts(gateway)["grasp"], settings["data-dir"]);
    let asked = texts(&gateway["healthcheck"]["test"]).pop().unwrap();
    assert_eq!(asked, format!("http://{}/readyz", settings["admin-bind"]));
    assert!(shipped("Caddyfile").contains(&format!("reverse_proxy {} ", settings["bind"])));
    let conf = shipped("strfry.conf");
    assert!(conf.contains(&format!("db = \"{}/\"", mounts(strfry)["strfry"])));
    let port = settings["relay-url"].strip_prefix("ws://127.0.0.1:").unwrap();
    assert!(conf.contains(&format!("port = {port}\n")));
    for address in ["bind", "admin-bind"].map(|key| &settings[key]) {
        assert!(address.starts_with("127.0.0.1:"), "{address} is reached from outside");
    }
    assert!(conf.contains("    bind = \"127.0.0.1\"\n"));
    let listens = format!("0100007F:{:04X}", port.parse::<u16>().unwrap());
    assert!(strfry["healthcheck"]["test"].to_string().contains(&listens));
    let conf = shipped("redis.conf");
    assert!(conf.contains("\nbind 127.0.0.1 "));
    assert!(conf.contains(&format!("dir {}\n", mounts(redis)["redis"])) && conf.contains("\nappendfsync always\n"));
    assert_eq!(redis["working_dir"], mounts(redis)["redis"]);
    assert_eq!(
        texts(&redis["command"]),
        ["redis-server", mounts(redis)["./redis.conf"]]
    );
    assert_eq!(settings["redis-url"], "redis://127.0.0.1:6379");
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the shell of a container, to see what it makes of strfry.conf"
)]
fn strfry_runs_the_plugin_that_another_container_puts_there() {
    let compose = compose();
    let (strfry, plugin) = (&compose["services"]["strfry"], &compose["services"]["plugin"]);
    let script = texts(&strfry["entrypoint"]).pop().unwrap();
    let (edit, start) = script.split_once(" > /tmp/strfry.conf && ").unwrap();
    assert_eq!(start.trim(), "exec /app/strfry --config=/tmp/strfry.conf relay");
    let edit = edit.replace(
        "/etc/strfry.conf",
        root().join("strfry-config/strfry.conf").to_str().unwrap(),
    );

    let done = Command::new("sh").args(["-c", &edit]).output().unwrap();

    let edited = String::from_utf8(done.stdout).unwrap();
    let command = format!("plugin = \"exec {}/grasp-plugin\"", mounts(strfry)["plugin"]);
    assert!(edited.lines().any(|line| line.trim() == command), "{edited}");
    let conf = shipped("strfry.conf");
    let changed = edited.lines().zip(conf.lines()).filter(|(new, old)| new != old);
    assert_eq!(changed.count(), 1);
    let copy = texts(&plugin["entrypoint"]).pop().unwrap();
    assert!(
        copy.ends_with(&format!("{}/grasp-plugin", mounts(plugin)["plugin"])),
        "{copy}"
    );
}

#[test]
fn the_image_is_built_of_what_is_here_with_the_least_rust() {
    let (file, manifest) = (
        shipped("Containerfile"),
        fs::read_to_string(root().join("Cargo.toml")).unwrap(),
    );
    let rust = manifest
        .split_once("rust-version = \"")
        .unwrap()
        .1
        .split('"')
        .next()
        .unwrap();
    assert!(file.contains(&format!("FROM docker.io/library/rust:{rust}-alpine")));
    let copied = file.lines().filter_map(|line| line.strip_prefix("COPY "));
    let copied: Vec<&str> = copied.filter(|rest| !rest.starts_with("--from")).collect();
    let mut sources: BTreeSet<&str> = BTreeSet::new();
    for rest in copied {
        let (from, _) = rest.rsplit_once(' ').unwrap();
        sources.extend(from.split(' '));
    }
    for source in &sources {
        assert!(root().join(source).exists(), "{source}");
    }
    let members = manifest.split_once("members = [").unwrap().1.split(']').next().unwrap();
    for member in members.split(", ") {
        let folder = member.trim_matches('"').split('/').next().unwrap();
        assert!(sources.contains(folder), "{folder} is no part of the image");
    }
    for program in ["grasp-gateway", "grasp-plugin"] {
        assert!(file.contains(&format!("/source/target/release/{program}")));
    }
}
