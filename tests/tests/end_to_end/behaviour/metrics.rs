//! The dashboard and the alert rules that are shipped: that the gateway has what they ask for, and that Prometheus
//! understands them.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;
use tests::clients::git::GitClient;
use tests::clients::http;
use tests::harness::options::Kind;
use tests::harness::options::Options;
use tests::harness::process::Process;
use tests::harness::process::free_port;
use tests::harness::process::shell;
use tests::harness::redis::RedisSetup;
use tests::harness::wait::eventually;
use tests::harness::wait::is_listened_at;
use tests::harness::world::World;

use crate::fixture::Served;

const ALERTS: &str = "strfry-config/prometheus-alerts.yml";

async fn start() -> (World, String) {
    let options = Options {
        gateway: &["--admin-bind=127.0.0.1:0"],
        redis: RedisSetup::Alone,
        ..Options::default()
    };
    let world = World::start(Kind::Strfry, options).await;
    let admin = world.admin_authority().await;
    (world, admin)
}

async fn get(authority: &str, path: &str) -> String {
    http::request(authority, &format!("GET {path} HTTP/1.1\r\n"), b"")
        .await
        .text()
}

fn repository_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn shipped(name: &str) -> String {
    std::fs::read_to_string(repository_root().join("strfry-config").join(name)).unwrap()
}

/// Returns the queries of the dashboard, for all gateways.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&shipped("grafana-dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries = targets.map(|target| target["expr"].as_str().unwrap().replace("$instance", ".*"));
    queries.collect()
}

fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("grasp_")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_has_every_metric_of_the_dashboard_and_the_alerts() {
    let (world, admin) = start().await;
    let mut nostr = world.nostr().await;
    let served = Served::new(&world, &mut nostr, "r").await;
    let cloned = GitClient::clone_from(&served.url, &world.folder().join("clone")).await;
    assert!(cloned.is_some());
    let queries = queries().join("\n") + &shipped("prometheus-alerts.yml");
    let asked = metrics_in(&queries);
    assert!(asked.len() > 20, "{asked:?}");

    let has_all = async || {
        let page = get(&admin, "/metrics").await;
        let counted = [
            "grasp_releases_total{outcome=\"served\"} 2",
            "grasp_release_seconds_count 2",
            "grasp_events_total{kind=\"state\",decision=\"held\"} 1",
            "grasp_pushes_total{outcome=\"taken\"} 1",
            "grasp_pushes_refused_total{reason=\"rules\"} 0",
            "grasp_fetches_total{outcome=\"busy\"} 0",
        ];
        let answered = page
            .lines()
            .find(|line| line.starts_with("grasp_fetches_total{outcome=\"answered\"}"));
        counted.iter().all(|line| page.lines().any(|found| found == *line))
            && answered.is_some_and(|line| !line.ends_with(" 0"))
            && !page.contains("grasp_git_bytes_total{direction=\"sent\"} 0")
    };
    eventually("what happened is counted", has_all).await;
    let page = get(&admin, "/metrics").await;
    let known = metrics_in(&page);
    let unknown: Vec<_> = asked.difference(&known).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    let documented = std::fs::read_to_string(repository_root().join("docs/metrics.md")).unwrap();
    let documented = metrics_in(&documented);
    let families = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let undocumented: Vec<_> = families.filter(|name| !documented.contains(name)).collect();
    assert!(undocumented.is_empty(), "{undocumented:?}");
}

/// Returns the folder with the programs of Prometheus: `PROMETHEUS_BIN`, or where they are installed. Debian's package
/// takes 100 MB, so that no script installs it; scripts/test says what it leaves out.
async fn programs_of_prometheus() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("PROMETHEUS_BIN") {
        return Some(folder.into());
    }
    let found = shell("command -v promtool || true", "").await;
    PathBuf::from(found.trim_end()).parent().map(Path::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_fires_each_alert_when_it_should() {
    let Some(programs) = programs_of_prometheus().await else {
        return;
    };
    let test = repository_root().join("tests/tests/end_to_end/behaviour/alerts.yml");
    for (command, file) in [("check", repository_root().join(ALERTS)), ("test", test)] {
        let command = format!(
            "{} {command} rules {} 2>&1 || echo FAILED",
            programs.join("promtool").display(),
            file.display()
        );
        let said = shell(&command, "").await;
        assert!(said.contains("SUCCESS") && !said.contains("FAILED"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_understands_the_alerts_and_the_dashboard() {
    let Some(programs) = programs_of_prometheus().await else {
        return;
    };
    let (mut world, admin) = start().await;
    let (prometheus, _running) = prometheus(&world, &programs, &admin).await;
    let ask = async |path: &str| -> Value {
        // 1.0, so that it is not chunked.
        let answer = http::request(&prometheus, &format!("GET {path} HTTP/1.0\r\n"), b"").await;
        serde_json::from_slice(answer.body()).unwrap_or_default()
    };
    let query = async |query: &str| {
        let query: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        ask(&format!("/api/v1/query?query={query}")).await
    };

    // As the first panel of the dashboard shows it.
    let parts_up = async |count: usize| {
        let found = query(&queries()[0]).await;
        let parts = found["data"]["result"].as_array().cloned().unwrap_or_default();
        parts.len() == 3 && parts.iter().filter(|part| part["value"][1] == "1").count() == count
    };
    eventually("all parts are up", async || parts_up(3).await).await;
    for expression in queries() {
        let answer = query(&expression).await;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
    }
    world.redis().kill().await;
    eventually("Redis is down", async || parts_up(2).await).await;
    world.stop_relay().await;
    eventually("the relay too", async || parts_up(1).await).await;
    eventually("the alarm is on its way", async || {
        ask("/api/v1/alerts").await.to_string().contains("GraspPartDown")
    })
    .await;
    world.redis().start_again().await;
    world.start_relay().await;
    eventually("both are back", async || parts_up(3).await).await;
    let rules = ask("/api/v1/rules").await;
    let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap().clone();
    assert!(
        rules.len() > 5 && rules.iter().all(|rule| rule["health"] != "err"),
        "{rules:?}"
    );
}

/// Starts Prometheus on a gateway; returns its address.
async fn prometheus(world: &World, programs: &Path, admin: &str) -> (String, Process) {
    let rules = repository_root().join(ALERTS);
    let configuration = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{}]\nscrape_configs: \
         [{{job_name: grasp, static_configs: [{{targets: [\"{admin}\"]}}]}}]\n",
        rules.display()
    );
    let folder = world.folder().join("prometheus");
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("prometheus.yml");
    std::fs::write(&file, configuration).unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let arguments = [
        format!("--config.file={}", file.display()),
        format!("--storage.tsdb.path={}", folder.display()),
        format!("--web.listen-address={address}"),
    ];
    let running = Process::start(&programs.join("prometheus"), &arguments, &folder.join("log"));
    eventually("Prometheus listens", async || is_listened_at(&address).await).await;
    (address, running)
}
