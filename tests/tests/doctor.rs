//! `grasp-gateway doctor`: all green where all is well, and each mistake of an operator is named with its mend.

#![expect(clippy::unwrap_used, reason = "what cannot be had ends the test")]

use std::path::Path;

use tests::clients::nostr::now;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::process::Process;
use tests::harness::process::free_port;
use tests::harness::process::program;
use tests::harness::process::shell;
use tests::harness::redis::RedisSetup;
use tests::harness::redis_connection::connect;
use tests::harness::repository::Repository;
use tests::harness::reverse_proxy::Proxy;
use tests::harness::reverse_proxy::Site;
use tests::harness::strfry::STRFRY_CONF;
use tests::harness::strfry::strfry_binary;
use tests::harness::strfry::strfry_configuration;
use tests::harness::strfry_import::Import;
use tests::harness::wait::eventually;
use tests::harness::world::World;

/// What this machine has to do with: its limit of descriptors, and who runs the tests.
const OF_THIS_MACHINE: [&str; 2] = ["open files", "redis write time"];

async fn world() -> World {
    let options = Options {
        redis: RedisSetup::Alone,
        ..Options::default()
    };
    World::start(Kind::Strfry, options).await
}

async fn all_is_well_behind(proxy: Proxy) {
    let site = Site::start(proxy).await;
    let public = format!("--public-url=http://{}", site.authority);

    let diagnosis = site.world.doctor(&[&public]).await;

    let named = diagnosis.named();
    assert!(
        named.iter().all(|(check, _)| OF_THIS_MACHINE.contains(check)),
        "{named:#?}"
    );
    let found = diagnosis.findings.len();
    assert!(found >= 19, "{found} findings");
    let held: Vec<String> = redis(&site.world, &["KEYS", "{purgatory}:entry:*"]).await;
    assert!(held.is_empty(), "the probes were taken back: {held:?}");
}

async fn redis<T: redis::FromRedisValue>(world: &World, command: &[&str]) -> T {
    let url = format!("redis://127.0.0.1:{}", world.redis_port().unwrap());
    let mut connection = connect(&url).await.unwrap();
    let mut asked = redis::cmd(command[0]);
    asked.arg(&command[1..]);
    asked.query_async(&mut connection).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_behind_caddy() {
    all_is_well_behind(Proxy::Caddy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_behind_nginx() {
    all_is_well_behind(Proxy::Nginx).await;
}

/// As it is in production: by a name without a port, through TLS. Caddy is an authority of its own here.
#[tokio::test(flavor = "multi_thread")]
async fn tls_is_looked_through_and_a_wrong_certificate_is_named() {
    let world = world().await;
    let (port, folder) = (free_port(), world.folder().display().to_string());
    let site = format!(
        "{{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n}}\n\
         https://localhost:{port} {{\n\ttls internal\n\treverse_proxy {}\n}}\n",
        world.authority()
    );
    std::fs::write(world.folder().join("Caddyfile"), site).unwrap();
    let home = ("XDG_DATA_HOME", folder.clone());
    let arguments = ["run", "--adapter=caddyfile", &format!("--config={folder}/Caddyfile")].map(str::to_owned);
    let caddy = Process::start_with(
        Path::new("caddy"),
        &arguments,
        &world.folder().join("caddy.log"),
        &[home, ("XDG_CONFIG_HOME", folder.clone())],
    );
    let authority = world.folder().join("caddy/pki/authorities/local/root.crt");
    eventually("Caddy has a certificate", async || {
        authority.exists() && caddy.output().contains("certificate obtained successfully")
    })
    .await;
    let public = format!("--public-url=https://localhost:{port}");

    let distrusts = world.doctor(&[&public]).await;
    let trusts = world
        .doctor_with(&[&public], &format!("SSL_CERT_FILE={}", authority.display()))
        .await;

    assert!(distrusts.names("domain", "certificate for localhost"), "{distrusts:#?}");
    assert!(
        !trusts.named().iter().any(|(check, _)| *check == "domain"),
        "{trusts:#?}"
    );
    let found = |check: &str| {
        trusts
            .findings
            .iter()
            .filter(|finding| finding["check"] == check)
            .count()
    };
    assert_eq!((found("domain"), found("git over http")), (2, 1), "{trusts:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_of_a_proxy_are_named() {
    let upgrade = [
        ("proxy_set_header Upgrade $http_upgrade;", ""),
        ("proxy_set_header Connection $connection_upgrade;", ""),
    ];
    let rows = [
        (
            "127.0.0.1",
            &upgrade[..],
            "websocket and client address",
            "WebSockets are not passed on",
        ),
        (
            "127.0.0.1",
            &[("client_max_body_size 0;", "")],
            "size of pushes",
            "client_max_body_size 0",
        ),
        // It let 2 MiB pass, and so passed for none.
        (
            "127.0.0.1",
            &[("client_max_body_size 0;", "client_max_body_size 100m;")],
            "size of pushes",
            "client_max_body_size 0",
        ),
        (
            "127.0.0.1",
            &[("proxy_request_buffering off;", "")],
            "pushes are passed on at once",
            "proxy_request_buffering off",
        ),
        ("", &[], "websocket and client address", "trusted-proxies"),
    ];
    for (trusted, edits, check, mend) in rows {
        let site = Site::start_with(Proxy::Nginx, trusted, edits).await;
        let public = format!("--public-url=http://{}", site.authority);

        let diagnosis = site.world.doctor(&[&public]).await;

        assert!(diagnosis.names(check, mend), "{check}: {diagnosis:#?}");
        let others: Vec<_> = diagnosis
            .named()
            .into_iter()
            .filter(|(name, _)| *name != check)
            .collect();
        let is_of_this_machine = |(name, _): &(&str, String)| OF_THIS_MACHINE.contains(name);
        assert!(others.iter().all(is_of_this_machine), "{check} only: {others:#?}");
    }
}

/// The time-outs that proxies come with are longer than a test may last: see `--silence-secs`.
#[tokio::test(flavor = "multi_thread")]
async fn short_time_outs_of_a_proxy_are_named() {
    for (edits, named) in [
        (
            &[("keepalive_timeout 5m;", "keepalive_timeout 2s;")][..],
            "keepalive_timeout 5m",
        ),
        (
            &[("client_body_timeout 2m;", "client_body_timeout 2s;")],
            "client_body_timeout 2m",
        ),
        (
            &[("proxy_read_timeout 1h;", "proxy_read_timeout 2s;")],
            "proxy_read_timeout 1h",
        ),
    ] {
        let site = Site::start_with(Proxy::Nginx, "127.0.0.1", edits).await;
        let public = format!("--public-url=http://{}", site.authority);

        let diagnosis = site.world.doctor(&[&public]).await;

        let of_time_outs: Vec<_> = diagnosis
            .named()
            .into_iter()
            .filter(|(check, _)| !OF_THIS_MACHINE.contains(check))
            .collect();
        assert_eq!(of_time_outs.len(), 1, "{diagnosis:#?}");
        assert!(diagnosis.names("time-outs", named), "{diagnosis:#?}");
    }
}

/// What nginx comes with: the next request within 75 s, and each part of a push within 60. It may wait as long for the
/// relay, which pings a silent WebSocket before.
#[tokio::test(flavor = "multi_thread")]
async fn the_time_outs_that_nginx_comes_with_are_named_and_none_of_caddy() {
    let edits = [
        "keepalive_timeout 5m;",
        "client_body_timeout 2m;",
        "proxy_read_timeout 1h;",
    ]
    .map(|text| (text, ""));
    let nginx = Site::start_with(Proxy::Nginx, "127.0.0.1", &edits).await;
    let caddy = Site::start(Proxy::Caddy).await;
    let [of_nginx, of_caddy] = [&nginx, &caddy].map(|site| format!("--public-url=http://{}", site.authority));
    let long = "--silence-secs=80";

    let asked = ([of_nginx.as_str(), long], [of_caddy.as_str(), long]);
    let (nginx, caddy) = tokio::join!(nginx.world.doctor(&asked.0), caddy.world.doctor(&asked.1));

    for mend in ["keepalive_timeout 5m", "client_body_timeout 2m"] {
        assert!(nginx.names("time-outs", mend), "{mend}: {nginx:#?}");
    }
    assert!(!nginx.names("time-outs", "proxy_read_timeout"), "{nginx:#?}");
    let is_well = |finding: &serde_json::Value| finding["check"] == "time-outs" && finding["severity"] == "ok";
    assert!(caddy.findings.iter().any(is_well), "{caddy:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_the_lists_that_match_nobody_are_named() {
    let world = world().await;
    let known = Repository::new("known");
    let mut nostr = world.nostr().await;
    assert!(nostr.send(&world.announcement(&known, now(), &[])).await.taken);
    let [npub, nobody] = [known.npub(), Repository::new("nobody").npub()];
    let list = world.folder().join("list");
    let text = format!("# held\n{npub}\n{npub}/known\nknown\n{npub}/unknown # not that\n{nobody}\nunknown\n");
    std::fs::write(&list, text).unwrap();
    let at = |number: usize| format!("{}:{number} ", list.display());

    let diagnosis = world.doctor(&[&format!("--repos-deny={}", list.display())]).await;

    let of_lists = diagnosis.findings.iter().find(|finding| finding["check"] == "lists");
    assert_eq!(
        of_lists.unwrap()["severity"],
        "note",
        "it may be somebody who is still to come"
    );
    for (number, is_named) in [(2, false), (3, false), (4, false), (5, true), (6, true), (7, true)] {
        assert_eq!(
            diagnosis.names("lists", &at(number)),
            is_named,
            "{number}: {diagnosis:#?}"
        );
    }
    assert!(
        diagnosis.names("lists", "3 lines match nobody known here"),
        "{diagnosis:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_the_options_are_named() {
    let world = world().await;
    let another_database = format!("--redis-url=redis://127.0.0.1:{}/1", world.redis_port().unwrap());
    let password = format!(
        "--redis-url=redis://somebody:wrong@127.0.0.1:{}",
        world.redis_port().unwrap()
    );
    let itself = format!("--relay-url=ws://{}", world.authority());
    let nobody = format!("--public-url=http://127.0.0.1:{}", free_port());
    for (option, check, named) in [
        (
            "--domain=git.example.com",
            "plugin",
            "give the plugin the domain git.example.com too",
        ),
        (
            "--domain=git.example.com",
            "agreement",
            "the gateway runs with domain 127.0.0.1",
        ),
        (&another_database, "plugin", "in a different database"),
        (&another_database, "agreement", "no gateway runs with this Redis"),
        (&password, "redis", "redis-password-file"),
        (&itself, "relay", "names the gateway itself"),
        ("--data-dir=/proc", "data directory", "chown"),
        ("--data-dir=/nowhere", "data directory", "install -d"),
        ("--disk-free-min=900TiB", "disk space", "make room"),
        (&nobody, "domain", "start the reverse proxy"),
        ("--public-url=http://no-such-host.invalid", "domain", "DNS"),
        (
            "--hold-secs=60",
            "agreement",
            "hold-secs 1800, but this program with 60",
        ),
    ] {
        let diagnosis = world.doctor(&[option]).await;

        assert!(diagnosis.names(check, named), "{option}: {diagnosis:#?}");
        assert_eq!(diagnosis.code, 1, "{option}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_of_strfry_are_named() {
    let mut world = world().await;
    let plugin = world.plugin_command();
    // What strfry's stand-in has in the place of no plugin.
    let accepts_all = "exec sed -u 's/.*\"id\":\"\\([0-9a-f]*\\)\".*/{\"id\":\"\\1\",\"action\":\"accept\"}/'";
    let no_plugin = strfry_binary().map_or(accepts_all, |_| "");
    let other_domain = plugin.replace(&format!("--domain {}", world.authority()), "--domain other.example");
    let other_redis = plugin.replace(&format!(":{} ", world.redis_port().unwrap()), ":1 ");
    for (command, named) in [
        ("exec /nowhere/grasp-plugin".to_owned(), "cannot run its plugin"),
        (no_plugin.to_owned(), "without asking it"),
        (other_domain, "give the plugin the domain"),
        (other_redis, "redis-url, redis-password-file"),
    ] {
        world.stop_relay().await;
        world.start_relay_with(command.clone()).await;

        let diagnosis = world.doctor(&[]).await;

        assert!(diagnosis.names("plugin", named), "{command}: {diagnosis:#?}");
        assert_eq!(diagnosis.code, 1);
    }
    world.stop_relay().await;

    let diagnosis = world.doctor(&[]).await;

    for mend in ["systemctl start strfry", "chown -R strfry: /var/lib/strfry"] {
        assert!(diagnosis.names("relay", mend), "{diagnosis:#?}");
    }
    let others = diagnosis.named();
    let blames = |(check, text): &(&str, String)| *check == "plugin" || text.contains("no plugin runs");
    assert!(!others.iter().any(blames), "only strfry is away: {others:#?}");
}

/// An operator who kept strfry's own limits was told that all is well.
#[tokio::test(flavor = "multi_thread")]
async fn limits_of_strfry_that_large_repositories_do_not_fit_into_are_named() {
    // The stand-in has none of these settings.
    if strfry_binary().is_none() {
        return;
    }
    let world = world().await;
    let file = world.folder().join(STRFRY_CONF);
    let shipped = std::fs::read_to_string(&file).unwrap();
    for (setting, default, named) in [
        ("maxEventSize = 262144", "maxEventSize = 65536", "event too large"),
        ("maxNumTags = 5000", "maxNumTags = 2000", "too many tags"),
        (
            "rejectEventsOlderThanSeconds = 630720000",
            "rejectEventsOlderThanSeconds = 94608000",
            "created_at too early",
        ),
    ] {
        assert!(shipped.contains(setting));
        // strfry follows a file that is written in place.
        std::fs::write(&file, shipped.replace(setting, default)).unwrap();

        eventually("it is named with its mend", async || {
            let diagnosis = world.doctor(&[]).await;
            let check = "large and old states";
            diagnosis.names(check, named) && diagnosis.names(check, setting)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_without_the_rights_or_into_another_database_is_named() {
    let import = |import| Options {
        redis: RedisSetup::Alone,
        import,
        ..Options::default()
    };
    let fails = World::start(Kind::Strfry, import(Import::Fails)).await;

    let diagnosis = fails.doctor(&[]).await;

    assert!(
        diagnosis.names("strfry import", "usermod -aG strfry grasp"),
        "{diagnosis:#?}"
    );
    drop(fails);
    let works = World::start(Kind::Strfry, import(Import::Works)).await;
    let diagnosis = works.doctor(&[]).await;
    let is_well = |finding: &serde_json::Value| finding["check"] == "strfry import" && finding["severity"] == "ok";
    assert!(diagnosis.findings.iter().any(is_well), "{diagnosis:#?}");

    let elsewhere = works.folder().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let other = works.folder().join("other.conf");
    std::fs::write(&other, strfry_configuration(&[("db", format!("{elsewhere:?}"))])).unwrap();
    let diagnosis = works.doctor(&[&format!("--strfry-conf={}", other.display())]).await;
    assert!(diagnosis.names("strfry import", "another database"), "{diagnosis:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_down_is_named_and_not_its_proxy() {
    let mut site = Site::start(Proxy::Nginx).await;
    let public = format!("--public-url=http://{}", site.authority);
    site.world.kill_gateway().await;

    let diagnosis = site.world.doctor(&[&public]).await;

    for check in ["domain", "git over http", "websocket and client address"] {
        assert!(
            diagnosis.names(check, "systemctl status grasp-gateway strfry"),
            "{check}: {diagnosis:#?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_of_redis_are_named() {
    let world = world().await;
    let () = redis(&world, &["CONFIG", "SET", "appendonly", "no"]).await;
    assert!(world.doctor(&[]).await.names("redis", "CONFIG SET appendonly yes"));

    let () = redis(&world, &["CONFIG", "SET", "maxmemory", "1"]).await;
    assert!(world.doctor(&[]).await.names("redis", "raise maxmemory"));
    let () = redis(&world, &["CONFIG", "SET", "maxmemory", "0"]).await;

    let rights = "ACL SETUSER few on >secret ~{purgatory}:* +@read +info +config|get +evalsha +script|load";
    let () = redis(&world, &rights.split(' ').collect::<Vec<_>>()).await;
    let few = format!(
        "--redis-url=redis://few:secret@127.0.0.1:{}",
        world.redis_port().unwrap()
    );
    let diagnosis = world.doctor(&[&few]).await;
    for named in [
        "give the user the rights",
        "redis-url has a password",
        "redis-password-file names",
    ] {
        assert!(diagnosis.names("redis", named), "{named}: {diagnosis:#?}");
    }

    let () = redis(&world, &["CONFIG", "SET", "requirepass", "hunter2"]).await;
    let diagnosis = world.doctor(&[]).await;
    assert!(diagnosis.names("redis", "Redis asks for a password"), "{diagnosis:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_ten_minutes_off_is_named() {
    let options = Options {
        redis: RedisSetup::MovableClock,
        ..Options::default()
    };
    let mut world = World::start(Kind::Strfry, options).await;
    world.redis().clock().move_to(600);
    eventually("it is named", async || {
        world.doctor(&[]).await.names("clock", "timedatectl")
    })
    .await;
}

/// On NTFS, where it can be mounted: `lowntfs-3g` is in Debian's package ntfs-3g.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_that_folds_case_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let doctor = format!(
        "cd '{}' && mkdir data && truncate -s 16M image && mkntfs -qFQ image >/dev/null 2>&1 && unshare --mount sh -c '
         lowntfs-3g -o ignore_case image data || exit
         env -u AUDIT_BIN {} doctor --bind=127.0.0.1:{} --data-dir=data; umount data' || true",
        folder.path().display(),
        program("grasp-gateway").display(),
        free_port()
    );

    let found = shell(&doctor, "").await;

    let named = "WRONG    file system: it does not distinguish upper and lower case";
    assert!(found.is_empty() || found.contains(named), "{found}");
}
