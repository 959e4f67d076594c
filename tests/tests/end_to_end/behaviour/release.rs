//! What `scripts/release` makes of programs that are built already, as whoever downloads it finds it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;
use tests::harness::process::program;
use tests::harness::process::shell;

use super::quickstart::follow_the_readme;

/// Stands in for cargo-cyclonedx where it is not installed: it names one crate.
const CYCLONEDX: &str = r#"while [ "$1" != --manifest-path ]; do shift; done
printf '{"components": [{"name": "tokio", "from": "file://%s"}]}' "$PWD" >"${2%/*}/sbom.json"
"#;
/// Stands in for cargo-deb.
const DEB: &str = r#"while [ "$1" != --deb-version ]; do shift; done
while [ "$3" != --package ]; do set -- "$1" "$2" "${@:4}"; done
mkdir -p target/debian
echo "$4" >"target/debian/grasp-$4_$2_amd64.deb"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_release_has_what_it_says_and_starts_without_a_compiler() {
    let work = tempfile::tempdir().unwrap();
    let programs = work.path().join("programs");
    // Programs in two lines are packed in no time.
    for name in ["grasp-gateway", "grasp-plugin"] {
        write_script(
            &programs.join(name),
            &format!("exec '{}' \"$@\"\n", program(name).display()),
        );
    }
    let tools = work.path().join("tools");
    for (name, script) in [("cargo-cyclonedx", CYCLONEDX), ("cargo-deb", DEB)] {
        if shell(&format!("command -v {name} || true"), "").await.is_empty() {
            write_script(&tools.join(name), script);
        }
    }
    // Of the last commit, and the scripts as they are now.
    let clone = format!(
        "set -e; cd '{}'; git clone --quiet --shared '{root}' source; cp '{root}'/scripts/* source/scripts; cd source
         git -c user.name=nobody -c user.email=nobody@localhost commit --quiet --allow-empty --all --message Now",
        work.path().display(),
        root = concat!(env!("CARGO_MANIFEST_DIR"), "/..")
    );
    shell(&clone, "").await;
    let release = format!(
        "cd '{}' && CARGO_NET_OFFLINE=true PATH='{}':\"$PATH\" source/scripts/release ./programs",
        work.path().display(),
        tools.display()
    );

    let sums = shell(&release, "").await;

    let again = shell(&release, "").await;
    assert_eq!(sums, again, "the same programs give the same bytes");
    let out = work.path().join("source/target/distribution");
    let checked = format!("cd '{}' && sha256sum --check SHA256SUMS", out.display());
    let checked = shell(&checked, "").await;
    assert_eq!(
        checked.lines().count(),
        5,
        "two packages, two SBOMs, the programs: {checked}"
    );
    for name in ["gateway", "plugin"] {
        let sbom = format!("grasp-{name}-{}.cdx.json", env!("CARGO_PKG_VERSION"));
        let sbom = fs::read_to_string(out.join(sbom)).unwrap();
        assert!(!sbom.contains(work.path().to_str().unwrap()), "a path of this machine");
        let sbom: Value = serde_json::from_str(&sbom).unwrap();
        let crates = sbom["components"].as_array().unwrap();
        assert!(crates.iter().any(|named| named["name"] == "tokio"), "{name}");
    }
    shell(
        &format!("tar xzf '{}'/*.tar.gz -C '{}'", out.display(), work.path().display()),
        "",
    )
    .await;
    // No static programs, by what their name says.
    let (version, arch) = (env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    let unpacked = format!("strfry-grasp-{version}-{arch}-unknown-linux-gnu");
    let unpacked = work.path().join(unpacked);
    follow_the_readme(&unpacked, format!("exec '{}'/scripts/quickstart", unpacked.display())).await;
}

fn write_script(path: &Path, script: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/bash\n{script}")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
