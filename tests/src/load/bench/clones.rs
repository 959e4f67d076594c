//! Clones of a long history that was pushed, and that nobody has repacked by hand.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use wire::path::repository_path;

use crate::clients::http;
use crate::faults::git_wrapper::wrap_git;
use crate::harness::options::Kind;
use crate::harness::options::Options;
use crate::harness::process::shell;
use crate::harness::repository::Repository;
use crate::harness::wait::within;
use crate::harness::world::World;
use crate::load::bench::figures::Figures;
use crate::load::history::long_history;
use crate::load::measure::median;
use crate::load::measure::ms;
use crate::load::process_memory::children_kib;
use crate::load::publisher::PUSH_MAX;
use crate::load::publisher::Publisher;

/// Pushes a history of so many commits, and clones it in turns with what could be faster.
pub(super) async fn clones(commits: usize, rounds: usize, figures: &mut Figures<'_>) {
    let mut world = World::start(Kind::Embedded, Options::default()).await;
    let gits = wrap_git(&mut world).await;
    let mut publisher = Publisher::announce(&world, "history").await;
    let history = long_history(commits);
    publisher
        .git
        .run_on(history, &["fast-import", "--quiet"])
        .await
        .expect_ok();
    publisher.git.run(&["reset", "--quiet", "--hard"]).await.expect_ok();
    for number in 0..rounds {
        let tag = format!("v{number}");
        publisher
            .git
            .run(&["tag", "--message=a release", &tag])
            .await
            .expect_ok();
    }
    publisher.publish().await;
    maintained(&world, &publisher.repository).await;

    let race = CloneRace::prepare(&world, &publisher, "copy").await;
    figures.alone(race.pack_bytes() as f64 / 1e6);
    let (mut first, mut third, mut cat, mut runs) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for request in race.requests(rounds).await {
        first.push(race.turn(&request).await);
        race.by_server(&request).await;
        let before = gits.all_runs();
        third.push(race.by_server(&request).await);
        runs += gits.all_runs() - before;
        cat.push(race.by_cat().await);
    }
    figures.beside(medians(&first));
    figures.beside([&third, &cat].map(|times| ms(median(times))));
    figures.alone(runs as f64);

    for _ in 0..SMALL_PUSHES {
        publisher.commit(&[]).await;
        publisher.publish().await;
    }
    let race = CloneRace::prepare(&world, &publisher, "later").await;
    let mut later = Vec::new();
    for request in race.requests(rounds).await {
        later.push(race.turn(&request).await);
    }
    figures.beside(medians(&later));
}

fn medians(times: &[[Duration; 2]]) -> [f64; 2] {
    [0, 1].map(|which| ms(median(&times.iter().map(|times| times[which]).collect::<Vec<_>>())))
}

/// Waits until the gateway has made bitmaps of a repository, and is done with it.
async fn maintained(world: &World, repository: &Repository) {
    let packs = world.repository_dir(repository).join("objects/pack");
    let has_bitmaps = || {
        let names = std::fs::read_dir(&packs)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let mut names = names.map(|name| name.to_string_lossy().into_owned());
        names.any(|name| name.starts_with("multi-pack-index-") && name.ends_with(".bitmap"))
    };
    within(PUSH_MAX, "the gateway has made bitmaps", async || {
        has_bitmaps() && children_kib(world.gateway_id()).1 == 0
    })
    .await;
}

/// The same clone by the server, by git alone, and as mere bytes.
struct CloneRace<'r> {
    publisher: &'r Publisher,
    authority: String,
    /// A copy of the server's repository in one pack with a bitmap.
    copy: PathBuf,
    pack: PathBuf,
}

impl<'r> CloneRace<'r> {
    async fn prepare(world: &World, publisher: &'r Publisher, name: &str) -> Self {
        let copy = world.folder().join(name);
        let (from, to) = (world.repository_dir(&publisher.repository), copy.display());
        shell(&format!("cp -r '{}' '{to}'", from.display()), "").await;
        let repack = ["-C", &to.to_string(), "repack", "-a", "-d", "-b", "--quiet"];
        publisher.git.run_within(PUSH_MAX, &repack).await.expect_ok();
        let packs = std::fs::read_dir(copy.join("objects/pack")).unwrap();
        let mut packs = packs.map(|entry| entry.unwrap().path());
        let pack = packs.find(|path| path.extension().is_some_and(|extension| extension == "pack"));
        Self {
            publisher,
            authority: world.authority(),
            pack: pack.expect("a pack"),
            copy,
        }
    }

    fn pack_bytes(&self) -> u64 {
        self.pack.metadata().unwrap().len()
    }

    /// Returns so many requests for everything, no two the same: each wants one of the tags too.
    async fn requests(&self, count: usize) -> Vec<String> {
        let git = &self.publisher.git;
        let main = git.rev_parse("main").await;
        let mut requests = Vec::new();
        for number in 0..count {
            let tag = git.rev_parse(&format!("refs/tags/v{number}")).await;
            let pkt = |line: String| format!("{:04x}{line}", line.len() + 4);
            let capabilities = ["command=fetch", "agent=git/2.47.3", "object-format=sha1"];
            let wants = [format!("want {main}\n"), format!("want {tag}\n"), "done\n".to_owned()];
            let arguments = ["thin-pack", "no-progress", "ofs-delta"].map(|argument| format!("{argument}\n"));
            let lines = capabilities.map(|line| pkt(format!("{line}\n"))).concat();
            let arguments: String = arguments.into_iter().chain(wants).map(pkt).collect();
            requests.push(format!("{lines}0001{arguments}0000"));
        }
        requests
    }

    /// Returns how long the server takes to the last byte, and how long git alone does.
    async fn turn(&self, request: &str) -> [Duration; 2] {
        [self.by_server(request).await, self.by_git(request).await]
    }

    async fn by_server(&self, request: &str) -> Duration {
        let path = repository_path(&self.publisher.repository.coordinate());
        let head = format!(
            "POST {path}/git-upload-pack HTTP/1.1\r\ngit-protocol: version=2\r\n\
             content-type: application/x-git-upload-pack-request\r\ncontent-length: {}\r\n",
            request.len()
        );
        let began = Instant::now();
        let mut answer = http::begin(&self.authority, &head, request.as_bytes()).await;
        self.drain(&mut answer).await;
        began.elapsed()
    }

    async fn by_git(&self, request: &str) -> Duration {
        let copy = self.copy.display().to_string();
        self.output_of(&["git", "upload-pack", "--stateless-rpc", &copy], request)
            .await
    }

    async fn by_cat(&self) -> Duration {
        self.output_of(&["cat", &self.pack.display().to_string()], "").await
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is what the server's git is compared with"
    )]
    async fn output_of(&self, command: &[&str], input: &str) -> Duration {
        let began = Instant::now();
        let mut child = Command::new(command[0])
            .args(&command[1..])
            .env("GIT_PROTOCOL", "version=2")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        self.drain(child.stdout.as_mut().unwrap()).await;
        let took = began.elapsed();
        assert!(child.wait().await.unwrap().success(), "{command:?}");
        took
    }

    /// Reads to the end, which comes when all objects are there.
    async fn drain(&self, answer: &mut (impl AsyncRead + Unpin)) {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut bytes = 0;
        loop {
            match answer.read(&mut buffer).await.unwrap() {
                0 => break,
                read => bytes += read as u64,
            }
        }
        assert!(bytes >= self.pack_bytes() / 10 * 9, "an answer of {bytes} bytes");
    }
}

const SMALL_PUSHES: usize = 5;
const BUFFER_BYTES: usize = 256 << 10;
