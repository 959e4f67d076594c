//! The reverse proxies whose configurations are shipped, run as they are but for addresses and certificates.

use std::path::Path;

use crate::harness::options::Kind;
use crate::harness::options::Options;
use crate::harness::process::Process;
use crate::harness::process::free_port;
use crate::harness::repository::Repository;
use crate::harness::wait::eventually;
use crate::harness::wait::is_listened_at;
use crate::harness::world::World;

/// Which reverse proxy.
#[derive(Debug, Clone, Copy)]
pub enum Proxy {
    /// Caddy.
    Caddy,
    /// nginx.
    Nginx,
}

/// A world behind a proxy.
pub struct Site {
    /// `host:port` of the proxy.
    pub authority: String,
    // Before the world, whose directory it uses.
    _proxy: Process,
    /// The world.
    pub world: World,
}

impl Site {
    /// Starts a world behind a proxy with the shipped configuration.
    ///
    /// # Panics
    /// Something cannot be started.
    pub async fn start(proxy: Proxy) -> Self {
        Self::start_with(proxy, "127.0.0.1", &[]).await
    }

    /// Starts a world that trusts these proxies, behind one whose shipped configuration has other texts.
    ///
    /// # Panics
    /// Something cannot be started, or a text is not in the configuration.
    pub async fn start_with(proxy: Proxy, trusted_proxies: &'static str, edits: &[(&str, &str)]) -> Self {
        let options = Options {
            trusted_proxies,
            ..Options::default()
        };
        let world = World::start(Kind::Strfry, options).await;
        let authority = format!("127.0.0.1:{}", free_port());
        let mut process = match proxy {
            Proxy::Caddy => start_caddy(&world, &authority, edits),
            Proxy::Nginx => start_nginx(&world, &authority, edits),
        };
        eventually("the proxy listens", async || {
            assert!(process.is_running(), "{proxy:?} has ended:\n{}", process.output());
            is_listened_at(&authority).await
        })
        .await;
        Self {
            authority,
            _proxy: process,
            world,
        }
    }

    /// Returns the clone URL of a repository at the proxy.
    pub fn url(&self, repository: &Repository) -> String {
        self.world
            .url(repository)
            .replace(&self.world.authority(), &self.authority)
    }
}

fn start_caddy(world: &World, authority: &str, edits: &[(&str, &str)]) -> Process {
    let folder = world.folder();
    let site = shipped(
        "Caddyfile",
        &[
            ("{$GRASP_DOMAIN:git.example.com} {", &format!("http://{authority} {{")),
            (
                "reverse_proxy 127.0.0.1:7334",
                &format!("reverse_proxy {}", world.authority()),
            ),
        ],
        edits,
    );
    let path = folder.join("Caddyfile");
    // Its administration would listen on a fixed port.
    std::fs::write(&path, format!("{{\n\tadmin off\n\tdefault_bind 127.0.0.1\n}}\n{site}")).unwrap();
    let arguments = [
        format!("XDG_DATA_HOME={}", folder.display()),
        format!("XDG_CONFIG_HOME={}", folder.display()),
        "caddy".to_owned(),
        "run".to_owned(),
        "--adapter=caddyfile".to_owned(),
        format!("--config={}", path.display()),
    ];
    Process::start(Path::new("env"), &arguments, &folder.join("caddy.log"))
}

fn start_nginx(world: &World, authority: &str, edits: &[(&str, &str)]) -> Process {
    let folder = world.folder();
    let site = shipped(
        "nginx.conf",
        &[
            ("listen 443 ssl;", &format!("listen {authority};")),
            ("listen [::]:443 ssl;", ""),
            (
                "ssl_certificate     /etc/letsencrypt/live/git.example.com/fullchain.pem;",
                "",
            ),
            (
                "ssl_certificate_key /etc/letsencrypt/live/git.example.com/privkey.pem;",
                "",
            ),
            ("listen 80;", &format!("listen 127.0.0.1:{};", free_port())),
            ("listen [::]:80;", ""),
            ("server 127.0.0.1:7334;", &format!("server {};", world.authority())),
        ],
        edits,
    );
    let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {}/nginx-{name};\n", folder.display()))
        .concat();
    // One process: with a master its workers would outlive it when it is killed.
    let main = format!(
        "daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log stderr;\n\
         events {{}}\nhttp {{\naccess_log off;\n{folders}{site}}}\n",
        folder = folder.display()
    );
    let path = folder.join("nginx.conf");
    std::fs::write(&path, main).unwrap();
    let arguments = [
        "-p",
        folder.to_str().unwrap(),
        "-e",
        "stderr",
        "-c",
        path.to_str().unwrap(),
    ]
    .map(str::to_owned);
    // Not on everybody's PATH in Debian.
    Process::start(Path::new("/usr/sbin/nginx"), &arguments, &folder.join("nginx.log"))
}

/// Returns a shipped file with some of its texts replaced, each of which is in it once.
fn shipped(name: &str, replacements: &[(&str, &str)], edits: &[(&str, &str)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../strfry-config")
        .join(name);
    let mut text = std::fs::read_to_string(path).unwrap();
    for (from, to) in replacements.iter().chain(edits) {
        assert_eq!(text.matches(from).count(), 1, "{from:?} in {name}");
        text = text.replace(from, to);
    }
    text
}
